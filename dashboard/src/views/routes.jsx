import { apiPath } from "../lib/api.js";
import { bytes, count, duration, entries, list, percent } from "../lib/format.js";
import { useApi } from "../lib/poll.js";
import { rangeOf } from "../lib/range.js";
import { link, linkTo } from "../lib/router.js";
import { Bar, Card, Loaded, Status } from "../parts/basics.jsx";
import { Calls, Queries, Route, statColumns, statementColumns } from "../parts/rows.jsx";
import { Table } from "../parts/table.jsx";

/** All routes, and what they ask of databases, caches and other services. */
export function Routes({ route }) {
  const api = useApi(apiPath("routes", rangeOf(route.params)));
  return (
    <Loaded api={api}>
      {(data) => (
        <>
          <Card title="Routes">
            <Table
              id="routes" caption="Routes" rows={list(data.routes)} href={linkTo.route} truncated={data.truncated} empty="No requests in this range."
              columns={[
                { title: "Route", grow: true, cell: (row) => <Route {...row} />, sort: (row) => row.route },
                ...statColumns,
                { title: "Queries", num: true, wide: true, cell: (row) => <Queries of={row.queries} />, sort: (row) => row.queries?.mean },
                { title: "Status", wide: true, cell: (row) => <Statuses of={row.status} filter={{ route: row.route, method: row.method }} /> },
                { title: "Sent", num: true, wide: true, cell: (row) => bytes(row.bytes_sent), sort: (row) => row.bytes_sent },
              ]}
            />
          </Card>
          <Card title="Databases"><Calls id="db" rows={list(data.databases)} caption="Database calls" empty="No database calls in this range." more={statementColumns} /></Card>
          <Card title="Caches"><Caches rows={list(data.caches)} /></Card>
          <Kinds of={list(data.caches)} />
          <Card title="Outgoing HTTP"><Calls id="http" rows={list(data.http)} caption="Outgoing HTTP" empty="No outgoing requests in this range." /></Card>
        </>
      )}
    </Loaded>
  );
}

/** How often each status was answered; each opens its requests. */
export function Statuses({ of, filter }) {
  return (
    <span class="statuses">
      {entries(of).map(([code, number]) => (
        <a key={code} href={link("requests", { ...filter, status: code })}>
          <Status code={Number(code)} /> {count(number)}
        </a>
      ))}
    </span>
  );
}

function Caches({ rows }) {
  return (
    <Table
      id="cache" caption="Caches" rows={rows} href={() => link("requests", { kind: "cache" })} empty="No cache calls in this range."
      columns={[
        { title: "Cache", grow: true, cell: (row) => row.cache, sort: (row) => row.cache },
        { title: "System", wide: true, cell: (row) => row.system },
        { title: "Hit rate", num: true, cell: (row) => percent(row.hit_rate), sort: (row) => row.hit_rate },
        { title: "Hits to misses", wide: true, cell: (row) => <Bar share={row.hit_rate} look="good" /> },
        { title: "Hits", num: true, cell: (row) => count(row.hits), sort: (row) => row.hits },
        { title: "Misses", num: true, cell: (row) => count(row.misses), sort: (row) => row.misses },
        { title: "p95", num: true, cell: (row) => duration(row.p95_seconds), sort: (row) => row.p95_seconds },
      ]}
    />
  );
}

/** Look-ups by the kind of key, where keys name any. */
function Kinds({ of }) {
  const rows = of.flatMap(({ cache, prefixes }) => list(prefixes).map((row) => ({ ...row, cache })));
  if (!rows.length) return null;
  return (
    <Card title="Kinds of cache keys">
      <Table
        id="keys" caption="Kinds of cache keys" rows={rows} empty=""
        columns={[
          { title: "Keys", grow: true, cell: (row) => row.prefix, sort: (row) => row.prefix },
          { title: "Cache", wide: true, cell: (row) => row.cache, sort: (row) => row.cache },
          { title: "Hit rate", num: true, cell: (row) => percent(row.hit_rate), sort: (row) => row.hit_rate },
          { title: "Hits to misses", wide: true, cell: (row) => <Bar share={row.hit_rate} look="good" /> },
          { title: "Hits", num: true, cell: (row) => count(row.hits), sort: (row) => row.hits },
          { title: "Misses", num: true, cell: (row) => count(row.misses), sort: (row) => row.misses },
        ]}
      />
    </Card>
  );
}
