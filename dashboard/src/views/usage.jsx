import { apiPath } from "../lib/api.js";
import { count, duration, entries, known, list, percent, UNKNOWN } from "../lib/format.js";
import { useApi } from "../lib/poll.js";
import { rangeOf } from "../lib/range.js";
import { link } from "../lib/router.js";
import { Bar, Card, Empty, Loaded, Tile } from "../parts/basics.jsx";
import { Chart } from "../parts/chart.jsx";
import { Table } from "../parts/table.jsx";

/** Who uses what, and whether what they came for succeeds. */
export function Usage({ route: { params } }) {
  const api = useApi(apiPath("usage", rangeOf(params)));
  return (
    <Loaded api={api}>
      {(data) => (
        <>
          <div class="tiles">
            {["day", "week", "month"].map((span) => (
              <Tile key={span} label={`Active users, ${span}`} value={count(data.active_users?.[span])}>each counted once</Tile>
            ))}
          </div>
          {!list(data.operations).length && <Card title="Operations"><Empty>No operation ended in this range.</Empty></Card>}
          {list(data.operations).map((operation) => <Operation key={operation.operation} operation={operation} />)}
          <Chart title="Active users per day" t={list(data.active_series?.t).map(startOfDay)} step={86400} series={[{ label: "users", values: data.active_series?.users, colour: "--bars", write: count, bars: true, whole: true }]} />
          <div class="pair">
            <Card title="Features"><Features rows={list(data.features)} /></Card>
            <Card title="Events"><Events rows={list(data.events)} /></Card>
          </div>
        </>
      )}
    </Loaded>
  );
}

/** A day of the API, "2026-11-24", as the second it starts for the reader; unix seconds stay. */
function startOfDay(day) {
  return known(day) ? day : new Date(`${day}T00:00`).getTime() / 1000;
}

function Operation({ operation }) {
  const name = operation.operation;
  return (
    <Card title={<a class="plain" href={link("operations", { name })}>{name}</a>} note={spoken(operation)} actions={<a href={link("operations", { name })}>All runs</a>}>
      {entries(operation.dimensions).map(([dimension, values]) => (
        <Table
          key={dimension} id={`${name}.${dimension}`} caption={`${name} by ${dimension}`} rows={list(values)} href={(row) => link("operations", { name, [`value.${dimension}`]: row.value })}
          columns={[{ title: dimension, grow: true, cell: (row) => row.value || UNKNOWN, sort: (row) => row.value }, ...outcomes]}
        />
      ))}
    </Card>
  );
}

function spoken({ ok, failed, abandoned, open, success_rate: success, p50_seconds: p50, p95_seconds: p95 }) {
  return (
    <span class="spoken">
      <b class={known(success) && success < 0.9 ? "bad" : "good"}>{percent(success)}</b> succeed · {count(ok)} ok · {count(failed)} failed · {count(abandoned)} abandoned · {count(open)} open · p50 {duration(p50)} · p95 {duration(p95)}
    </span>
  );
}

const outcomes = [
  { title: "Success", num: true, cell: (row) => percent(row.success_rate), sort: (row) => row.success_rate },
  { title: "Share", wide: true, cell: (row) => <Bar share={row.success_rate} look={known(row.success_rate) && row.success_rate < 0.9 ? "bad" : "good"} /> },
  { title: "Ok", num: true, cell: (row) => count(row.ok), sort: (row) => row.ok },
  { title: "Failed", num: true, cell: (row) => <span class={row.failed ? "bad" : "dim"}>{count(row.failed)}</span>, sort: (row) => row.failed },
  { title: "Abandoned", num: true, wide: true, cell: (row) => <span class={row.abandoned ? "" : "dim"}>{count(row.abandoned)}</span>, sort: (row) => row.abandoned },
  { title: "p50", num: true, wide: true, cell: (row) => duration(row.p50_seconds), sort: (row) => row.p50_seconds },
  { title: "p95", num: true, cell: (row) => duration(row.p95_seconds), sort: (row) => row.p95_seconds },
];

function Features({ rows }) {
  return (
    <Table
      id="features" caption="Features" rows={rows} empty="No feature was used in this range."
      columns={[
        { title: "Feature", grow: true, cell: (row) => row.feature, sort: (row) => row.feature },
        { title: "Uses", num: true, cell: (row) => count(row.uses), sort: (row) => row.uses },
        { title: "Users", num: true, cell: (row) => count(row.users), sort: (row) => row.users },
        { title: "Of active", num: true, cell: (row) => percent(row.share_of_active), sort: (row) => row.share_of_active },
        { title: "First used", num: true, wide: true, cell: (row) => row.first_used ?? UNKNOWN, sort: (row) => row.first_used },
      ]}
    />
  );
}

function Events({ rows }) {
  return (
    <Table
      id="events" caption="Events" rows={rows} empty="No event was tracked in this range."
      columns={[
        { title: "Event", grow: true, cell: (row) => row.event, sort: (row) => row.event },
        { title: "Count", num: true, cell: (row) => count(row.count), sort: (row) => row.count },
      ]}
    />
  );
}
