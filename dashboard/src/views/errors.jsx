import { apiPath } from "../lib/api.js";
import { count, list } from "../lib/format.js";
import { useApi } from "../lib/poll.js";
import { rangeOf } from "../lib/range.js";
import { link, linkHere } from "../lib/router.js";
import { Card, Loaded } from "../parts/basics.jsx";
import { Chart } from "../parts/chart.jsx";
import { Groups } from "../parts/rows.jsx";

const STATES = ["open", "resolved", "all"];

/** Error groups: open ones first, the others by choice. */
export function Errors({ route: { params } }) {
  const status = STATES.includes(params.status) ? params.status : "open";
  const api = useApi(apiPath("errors", { ...rangeOf(params), status }));
  return (
    <>
      <nav class="tabs" aria-label="State of the error groups">
        {STATES.map((state) => <a key={state} href={linkHere({ status: state })} aria-current={state === status ? "page" : undefined}>{state}</a>)}
      </nav>
      <Loaded api={api}>
        {(data) => (
          <>
            <Chart
              title="Errors" t={data.series?.t} open={(from, to) => link("requests", { status: "5xx", from, to })}
              series={[{ label: "errors", values: data.series?.count, colour: "--red", write: count, bars: true, whole: true }]}
            />
            <Card title="Groups">
              <Groups rows={list(data.groups)} truncated={data.truncated} empty={status === "open" ? "No open error groups." : `No ${status === "all" ? "" : "resolved "}error groups.`} />
            </Card>
          </>
        )}
      </Loaded>
    </>
  );
}
