import { apiPath } from "../lib/api.js";
import { duration, fullTime, known, list, percent, plural, UNKNOWN } from "../lib/format.js";
import { useApi } from "../lib/poll.js";
import { rangeOf } from "../lib/range.js";
import { linkHere } from "../lib/router.js";
import { Card, Facts, Loaded, State, Tile, Time } from "../parts/basics.jsx";
import { Table } from "../parts/table.jsx";

const UPTIMES = ["24h", "30d", "365d"];
const WAYS = [["up", "pass"], ["warn", "warn"], ["down", "fail"], ["unknown", "unknown"]];
const LEAST_SHARE = 0.2;
const MOST_ROWS = 50;
const NAMES = { 60: "minute", 3600: "hour", 86400: "day" };

/** One health check: its uptimes, and how it stood in each minute, hour or day of the range. */
export function OneCheck({ route: { id, params } }) {
  const all = useApi(apiPath("health"));
  const history = useApi(apiPath(`health/${encodeURIComponent(id)}`, rangeOf(params)), 30);
  const check = list(all.data?.checks).find(({ name }) => name === id) ?? {};
  return (
    <>
      <p class="sentence"><State is={check.status} /> <span>{id}{check.output ? `: ${check.output}` : ""}</span></p>
      <Uptimes check={check} chosen={params.from} />
      <Loaded api={history} missing="Nothing is known of this check in this range.">
        {(data) => <Timeline buckets={list(data.buckets)} every={NAMES[data.resolution_seconds] ?? "bucket"} />}
      </Loaded>
      <Card title="Check"><About check={check} /></Card>
    </>
  );
}

function Uptimes({ check, chosen }) {
  return (
    <div class="tiles">
      {UPTIMES.map((span) => (
        <Tile key={span} label={`Uptime ${span.replace(/(?=[hd])/, " ")}`} value={percent(check[`uptime_${span}`])} href={linkHere({ from: `-${span}`, to: "now" })} current={chosen === `-${span}`}>
          {spoken(check.times?.[span] ?? {})}
        </Tile>
      ))}
    </div>
  );
}

/** Seconds of each way in words: "down 12 min, unknown 3 h". */
function spoken(times) {
  const bad = WAYS.slice(1).filter(([way]) => times[way] > 0);
  if (bad.length) return bad.map(([way]) => `${way} ${duration(times[way])}`).join(", ");
  return known(times.up) ? "up all the time" : "";
}

function Timeline({ buckets, every }) {
  const bad = buckets.filter(({ warn, down, unknown }) => warn || down || unknown).reverse();
  return (
    <>
      <Card title="History" note={`by the ${every}`} actions={<Legend />}>
        <div class="inside"><Strip buckets={buckets} every={every} /></div>
      </Card>
      <Card title="Not up">
        <Table
          caption="Not up" rows={bad.slice(0, MOST_ROWS)} truncated={bad.length > MOST_ROWS} empty="It was up whenever it was looked at."
          columns={[
            { title: "From", grow: true, cell: (row) => <Time at={row.t} /> },
            ...WAYS.map(([way]) => ({ title: way[0].toUpperCase() + way.slice(1), num: true, wide: way === "up", cell: (row) => (row[way] ? duration(row[way]) : UNKNOWN) })),
          ]}
        />
      </Card>
    </>
  );
}

function Legend() {
  return <span class="statuses">{WAYS.map(([way, status]) => <State key={way} is={status}>{way}</State>)}</span>;
}

function Strip({ buckets, every }) {
  const width = 100 / Math.max(1, buckets.length);
  return (
    <svg class="strip" role="img" aria-label={inWords(buckets, every)}>
      {buckets.map((bucket, index) => (
        <g key={bucket.t}>
          {parts(bucket).map(([look, top, height]) => (
            <rect key={look} class={look} x={`${width * index}%`} width={`${width * 0.92}%`} y={`${100 * top}%`} height={`${100 * height}%`} />
          ))}
          <title>{`${fullTime(bucket.t)}: ${WAYS.filter(([way]) => bucket[way]).map(([way]) => `${way} ${duration(bucket[way])}`).join(", ") || "unknown"}`}</title>
        </g>
      ))}
    </svg>
  );
}

/** A bucket from the top: what was bad can always be seen, however short it was. */
function parts(bucket) {
  const whole = WAYS.reduce((sum, [way]) => sum + (bucket[way] || 0), 0) || 1;
  const shareOf = (way) => (bucket[way] ? Math.max(LEAST_SHARE, bucket[way] / whole) : 0);
  const [down, warn, unknown] = ["down", "warn", "unknown"].map(shareOf);
  const scale = Math.max(1, down + warn + unknown + (bucket.up ? LEAST_SHARE : 0));
  const heights = [["bad", down / scale], ["fair", warn / scale], ["track", unknown / scale]];
  let top = 0;
  const drawn = heights.map(([look, height]) => [look, (top += height) - height, height]);
  return [...drawn, [bucket.up ? "good" : "track", top, 1 - top]].filter(([, , height]) => height > 0);
}

function inWords(buckets, every) {
  const told = WAYS.map(([way]) => [way, buckets.filter((bucket) => bucket[way]).length]).filter(([, number]) => number);
  return `of ${plural(buckets.length, every)}: ${told.map(([way, number]) => `${way} in ${number}`).join(", ")}`;
}

function About({ check }) {
  return (
    <Facts
      of={[
        ["Critical", check.critical === undefined ? null : check.critical ? "yes: the app is not ready without it" : "no"],
        ["Took", duration(check.duration_seconds)],
        ["Checked", <Time at={check.checked_at} relative />],
      ]}
    />
  );
}
