// What an operator does about an alert: acknowledge it with a note, take that back, silence its rule.
import { useState } from "preact/hooks";
import { send } from "../lib/api.js";
import { Action } from "./basics.jsx";

const HOURS = [["60", "1 hour"], ["240", "4 hours"], ["1440", "1 day"], ["10080", "1 week"]];

export function AlertActions({ episode, done }) {
  const [form, setForm] = useState(null);
  if (episode.state === "resolved") return null;
  const path = `alerts/${encodeURIComponent(episode.id)}`;
  const post = async (to, body) => {
    await send("POST", to, body);
    setForm(null);
    done();
  };
  const toggle = (name) => () => setForm(form === name ? null : name);
  return (
    <div class="alert-actions">
      <p class="buttons">
        {episode.acked_by
          ? <Action label="Take acknowledgement back" run={() => post(`${path}/unack`)} />
          : episode.state === "firing" && <button type="button" aria-expanded={form === "ack"} onClick={toggle("ack")}>Acknowledge</button>}
        <button type="button" aria-expanded={form === "silence"} onClick={toggle("silence")}>Silence rule</button>
      </p>
      {form === "ack" && <NoteForm what="Acknowledge" name="note" send={(note, minutes) => post(`${path}/ack`, { note, minutes })} start="1440" />}
      {form === "silence" && <SilenceForm rule={episode.rule} done={() => { setForm(null); done(); }} />}
    </div>
  );
}

export function SilenceForm({ rule, done }) {
  const silence = async (comment, minutes) => {
    await send("POST", "silences", { rule, minutes, comment });
    done();
  };
  return <NoteForm what="Silence" name="comment" send={silence} start="60" />;
}

function NoteForm({ what, name, send: submit, start }) {
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const onSubmit = async (event) => {
    event.preventDefault();
    const data = new FormData(event.target);
    setBusy(true);
    await submit(data.get(name).trim(), Number(data.get("minutes"))).catch((failed) => setError(failed.message));
    setBusy(false);
  };
  return (
    <form class="filter" onSubmit={onSubmit} aria-label={what}>
      <label class="long">{name}<input name={name} maxLength={500} ref={focusOnce} /></label>
      <label>
        for
        <select name="minutes">{HOURS.map(([minutes, text]) => <option key={minutes} value={minutes} selected={minutes === start}>{text}</option>)}</select>
      </label>
      <button disabled={busy}>{what}</button>
      {error && <span class="bad" role="alert">{error}</span>}
    </form>
  );
}

function focusOnce(input) {
  if (input && !input.dataset.seen) {
    input.dataset.seen = "yes";
    input.focus();
  }
}
