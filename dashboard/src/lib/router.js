// The whole state of the page is the hash: "#/requests?from=-1h&to=now&status=5xx". Links are plain <a href>.
import { useEffect, useState } from "preact/hooks";

const DEFAULT_RANGE = { from: "-1h", to: "now" };
let visited = 0;

export function parse(hash = location.hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [view = "", ...rest] = path.split("/");
  const params = { ...DEFAULT_RANGE, ...Object.fromEntries(new URLSearchParams(query)) };
  return { view: view || "overview", id: decode(rest.join("/")), params };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The query string of the parameters that have a value. */
export function query(params) {
  const given = Object.entries(params).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return new URLSearchParams(given).toString();
}

/** A link to a view. It keeps the time range of now unless another is given. */
export function link(path, params = {}) {
  const { from, to } = parse().params;
  return `#/${path}?${query({ from, to, ...params })}`;
}

export const linkTo = {
  request: (id) => link(`requests/${encodeURIComponent(id)}`),
  error: (id) => link(`errors/${encodeURIComponent(id)}`),
  alert: (id) => link(`alerts/${encodeURIComponent(id)}`),
  check: (name) => link(`health/${encodeURIComponent(name)}`, { from: "-24h", to: "now" }),
  route: (row) => link("route", { route: row.route, method: row.method }),
};

/** The same view with some parameters changed; null removes one. */
export function linkHere(changes) {
  const { params } = parse();
  return `#/${here()}?${query({ ...params, ...changes })}`;
}

function here() {
  return location.hash.replace(/^#\/?/, "").split("?")[0] || "overview";
}

export function go(hash) {
  location.hash = hash;
}

/** Back to where the reader came from; to the list above when the page was opened right here. */
export function goBack() {
  if (visited > 0) return history.back();
  const { view, id } = parse();
  const above = id ? view : { route: "routes", operations: "usage" }[view];
  go(link(above ?? "overview"));
}

export function useRoute() {
  const [route, setRoute] = useState(parse);
  useEffect(() => {
    const follow = () => {
      visited += 1;
      setRoute(parse());
    };
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  return route;
}
