// The two charts that several views share.
import { count, duration } from "../lib/format.js";
import { link } from "../lib/router.js";
import { Chart } from "./chart.jsx";

/** Requests and errors per bucket, beside p50, p95 and p99. A point opens its requests. */
export function Traffic({ series = {}, filter = {} }) {
  const open = (from, to) => link("requests", { ...filter, from, to });
  const slowest = (from, to) => link("requests", { ...filter, from, to, order: "slowest" });
  return (
    <div class="pair">
      <Chart
        title="Requests and errors" t={series.t} open={open}
        series={[
          { label: "requests", values: series.count, colour: "--bars", write: count, bars: true, whole: true },
          { label: "errors", values: series.errors, colour: "--red", write: count, bars: true, whole: true },
        ]}
      />
      <Chart
        title="Latency" t={series.t} open={slowest}
        series={[
          { label: "p99", values: series.p99_seconds, colour: "--violet", write: duration },
          { label: "p95", values: series.p95_seconds, colour: "--amber", write: duration },
          { label: "p50", values: series.p50_seconds, colour: "--blue", write: duration },
        ]}
      />
    </div>
  );
}
