import { plural } from "../lib/format.js";
import { link, linkTo } from "../lib/router.js";
import { State } from "./basics.jsx";

const MOST = 3;

/** What needs attention: open alerts and what of the pack is degraded, each a link to more. */
export function Banner({ alerts, degraded }) {
  if (!degraded.length && !alerts.length) return null;
  return (
    <aside class="banner" aria-label="Needs attention">
      {alerts.slice(0, MOST).map((alert) => (
        <a key={alert.id} href={linkTo.alert(alert.id)}><State is={alert.severity ?? "firing"}>{alert.state}</State> <b>{alert.rule}</b> <span>{alert.summary}</span></a>
      ))}
      {alerts.length > MOST && <a href={link("alerts")}>{plural(alerts.length - MOST, "more open alert")}</a>}
      {degraded.map((sentence) => <a key={sentence} href={link("system")}><State is="warning">degraded</State> <span>{sentence}</span></a>)}
    </aside>
  );
}
