// The spans of a request on one time axis, as the tree that they are.
import { count, duration, known, money, plural, short, UNKNOWN } from "../lib/format.js";
import { link } from "../lib/router.js";
import { Empty, Facts, State } from "./basics.jsx";
import { text } from "./lines.jsx";

const KINDS = { db: "database", cache: "cache", llm: "LLM", http: "HTTP", span: "code", agent: "agent", operation: "operation" };
const FINDABLE = new Set(["db", "cache", "llm", "http"]);
const MARKS = [0, 0.25, 0.5, 0.75, 1];
const LEAST_SHARE = 0.004;

export function Waterfall({ spans: given, total, findings = [], children }) {
  const spans = given.map((span) => ({ ...span, odd: oddness(span, findings) }));
  if (!spans.length) return <Empty>No calls were kept with this request.</Empty>;
  const ends = spans.map((span) => (span.offset_seconds ?? 0) + (span.duration_seconds ?? 0));
  const length = Math.max(total ?? 0, ...ends) || 1;
  return (
    <div class="waterfall">
      {children}
      <Totals spans={spans} />
      <div class="axis" aria-hidden="true">
        <svg>
          {MARKS.map((mark) => (
            <text key={mark} x={`${mark * 100}%`} y="11" text-anchor={mark === 0 ? "start" : mark === 1 ? "end" : "middle"}>{duration(mark * length)}</text>
          ))}
        </svg>
      </div>
      <Branch spans={spans} tree={treeOf(spans)} parent={-1} depth={0} length={length} />
    </div>
  );
}

/** What was found of the statement of a span: that it is repeated, slow, or both. */
function oddness({ kind, detail }, findings) {
  if (kind !== "db" || !detail?.statement) return [];
  return [...new Set(findings.filter(({ statement }) => statement === detail.statement).map((found) => found.kind))];
}

/** Children of each span by its index, in order of start; -1 holds the roots. A parent that is not there counts as none. */
function treeOf(spans) {
  const tree = new Map();
  spans.forEach((span, index) => {
    const parent = Number.isInteger(span.parent) && span.parent < index && spans[span.parent] ? span.parent : -1;
    tree.set(parent, [...(tree.get(parent) ?? []), index]);
  });
  for (const children of tree.values()) children.sort((a, b) => (spans[a].offset_seconds ?? 0) - (spans[b].offset_seconds ?? 0));
  return tree;
}

function Totals({ spans }) {
  const kinds = [...new Set(spans.map(({ kind }) => kind))].filter((kind) => FINDABLE.has(kind));
  return (
    <p class="totals">
      {kinds.map((kind) => {
        const those = spans.filter((span) => span.kind === kind);
        return (
          <span key={kind}>
            <Swatch kind={kind} /> {KINDS[kind]} <b>{duration(those.reduce((sum, span) => sum + (span.duration_seconds ?? 0), 0))}</b> <span class="dim">in {count(those.length)}</span>
          </span>
        );
      })}
    </p>
  );
}

function Swatch({ kind }) {
  return <svg class="swatch" aria-hidden="true" viewBox="0 0 10 10"><rect class={`span-${KINDS[kind] ? kind : "span"}`} width="10" height="10" rx="2" /></svg>;
}

function Branch({ spans, tree, parent, depth, length }) {
  const children = tree.get(parent);
  if (!children) return null;
  return (
    <ol>
      {children.map((index) => (
        <li key={index}>
          <Span span={spans[index]} depth={depth} length={length} />
          <Branch spans={spans} tree={tree} parent={index} depth={depth + 1} length={length} />
        </li>
      ))}
    </ol>
  );
}

function Span({ span, depth, length }) {
  const failed = span.outcome && span.outcome !== "ok";
  return (
    <details>
      <summary class="span" style={{ "--depth": Math.min(depth, 8) }}>
        <span class="name">
          <Swatch kind={span.kind} /> <span class="sr">{KINDS[span.kind] ?? span.kind}: </span>
          <span class={failed ? "bad" : undefined}>{span.name || KINDS[span.kind]}</span> <Gist span={span} />
        </span>
        <svg class="bars" aria-hidden="true">
          {MARKS.slice(1, -1).map((mark) => <line key={mark} x1={`${mark * 100}%`} x2={`${mark * 100}%`} y1="0" y2="100%" />)}
          <rect
            class={failed ? "span-bad" : `span-${KINDS[span.kind] ? span.kind : "span"}`} y="25%" height="50%" rx="2"
            x={`${share(span.offset_seconds, length)}%`} width={`${Math.max(LEAST_SHARE * 100, share(span.duration_seconds, length))}%`}
          />
        </svg>
        <span class="took">{duration(span.duration_seconds)}</span>
      </summary>
      <Detail span={span} />
    </details>
  );
}

function share(seconds, length) {
  return Math.min(100, Math.max(0, (100 * (seconds ?? 0)) / length));
}

/** What matters most about a span, beside its name. */
function Gist({ span: { kind, detail = {}, outcome, odd } }) {
  const said = kind === "agent" || kind === "operation" ? [kind] : kind === "cache" && detail.cache ? [detail.cache] : [];
  if (kind === "llm") said.push(tokens(detail), money(detail.cost_usd));
  if (kind === "cache" && detail.commands) said.push(plural(detail.commands, "command"));
  if (kind === "cache" && (detail.hits || detail.misses)) said.push(detail.misses ? `${count(detail.misses)} missed${detail.hits ? `, ${count(detail.hits)} hit` : ""}` : `${count(detail.hits)} hit`);
  if (kind === "http" && detail.status) said.push(String(detail.status));
  if (kind === "db" && detail.rows >= 0) said.push(plural(detail.rows, "row"));
  said.push(...odd);
  return (
    <>
      {said.length > 0 && <span class="dim">{said.join(" · ")} </span>}
      {outcome && outcome !== "ok" && <State is={outcome} />}
    </>
  );
}

function tokens(detail) {
  if (!known(detail.input_tokens) && !known(detail.output_tokens)) return "tokens unknown";
  return `${short((detail.input_tokens ?? 0) + (detail.output_tokens ?? 0))} tokens`;
}

function Detail({ span }) {
  const { statement, cost_usd: _, ...rest } = span.detail ?? {};
  const others = Object.entries(rest).filter(([name, value]) => value !== null && value !== "" && !(name === "rows" && value < 0));
  return (
    <div class="detail">
      {statement && <pre class="source" tabIndex={0}>{statement}</pre>}
      <Facts
        of={[
          ["starts at", duration(span.offset_seconds)],
          ["took", duration(span.duration_seconds)],
          ["outcome", span.outcome ?? UNKNOWN],
          ...others.map(([name, value]) => [name.replace(/_seconds$/, "").replaceAll("_", " "), shown(name, value)]),
          span.kind === "llm" && ["cost", money(span.detail?.cost_usd)],
          FINDABLE.has(span.kind) && ["others", <a href={link("requests", { kind: span.kind, name: span.name })}>Requests with this call</a>],
        ].filter(Boolean)}
      />
    </div>
  );
}

function shown(name, value) {
  if (name.endsWith("_seconds")) return duration(value);
  if (name.endsWith("_tokens")) return count(value);
  if (name.endsWith("_usd")) return money(value);
  return text(value);
}
