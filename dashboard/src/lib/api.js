// The JSON API, by URLs relative to the page, so that it works under any mount prefix.
import { query } from "./router.js";

const BASE = "api/v1/";
const TIMEOUT_MS = 20_000;
const MOST_KEPT = 60;
const kept = new Map();

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function apiPath(path, params = {}) {
  const text = query(params);
  return text ? `${path}?${text}` : path;
}

/** The last answer to this path, if there was one. */
export function lastAnswer(path) {
  return kept.get(path)?.data;
}

/** GET with the ETag of the last answer; on 304 the last answer is still the answer. */
export async function get(path, signal) {
  const last = kept.get(path);
  const response = await request(path, { headers: last?.etag ? { "If-None-Match": last.etag } : {}, signal });
  if (response.status === 304 && last) return last.data;
  if (!response.ok) throw await failure(response);
  const data = await response.json();
  keep(path, { etag: response.headers.get("ETag"), data });
  return data;
}

/** POST or DELETE; the header tells the server that no other site sent it. */
export async function send(method, path, body) {
  const headers = { "X-Monitoring": "1", ...(body && { "Content-Type": "application/json" }) };
  const response = await request(path, { method, headers, body: body && JSON.stringify(body) });
  if (!response.ok) throw await failure(response);
  return response.status === 204 ? null : response.json();
}

async function request(path, options) {
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  const signal = options.signal ? AbortSignal.any([options.signal, timeout]) : timeout;
  try {
    return await fetch(BASE + path, { credentials: "same-origin", cache: "no-store", ...options, signal });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError(0, "The server did not answer.");
  }
}

async function failure(response) {
  const body = await response.json().catch(() => ({}));
  return new ApiError(response.status, body?.error || `The server answered ${response.status}.`);
}

function keep(path, answer) {
  kept.delete(path);
  kept.set(path, answer);
  if (kept.size > MOST_KEPT) kept.delete(kept.keys().next().value);
}
