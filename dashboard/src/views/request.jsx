import { apiPath } from "../lib/api.js";
import { bytes, count, duration, known, list, money, number, plural, short } from "../lib/format.js";
import { useApi } from "../lib/poll.js";
import { link, linkTo } from "../lib/router.js";
import { Card, Copy, Facts, Loaded, State, Status, Tile, Time } from "../parts/basics.jsx";
import { Lines } from "../parts/lines.jsx";
import { Route, User } from "../parts/rows.jsx";
import { ErrorEvent } from "../parts/stack.jsx";
import { Waterfall } from "../parts/waterfall.jsx";

const REASONS = { error: "it failed", slow: "it was slow", sampled: "it is one of the sample" };

/** One request, opened into its cause. */
export function OneRequest({ route: { id } }) {
  const api = useApi(apiPath(`requests/${encodeURIComponent(id)}`), 30);
  return (
    <Loaded api={api} missing={`The request ${id} is not kept. Errors, slow requests and a sample of the others are, until they are too old.`}>
      {(data) => (
        <>
          <p class="sentence"><Status code={data.status} /> <a class="plain" href={linkTo.route(data)}><Route {...data} /></a></p>
          <Tiles data={data} />
          <Card title="Where the time went" note={data.spans_dropped ? `${count(data.spans_dropped)} more were not kept` : ""}>
            <Waterfall spans={list(data.spans)} total={data.duration_seconds} findings={list(data.findings)}><Findings findings={list(data.findings)} /></Waterfall>
          </Card>
          {data.error && (
            <Card title="Error" actions={data.error_group && <a href={linkTo.error(data.error_group)}>Its group</a>}>
              <ErrorEvent event={data.error} open />
            </Card>
          )}
          <Card title="Log lines"><Lines lines={list(data.lines)} /></Card>
          <Card title="Request"><Details data={data} /></Card>
        </>
      )}
    </Loaded>
  );
}

function Tiles({ data }) {
  const hits = data.cache_hits ?? 0;
  const looks = hits + (data.cache_misses ?? 0);
  return (
    <div class="tiles">
      <Tile label="Duration" value={duration(data.duration_seconds)}><Compared seconds={data.duration_seconds} base={data.baseline} /></Tile>
      <Tile label="Database" value={duration(data.db_calls ? data.db_seconds : null)}>{plural(data.db_calls ?? 0, "call")}</Tile>
      <Tile label="Cache hits" value={looks ? `${count(hits)} of ${count(looks)}` : "–"}>{plural(data.cache_misses ?? 0, "miss", "misses")}</Tile>
      <Tile label="LLM cost" value={data.llm_calls ? money(data.llm_cost_usd) : "–"}>
        {plural(data.llm_calls ?? 0, "call")}{data.llm_calls ? `, ${short(data.llm_tokens)} tokens` : ""}
      </Tile>
      <Tile label="Outcome" value={<State is={data.outcome} />}>{data.reason && `kept because ${REASONS[data.reason] ?? data.reason}`}</Tile>
    </div>
  );
}

/** Against the same route in the last hour. */
function Compared({ seconds, base }) {
  if (!known(seconds) || !known(base?.p50_seconds) || !base.p50_seconds) return "no baseline of this route";
  const times = seconds / base.p50_seconds;
  const place = seconds > base.p99_seconds ? "above its p99" : seconds > base.p95_seconds ? "above its p95" : "within its p95";
  return (
    <span title={`p50 ${duration(base.p50_seconds)}, p95 ${duration(base.p95_seconds)}, p99 ${duration(base.p99_seconds)} of ${plural(base.count, "request")} in the last hour`}>
      {times >= 1.5 ? `${number(Number(times.toPrecision(2)))} × the route's p50 (${duration(base.p50_seconds)})` : `route's p50 ${duration(base.p50_seconds)}`}, {place}
    </span>
  );
}

const ODD = { repeated: "Repeated query", slow: "Slow query" };

/** The same query many times in one request is mostly a loop that one query could replace. */
function Findings({ findings }) {
  return findings.map(({ kind, name, place, times, seconds }) => (
    <p class="hint" key={`${kind} ${name} ${place}`}>
      <State is="warning">{ODD[kind] ?? kind}</State> <a href={link("requests", { kind: "db", name })}>{name}</a> ran {plural(times, "time")}, {duration(seconds)} in all{place ? <>, from <code>{place}</code></> : ""}.
    </p>
  ));
}

function Details({ data }) {
  return (
    <Facts
      of={[
        ["Request ID", data.request_id && <Copy text={data.request_id} />],
        ["Trace ID", data.trace_id && <Copy text={data.trace_id} />],
        ["Time", known(data.at) && <Time at={data.at} />],
        ["Path", data.path && <code>{data.path}</code>],
        ["User", data.user && <User id={data.user} />],
        ["Sent", known(data.bytes_sent) && bytes(data.bytes_sent)],
        ["Process", data.process],
      ].map(([name, value]) => [name, value || null])}
    />
  );
}
