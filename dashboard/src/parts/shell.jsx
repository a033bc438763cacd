// What surrounds every view: navigation, range, search, the banner of what is wrong, and the footer about the pack itself.
import { useEffect, useRef } from "preact/hooks";
import { apiPath } from "../lib/api.js";
import { bytes, count, duration, known, list, plural } from "../lib/format.js";
import { useApi } from "../lib/poll.js";
import { rangeOf } from "../lib/range.js";
import { goBack, link, useRoute } from "../lib/router.js";
import { session } from "../lib/session.js";
import { toggleTheme, useTheme } from "../lib/theme.js";
import { Login } from "../views/login.jsx";
import { VIEWS } from "../views.js";
import { Banner } from "./banner.jsx";
import { Boundary, Empty, State } from "./basics.jsx";
import { RangePicker } from "./range-picker.jsx";
import { Search } from "./search.jsx";

const RANGELESS = new Set(["health", "alerts"]);
const ONE_WITH_RANGE = new Set(["errors", "health"]);

export function Shell() {
  return session.useLocked() ? <Login /> : <Page />;
}

function Page() {
  const route = useRoute();
  const view = Object.hasOwn(VIEWS, route.view) ? VIEWS[route.view] : null;
  const overview = useApi(apiPath("overview", rangeOf(route.params)), route.view === "overview" ? 5 : 30);
  const meta = overview.data?.meta ?? {};
  useEscape();
  useNewPage(route, view, meta.service);
  return (
    <div class="page">
      <a class="skip" href="#main" onClick={skipToMain}>Skip to content</a>
      <Navigation route={route} view={view} overview={overview.data} />
      <div class="content">
        <header class="top">
          <h1>{view ? (route.id && view.oneTitle) || view.title : "Not found"}</h1>
          <Search />
          {(route.id ? ONE_WITH_RANGE.has(route.view) : !RANGELESS.has(route.view)) && <RangePicker range={route.params} />}
        </header>
        <main id="main" tabIndex={-1}>
          <Attention data={overview.data} view={route.view} />
          <Boundary of={location.hash}><View key={`${route.view}/${route.id}`} view={view} route={route} overview={overview} /></Boundary>
        </main>
        <Footer meta={meta} />
      </div>
    </div>
  );
}

function View({ view, route, overview }) {
  const Drawn = route.id ? view?.one : view?.all;
  if (!Drawn) return <Empty>There is no such page. <a href={link("overview")}>To the overview</a></Empty>;
  return <Drawn route={route} overview={overview} />;
}

function skipToMain(event) {
  event.preventDefault();
  focusMain();
}

function focusMain() {
  document.getElementById("main").focus({ preventScroll: true });
}

/** Esc leaves a field, and then goes back. */
function useEscape() {
  useEffect(() => {
    const leave = (event) => {
      if (event.key !== "Escape" || event.defaultPrevented) return;
      if (event.target.closest?.("input, select, textarea")) event.target.blur();
      else goBack();
    };
    addEventListener("keydown", leave);
    return () => removeEventListener("keydown", leave);
  }, []);
}

/** Another view starts at its top, with its own title; the focus of a link that is gone moves to the content. */
function useNewPage(route, view, service) {
  const first = useRef(true);
  useEffect(() => {
    document.title = [view?.title, service ?? "Monitoring"].filter(Boolean).join(" · ");
  }, [view, service]);
  useEffect(() => {
    scrollTo(0, 0);
    if (!first.current && document.activeElement === document.body) focusMain();
    first.current = false;
  }, [route.view, route.id]);
}

function Navigation({ route, view, overview }) {
  const meta = overview?.meta ?? {};
  const here = view?.under ?? route.view;
  const marks = { alerts: list(overview?.alerts).length || null, health: <HealthMark is={overview?.health?.status} /> };
  return (
    <div class="side">
      <p class="service">
        <b>{meta.service ?? "Monitoring"}</b>
        <span class="dim">{[meta.environment, meta.version].filter(Boolean).join(" · ")}</span>
      </p>
      <nav aria-label="Views">
        {Object.entries(VIEWS).filter(([, { under }]) => !under).map(([name, { title }]) => (
          <a key={name} href={link(name)} aria-current={name === here ? "page" : undefined}>{title} {marks[name] && <span class="mark">{marks[name]}</span>}</a>
        ))}
      </nav>
      <Tools />
    </div>
  );
}

function HealthMark({ is }) {
  return is && is !== "pass" ? <State is={is} /> : null;
}

function Tools() {
  const theme = useTheme();
  const signedIn = session.useSignedIn();
  return (
    <p class="tools">
      <button type="button" class="quiet" onClick={toggleTheme}>{theme === "dark" ? "Light" : "Dark"} theme</button>
      {signedIn && <button type="button" class="quiet" onClick={() => session.logout()}>Sign out</button>}
    </p>
  );
}

/** The banner of the other views: the overview has its own, and a view does not repeat what it is about. */
function Attention({ data, view }) {
  if (view === "overview") return null;
  return <Banner alerts={view === "alerts" ? [] : list(data?.alerts)} degraded={view === "system" ? [] : list(data?.meta?.degraded)} />;
}

function Footer({ meta }) {
  const dropped = (meta.facts_dropped ?? 0) + (meta.lines_dropped ?? 0);
  return (
    <footer>
      <a href={link("system")}>
        <span>{known(meta.workers) ? plural(meta.workers, "worker") : "workers unknown"}</span>
        <span>leader {meta.leader || "–"}</span>
        <span>last flush {known(meta.last_flush_seconds) ? `${duration(meta.last_flush_seconds)} ago` : "–"}</span>
        <span class={dropped ? "bad" : undefined}>{count(dropped)} dropped</span>
        <span>store {bytes(meta.store_bytes)}</span>
      </a>
    </footer>
  );
}
