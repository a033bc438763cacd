// Ask again and again while somebody looks: every few seconds when the tab is visible, less often after failures.
import { useEffect, useMemo, useState } from "preact/hooks";
import { get, lastAnswer } from "./api.js";
import { session } from "./session.js";

const LONGEST_WAIT_S = 60;
const FINAL = new Set([400, 404]);

/** Seconds to the next try: doubled with each failure in a row, up to a minute. */
export function waitSeconds(every, failures) {
  return failures ? Math.min(Math.max(every, 5) * 2 ** (failures - 1), LONGEST_WAIT_S) : every;
}

function poll(path, every, report) {
  let failures = 0;
  let timer = 0;
  let running = false;
  const ended = new AbortController();

  async function ask() {
    clearTimeout(timer);
    if (running || document.visibilityState !== "visible") return;
    running = true;
    try {
      const data = await get(path, ended.signal);
      failures = 0;
      report({ path, data, error: null, at: Date.now() });
    } catch (error) {
      if (ended.signal.aborted) return;
      failures += 1;
      if (error.status === 401) session.lost();
      report({ path, error, retryAt: Date.now() + 1000 * waitSeconds(every, failures) });
      if (FINAL.has(error.status)) return;
    } finally {
      running = false;
    }
    if (every || failures) timer = setTimeout(ask, 1000 * waitSeconds(every, failures));
  }

  document.addEventListener("visibilitychange", ask, { signal: ended.signal });
  ask();
  return {
    ask,
    stop() {
      clearTimeout(timer);
      ended.abort();
    },
  };
}

/**
 * The newest answer to an API path: {data, error, at, retryAt, busy, reload}.
 * While a new range loads, the data of the last one stays (busy). `every` is in seconds; 0 asks once.
 */
export function useApi(path, every = 5) {
  const [answer, setAnswer] = useState({});
  const [asker, setAsker] = useState(null);
  const logins = session.useCount();
  useEffect(() => {
    const asking = poll(path, every, (news) => setAnswer((old) => merge(old, news)));
    setAsker(asking);
    return asking.stop;
  }, [path, every, logins]);
  return useMemo(() => {
    const same = answer.path && resource(answer.path) === resource(path);
    const data = answer.path === path ? answer.data : (lastAnswer(path) ?? (same ? answer.data : undefined));
    const error = answer.path === path ? answer.error : null;
    return { ...answer, data, error, busy: answer.path !== path, reload: () => asker?.ask() };
  }, [answer, path, asker]);
}

function merge(old, news) {
  const same = old.path && resource(old.path) === resource(news.path);
  return same ? { ...old, ...news } : news;
}

function resource(path) {
  return path.split("?")[0];
}
