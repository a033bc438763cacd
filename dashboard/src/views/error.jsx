import { apiPath, send } from "../lib/api.js";
import { count, list, plural } from "../lib/format.js";
import { useApi } from "../lib/poll.js";
import { rangeOf } from "../lib/range.js";
import { link } from "../lib/router.js";
import { Action, Card, Empty, Facts, Loaded, State, Time } from "../parts/basics.jsx";
import { Chart } from "../parts/chart.jsx";
import { ErrorEvent } from "../parts/stack.jsx";

/** One error group: why these errors are one, how often they come, and the newest of them. */
export function OneError({ route: { id, params } }) {
  const path = `errors/${encodeURIComponent(id)}`;
  const api = useApi(apiPath(path, rangeOf(params)));
  const change = async (verb) => {
    await send("POST", `${path}/${verb}`);
    api.reload();
  };
  return (
    <Loaded api={api} missing={`There is no error group ${id}.`}>
      {(data) => (
        <>
          <p class="sentence"><State is={data.status} /> <span>{data.title ?? data.type}</span></p>
          <p class="buttons">
            {data.status === "resolved" ? <Action label="Reopen" run={() => change("reopen")} /> : <Action label="Resolve" run={() => change("resolve")} />}
            <a href={link("requests", { error_group: data.id ?? id })}>Its requests</a>
          </p>
          <div class="pair">
            <Chart
              title="Frequency" t={data.frequency?.t} open={(from, to) => link("requests", { error_group: data.id ?? id, from, to })}
              series={[{ label: "errors", values: data.frequency?.count, colour: "--red", write: count, bars: true, whole: true }]}
            />
            <Card title="Group"><About data={data} /></Card>
          </div>
          <Card title="Events" note="newest first"><Events events={list(data.events)} /></Card>
        </>
      )}
    </Loaded>
  );
}

function About({ data }) {
  return (
    <>
      <Facts
        of={[
          ["Seen", `${plural(data.count, "time")}, ${count(data.recent_count)} in this range`],
          ["First", <Time at={data.first_seen} />],
          ["Last", <Time at={data.last_seen} />],
          ["Category", data.category],
          ["Level", data.level],
          ["Culprit", data.culprit && <code>{data.culprit}</code>],
        ]}
      />
      {list(data.why).length > 0 && (
        <div class="inside">
          <h3>Why these are one group</h3>
          <ul class="why">{data.why.map((part, index) => <li key={index}><code>{part}</code></li>)}</ul>
        </div>
      )}
    </>
  );
}

function Events({ events }) {
  if (!events.length) return <Empty>No event of this group is kept any more.</Empty>;
  return events.map((event, index) => (
    <details class="event" key={`${event.request_id}${event.at}`} open={index === 0 || undefined}>
      <summary><Time at={event.at} /> <span>{event.message}</span> <span class="dim">{event.route}</span></summary>
      <ErrorEvent event={event} open />
    </details>
  ));
}
