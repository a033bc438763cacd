import { useState } from "preact/hooks";
import { apiPath, send } from "../lib/api.js";
import { list, UNKNOWN } from "../lib/format.js";
import { useApi } from "../lib/poll.js";
import { linkTo } from "../lib/router.js";
import { AlertActions, SilenceForm } from "../parts/alert-actions.jsx";
import { Action, Card, Empty, Facts, Loaded, State, Time } from "../parts/basics.jsx";
import { Labels } from "./alert.jsx";
import { Against, Episodes } from "../parts/rows.jsx";
import { Table } from "../parts/table.jsx";

/** What is open, what was, and what watches. */
export function Alerts() {
  const api = useApi(apiPath("alerts"));
  return (
    <Loaded api={api}>
      {(data) => (
        <>
          <h2 class="between">Open</h2>
          {!list(data.open).length && <Card><Empty>No alert is open.</Empty></Card>}
          {list(data.open).map((episode) => <Open key={episode.id} episode={episode} done={api.reload} />)}
          <Card title="Rules"><Rules rows={list(data.rules)} /></Card>
          <Card title="Silences"><Silences rows={list(data.silences)} done={api.reload} /></Card>
          <Card title="Resolved" note="newest 50"><Episodes rows={list(data.recent)} caption="Resolved alerts" when="Resolved" empty="No alert was resolved yet." /></Card>
          <Card title="Channels"><Channels rows={list(data.channels)} /></Card>
        </>
      )}
    </Loaded>
  );
}

function Open({ episode, done }) {
  return (
    <Card
      class="open-alert" title={<a href={linkTo.alert(episode.id)}>{episode.rule}</a>}
      note={<><State is={episode.severity ?? "firing"}>{episode.severity}, {episode.state}</State> since <Time at={episode.fired_at ?? episode.active_since} /></>}
    >
      <p class="inside">{episode.summary}</p>
      <Facts
        of={[
          ["Value", <Against {...episode} />],
          ["Labels", <Labels of={episode.labels} />],
          ["Acknowledged", episode.acked_by && <>{episode.acked_by}{episode.ack_note && `: ${episode.ack_note}`}, until <Time at={episode.acked_until} /></>],
          ["Silenced by", episode.silenced_by],
        ]}
      />
      <AlertActions episode={episode} done={done} />
    </Card>
  );
}

function Rules({ rows }) {
  return (
    <Table
      id="rules" caption="Rules" rows={rows} empty="No rule is set up."
      columns={[
        { title: "Rule", grow: true, cell: (row) => <><span class="title">{row.name}</span><span class="under">{row.description}</span></>, sort: (row) => row.name },
        { title: "State", cell: (row) => <State is={row.state} />, sort: (row) => row.state },
        { title: "Severity", wide: true, cell: (row) => row.severity ?? UNKNOWN, sort: (row) => row.severity },
        { title: "Value", num: true, cell: (row) => <Against {...row} />, sort: (row) => row.value },
      ]}
    />
  );
}

function Silences({ rows, done }) {
  const [adding, setAdding] = useState(false);
  const end = (row) => async () => {
    await send("DELETE", `silences/${encodeURIComponent(row.id)}`);
    done();
  };
  const added = () => {
    setAdding(false);
    done();
  };
  return (
    <>
      <Table
        caption="Silences" rows={rows} empty="Nothing is silenced."
        columns={[
          { title: "Rule", cell: (row) => (row.rule === "*" ? "all rules" : row.rule) },
          { title: "Comment", grow: true, cell: (row) => row.comment || UNKNOWN },
          { title: "By", wide: true, cell: (row) => row.author || UNKNOWN },
          { title: "Ends", num: true, cell: (row) => <Time at={row.ends_at} relative /> },
          { title: "End it", num: true, cell: (row) => <Action label="End" run={end(row)} /> },
        ]}
      />
      <div class="alert-actions">
        <p class="buttons"><button type="button" aria-expanded={adding} onClick={() => setAdding(!adding)}>Silence all rules</button></p>
        {adding && <SilenceForm rule="*" done={added} />}
      </div>
    </>
  );
}

function Channels({ rows }) {
  return (
    <Table
      caption="Channels" rows={rows} empty="No channel is set up: alerts are shown here only."
      columns={[
        { title: "Channel", cell: (row) => row.name },
        { title: "Kind", wide: true, cell: (row) => row.kind },
        { title: "State", cell: (row) => <State is={row.state} /> },
        { title: "Last error", grow: true, cell: (row) => row.last_error || UNKNOWN },
      ]}
    />
  );
}
