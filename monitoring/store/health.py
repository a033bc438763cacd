"""The history of health checks: how each stood, and from when until when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, select, update

from . import schema

STALE_SECONDS: Final = 60.0
"""A check that was not looked at for this long has no known state: nobody ran."""
_HISTORY: Final = 200


@dataclass(frozen=True, slots=True)
class CheckState:
    """How a check stood from ``since`` until ``until``, unix seconds. ``status``: ``pass``, ``warn`` or ``fail``."""

    name: str
    since: float
    until: float
    status: str
    critical: bool
    duration_seconds: float
    output: str


def note(connection: Connection, states: Iterable[CheckState]) -> None:
    """Extend each check's last state, or begin a new one where its status changed or nobody looked for a while."""
    table = schema.health_state
    for state in states:
        last = connection.execute(
            select(table).where(table.c.name == state.name).order_by(table.c.id.desc()).limit(1)
        ).one_or_none()
        seen = {
            "until": state.until,
            "duration_seconds": state.duration_seconds,
            "output": state.output,
            "critical": state.critical,
        }
        goes_on = last is not None and state.since - last.until < STALE_SECONDS
        if last is not None and goes_on and last.status == state.status:
            connection.execute(update(table).where(table.c.id == last.id).values(**seen))
        else:
            if last is not None and goes_on:  # it stood like this until it was seen to stand otherwise
                connection.execute(update(table).where(table.c.id == last.id).values(until=state.since))
            connection.execute(table.insert().values(name=state.name, at=state.since, status=state.status, **seen))


def latest(connection: Connection, now: float) -> list[CheckState]:
    """Return the last state of each check that was looked at in the last minute, by name."""
    table = schema.health_state
    recent = select(table).where(table.c.until >= now - STALE_SECONDS).order_by(table.c.id)
    return sorted({row.name: _state(row) for row in connection.execute(recent)}.values(), key=lambda state: state.name)


def history(connection: Connection, name: str, since: float) -> list[CheckState]:
    """Return the states of a check since a moment, oldest first, at most 200 of the newest."""
    table = schema.health_state
    query = select(table).where(table.c.name == name, table.c.until >= since).order_by(table.c.id.desc())
    return [_state(row) for row in connection.execute(query.limit(_HISTORY))][::-1]


def uptime(states: Iterable[CheckState], since: float) -> float | None:
    """Return the share of the known time since a moment in which a check did not fail; None where nothing is known."""
    known = up = 0.0
    for state in states:
        length = state.until - max(state.since, since)
        known += length
        up += length if state.status != "fail" else 0.0
    return up / known if known > 0 else None


def _state(row: Row[Any]) -> CheckState:
    return CheckState(row.name, row.at, row.until, row.status, row.critical, row.duration_seconds, row.output)
