// Numbers and times as the page shows them. What is not known is an en dash.
export const UNKNOWN = "–";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const clock = format({ hour: "2-digit", minute: "2-digit", second: "2-digit" });
const minute = format({ hour: "2-digit", minute: "2-digit" });
const day = format({ day: "numeric", month: "short" });
const full = format({ dateStyle: "medium", timeStyle: "medium" });

function format(options) {
  const formatter = new Intl.DateTimeFormat("en-GB", { hourCycle: "h23", ...options });
  return (at) => formatter.format(at * 1000);
}

export const known = (value) => typeof value === "number" && Number.isFinite(value);
export const list = (value) => (Array.isArray(value) ? value : []);
export const entries = (value) => (value && typeof value === "object" ? Object.entries(value) : []);

const orUnknown = (write) => (value) => (known(value) ? write(value) : UNKNOWN);

export const count = orUnknown((value) => whole.format(value));
export const short = orUnknown((value) => (Math.abs(value) < 1000 ? fine.format(value) : compact.format(value)));
export const number = orUnknown((value) => (Number.isInteger(value) ? whole : fine).format(value));
export const exact = orUnknown((value) => (Math.abs(value) < 100_000 ? whole : compact).format(value));
export const rate = orUnknown((value) => {
  const [times, unit] = value >= 1 || value === 0 ? [1, "s"] : value * 60 >= 1 ? [60, "min"] : [3600, "h"];
  return `${fine.format(value * times)}/${unit}`;
});
export const percent = orUnknown((value) => `${percentNumber(value * 100)} %`);

function percentNumber(value) {
  if (value === 0 || value === 100) return String(value);
  if (value > 99.9 && value < 100) return (Math.floor(value * 100) / 100).toFixed(2);
  return value < 0.1 ? fine.format(value) : value.toFixed(1);
}

export const duration = orUnknown((seconds) => {
  const size = Math.abs(seconds);
  if (size === 0) return "0 ms";
  if (size < 0.001) return `${whole.format(seconds * 1e6)} µs`;
  if (size < 0.01) return `${(seconds * 1e3).toFixed(1)} ms`;
  if (size < 0.9995) return `${whole.format(seconds * 1e3)} ms`;
  if (size < 59.95) return `${seconds.toFixed(size < 9.995 ? 2 : 1).replace(/0$/, "").replace(/\.$/, "")} s`;
  return longDuration(seconds);
});

const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

function longDuration(seconds) {
  const first = UNITS.findIndex(([, size]) => seconds >= size);
  const [name, size] = UNITS[first];
  const [next, nextSize] = UNITS[first + 1] ?? [];
  const left = nextSize ? Math.floor((seconds % size) / nextSize) : 0;
  return `${Math.floor(seconds / size)} ${name}${left ? ` ${left} ${next}` : ""}`;
}

const roughly = (seconds) => longDuration(seconds).split(" ", 2).join(" ");

export const bytes = orUnknown((value) => {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let step = 0;
  while (Math.abs(value) >= 1000 && step < units.length - 1) {
    value /= 1000;
    step += 1;
  }
  return `${fine.format(value)} ${units[step]}`;
});

/** Money in dollars; null is a price that nobody knows, never 0. */
export function money(value) {
  if (!known(value)) return "unpriced";
  if (value > 0 && value < 0.0001) return "< $0.0001";
  return `$${value.toLocaleString("en", { minimumFractionDigits: value < 1 ? 4 : 2, maximumFractionDigits: value < 1 ? 4 : 2 })}`;
}

const isToday = (at) => new Date(at * 1000).toDateString() === new Date().toDateString();

export const time = orUnknown((at) => (isToday(at) ? clock(at) : `${day(at)} ${minute(at)}`));
export const fullTime = orUnknown(full);
export const dayOf = orUnknown(day);
export const utc = orUnknown((at) => `${new Date(at * 1000).toISOString().replace("T", " ").replace(/\.\d+Z/, "")} UTC`);

/** A bucket's label on an axis whose ticks are `step` seconds apart. */
export function tick(at, step) {
  if (step >= 86400) return day(at);
  if (step < 60) return clock(at);
  const label = minute(at);
  return label === "00:00" ? day(at) : label;
}

export function ago(at, now = Date.now() / 1000) {
  if (!known(at)) return UNKNOWN;
  const passed = now - at;
  if (Math.abs(passed) < 1) return "now";
  return passed > 0 ? `${roughly(passed)} ago` : `in ${roughly(-passed)}`;
}

export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}
