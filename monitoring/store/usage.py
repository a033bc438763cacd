"""What is read of usage: active users, features, events and business operations.

Counts, success rates and times to complete come from roll-ups of the metric cells, so they are exact over all workers;
users and single operations come from stored facts. A user counts once, however long the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import orjson
from sqlalchemy import Connection, distinct, func, select

from .. import families
from . import rollups, schema, sketches
from .rollups import Gained

ROWS: Final = 100
_ROWS_READ: Final = 50_000


@dataclass(frozen=True, slots=True)
class OperationStats:
    """How operations of one name, or with one value of a dimension, ended. Times are those of successful ones."""

    name: str
    ok: int
    failed: int
    abandoned: int
    open: int
    p50_seconds: float | None
    p95_seconds: float | None
    dimensions: Mapping[str, tuple[OperationStats, ...]]
    """By dimension, the values with most operations first; none for a value."""

    @property
    def ended(self) -> int:
        """Return how many have ended."""
        return self.ok + self.failed + self.abandoned

    @property
    def success_rate(self) -> float | None:
        """Return the share of ended operations that succeeded; None before the first has ended."""
        return self.ok / self.ended if self.ended else None


@dataclass(frozen=True, slots=True)
class FeatureStats:
    """Use of one feature: ``share_of_active`` of the active users used it."""

    feature: str
    uses: int
    users: int
    share_of_active: float | None
    first_used: str
    """Day, ``YYYY-MM-DD``."""


@dataclass(frozen=True, slots=True)
class Overdue:
    """An operation that its deadline ended."""

    name: str
    duration_seconds: float
    dimensions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ActiveUsers:
    """Distinct users of today, of seven days and of thirty days, today included; days are UTC."""

    day: int
    week: int
    month: int


def active_users(connection: Connection, now: float) -> ActiveUsers:
    """Return how many users were active until now."""
    today = _date(now)
    return ActiveUsers(*(_users_between(connection, today - timedelta(days=days), today) for days in (0, 6, 29)))


def active_by_day(connection: Connection, now: float, days: int = 30) -> dict[str, int]:
    """Return the distinct users of each of the last days, by day, those without any included."""
    table = schema.activity
    last = [(_date(now) - timedelta(days=ago)).isoformat() for ago in reversed(range(days))]
    query = select(table.c.day, func.count()).where(table.c.day >= last[0], table.c.feature == "")
    counts = {day: count for day, count in connection.execute(query.group_by(table.c.day))}
    return {day: counts.get(day, 0) for day in last}


def features(connection: Connection, since: float, until: float) -> list[FeatureStats]:
    """Return the features used in a time, most used first. Users are those of the days that it touches."""
    table, first_day, last_day = schema.activity, _date(since), _date(until)
    uses = _sums(rollups.read(connection, families.FEATURES.name, since, until), "feature")
    active = _users_between(connection, first_day, last_day)
    inside = table.c.day.between(first_day.isoformat(), last_day.isoformat())
    counted = select(table.c.feature, func.count(distinct(table.c.user))).where(inside)
    users = {feature: count for feature, count in connection.execute(counted.group_by(table.c.feature))}
    began = select(table.c.feature, func.min(table.c.day)).group_by(table.c.feature)
    first = {feature: day for feature, day in connection.execute(began)}
    return [
        FeatureStats(
            feature,
            int(count),
            users.get(feature, 0),
            users.get(feature, 0) / active if active else None,
            first.get(feature, ""),
        )
        for feature, count in sorted(uses.items(), key=lambda pair: -pair[1])[:ROWS]
    ]


def events(connection: Connection, since: float, until: float) -> dict[str, int]:
    """Return how often each event was tracked in a time, most frequent first."""
    counts = _sums(rollups.read(connection, families.EVENTS.name, since, until), "event")
    return {event: int(count) for event, count in sorted(counts.items(), key=lambda pair: -pair[1])[:ROWS]}


def operations(connection: Connection, since: float, until: float) -> list[OperationStats]:
    """Return how operations ended in a time, with the values of their dimensions, most frequent first."""
    table = schema.operation
    whole = rollups.read(connection, families.OPERATION_DURATION.name, since, until)
    parts = rollups.read(connection, families.OPERATION_VALUE_DURATION.name, since, until)
    running = select(table.c.name, func.count()).where(table.c.outcome == "").group_by(table.c.name)
    still_open = {name: count for name, count in connection.execute(running)}
    outcomes = _by_outcome(whole, ("operation",))
    values = _by_outcome(parts, ("operation", "dimension", "value"))
    stats = [
        _stats(name, outcomes.get((name,), {}), still_open.get(name, 0), _dimensions(name, values))
        for name in {name for (name,) in outcomes} | set(still_open)
    ]
    return sorted(stats, key=lambda one: -one.ended)


def latest_operations(
    connection: Connection, name: str, since: float, until: float, values: Mapping[str, str], limit: int = ROWS
) -> list[dict[str, Any]]:
    """Return the newest operations of a name, each with its request, filtered by values of dimensions."""
    table = schema.operation
    inside = (table.c.name == name) & (table.c.started_at >= since) & (table.c.started_at < until)
    query = select(table).where(inside).order_by(table.c.started_at.desc()).limit(_ROWS_READ)
    found: list[dict[str, Any]] = []
    for row in connection.execute(query):
        dimensions = orjson.loads(row.dimensions)
        if all(dimensions.get(key) == value for key, value in values.items()):
            found.append({**row._mapping, "dimensions": dimensions})
            if len(found) == limit:
                break
    return found


def end_overdue(connection: Connection, now: float, limit: int = 1_000) -> list[Overdue]:
    """End the operations that are past their deadline as abandoned, and return them: each is returned once."""
    table = schema.operation
    overdue = select(table).where(table.c.outcome == "", table.c.deadline_at < now).limit(limit)
    ended = []
    for row in connection.execute(overdue).all():
        duration = row.deadline_at - row.started_at
        values = {"outcome": "abandoned", "reason": "deadline", "duration_seconds": duration}
        still_open = table.update().where(table.c.id == row.id, table.c.outcome == "")
        if connection.execute(still_open.values(**values)).rowcount:
            ended.append(Overdue(row.name, duration, orjson.loads(row.dimensions)))
    return ended


def _by_outcome(series: list[rollups.SeriesGains], labels: tuple[str, ...]) -> dict[tuple[str, ...], dict[str, Gained]]:
    found: dict[tuple[str, ...], dict[str, Gained]] = {}
    for one in series:
        key = tuple(one.labels[label] for label in labels)
        found.setdefault(key, {})[one.labels["outcome"]] = one.sum()
    return found


def _dimensions(
    name: str, values: Mapping[tuple[str, ...], Mapping[str, Gained]]
) -> dict[str, tuple[OperationStats, ...]]:
    found: dict[str, list[OperationStats]] = {}
    for (operation, dimension, value), outcomes in values.items():
        if operation == name:
            found.setdefault(dimension, []).append(_stats(value, outcomes, 0, {}))
    return {dimension: tuple(sorted(stats, key=lambda one: -one.ended)[:ROWS]) for dimension, stats in found.items()}


def _stats(
    name: str,
    outcomes: Mapping[str, Gained],
    still_open: int,
    dimensions: Mapping[str, tuple[OperationStats, ...]],
) -> OperationStats:
    ok, failed, abandoned = (int(outcomes.get(word, Gained()).count) for word in ("ok", "failed", "abandoned"))
    times = sketches.quantiles(outcomes.get("ok", Gained()).counts, families.OPERATION_DURATION.unit, (0.5, 0.95))
    return OperationStats(name, ok, failed, abandoned, still_open, times[0], times[1], dimensions)


def _sums(series: list[rollups.SeriesGains], label: str) -> dict[str, float]:
    return {one.labels[label]: one.sum().total for one in series}


def _users_between(connection: Connection, first: date, last: date) -> int:
    table = schema.activity
    inside = table.c.day.between(first.isoformat(), last.isoformat())
    query = select(func.count(distinct(table.c.user))).where(inside, table.c.feature == "")
    return int(connection.scalar(query) or 0)


def _date(moment: float) -> date:
    return datetime.fromtimestamp(moment, UTC).date()
