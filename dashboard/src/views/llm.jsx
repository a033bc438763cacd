import { apiPath } from "../lib/api.js";
import { count, duration, known, list, money, plural, short, UNKNOWN } from "../lib/format.js";
import { useApi } from "../lib/poll.js";
import { rangeOf } from "../lib/range.js";
import { link } from "../lib/router.js";
import { Card, Loaded, Tile } from "../parts/basics.jsx";
import { Chart } from "../parts/chart.jsx";
import { Table } from "../parts/table.jsx";

/** What language models did and what they cost. */
export function Llm({ route: { params } }) {
  const api = useApi(apiPath("llm", rangeOf(params)));
  return (
    <Loaded api={api}>
      {(data) => (
        <>
          <Tiles totals={data.totals ?? {}} />
          <Charts series={data.series ?? {}} />
          <Card title="Models"><Models rows={list(data.models)} /></Card>
          <Card title="Agents"><Agents rows={list(data.agents)} /></Card>
        </>
      )}
    </Loaded>
  );
}

function Tiles({ totals }) {
  const all = link("requests", { kind: "llm" });
  return (
    <div class="tiles">
      <Tile label="Cost" value={money(totals.cost_usd)} href={all}>{totals.unpriced_calls ? `without ${plural(totals.unpriced_calls, "unpriced call")}` : "all calls priced"}</Tile>
      <Tile label="Calls" value={short(totals.calls)} href={all}>{totals.usage_missing ? `${count(totals.usage_missing)} told no tokens` : "all told their tokens"}</Tile>
      <Tile label="Errors" value={count(totals.errors)} look={totals.errors ? "bad" : ""} href={all}>of {plural(totals.calls, "call")}</Tile>
      <Tile label="Input tokens" value={short(totals.input_tokens)} href={all}>{perCall(totals.input_tokens, totals.calls)}</Tile>
      <Tile label="Output tokens" value={short(totals.output_tokens)} href={all}>{perCall(totals.output_tokens, totals.calls)}</Tile>
    </div>
  );
}

function perCall(tokens, calls) {
  return known(tokens) && calls ? `${short(tokens / calls)} per call` : "";
}

function Charts({ series }) {
  const open = (from, to) => link("requests", { kind: "llm", from, to });
  return (
    <div class="pair">
      <Chart title="Cost" t={series.t} open={open} series={[{ label: "cost", values: series.cost_usd, colour: "--green", write: (value) => (known(value) ? money(value) : UNKNOWN), bars: true }]} />
      <Chart
        title="Tokens and calls" t={series.t} open={open}
        series={[
          { label: "tokens", values: series.tokens, colour: "--violet", write: short },
          { label: "calls", values: series.calls, colour: "--blue", write: count, axis: "y2", whole: true },
        ]}
      />
    </div>
  );
}

function cost({ cost_usd: usd, unpriced_calls: unpriced }) {
  if (!known(usd)) return "unpriced";
  return <>{money(usd)}{unpriced ? <span class="dim"> + {count(unpriced)} unpriced</span> : null}</>;
}

const failed = (row) => (row.errors ? <span class="bad">{count(row.errors)}</span> : <span class="dim">{count(row.errors)}</span>);

function Models({ rows }) {
  return (
    <Table
      id="models" caption="Models" rows={rows} empty="No LLM calls in this range." href={(row) => link("requests", { kind: "llm", name: `${row.operation} ${row.model}` })}
      columns={[
        { title: "Model", grow: true, cell: (row) => <>{row.model} <span class="dim">{row.operation}</span></>, sort: (row) => row.model },
        { title: "Provider", wide: true, cell: (row) => row.provider, sort: (row) => row.provider },
        { title: "Calls", num: true, cell: (row) => count(row.calls), sort: (row) => row.calls },
        { title: "Errors", num: true, cell: failed, sort: (row) => row.errors },
        { title: "Input", num: true, wide: true, cell: (row) => short(row.input_tokens), sort: (row) => row.input_tokens },
        { title: "Output", num: true, wide: true, cell: (row) => short(row.output_tokens), sort: (row) => row.output_tokens },
        { title: "p50", num: true, wide: true, cell: (row) => duration(row.p50_seconds), sort: (row) => row.p50_seconds },
        { title: "p95", num: true, cell: (row) => duration(row.p95_seconds), sort: (row) => row.p95_seconds },
        { title: "First chunk", num: true, wide: true, cell: (row) => duration(row.first_chunk_p50_seconds), sort: (row) => row.first_chunk_p50_seconds },
        { title: "Cost", num: true, cell: cost, sort: (row) => row.cost_usd },
      ]}
    />
  );
}

function Agents({ rows }) {
  return (
    <Table
      id="agents" caption="Agents" rows={rows} empty="No agent ran in this range." href={(row) => link("requests", { kind: "agent", name: row.agent })}
      columns={[
        { title: "Agent", grow: true, cell: (row) => row.agent, sort: (row) => row.agent },
        { title: "Runs", num: true, cell: (row) => count(row.runs), sort: (row) => row.runs },
        { title: "Errors", num: true, cell: failed, sort: (row) => row.errors },
        { title: "p50", num: true, wide: true, cell: (row) => duration(row.p50_seconds), sort: (row) => row.p50_seconds },
        { title: "p95", num: true, cell: (row) => duration(row.p95_seconds), sort: (row) => row.p95_seconds },
        { title: "LLM calls", num: true, wide: true, cell: (row) => count(row.llm_calls), sort: (row) => row.llm_calls },
        { title: "Tokens", num: true, wide: true, cell: (row) => short(row.tokens), sort: (row) => row.tokens },
        { title: "Cost", num: true, cell: cost, sort: (row) => row.cost_usd },
      ]}
    />
  );
}
