// Log lines as they were written: time, level, event, then the fields.
import { UNKNOWN } from "../lib/format.js";
import { Empty } from "./basics.jsx";

const SHOWN_APART = new Set(["timestamp", "level", "event", "request_id", "trace_id", "span_id", "service", "exception", "stack"]);
const LOOKS = { warning: "fair", error: "bad", critical: "bad" };

export function Lines({ lines }) {
  if (!lines.length) return <Empty>No log lines were kept with this request.</Empty>;
  return (
    <ol class="lines">
      {lines.map((line, index) => (
        <li key={index}>
          <span class="dim" title={line.timestamp}>{clock(line.timestamp)}</span>
          <span class={LOOKS[line.level] ?? "dim"}>{line.level ?? UNKNOWN}</span>
          <span class="event">
            {text(line.event)} {Object.entries(line).filter(([name]) => !SHOWN_APART.has(name)).map(([name, value]) => (
              <span class="field" key={name}><span class="dim">{name}=</span>{text(value)} </span>
            ))}
            {line.exception && <Exception of={line.exception} />}
          </span>
        </li>
      ))}
    </ol>
  );
}

/** The chain of an exception: what was raised, and its frames when asked for. */
function Exception({ of }) {
  if (!Array.isArray(of)) return <pre>{text(of)}</pre>;
  return of.map((one, index) => (
    <details key={index}>
      <summary><b class="bad">{one.type}</b> {text(one.message ?? "")}</summary>
      <pre>{(one.frames ?? []).join("\n")}</pre>
    </details>
  ));
}

function clock(timestamp) {
  const at = new Date(timestamp);
  if (Number.isNaN(at.getTime())) return String(timestamp ?? UNKNOWN);
  return `${at.toLocaleTimeString("en-GB")}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}

export function text(value) {
  return typeof value === "string" ? value : (JSON.stringify(value) ?? "");
}
