// An error event: message, context, and the stack of each exception in the chain with its source lines.
import { entries, list, plural } from "../lib/format.js";
import { linkTo } from "../lib/router.js";
import { Facts, State, Time } from "./basics.jsx";
import { text } from "./lines.jsx";
import { User } from "./rows.jsx";

const FOLDED = 3;
const LINKS = { cause: "Caused by", context: "While handling" };

export function ErrorEvent({ event, open }) {
  return (
    <div class="event-body">
      <Facts
        of={[
          ["Time", <Time at={event.at} />],
          ["Level", event.level && <State is={event.level} />],
          ["Route", event.route],
          ["User", event.user && <User id={event.user} />],
          ["Request", event.request_id && <a class="mono" href={linkTo.request(event.request_id)}>{event.request_id}</a>],
          ...entries(event.context).map(([name, value]) => [name, <code>{text(value)}</code>]),
        ]}
      />
      {!list(event.stack).length && <p class="inside">{event.message}</p>}
      {list(event.stack).map((stack, index) => <Stack key={index} stack={stack} open={open} />)}
    </div>
  );
}

function Stack({ stack, open }) {
  const frames = list(stack.frames);
  const last = frames.findLastIndex((frame) => frame.in_app);
  const shown = last < 0 ? frames.length - 1 : last;
  return (
    <div class="stack">
      <p class="raised">
        {LINKS[stack.is] && <span class="dim">{LINKS[stack.is]} </span>}
        <b class="bad">{stack.type}</b> {stack.message}
      </p>
      <ol class="frames">
        {runs(frames).map(({ own, from, frames: run }) =>
          own || run.length < FOLDED
            ? run.map((frame, index) => <Frame key={from + index} frame={frame} open={open && from + index === shown} />)
            : <Folded key={from} frames={run} />,
        )}
      </ol>
      {list(stack.members).length > 0 && (
        <div class="members">{stack.members.map((member, index) => <Stack key={index} stack={member} open={open} />)}</div>
      )}
    </div>
  );
}

/** Frames in runs of the app's own and of libraries. */
function runs(frames) {
  const all = [];
  frames.forEach((frame, index) => {
    const own = Boolean(frame.in_app);
    if (all.at(-1)?.own !== own) all.push({ own, from: index, frames: [] });
    all.at(-1).frames.push(frame);
  });
  return all;
}

function Folded({ frames }) {
  return (
    <li class="other">
      <details>
        <summary class="dim">{plural(frames.length, "frame")} in libraries</summary>
        <ol>{frames.map((frame, index) => <Frame key={index} frame={frame} />)}</ol>
      </details>
    </li>
  );
}

function Frame({ frame, open }) {
  const source = list(frame.source);
  const place = (
    <>
      <span class="function">{frame.function}</span> <span class="dim">{frame.file}:{frame.line}</span>
    </>
  );
  if (!source.length) return <li class={frame.in_app ? "own" : "other"}><span class="bare">{place}</span></li>;
  return (
    <li class={frame.in_app ? "own" : "other"}>
      <details open={open || undefined}>
        <summary>{place}</summary>
        <pre class="source" tabIndex={0}>
          {source.map(([number, line]) => (
            <span key={number} class={number === frame.line ? "here" : undefined}><i>{number}</i>{line}{"\n"}</span>
          ))}
        </pre>
      </details>
    </li>
  );
}
