"""What checks find, and what it comes to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

Status = Literal["pass", "warn", "fail"]

_BADNESS: Final = {"pass": 0, "warn": 1, "fail": 2}


@dataclass(frozen=True, slots=True)
class Reading:
    """What a check function may return instead of nothing: how it stands, and what it measured.

    ``output`` says why it is not ``pass``. ``measurement`` and ``component_type`` are those of the health+json draft.
    """

    status: Status = "pass"
    output: str = ""
    value: float | None = None
    unit: str = ""
    measurement: str = ""
    """``utilization``, ``connections``, ``uptime`` or a name of your own; "" for the time that the check took."""
    component_type: Literal["component", "datastore", "system"] = "component"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """How one component stands, since its last check. ``output`` says why it is not ``pass``."""

    name: str
    status: Status
    critical: bool
    duration_seconds: float
    checked_at: float
    """Unix seconds."""
    output: str = ""
    failures: int = 0
    """Failures in a row; a check stands at ``fail`` from the configured number on, at ``warn`` before."""
    reading: Reading | None = None


@dataclass(frozen=True, slots=True)
class HealthReport:
    """All checks together: ``fail`` when a critical one fails, ``warn`` when another does."""

    status: Status
    service: str
    uptime_seconds: float
    checks: tuple[CheckResult, ...]


def worst(results: Iterable[CheckResult]) -> Status:
    """Return how the whole stands: a component that is not critical takes it down to ``warn`` at most."""
    found: Status = "pass"
    for result in results:
        status: Status = "warn" if result.status == "fail" and not result.critical else result.status
        found = max(found, status, key=_BADNESS.__getitem__)
    return found
