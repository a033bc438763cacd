// The small parts that every view is made of.
import { Component } from "preact";
import { useState } from "preact/hooks";
import { ago, fullTime, known, time, UNKNOWN, utc } from "../lib/format.js";

/** A time in the reader's zone; UTC on hover. */
export function Time({ at, relative }) {
  if (!known(at)) return UNKNOWN;
  const title = relative ? `${fullTime(at)} (${utc(at)})` : utc(at);
  return (
    <time datetime={new Date(at * 1000).toISOString()} title={title}>
      {relative ? ago(at) : time(at)}
    </time>
  );
}

const LOOKS = {
  good: { sign: "●", words: ["ok", "pass", "resolved", "delivered", "sent", "low"] },
  bad: { sign: "■", words: ["critical", "fail", "failed", "firing", "broken", "error", "regressed", "server_error", "error_after_start", "background_error", "fatal"] },
  fair: { sign: "▲", words: ["warning", "warn", "pending", "failing", "open", "abandoned", "aborted", "cancelled", "client_disconnected", "closed_early", "retry"] },
};

export function lookOf(word) {
  return Object.keys(LOOKS).find((look) => LOOKS[look].words.includes(word)) ?? "calm";
}

/** A state, told by shape, colour and word. */
export function State({ is, children }) {
  const word = String(is ?? "unknown");
  const look = lookOf(word);
  return (
    <span class={`state ${look}`}>
      <span aria-hidden="true">{LOOKS[look]?.sign ?? "◆"}</span> {children ?? word.replaceAll("_", " ")}
    </span>
  );
}

export function Status({ code }) {
  if (!known(code)) return UNKNOWN;
  const look = code >= 500 ? "bad" : code >= 400 ? "fair" : "good";
  return <span class={`status ${look}`}>{code}</span>;
}

const SLIGHT = 0.1;

/** How a number changed against the period before. `worse` says which direction is bad: "up", or nothing. */
export function Change({ now, before, worse, length }) {
  if (!known(now) || !known(before)) return <span class="change">nothing to compare</span>;
  const period = length ? `${length} before` : "period before";
  if (now === before) return <span class="change">same as {period}</span>;
  const up = now > before;
  const share = before ? Math.abs(now - before) / Math.abs(before) : null;
  const slight = share !== null && share < SLIGHT;
  const look = !worse || slight ? "dim" : up === (worse === "up") ? "bad" : "good";
  return (
    <span class="change">
      <span class={look}>
        <span aria-hidden="true">{up ? "▲" : "▼"}</span> {share === null ? "from 0" : share > 9.99 ? `${Math.round(now / before)}×` : `${Math.round(share * 100)} %`}
      </span>
      <span class="sr"> {up ? "more" : "less"}</span> {share !== null && <span class="dim">vs {period}</span>}
    </span>
  );
}

export function Tile({ label, value, href, current, children, look = "" }) {
  const body = (
    <>
      <span class="label">{label}</span>
      <span class={`value ${look}`}>{value}</span>
      <span class="note">{children}</span>
    </>
  );
  return href ? <a class="tile" href={href} aria-current={current ? "true" : undefined}>{body}</a> : <div class="tile">{body}</div>;
}

export function Card({ title, note, actions, children, class: extra = "" }) {
  return (
    <section class={`card ${extra}`}>
      {title && (
        <header>
          <h2>{title}</h2>
          {note && <span class="dim">{note}</span>}
          {actions && <span class="actions">{actions}</span>}
        </header>
      )}
      {children}
    </section>
  );
}

/** Names and values; rows without a value are left out. */
export function Facts({ of }) {
  return (
    <dl class="facts">
      {of.filter(([, value]) => value !== undefined && value !== null && value !== "").map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** A share of 1 as a thin bar. Attributes only, so that no style is needed. */
export function Bar({ share, look = "calm", label }) {
  const width = Math.max(0, Math.min(1, share || 0)) * 100;
  return (
    <svg class={`bar ${look}`} role={label ? "img" : undefined} aria-label={label} aria-hidden={label ? undefined : "true"}>
      <rect class="track" width="100%" height="100%" rx="2" />
      <rect width={`${width}%`} height="100%" rx="2" />
    </svg>
  );
}

export function Empty({ children }) {
  return <p class="empty">{children}</p>;
}

/** What an API call has brought so far: the children when there is data, and why it is missing or old. */
export function Loaded({ api, children, missing }) {
  if (api.data === undefined) return api.error ? <Failed api={api} missing={missing} /> : <p class="empty" role="status">Loading</p>;
  return (
    <>
      {api.error && <NotUpdated api={api} />}
      <div class="loaded" aria-busy={api.busy && !api.error}>{children(api.data)}</div>
    </>
  );
}

function Failed({ api, missing }) {
  if (api.error.status === 404 && missing) return <Empty>{missing}</Empty>;
  return (
    <div class="notice" role="alert">
      <strong>Nothing to show yet.</strong> {api.error.message} <Retry api={api} />
    </div>
  );
}

function NotUpdated({ api }) {
  const since = api.at ? `since ${time(api.at / 1000)}` : "to this range";
  return (
    <div class="notice" role="status">
      <strong>Not updated {since}.</strong> {api.error.message} <Retry api={api} />
    </div>
  );
}

function Retry({ api }) {
  return (
    <>
      {api.retryAt && <span class="dim">The next try is at {time(api.retryAt / 1000)}. </span>}
      <button type="button" onClick={api.reload}>Try now</button>
    </>
  );
}

/** A button that sends something and says when that failed. */
export function Action({ label, busyLabel = "Sending", run, danger }) {
  const [state, setState] = useState({});
  const click = async () => {
    setState({ busy: true });
    try {
      await run();
      setState({});
    } catch (error) {
      setState({ error: error.message });
    }
  };
  return (
    <>
      <button type="button" class={danger ? "danger" : ""} disabled={state.busy} onClick={click}>{state.busy ? busyLabel : label}</button>
      {state.error && <span class="bad" role="alert"> {state.error}</span>}
    </>
  );
}

/** Text with a button that copies it. */
export function Copy({ text }) {
  const [done, setDone] = useState(false);
  const copy = () => navigator.clipboard?.writeText(text).then(() => setDone(true));
  return (
    <span class="copy">
      <code>{text}</code>
      {navigator.clipboard && <button type="button" class="quiet" onClick={copy}>{done ? "copied" : "copy"}</button>}
    </span>
  );
}

/** One view that cannot be drawn leaves the rest of the page standing. */
export class Boundary extends Component {
  componentDidCatch(error) {
    console.error(error);
    this.setState({ error, shown: this.props.of });
  }

  render({ children, of }, { error, shown }) {
    if (!error || shown !== of) return children;
    return <div class="notice" role="alert"><strong>This view could not be drawn.</strong> {String(error.message)}</div>;
  }
}
