// A time chart: uPlot on canvas, a sentence that says what it shows, and the same points as a table.
import { useEffect, useId, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { fullTime, known, list, tick, time, utc } from "../lib/format.js";
import { go, linkHere } from "../lib/router.js";
import { colour, useTheme } from "../lib/theme.js";

const HEIGHT = 168;
const DRAG_PX = 6;

/**
 * series: {label, values, colour: "--blue", write(value), bars?, axis?: "y2"}. `t` are bucket starts in unix seconds, ascending.
 * `step` is the length of a bucket, where two points cannot tell. A drag sets the range of the page; a click (or Enter) opens `open(from, to)`, a link to what is behind one bucket.
 */
export function Chart({ title, t, series, open, step = bucket(list(t)) }) {
  const [asTable, setAsTable] = useState(false);
  const [cursor, setCursor] = useState(null);
  const id = useId();
  const times = list(t);
  const lines = series.map((one) => ({ ...one, values: times.map((_, index) => list(one.values)[index] ?? null) }));
  const hasData = lines.some((line) => line.values.some(known));
  const at = cursor !== null && cursor < times.length ? cursor : null;
  return (
    <figure class="card chart" role="group" aria-labelledby={id}>
      <figcaption>
        <h2 id={id}>{title}</h2>
        {hasData && (
          <button type="button" class="quiet" aria-pressed={asTable} onClick={() => setAsTable(!asTable)}>
            {asTable ? "View as chart" : "View as table"}
          </button>
        )}
        <Legend lines={lines} at={at} when={times[at]} />
      </figcaption>
      {!hasData && <p class="empty">No data in this range.</p>}
      {hasData && asTable && <Points title={title} times={times} step={step} lines={lines} open={open} />}
      {hasData && !asTable && <Plot title={title} times={times} step={step} lines={lines} open={open} onCursor={setCursor} at={at} />}
      {hasData && <p class="summary">{summary(lines)}</p>}
    </figure>
  );
}

function Legend({ lines, at, when }) {
  return (
    <span class="legend">
      {at !== null && <span class="dim">{time(when)}</span>}
      {lines.map((line) => (
        <span key={line.label}>
          <svg class="swatch" aria-hidden="true" viewBox="0 0 10 10"><rect class={line.colour.slice(2)} width="10" height="10" rx={line.bars ? 1 : 5} /></svg>
          {line.label}{at !== null && <b> {line.write(line.values[at])}</b>}
        </span>
      ))}
    </span>
  );
}

/** What the chart shows, in one sentence. */
export function summary(lines) {
  const parts = lines.map(({ label, values, write }) => {
    const points = values.filter(known);
    if (!points.length) return `${label}: no data`;
    const [low, high] = [Math.min(...points), Math.max(...points)];
    return low === high ? `${label} ${write(low)}` : `${label} ${write(low)} to ${write(high)}, last ${write(points.at(-1))}`;
  });
  return `${parts.join("; ")}.`;
}

function Points({ title, times, step, lines, open }) {
  return (
    <div class="scroll points" role="region" aria-label={`${title}, as a table`} tabIndex={0}>
      <table>
        <caption class="sr">{title}</caption>
        <thead>
          <tr>
            <th scope="col">Time</th>
            {lines.map((line) => <th scope="col" class="num" key={line.label}>{line.label}</th>)}
          </tr>
        </thead>
        <tbody>
          {times.map((at, index) => (
            <tr key={at}>
              <td title={utc(at)}>{open ? <a href={open(at, at + step)}>{fullTime(at)}</a> : fullTime(at)}</td>
              {lines.map((line) => <td class="num" key={line.label}>{line.write(line.values[index])}</td>)}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function bucket(times) {
  return times.length > 1 ? times[1] - times[0] : 60;
}

function Plot({ title, times, step, lines, open, onCursor, at }) {
  const place = useRef(null);
  const plot = useRef(null);
  const now = useRef({});
  const theme = useTheme();
  now.current = { times, step, open, onCursor };
  const shape = lines.map(({ label }) => label).join();

  useEffect(() => {
    const box = place.current;
    const drawn = new uPlot(options(box, lines, now), points(times, step, lines), box);
    const resized = new ResizeObserver(() => drawn.setSize({ width: box.clientWidth, height: HEIGHT }));
    resized.observe(box);
    plot.current = drawn;
    return () => {
      resized.disconnect();
      drawn.destroy();
      plot.current = null;
    };
  }, [theme, shape]);

  useEffect(() => {
    plot.current?.setData(points(times, step, lines));
  });

  const said = at === null ? summary(lines) : `${time(times[at])}: ${lines.map((line) => `${line.label} ${line.write(line.values[at])}`).join(", ")}`;
  return (
    <div
      ref={place} class="plot" tabIndex={0} role="slider" aria-label={`${title}: arrow keys choose a point${open ? ", Enter opens it" : ""}`}
      aria-valuemin={0} aria-valuemax={times.length - 1} aria-valuenow={at ?? 0} aria-valuetext={said}
      onKeyDown={(event) => onKey(event, plot.current, at, now.current)}
      onBlur={() => onCursor(null)}
    />
  );
}

function points(times, step, lines) {
  return [times.map((at) => at + step / 2), ...lines.map((line) => line.values)];
}

function onKey(event, plot, at, { times, step, open, onCursor }) {
  const moves = { ArrowLeft: (at ?? times.length) - 1, ArrowRight: (at ?? -1) + 1, Home: 0, End: times.length - 1 };
  if (event.key === "Enter" && open && at !== null) return go(open(times[at], times[at] + step));
  if (!(event.key in moves)) return undefined;
  event.preventDefault();
  const next = Math.max(0, Math.min(times.length - 1, moves[event.key]));
  const top = HEIGHT / 3;
  plot.setCursor({ left: plot.valToPos(times[next] + step / 2, "x"), top }, false);
  return onCursor(next);
}

function options(place, lines, now) {
  const scales = { x: { time: true, range: () => [now.current.times[0], now.current.times.at(-1) + now.current.step] }, y: { range: fromZero } };
  if (lines.some((line) => line.axis === "y2")) scales.y2 = { range: fromZero };
  return {
    width: place.clientWidth || 300,
    height: HEIGHT,
    padding: [8, lines.some((line) => line.axis) ? 0 : 18, 0, 0],
    legend: { show: false },
    scales,
    axes: axes(lines),
    series: [{}, ...lines.map(line)],
    cursor: cursor(),
    select: { show: true },
    hooks: {
      setCursor: [(plot) => now.current.onCursor(plot.cursor.idx ?? null)],
      setSelect: [(plot) => zoom(plot)],
      ready: [(plot) => openOnClick(plot, now)],
    },
  };
}

function fromZero(_, low, high) {
  return [Math.min(0, low ?? 0), high > 0 ? high * 1.08 : 1];
}

function line({ label, colour: name, bars, axis }) {
  const stroke = colour(name);
  const shared = { label, stroke, scale: axis ?? "y", points: { size: 5, fill: stroke, filter: lonely } };
  if (!bars) return { ...shared, width: 1.5 };
  return { ...shared, width: 0, fill: stroke, points: { show: false }, paths: uPlot.paths.bars({ size: [0.82, 36], radius: 0.1 }) };
}

/** The points that no line reaches, because their neighbours are missing: they are drawn as dots. */
function lonely(plot, number, all) {
  if (all) return null;
  const values = plot.data[number];
  return [...values.keys()].filter((index) => known(values[index]) && !known(values[index - 1]) && !known(values[index + 1]));
}

function axes(lines) {
  const look = { stroke: colour("--dim"), font: "11px system-ui, sans-serif", ticks: { show: false } };
  const grid = { stroke: colour("--line"), width: 1 };
  const value = (scale) => (_, splits) => splits.map((split) => withoutZeros(lines.find((one) => (one.axis ?? "y") === scale).write(split)));
  const shown = [
    { ...look, grid: { show: false }, size: 24, space: 64, values: (_, splits, __, ___, step) => splits.map((at) => tick(at, step)) },
    { ...look, grid, size: 58, space: 34, gap: 4, values: value("y"), incrs: wholeSteps(lines) },
  ];
  if (lines.some((one) => one.axis === "y2")) shown.push({ ...look, scale: "y2", side: 1, grid: { show: false }, size: 58, space: 34, values: value("y2") });
  return shown;
}

const withoutZeros = (text) => text.replace(/\.0+(?=\D|$)/, "");

/** Counts have no ticks between two whole numbers. */
function wholeSteps(lines) {
  if (!lines.some((one) => one.whole && !one.axis)) return undefined;
  return [1, 2, 5].flatMap((digit) => Array.from({ length: 12 }, (_, power) => digit * 10 ** power)).sort((a, b) => a - b);
}

function cursor() {
  const shared = (type) => type === "mousemove" || type === "mouseleave";
  return {
    y: false,
    points: { size: 7 },
    drag: { x: true, y: false, setScale: false, dist: DRAG_PX },
    sync: { key: "range", filters: { pub: shared } },
  };
}

function zoom(plot) {
  const { left, width } = plot.select;
  if (width < DRAG_PX) return;
  const [from, to] = [left, left + width].map((pixel) => Math.round(plot.posToVal(pixel, "x")));
  plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
  if (to > from) go(linkHere({ from, to }));
}

function openOnClick(plot, now) {
  let pressed = null;
  plot.over.addEventListener("mousedown", (event) => (pressed = event.clientX));
  plot.over.addEventListener("click", (event) => {
    const { times, step, open } = now.current;
    const index = plot.cursor.idx;
    if (!open || index == null || Math.abs(event.clientX - pressed) >= DRAG_PX) return;
    go(open(times[index], times[index] + step));
  });
}
