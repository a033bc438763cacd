import { apiPath } from "../lib/api.js";
import { bytes, count, duration, known, list, number, percent, UNKNOWN } from "../lib/format.js";
import { useApi } from "../lib/poll.js";
import { rangeOf } from "../lib/range.js";
import { Bar, Card, Empty, Facts, Loaded, State, Tile, Time } from "../parts/basics.jsx";
import { Chart } from "../parts/chart.jsx";
import { Table } from "../parts/table.jsx";

/** The machine, the processes, the store, and what the pack costs and loses itself. */
export function System({ route: { params } }) {
  const api = useApi(apiPath("system", rangeOf(params)));
  return (
    <Loaded api={api}>
      {(data) => (
        <>
          <Degraded of={list(data.meta?.degraded)} />
          <Machine system={data.system ?? {}} />
          <div class="pair">
            <Chart title="CPU" t={data.series?.t} series={[{ label: "of one core", values: data.series?.cpu_share, colour: "--blue", write: percent }]} />
            <Chart title="Memory" t={data.series?.t} series={[{ label: "memory", values: data.series?.memory_bytes, colour: "--violet", write: bytes }]} />
          </div>
          <Card title="Processes"><Processes rows={list(data.processes)} leader={data.meta?.leader} /></Card>
          <div class="pair">
            <Card title="Store" note={data.store?.place}><Store store={data.store ?? {}} /></Card>
            <Card title="The monitoring itself"><Own meta={data.meta ?? {}} rows={list(data.own)} /></Card>
          </div>
        </>
      )}
    </Loaded>
  );
}

function Degraded({ of }) {
  return (
    <Card title="Degraded">
      {of.length ? <ul class="degraded">{of.map((one) => <li key={one}><State is="warning">degraded</State> {one}</li>)}</ul> : <Empty>Nothing is degraded.</Empty>}
    </Card>
  );
}

function Machine({ system }) {
  const used = (part, whole) => (known(part) && whole ? part / whole : null);
  const memory = used(system.memory_used_bytes, system.memory_total_bytes);
  const disk = used(system.disk_used_bytes, system.disk_total_bytes);
  return (
    <div class="tiles">
      <Tile label="CPU of the machine" value={percent(system.cpu_share)}><Bar share={system.cpu_share} look={fill(system.cpu_share)} /></Tile>
      <Tile label="Memory" value={percent(memory)}><Bar share={memory} look={fill(memory)} /> {bytes(system.memory_used_bytes)} of {bytes(system.memory_total_bytes)}</Tile>
      <Tile label="Disk" value={percent(disk)}><Bar share={disk} look={fill(disk)} /> {bytes(system.disk_used_bytes)} of {bytes(system.disk_total_bytes)}</Tile>
      <Tile label="Load" value={known(list(system.load)[0]) ? system.load[0].toFixed(2) : UNKNOWN}>{list(system.load).slice(1).map((load) => Number(load).toFixed(2)).join(" and ")} over 5 and 15 min</Tile>
    </div>
  );
}

const fill = (share) => (share > 0.9 ? "bad" : share > 0.75 ? "fair" : "calm");

function Processes({ rows, leader = "" }) {
  return (
    <Table
      id="processes" caption="Processes" rows={rows} empty="No process told about itself yet."
      columns={[
        { title: "Process", grow: true, cell: (row) => <>{row.pid} {String(leader).endsWith(`:${row.pid}`) && <span class="dim">leader</span>}</>, sort: (row) => row.pid },
        { title: "CPU", num: true, cell: (row) => percent(row.cpu_share), sort: (row) => row.cpu_share },
        { title: "Memory", num: true, cell: (row) => bytes(row.memory_bytes), sort: (row) => row.memory_bytes },
        { title: "Threads", num: true, wide: true, cell: (row) => count(row.threads), sort: (row) => row.threads },
        { title: "Files", num: true, wide: true, cell: (row) => count(row.open_files), sort: (row) => row.open_files },
        { title: "Started", num: true, cell: (row) => <Time at={row.started_at} relative /> },
      ]}
    />
  );
}

function Store({ store }) {
  return (
    <Table
      id="tables" caption="Tables of the store" rows={list(store.tables)} empty="The store has no tables yet."
      columns={[
        { title: "Table", grow: true, cell: (row) => row.name, sort: (row) => row.name },
        { title: "Rows", num: true, cell: (row) => count(row.rows), sort: (row) => row.rows },
        { title: "Oldest", num: true, cell: (row) => <Time at={row.oldest} relative />, sort: (row) => row.oldest },
      ]}
    />
  );
}

function Own({ meta, rows }) {
  return (
    <>
      <Facts
        of={[
          ["Last flush", known(meta.last_flush_seconds) ? `${duration(meta.last_flush_seconds)} ago` : UNKNOWN],
          ["Facts dropped", count(meta.facts_dropped)],
          ["Lines dropped", count(meta.lines_dropped)],
          ["Leader", meta.leader || UNKNOWN],
        ]}
      />
      <Table
        id="own" caption="Own metrics" rows={rows} empty="No own metrics."
        columns={[
          { title: "Metric", grow: true, cell: (row) => <code>{row.name}</code>, sort: (row) => row.name },
          { title: "Value", num: true, cell: (row) => number(row.value), sort: (row) => row.value },
        ]}
      />
    </>
  );
}
