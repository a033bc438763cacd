import { apiPath } from "../lib/api.js";
import { duration, entries, known, list, short, UNKNOWN } from "../lib/format.js";
import { useApi } from "../lib/poll.js";
import { AlertActions } from "../parts/alert-actions.jsx";
import { Card, Empty, Facts, Loaded, State, Time } from "../parts/basics.jsx";
import { Against } from "../parts/rows.jsx";
import { Table } from "../parts/table.jsx";

/** One episode of an alert: what happened to it, who was told, and how that went. */
export function OneAlert({ route: { id } }) {
  const api = useApi(apiPath(`alerts/${encodeURIComponent(id)}`));
  return (
    <Loaded api={api} missing={`There is no alert ${id}.`}>
      {(data) => (
        <>
          <p class="sentence"><State is={data.state === "firing" ? data.severity : data.state}>{data.state}</State> <span>{data.rule}: {data.summary}</span></p>
          <AlertActions episode={data} done={api.reload} />
          <Card title="Episode" actions={isOwn(data.link) && <a href={data.link}>What it saw</a>}><About data={data} /></Card>
          <Card title="Timeline"><Timeline events={list(data.events)} /></Card>
          <Card title="Deliveries"><Deliveries of={list(data.notifications)} /></Card>
        </>
      )}
    </Loaded>
  );
}

/** A link of the page itself; anything else that the API might hold is not one. */
function isOwn(link) {
  return typeof link === "string" && link.startsWith("#/");
}

export function Labels({ of }) {
  const all = entries(of);
  return all.length ? all.map(([name, value]) => <code class="label-pair" key={name}>{name}={String(value)}</code>) : UNKNOWN;
}

function About({ data }) {
  return (
    <Facts
      of={[
        ["Severity", data.severity],
        ["Value", <Against {...data} />],
        ["Labels", <Labels of={data.labels} />],
        ["Active since", <Time at={data.active_since} />],
        ["Fired", known(data.fired_at) && <Time at={data.fired_at} />],
        ["Resolved", known(data.resolved_at) && <Time at={data.resolved_at} />],
        ["Acknowledged by", data.acked_by],
        ["Note", data.ack_note],
        ["Until", known(data.acked_until) && <Time at={data.acked_until} />],
        ["Silenced by", data.silenced_by],
      ].map(([name, value]) => [name, value || null])}
    />
  );
}

function Timeline({ events }) {
  if (!events.length) return <Empty>Nothing is known about this episode.</Empty>;
  return (
    <ol class="timeline">
      {events.map((event, index) => (
        <li key={index}>
          <Time at={event.at} /> <b>{event.what}</b> {event.why} {known(event.value) && <span class="dim">value {short(event.value)}</span>} {event.actor && <span class="dim">by {event.actor}</span>}
        </li>
      ))}
    </ol>
  );
}

function Deliveries({ of }) {
  const rows = of.flatMap((one) => list(one.attempts).length ? one.attempts.map((attempt) => ({ ...one, ...attempt })) : [one]);
  return (
    <Table
      caption="Deliveries" rows={rows} empty="Nobody was told."
      columns={[
        { title: "Channel", cell: (row) => row.channel },
        { title: "Message", cell: (row) => row.kind },
        { title: "Result", cell: (row) => <State is={row.outcome ?? row.status} /> },
        { title: "Error", wide: true, grow: true, cell: (row) => row.error || UNKNOWN },
        { title: "Took", num: true, wide: true, cell: (row) => duration(row.duration_seconds) },
        { title: "Time", num: true, cell: (row) => <Time at={row.at} /> },
      ]}
    />
  );
}
