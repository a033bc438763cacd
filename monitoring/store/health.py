"""The history of health checks: how each stood, and from when until when."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, case, func, select, update

from . import schema

STALE_SECONDS: Final = 60.0
"""A check that was not looked at for this long has no known state: nobody ran."""
_HISTORY: Final = 200
_BUCKETS: Final = 400


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


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of a time in which a check stood in each way. What nobody looked at is ``unknown``, and not up."""

    up: float = 0.0
    warn: float = 0.0
    down: float = 0.0
    unknown: float = 0.0

    @property
    def uptime(self) -> float | None:
        """Return the share of the known time in which it did not fail; None where nothing is known."""
        known = self.up + self.warn + self.down
        return (self.up + self.warn) / known if known > 0 else None


def times(connection: Connection, name: str, since: float, until: float) -> Times:
    """Return how long a check stood in each way between two moments; before it was first looked at, nothing counts."""
    table = schema.health_state
    first = connection.scalar(select(func.min(table.c.at)).where(table.c.name == name))
    begin = since if first is None else max(since, first)
    from_, to = _later(table.c.at, begin), _earlier(table.c.until, until)
    inside = (table.c.name == name) & (table.c.until > begin) & (table.c.at < until)
    sums = connection.execute(select(table.c.status, func.sum(to - from_)).where(inside).group_by(table.c.status))
    found = {status: seconds for status, seconds in sums}
    up, warn, down = (float(found.get(status) or 0.0) for status in ("pass", "warn", "fail"))
    return Times(up, warn, down, max(0.0, until - begin - up - warn - down))


def timeline(connection: Connection, name: str, since: float, until: float, step: int) -> list[tuple[int, Times]]:
    """Return the same for each minute, hour or day of ``step`` seconds that lies in a time, oldest first.

    At most 400 of them: see ``rollups.resolution_for``.
    """
    begins = range(int(since // step) * step, math.ceil(until), step)[:_BUCKETS]
    return [(begin, times(connection, name, max(begin, since), min(begin + step, until))) for begin in begins]


def _later(column: Any, moment: float) -> Any:
    return case((column > moment, column), else_=moment)


def _earlier(column: Any, moment: float) -> Any:
    return case((column < moment, column), else_=moment)


def _state(row: Row[Any]) -> CheckState:
    return CheckState(row.name, row.at, row.until, row.status, row.critical, row.duration_seconds, row.output)
