"""What a probe's body says: the health+json draft's document, or that of Spring Boot's actuator."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..utils.time import rfc3339
from .lifecycle import DRAINING, STARTING
from .results import CheckResult, HealthReport, Status

MEDIA_TYPE: Final = "application/health+json"
"""Of draft-inadarei-api-health-check-06."""
SPRING_MEDIA_TYPE: Final = "application/vnd.spring-boot.actuator.v3+json"

_SPRING: Final[Mapping[Status, str]] = {"pass": "UP", "warn": "UP", "fail": "DOWN"}
_TOLD_TO_ALL: Final = frozenset({STARTING, DRAINING})


@dataclass(frozen=True, slots=True)
class Standing:
    """What a probe finds: ``report`` where there is more to tell to those who may know it."""

    status: Status
    output: str = ""
    report: HealthReport | None = None


def draft(standing: Standing, allowed: bool, service: str) -> dict[str, Any]:
    """Return the body in the form of the draft; the bare status for those who are not ``allowed`` to know more."""
    body: dict[str, Any] = {"status": standing.status}
    if standing.output and (allowed or standing.output in _TOLD_TO_ALL):
        body["output"] = standing.output
    if allowed and standing.report is not None:
        body |= {"version": "1", "serviceId": service, "description": f"health of {service}"}
        body["checks"] = _checks(standing.report)
    return body


def draft_of_one(result: CheckResult, service: str) -> dict[str, Any]:
    """Return the body for one component, in the form of the draft."""
    report = HealthReport(result.status, service, 0.0, (result,))
    body = draft(Standing(result.status, "", report), True, service)
    body["checks"].pop("uptime")
    return body


def spring(standing: Standing, allowed: bool) -> dict[str, Any]:
    """Return the body in the form of Spring Boot's actuator, which its admin tools read."""
    status = "OUT_OF_SERVICE" if standing.output == DRAINING else _SPRING[standing.status]
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
