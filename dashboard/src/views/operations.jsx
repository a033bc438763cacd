import { apiPath } from "../lib/api.js";
import { duration, entries, list, UNKNOWN } from "../lib/format.js";
import { useApi } from "../lib/poll.js";
import { rangeOf } from "../lib/range.js";
import { link, linkHere, linkTo } from "../lib/router.js";
import { Card, Loaded, State, Time } from "../parts/basics.jsx";
import { User } from "../parts/rows.jsx";
import { Table } from "../parts/table.jsx";

/** The runs of one operation, or of one value of its dimensions; each opens its request. */
export function Operations({ route: { params } }) {
  const values = Object.fromEntries(Object.entries(params).filter(([name]) => name.startsWith("value.")));
  const api = useApi(apiPath("operations", { ...rangeOf(params), name: params.name, ...values }));
  return (
    <>
      <p class="chips">
        <a class="chip" href={link("usage")}>operation: <b>{params.name ?? "all"}</b></a>
        {Object.entries(values).map(([name, value]) => (
          <a key={name} class="chip" href={linkHere({ [name]: null })} title="Remove this filter">{name.slice(6)}: <b>{value}</b> <span aria-hidden="true">×</span><span class="sr"> remove</span></a>
        ))}
      </p>
      <Loaded api={api}>
        {(data) => <Card title="Runs"><Runs rows={list(data.operations)} truncated={data.truncated} /></Card>}
      </Loaded>
    </>
  );
}

function Runs({ rows, truncated }) {
  return (
    <Table
      caption="Runs" rows={rows} truncated={truncated} empty="No run of this operation in this range."
      columns={[
        { title: "Run", grow: true, cell: (row) => <Run row={row} /> },
        { title: "Outcome", cell: (row) => <State is={row.outcome || "open"} /> },
        { title: "Duration", num: true, cell: (row) => duration(row.duration_seconds) },
        { title: "Reason", wide: true, cell: (row) => row.reason || UNKNOWN },
        { title: "User", wide: true, cell: (row) => (row.user ? <User id={row.user} /> : UNKNOWN) },
        { title: "Started", num: true, cell: (row) => <Time at={row.started_at} /> },
      ]}
    />
  );
}

function Run({ row }) {
  const text = entries(row.dimensions).map(([name, value]) => `${name} ${value}`).join(", ") || row.name || row.id;
  return row.request_id ? <a class="open" href={linkTo.request(row.request_id)}>{text}</a> : text;
}
