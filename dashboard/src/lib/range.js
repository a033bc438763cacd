// The time range, as the URL has it: "-1h" and "now", or unix seconds.
import { fullTime, time } from "./format.js";

export const PRESETS = [
  ["-15m", "15 m", "15 min"],
  ["-1h", "1 h", "1 h"],
  ["-6h", "6 h", "6 h"],
  ["-24h", "24 h", "24 h"],
  ["-7d", "7 d", "7 days"],
  ["-30d", "30 d", "30 days"],
];

const UNITS = { s: 1, m: 60, h: 3600, d: 86400 };

export function rangeOf({ from, to }) {
  return { from, to };
}

export function isCustom({ from, to }) {
  return to !== "now" || !PRESETS.some(([value]) => value === from);
}

function seconds(value, now) {
  if (value === "now") return now;
  const relative = /^-(\d+)([smhd])$/.exec(value);
  return relative ? now - relative[1] * UNITS[relative[2]] : Number(value);
}

/** How long the range is, in words: "1 h", or nothing for one that was dragged. */
export function lengthInWords(range) {
  return isCustom(range) ? "" : PRESETS.find(([value]) => value === range.from)[2];
}

export function rangeInWords(range) {
  const now = Date.now() / 1000;
  const [from, to] = [seconds(range.from, now), seconds(range.to, now)];
  return { text: `${time(from)} to ${range.to === "now" ? "now" : time(to)}`, title: `${fullTime(from)} to ${fullTime(to)}` };
}
