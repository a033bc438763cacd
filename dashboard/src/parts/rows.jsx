// Tables of the rows that several views show: requests, error groups, alert episodes, calls.
import { count, duration, known, money, percent, rate, short, UNKNOWN } from "../lib/format.js";
import { link, linkTo } from "../lib/router.js";
import { State, Status, Time } from "./basics.jsx";
import { Table } from "./table.jsx";

/** Method and route, so that routes align under each other. */
export function Route({ method, route }) {
  return (
    <span class="route">
      <span class="method">{method}</span> <Breakable text={route} />
    </span>
  );
}

/** A path that breaks after its slashes, when it must break. */
function Breakable({ text }) {
  return String(text ?? UNKNOWN).split(/(?<=\/)/).map((part, index) => [index > 0 && <wbr />, part]);
}

export function Requests({ rows, caption = "Requests", empty, truncated }) {
  return (
    <Table
      caption={caption} rows={rows} empty={empty} truncated={truncated} href={(row) => linkTo.request(row.request_id)}
      columns={[
        { title: "Request", grow: true, cell: (row) => <Route {...row} /> },
        { title: "Status", num: true, cell: (row) => <Status code={row.status} /> },
        { title: "Duration", num: true, cell: (row) => duration(row.duration_seconds) },
        { title: "Database", num: true, wide: true, cell: (row) => calls(row.db_calls, duration(row.db_seconds)) },
        { title: "Cache", num: true, wide: true, cell: (row) => cache(row) },
        { title: "LLM", num: true, wide: true, cell: (row) => calls(row.llm_calls, cost(row)) },
        { title: "Kept", wide: true, cell: (row) => (row.reason === "error" ? <State is="error" /> : row.reason ?? UNKNOWN) },
        { title: "User", wide: true, cell: (row) => (row.user ? <User id={row.user} /> : UNKNOWN) },
        { title: "Time", num: true, cell: (row) => <Time at={row.at} /> },
      ]}
    />
  );
}

export function User({ id }) {
  return <a class="user" href={link("requests", { user: id })} title={id}>{id}</a>;
}

function calls(number, rest) {
  return number ? <>{count(number)} <span class="dim">· {rest}</span></> : UNKNOWN;
}

function cache({ cache_hits: hits, cache_misses: misses }) {
  return hits || misses ? <span title={`${hits} hits, ${misses} misses`}>{count(hits)} <span class="dim">/ {count(hits + misses)}</span></span> : UNKNOWN;
}

function cost(row) {
  return known(row.llm_tokens) ? `${short(row.llm_tokens)} tok, ${money(row.llm_cost_usd)}` : money(row.llm_cost_usd);
}

export function Groups({ rows, caption = "Error groups", empty = "No errors in this range.", truncated }) {
  return (
    <Table
      caption={caption} rows={rows} empty={empty} truncated={truncated} href={(row) => linkTo.error(row.id)}
      columns={[
        {
          title: "Error", grow: true,
          cell: (row) => (
            <>
              <span class="title">{row.title ?? row.type ?? row.id}</span>
              {row.culprit && <span class="under">{row.culprit}</span>}
            </>
          ),
        },
        { title: "State", cell: (row) => <State is={row.status} /> },
        { title: "In range", num: true, cell: (row) => count(row.recent_count) },
        { title: "All", num: true, wide: true, cell: (row) => count(row.count) },
        { title: "First", num: true, wide: true, cell: (row) => <Time at={row.first_seen} relative /> },
        { title: "Last", num: true, cell: (row) => <Time at={row.last_seen} relative /> },
      ]}
    />
  );
}

export function Episodes({ rows, caption, empty, when = "Since" }) {
  return (
    <Table
      caption={caption} rows={rows} empty={empty} href={(row) => linkTo.alert(row.id)}
      columns={[
        {
          title: "Alert", grow: true,
          cell: (row) => (
            <>
              <span class="title">{row.rule}</span>
              {row.summary && <span class="under">{row.summary}</span>}
            </>
          ),
        },
        { title: "State", cell: (row) => <State is={row.state === "firing" ? row.severity ?? "firing" : row.state}>{row.state}</State> },
        { title: "Value", num: true, wide: true, cell: (row) => <Against {...row} /> },
        { title: "Acknowledged", wide: true, cell: (row) => row.acked_by || UNKNOWN },
        { title: when, num: true, cell: (row) => <Time at={row.resolved_at ?? row.fired_at ?? row.active_since} relative /> },
      ]}
    />
  );
}

export function Against({ value, threshold }) {
  if (!known(value)) return UNKNOWN;
  return <>{short(value)}{known(threshold) && <span class="dim"> / {short(threshold)}</span>}</>;
}

/** The columns of a Stats record, for tables of routes and calls. */
export const statColumns = [
  { title: "Count", num: true, cell: (row) => count(row.count), sort: (row) => row.count },
  { title: "Rate", num: true, wide: true, cell: (row) => rate(row.rate_per_second), sort: (row) => row.rate_per_second },
  { title: "Errors", num: true, cell: (row) => <Errors {...row} />, sort: (row) => row.error_rate },
  { title: "p50", num: true, wide: true, cell: (row) => duration(row.p50_seconds), sort: (row) => row.p50_seconds },
  { title: "p95", num: true, cell: (row) => duration(row.p95_seconds), sort: (row) => row.p95_seconds },
  { title: "p99", num: true, wide: true, cell: (row) => duration(row.p99_seconds), sort: (row) => row.p99_seconds },
];

/** The columns of database statements besides: how many calls were slow, and how many requests repeated one. */
export const statementColumns = [
  { title: "Slow", num: true, cell: (row) => <Odd number={row.slow} />, sort: (row) => row.slow },
  { title: "Repeated", num: true, cell: (row) => <Odd number={row.repeated} />, sort: (row) => row.repeated },
];

function Odd({ number }) {
  return <span class={number ? "fair" : "dim"}>{count(number)}</span>;
}

/** Database statements of one request of a route: the usual number, and that of those with most. */
export function Queries({ of }) {
  if (!of?.requests) return UNKNOWN;
  return <span class={of.repeated ? "fair" : undefined} title={of.repeated ? `${count(of.repeated)} found to be repeated` : undefined}>{short(of.mean)} <span class="dim">· p95 {count(of.p95)}</span></span>;
}

function Errors({ errors, error_rate: share, route, method }) {
  if (!errors) return <span class="dim">{count(errors)}</span>;
  const text = <>{count(errors)} <span class="dim">{percent(share)}</span></>;
  return route ? <a class="bad" href={link("requests", { route, method, status: "5xx" })}>{text}</a> : <span class="bad">{text}</span>;
}

export function Calls({ id, rows, caption, empty, more = [] }) {
  return (
    <Table
      id={id} caption={caption} rows={rows} empty={empty} href={(row) => link("requests", { kind: row.kind, name: row.name })}
      columns={[
        { title: "Call", grow: true, cell: (row) => <span class="mono">{row.name || UNKNOWN}</span>, sort: (row) => row.name },
        { title: "System", wide: true, cell: (row) => row.system || UNKNOWN },
        ...statColumns,
        ...more,
      ]}
    />
  );
}
