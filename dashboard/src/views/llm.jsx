import { apiPath } from "../lib/api.js";
import { count, duration, known, list, money, percent, plural, short, UNKNOWN } from "../lib/format.js";
import { useApi } from "../lib/poll.js";
import { rangeOf } from "../lib/range.js";
import { link } from "../lib/router.js";
import { Bar, Card, Loaded, Tile } from "../parts/basics.jsx";
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
          {list(data.tools).length > 0 && <Card title="Tools of agents"><Tools rows={data.tools} /></Card>}
          {list(data.budgets).length > 0 && <Card title="Budgets" note="of the running hour or day"><Budgets rows={data.budgets} /></Card>}
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

function Tools({ rows }) {
  return (
    <Table
      id="tools" caption="Tools of agents" rows={rows} href={(row) => link("requests", { kind: "span", name: row.tool })}
      columns={[
        { title: "Tool", grow: true, cell: (row) => row.tool, sort: (row) => row.tool },
        { title: "Calls", num: true, cell: (row) => count(row.calls), sort: (row) => row.calls },
        { title: "Errors", num: true, cell: failed, sort: (row) => row.errors },
        { title: "p50", num: true, wide: true, cell: (row) => duration(row.p50_seconds), sort: (row) => row.p50_seconds },
        { title: "p95", num: true, cell: (row) => duration(row.p95_seconds), sort: (row) => row.p95_seconds },
      ]}
    />
  );
}

/** One row per budget: that of who spent most of it. */
function Budgets({ rows }) {
  return (
    <Table
      id="budgets" caption="Budgets" rows={rows}
      columns={[
        { title: "Budget", grow: true, cell: (row) => <>{row.name} {row.refuse && <span class="dim">refuses</span>}</>, sort: (row) => row.name },
        { title: "Spent", num: true, cell: (row) => <span class={row.share >= 1 ? "bad" : ""}>{percent(row.share)}</span>, sort: (row) => row.share },
        { title: "Share", wide: true, cell: (row) => <Bar share={row.share} look={row.share >= 1 ? "bad" : row.share >= 0.8 ? "fair" : "calm"} /> },
        { title: "Of", num: true, cell: (row) => <>{money(row.usd)}{row.by ? ` per ${row.by}` : ""}</>, sort: (row) => row.usd },
        { title: "Most", wide: true, cell: (row) => list(row.spent)[0]?.value || "–" },
        { title: "Calls", num: true, cell: (row) => count(row.calls), sort: (row) => row.calls },
        { title: "Unpriced", num: true, cell: (row) => count(row.unpriced_calls), sort: (row) => row.unpriced_calls },
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
