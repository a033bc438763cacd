"""The ``/health`` sub-app: the routes that probes ask.

An answer is made from memory: no check, no query and no lock on its way. Live never looks outside the process. Ready
fails only for checks that the app calls critical. Strangers learn the bare status.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import parse_qs

from asgiref.sync import sync_to_async
from starlette.types import ASGIApp, Receive, Scope, Send

from .access import may_see
from .config import Config
from .health.results import CheckResult, HealthReport, Status
from .health_check import HealthChecks
from .utils.time import rfc3339

MEDIA_TYPE: Final = "application/health+json"
"""Of draft-inadarei-api-health-check-06."""
SPRING_MEDIA_TYPE: Final = "application/vnd.spring-boot.actuator.v3+json"

_STATUS_CODE: Final[Mapping[Status, int]] = {"pass": 200, "warn": 200, "fail": 503}
_SPRING: Final[Mapping[Status, str]] = {"pass": "UP", "warn": "UP", "fail": "DOWN"}
_STARTING: Final = "starting"
_TOLD_TO_ALL: Final = frozenset({_STARTING, "draining"})


class Life(Protocol):
    """What is known of the life of this process."""

    def liveness(self) -> tuple[Status, str]:
        """Return whether the process works, and why not."""
        ...

    def readiness(self) -> tuple[Status, str]:
        """Return whether it takes requests, as far as its own life says, and why not."""
        ...

    def drain(self, *, all_workers: bool = False) -> None:
        """Stop being ready, here or in all workers of this host."""
        ...


@dataclass(frozen=True, slots=True)
class _Standing:
    """What a probe finds: ``report`` where there is more to tell to those who may know it."""

    status: Status
    output: str = ""
    report: HealthReport | None = None


def health_app(checks: HealthChecks, config: Config, life: Life) -> ASGIApp:
    """Return an ASGI app with the probes: ``/`` (all checks), ``/live``, ``/ready``, ``/startup`` and, for those who
    may know, ``/{component}``, relative to its mount. ``?verbose`` tells them more; ``?format=spring`` speaks as Spring
    Boot's actuator does. ``POST /drain`` drains the workers of this host, for a preStop hook.
    """
    probes: Mapping[str, Callable[[], _Standing]] = {
        "": lambda: _all(checks, life),
        "live": lambda: _Standing(*life.liveness()),
        "liveness": lambda: _Standing(*life.liveness()),
        "ready": lambda: _ready(checks, life),
        "readiness": lambda: _ready(checks, life),
        "startup": lambda: _startup(checks, life),
    }

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST" and _path_below_mount(scope) == "drain":
            return await _drain(send, scope, config, life)
        if scope["method"] not in ("GET", "HEAD"):
            return await _send(send, scope, 405, "Use GET or HEAD.", {"allow": "GET, HEAD"})
        checks.use_loop()
        checks.start()
        name = _path_below_mount(scope)
        wants = parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        probe = probes.get(name)
        allowed = (probe is None or "verbose" in wants) and await may_see(scope, config)
        if probe is None and allowed:
            return await _send_component(send, scope, checks.of(name), config.service)
        standing = (probe or probes[""])()
        spring = wants.get("format") == ["spring"] or _accepts(scope, SPRING_MEDIA_TYPE)
        body = _spring(standing, allowed) if spring else _document(standing, allowed, config.service)
        headers = {"content-type": SPRING_MEDIA_TYPE if spring else MEDIA_TYPE, **_headers_of(standing)}
        await _send(send, scope, _STATUS_CODE[standing.status], json.dumps(body), headers)

    return answer


def _all(checks: HealthChecks, life: Life) -> _Standing:
    report = checks.standing()
    alive, output = life.liveness()
    return _Standing("fail", output, report) if alive == "fail" else _Standing(report.status, "", report)


def _ready(checks: HealthChecks, life: Life) -> _Standing:
    status, output = life.readiness()
    if status == "fail":
        return _Standing(status, output)
    if not checks.has_started():
        return _Standing("fail", _STARTING)
    return _Standing(checks.readiness(), "", checks.standing())


def _startup(checks: HealthChecks, life: Life) -> _Standing:
    status, output = life.readiness()
    if (status == "fail" and output == _STARTING) or not checks.has_started():
        return _Standing("fail", _STARTING)
    return _Standing("pass")


def _headers_of(standing: _Standing) -> dict[str, str]:
    if standing.status != "fail":
        return {}
    return {"retry-after": "5", **({"connection": "close"} if standing.output == "draining" else {})}


async def _drain(send: Send, scope: Scope, config: Config, life: Life) -> None:
    if not await may_see(scope, config):
        return await _send(send, scope, 403, "Draining needs the token, as Authorization: Bearer.", {})
    await sync_to_async(life.drain, thread_sensitive=False)(all_workers=True)
    await _send(send, scope, 200, json.dumps({"status": "fail", "output": "draining"}), {"content-type": MEDIA_TYPE})


async def _send_component(send: Send, scope: Scope, result: CheckResult | None, service: str) -> None:
    if result is None:
        return await _send(send, scope, 404, "There is no such component. Ask ?verbose for all of them.", {})
    standing = _Standing(result.status, "", HealthReport(result.status, service, 0.0, (result,)))
    body = _document(standing, True, service)
    body["checks"].pop("uptime")
    await _send(send, scope, _STATUS_CODE[result.status], json.dumps(body), {"content-type": MEDIA_TYPE})


async def _send(send: Send, scope: Scope, status: int, text: str, headers: Mapping[str, str]) -> None:
    body = text.encode()
    plain = {"content-type": "text/plain; charset=utf-8", "cache-control": "no-store", "content-length": str(len(body))}
    pairs = [(name.encode(), value.encode()) for name, value in {**plain, **headers}.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _document(standing: _Standing, allowed: bool, service: str) -> dict[str, Any]:
    body: dict[str, Any] = {"status": standing.status}
    if standing.output and (allowed or standing.output in _TOLD_TO_ALL):
        body["output"] = standing.output
    if allowed and standing.report is not None:
        body |= {"version": "1", "serviceId": service, "description": f"health of {service}"}
        body["checks"] = _checks(standing.report)
    return body


def _checks(report: HealthReport) -> dict[str, list[dict[str, Any]]]:
    uptime = {
        "componentType": "system",
        "observedValue": round(report.uptime_seconds, 1),
        "observedUnit": "s",
        "status": "pass",
    }
    return {"uptime": [uptime], **dict(map(_check, report.checks))}


def _check(result: CheckResult) -> tuple[str, list[dict[str, Any]]]:
    reading = result.reading
    measured = reading is not None and reading.value is not None
    one: dict[str, Any] = {
        "componentType": reading.component_type if reading else "component",
        "observedValue": reading.value if reading and measured else round(result.duration_seconds * 1000, 3),
        "observedUnit": reading.unit if reading and measured else "ms",
        "status": result.status,
        "time": rfc3339(int(result.checked_at * 1e9)),
        "ageMs": max(0, round((time.time() - result.checked_at) * 1000)),
        "critical": result.critical,
    }
    if result.output and result.status != "pass":
        one["output"] = result.output
    name = result.name.replace(":", "_")
    return f"{name}:{reading.measurement if reading and reading.measurement else 'responseTime'}", [one]


def _spring(standing: _Standing, allowed: bool) -> dict[str, Any]:
    """Return the body in the form of Spring Boot's actuator, which its admin tools read."""
    status = "OUT_OF_SERVICE" if standing.output == "draining" else _SPRING[standing.status]
    body: dict[str, Any] = {"status": status}
    if allowed and standing.report is not None:
        body["components"] = {
            result.name: {
                "status": _SPRING[result.status],
                "details": {"durationMs": round(result.duration_seconds * 1000, 3), "output": result.output},
            }
            for result in standing.report.checks
        }
        body["groups"] = ["liveness", "readiness"]
    return body


def _accepts(scope: Scope, media_type: str) -> bool:
    return any(name == b"accept" and media_type.encode() in value for name, value in scope["headers"])


def _path_below_mount(scope: MutableMapping[str, Any]) -> str:
    return str(scope["path"]).removeprefix(scope.get("root_path", "")).strip("/")
