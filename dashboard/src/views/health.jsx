import { apiPath } from "../lib/api.js";
import { duration, fullTime, list, percent, UNKNOWN } from "../lib/format.js";
import { useApi } from "../lib/poll.js";
import { linkTo } from "../lib/router.js";
import { Card, Loaded, lookOf, State, Time } from "../parts/basics.jsx";
import { Table } from "../parts/table.jsx";

const DAY = 86400;

/** The health checks, now and over the last day, month and year; each opens into its history. */
export function Health() {
  const api = useApi(apiPath("health"));
  return (
    <Loaded api={api}>
      {(data) => (
        <>
          <p class="sentence"><State is={data.status} /> <span>{spoken(data)}</span></p>
          <Card title="Checks"><Checks rows={list(data.checks)} /></Card>
        </>
      )}
    </Loaded>
  );
}

function spoken({ checks, uptime_seconds: uptime }) {
  const wrong = list(checks).filter(({ status }) => status !== "pass");
  const what = wrong.length ? `${wrong.map(({ name }) => name).join(", ")} ${wrong.length > 1 ? "are" : "is"} not well.` : "All checks pass.";
  return `${what} Up for ${duration(uptime)}.`;
}

function Checks({ rows }) {
  return (
    <Table
      caption="Checks" rows={rows} empty="No health check is set up." href={(row) => linkTo.check(row.name)}
      columns={[
        { title: "Check", cell: (row) => <>{row.name}{row.critical && <span class="under">critical</span>}</> },
        { title: "State", cell: (row) => <State is={row.status} /> },
        { title: "Last 24 h", wide: true, grow: true, cell: (row) => <History spans={list(row.history)} /> },
        { title: "Uptime 24 h", num: true, cell: (row) => percent(row.uptime_24h) },
        { title: "30 d", num: true, wide: true, cell: (row) => percent(row.uptime_30d) },
        { title: "365 d", num: true, wide: true, cell: (row) => percent(row.uptime_365d) },
        { title: "Took", num: true, wide: true, cell: (row) => duration(row.duration_seconds) },
        { title: "Output", wide: true, cell: (row) => row.output || UNKNOWN },
        { title: "Checked", num: true, cell: (row) => <Time at={row.checked_at} relative /> },
      ]}
    />
  );
}

function History({ spans }) {
  const now = Date.now() / 1000;
  const place = (at) => Math.max(0, Math.min(100, (100 * (at - (now - DAY))) / DAY));
  const bad = spans.filter(({ status }) => status !== "pass").map((span) => `${span.status} from ${fullTime(span.from)} to ${fullTime(span.to)}`);
  return (
    <svg class="history" role="img" aria-label={bad.length ? bad.join("; ") : "passed all the time that is known"}>
      <rect class="track" width="100%" height="100%" rx="2" />
      {spans.map((span, index) => (
        <rect key={index} class={lookOf(span.status)} x={`${place(span.from)}%`} width={`${Math.max(0.5, place(span.to ?? now) - place(span.from))}%`} height="100%">
          <title>{`${span.status}, ${fullTime(span.from)} to ${fullTime(span.to)}`}</title>
        </rect>
      ))}
    </svg>
  );
}
