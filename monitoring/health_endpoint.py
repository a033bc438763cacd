"""The ``/health`` sub-app: the routes that probes ask.

Live never looks outside the process. Ready fails only for checks that the app calls critical. Strangers learn the
bare status.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from .access import may_see
from .config import Config
from .health_check import HealthChecks, HealthReport, Status
from .utils.time import rfc3339

MEDIA_TYPE: Final = "application/health+json"
"""Of draft-inadarei-api-health-check-06."""

_STATUS_CODE: Final = {"pass": 200, "warn": 200, "fail": 503}


def health_app(checks: HealthChecks, config: Config) -> ASGIApp:
    """Return an ASGI app with the probes: ``/`` (all checks), ``/live``, ``/ready`` and ``/startup``, relative to its
    mount.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        probe = _PROBES.get(_path_below_mount(scope))
        response: Response
        if probe is None:
            response = PlainTextResponse("Not found. Ask /, /live, /ready or /startup below this path.", 404)
        elif request.method not in ("GET", "HEAD"):
            response = PlainTextResponse("Use GET.", 405, {"allow": "GET, HEAD"})
        else:
            status, report = await probe(checks)
            body: dict[str, Any] = {"status": status}
            if report is not None and "verbose" in request.query_params and await may_see(scope, config):
                body = _document(report)
            headers = {"content-type": MEDIA_TYPE, "cache-control": "no-store"}
            if status == "fail":
                headers["retry-after"] = "5"
            response = Response(json.dumps(body), _STATUS_CODE[status], headers)
        await response(scope, receive, send)

    return answer


Probe = Callable[[HealthChecks], Awaitable[tuple[Status, HealthReport | None]]]


async def _all(checks: HealthChecks) -> tuple[Status, HealthReport | None]:
    report = await checks.areport()
    return report.status, report


async def _live(checks: HealthChecks) -> tuple[Status, HealthReport | None]:
    return "pass", None


async def _ready(checks: HealthChecks) -> tuple[Status, HealthReport | None]:
    report = await checks.areport(critical_only=True)
    return report.status, report


async def _startup(checks: HealthChecks) -> tuple[Status, HealthReport | None]:
    return ("pass" if await checks.has_started() else "fail"), None


_PROBES: Final[dict[str, Probe]] = {"": _all, "live": _live, "ready": _ready, "startup": _startup}


def _document(report: HealthReport) -> dict[str, Any]:
    checks: dict[str, list[dict[str, Any]]] = {
        "uptime": [
            {
                "componentType": "system",
                "observedValue": round(report.uptime_seconds, 1),
                "observedUnit": "s",
                "status": "pass",
            }
        ]
    }
    for result in report.checks:
        one: dict[str, Any] = {
            "componentType": "component",
            "observedValue": round(result.duration_seconds * 1000, 3),
            "observedUnit": "ms",
            "status": result.status,
            "time": rfc3339(int(result.checked_at * 1e9)),
            "critical": result.critical,
        }
        if result.output:
            one["output"] = result.output
        checks[f"{result.name}:responseTime"] = [one]
    return {"status": report.status, "serviceId": report.service, "checks": checks}


def _path_below_mount(scope: MutableMapping[str, Any]) -> str:
    return str(scope["path"]).removeprefix(scope.get("root_path", "")).strip("/")
