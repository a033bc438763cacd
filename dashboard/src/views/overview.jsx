import { count, duration, exact, known, list, money, percent, plural, rate, short } from "../lib/format.js";
import { lengthInWords } from "../lib/range.js";
import { link, linkTo } from "../lib/router.js";
import { Banner } from "../parts/banner.jsx";
import { Bar, Card, Change, Loaded, State, Tile } from "../parts/basics.jsx";
import { Traffic } from "../parts/charts.jsx";
import { Groups, Requests, Route, statColumns } from "../parts/rows.jsx";
import { Table } from "../parts/table.jsx";

/** The first page: what is wrong right now, then the numbers, each leading to what is behind it. */
export function Overview({ overview, route }) {
  return (
    <Loaded api={overview}>
      {(data) => (
        <>
          <p class="sentence"><State is={data.state ?? "unknown"} /> <span>{data.sentence}</span></p>
          <Banner alerts={list(data.alerts)} degraded={list(data.meta?.degraded)} />
          <Tiles data={data} length={lengthInWords(route.params)} />
          <Traffic series={data.series} />
          <Card title="Busiest routes" note="by time spent" actions={<a href={link("routes")}>All routes</a>}>
            <Busiest rows={list(data.routes)} />
          </Card>
          <Card title="Slowest requests" actions={<a href={link("requests", { order: "slowest" })}>All requests</a>}>
            <Requests rows={list(data.slowest)} caption="Slowest requests" empty="No request was kept in this range." />
          </Card>
          <Card title="Latest errors" actions={<a href={link("errors")}>All errors</a>}>
            <Groups rows={list(data.error_groups)} caption="Latest errors" />
          </Card>
        </>
      )}
    </Loaded>
  );
}

function Tiles({ data, length }) {
  const now = data.requests ?? {};
  const before = data.previous ?? {};
  const slower = (seconds) => link("requests", { order: "slowest", min_seconds: known(seconds) ? Number(seconds.toPrecision(3)) : undefined });
  return (
    <div class="tiles">
      <Tile label="Requests" value={exact(now.count)} href={link("requests")}>
        {rate(now.rate_per_second)} <Change now={now.count} before={before.count} length={length} />
      </Tile>
      <Tile label="Error rate" value={percent(now.error_rate)} look={now.error_rate >= 0.01 ? "bad" : ""} href={link("requests", { status: "5xx" })}>
        {count(now.errors)} failed <Change now={now.error_rate} before={before.error_rate} worse="up" length={length} />
      </Tile>
      {["p50", "p95", "p99"].map((name) => {
        const field = `${name}_seconds`;
        return (
          <Tile key={name} label={name} value={duration(now[field])} href={slower(now[field])}>
            <Change now={now[field]} before={before[field]} worse="up" length={length} />
          </Tile>
        );
      })}
      <Llm llm={data.llm ?? {}} />
    </div>
  );
}

function Llm({ llm }) {
  return (
    <Tile label="LLM cost" value={llm.calls ? money(llm.cost_usd) : money(llm.cost_usd ?? 0)} href={link("llm")}>
      {plural(llm.calls ?? 0, "call")}, {short(llm.tokens ?? 0)} tokens{llm.errors ? <span class="bad">, {plural(llm.errors, "error")}</span> : null}
    </Tile>
  );
}

function Busiest({ rows }) {
  const spent = (row) => (row.mean_seconds ?? 0) * (row.count ?? 0);
  const all = rows.reduce((sum, row) => sum + spent(row), 0) || 1;
  return (
    <Table
      id="routes" caption="Busiest routes" rows={rows} href={linkTo.route} empty="No requests in this range."
      columns={[
        { title: "Route", grow: true, cell: (row) => <Route {...row} />, sort: (row) => row.route },
        { title: "Time spent", wide: true, cell: (row) => <Bar share={spent(row) / all} label={percent(spent(row) / all)} />, sort: spent },
        ...statColumns,
      ]}
    />
  );
}
