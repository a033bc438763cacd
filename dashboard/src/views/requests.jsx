import { apiPath } from "../lib/api.js";
import { list } from "../lib/format.js";
import { useApi } from "../lib/poll.js";
import { rangeOf } from "../lib/range.js";
import { go, link, linkHere } from "../lib/router.js";
import { Card, Loaded } from "../parts/basics.jsx";
import { Requests } from "../parts/rows.jsx";

const FILTERS = ["route", "method", "status", "outcome", "min_seconds", "user", "kind", "name", "error_group"];
const NAMES = { min_seconds: "at least (s)", error_group: "error group", name: "call" };
const FIELDS = ["route", "status", "min_seconds", "user"];

/** The kept requests that match the filter in the URL. */
export function RequestList({ route: { params } }) {
  const given = Object.fromEntries(FILTERS.filter((name) => params[name]).map((name) => [name, params[name]]));
  const order = params.order ?? "newest";
  const api = useApi(apiPath("requests", { ...rangeOf(params), ...given, order, limit: 100 }));
  return (
    <>
      <Chips given={given} />
      <Filter key={JSON.stringify(params)} params={params} order={order} />
      <Loaded api={api}>
        {(data) => (
          <Card title={order === "slowest" ? "Slowest first" : "Newest first"} note="Kept are errors, slow requests and a sample of the others">
            <Requests rows={list(data.requests)} truncated={data.truncated} empty="No kept request matches. A longer range or fewer filters may show some." />
          </Card>
        )}
      </Loaded>
    </>
  );
}

function Chips({ given }) {
  const names = Object.keys(given);
  if (!names.length) return null;
  return (
    <p class="chips">
      {names.map((name) => (
        <a key={name} class="chip" href={linkHere({ [name]: null })} title="Remove this filter">
          {NAMES[name] ?? name}: <b>{given[name]}</b> <span aria-hidden="true">×</span><span class="sr"> remove</span>
        </a>
      ))}
      {names.length > 1 && <a href={link("requests")}>Clear all</a>}
    </p>
  );
}

function Filter({ params, order }) {
  const submit = (event) => {
    event.preventDefault();
    go(linkHere(Object.fromEntries(new FormData(event.target))));
  };
  return (
    <form class="filter" onSubmit={submit} aria-label="Filter">
      {FIELDS.map((name) => (
        <label key={name}>
          {NAMES[name] ?? name}
          <input name={name} value={params[name] ?? ""} size={name === "route" ? 22 : 8} inputMode={name === "min_seconds" ? "decimal" : undefined} placeholder={name === "status" ? "5xx, 404" : ""} />
        </label>
      ))}
      <label>
        order
        <select name="order" value={order}>
          <option value="newest">newest</option>
          <option value="slowest">slowest</option>
        </select>
      </label>
      <button>Filter</button>
    </form>
  );
}
