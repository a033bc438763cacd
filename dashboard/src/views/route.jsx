import { apiPath } from "../lib/api.js";
import { count, duration, exact, list, percent, rate, short } from "../lib/format.js";
import { useApi } from "../lib/poll.js";
import { lengthInWords, rangeOf } from "../lib/range.js";
import { link } from "../lib/router.js";
import { Card, Change, Loaded, Tile } from "../parts/basics.jsx";
import { Traffic } from "../parts/charts.jsx";
import { Requests, Route } from "../parts/rows.jsx";
import { Table } from "../parts/table.jsx";
import { Statuses } from "./routes.jsx";

/** One route: its numbers against the period before, and its slowest and newest requests. */
export function OneRoute({ route: { params } }) {
  const filter = { route: params.route, method: params.method };
  const api = useApi(apiPath("route", { ...rangeOf(params), ...filter }));
  return (
    <>
      <p class="sentence"><Route {...filter} /></p>
      <Loaded api={api} missing="This route had no requests in this range.">
        {(data) => (
          <>
            <Tiles queries={data.queries} now={data.stats ?? {}} before={data.previous ?? {}} filter={filter} length={lengthInWords(params)} />
            <Traffic series={data.series} filter={filter} />
            <Card title="Answers"><p class="inside"><Statuses of={data.status} filter={filter} /></p></Card>
            {list(data.repeated).length > 0 && <Card title="Repeated queries" note="read over and over in one request: mostly a loop that one query could replace"><Repeated rows={list(data.repeated)} route={filter.route} /></Card>}
            <Card title="Slowest and newest requests" actions={<a href={link("requests", filter)}>All of this route</a>}>
              <Requests rows={list(data.requests)} empty="No request of this route was kept in this range." />
            </Card>
          </>
        )}
      </Loaded>
    </>
  );
}

function Repeated({ rows, route }) {
  return (
    <Table
      caption="Repeated queries" rows={rows} href={(row) => link("requests", { route, kind: "db", name: row.name })}
      columns={[
        { title: "Query", grow: true, cell: (row) => <span class="mono">{row.name}</span> },
        { title: "In requests", num: true, cell: (row) => count(row.requests) },
      ]}
    />
  );
}

function Tiles({ queries, now, before, filter, length }) {
  return (
    <div class="tiles">
      <Tile label="Requests" value={exact(now.count)} href={link("requests", filter)}>
        {rate(now.rate_per_second)} <Change now={now.count} before={before.count} length={length} />
      </Tile>
      <Tile label="Error rate" value={percent(now.error_rate)} look={now.error_rate >= 0.01 ? "bad" : ""} href={link("requests", { ...filter, status: "5xx" })}>
        {count(now.errors)} failed <Change now={now.error_rate} before={before.error_rate} worse="up" length={length} />
      </Tile>
      {["p50", "p95", "p99"].map((name) => (
        <Tile key={name} label={name} value={duration(now[`${name}_seconds`])} href={link("requests", { ...filter, order: "slowest" })}>
          <Change now={now[`${name}_seconds`]} before={before[`${name}_seconds`]} worse="up" length={length} />
        </Tile>
      ))}
      {queries?.requests > 0 && (
        <Tile label="Queries" value={short(queries.mean)} look={queries.repeated ? "fair" : ""} href={link("requests", { ...filter, kind: "db" })}>
          in a request that sends any, p95 {count(queries.p95)}
        </Tile>
      )}
    </div>
  );
}
