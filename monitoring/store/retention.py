"""Retention: what is too old goes, and what is oldest goes when the store is too large.

Rows go in small steps by the order they came in, so that nobody who writes waits long, and the space is given back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Table, and_, bindparam, delete, func, not_, select

from . import schema
from .database import Database
from .rollups import DAY, HOUR, MINUTE

STEP: Final = 2_000
"""Rows of a table that one transaction removes, about: a request goes with all its spans and lines."""

_REQUESTS: Final = 50
"""Requests removed before their spans and lines are counted."""
_FREED_PAGES: Final = 1_000
_FREEINGS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long each kind is kept, in days, and how large the embedded database may become, in bytes."""

    facts_days: float = 14.0
    """Kept requests with spans and lines, error events, events, operations, and what was spent of budgets."""
    minutes_days: float = 7.0
    """Roll-ups by the minute."""
    hours_days: float = 90.0
    """Roll-ups by the hour. Those by the day, error groups and activity are kept for 400 days."""
    alerts_days: float = 90.0
    """Resolved episodes, their timeline, and the states of checks."""
    max_bytes: int = 1024 * 1024 * 1024


_LONG_DAYS: Final = 400.0


def trim(database: Database, retention: Retention, now: float) -> int:
    """Remove one step of what is too old, or of what is oldest when the embedded database is too large.

    Return how many rows went: call again until it is 0. Raise StoreUnusable.
    """
    with database.writing() as connection:
        removed = _trim_by_age(connection, retention, now)
        if not removed and database.is_embedded and _used_bytes(connection) > retention.max_bytes:
            removed = _trim_facts(connection) or _trim_rollups(connection, now)
    if removed and database.is_embedded:
        _give_space_back(database)
    return removed


def _trim_by_age(connection: Connection, retention: Retention, now: float) -> int:
    def before(days: float) -> float:
        return now - days * DAY

    facts, alerts, long = before(retention.facts_days), before(retention.alerts_days), before(_LONG_DAYS)
    removed = _old_requests(connection, facts)
    removed += sum(_older(connection, table, facts, STEP) for table in (schema.error_event, schema.event))
    for table, condition in (
        (schema.batch, schema.batch.c.at < now - DAY),
        (schema.operation, schema.operation.c.started_at < facts),
        (schema.spend, schema.spend.c.since < facts),
        (schema.rollup, _rollups_before(MINUTE, before(retention.minutes_days))),
        (schema.rollup, _rollups_before(HOUR, before(retention.hours_days))),
        (schema.rollup, _rollups_before(DAY, long)),
        (schema.activity, schema.activity.c.day < datetime.fromtimestamp(long, UTC).date().isoformat()),
        (schema.error_count, schema.error_count.c.bucket < long),
        (schema.error_group, schema.error_group.c.last_seen < long),
        (schema.error_key, _lost(schema.error_key.c.group_id, schema.error_group)),
        (schema.health_state, schema.health_state.c.until < long),
        (schema.health_state, (schema.health_state.c.until < alerts) & _is_short(schema.health_state)),
        (schema.episode, and_(schema.episode.c.state == "resolved", schema.episode.c.resolved_at < alerts)),
        (schema.alert_event, (schema.alert_event.c.at < alerts) & _lost(schema.alert_event.c.episode, schema.episode)),
        (
            schema.notification,
            (schema.notification.c.created_at < alerts) & _lost(schema.notification.c.episode, schema.episode),
        ),
        (schema.attempt, (schema.attempt.c.at < alerts) & _lost(schema.attempt.c.notification, schema.notification)),
        (schema.silence, schema.silence.c.ends_at < alerts),
        (schema.audit, schema.audit.c.at < long),
    ):
        removed += _remove(connection, table, condition)
    return removed


def _is_short(states: Table) -> ColumnElement[bool]:
    """Return the condition that a check stood so for less than a minute: of a year, nobody asks for that."""
    return states.c.until - states.c.at < MINUTE


def _rollups_before(resolution: int, moment: float) -> ColumnElement[bool]:
    """Name the series, too: they come first in the key, and without them every row would be looked at."""
    table = schema.rollup
    return and_(
        table.c.series.in_(select(schema.series.c.id)), table.c.resolution == resolution, table.c.bucket < moment
    )


def _lost(column: ColumnElement[Any], table: Table) -> ColumnElement[bool]:
    """Return the condition that what a column refers to is gone."""
    return not_(column.in_(select(table.c.id)))


def _remove(connection: Connection, table: Table, condition: ColumnElement[bool]) -> int:
    """Remove a step of the rows that fit."""
    keys = list(table.primary_key)
    found = connection.execute(select(*keys).where(condition).limit(STEP)).all()
    if found:
        same = and_(*(key == bindparam(f"its_{key.name}") for key in keys))
        rows = [{f"its_{key.name}": value for key, value in zip(keys, row)} for row in found]
        connection.execute(delete(table).where(same), rows)
    return len(found)


def _old_requests(connection: Connection, moment: float) -> int:
    removed = 0
    while removed < STEP and (gone := _older(connection, schema.request, moment, _REQUESTS)):
        removed += gone + _drop_orphans(connection)
    return removed


def _older(connection: Connection, table: Table, moment: float, limit: int) -> int:
    """Remove a step of rows by id, as long as the oldest is too old."""
    oldest = connection.execute(select(table.c.id, table.c.at).order_by(table.c.id).limit(1)).one_or_none()
    if oldest is None or oldest.at >= moment:
        return 0
    inside = (table.c.id < oldest.id + limit) & (table.c.at < moment)
    return connection.execute(delete(table).where(inside)).rowcount


def _trim_facts(connection: Connection) -> int:
    removed = sum(_oldest(connection, table, STEP) for table in (schema.error_event, schema.event))
    kept = removed
    while removed < kept + STEP and (gone := _oldest(connection, schema.request, _REQUESTS)):
        removed += gone + _drop_orphans(connection)
    table = schema.operation
    oldest = select(table.c.id).order_by(table.c.started_at).limit(STEP)
    return removed + connection.execute(delete(table).where(table.c.id.in_(oldest))).rowcount


def _oldest(connection: Connection, table: Table, limit: int) -> int:
    """Remove a step of the rows with the lowest ids; the last row stays, so that no id comes twice."""
    first, last = connection.execute(select(func.min(table.c.id), func.max(table.c.id))).one()
    if first is None:
        return 0
    return connection.execute(delete(table).where(table.c.id <= min(first + limit - 1, last - 1))).rowcount


def _trim_rollups(connection: Connection, now: float) -> int:
    """Remove from the oldest quarter of the minutes, and when there are none, of the hours."""
    for resolution in (MINUTE, HOUR):
        buckets = select(func.min(schema.rollup.c.bucket)).where(schema.rollup.c.resolution == resolution)
        first = connection.scalar(buckets)
        if first is not None and first < now - HOUR:
            return _remove(connection, schema.rollup, _rollups_before(resolution, first + (now - first) / 4))
    return 0


def _drop_orphans(connection: Connection) -> int:
    """Remove the spans, lines and findings of requests that are gone."""
    first = connection.scalar(select(func.min(schema.request.c.id)))
    floor = first if first is not None else 2**62
    tables = (schema.span, schema.line, schema.finding)
    return sum(connection.execute(delete(table).where(table.c.request < floor)).rowcount for table in tables)


def _used_bytes(connection: Connection) -> int:
    """Return the size of the pages in use; free ones are given back anyway."""
    pages, free, size = (
        int(connection.exec_driver_sql(f"PRAGMA {name}").scalar() or 0)
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _give_space_back(database: Database) -> None:
    with database.maintaining() as driver:
        for _ in range(_FREEINGS):
            driver.executescript(f"PRAGMA incremental_vacuum({_FREED_PAGES})")
            if not driver.execute("PRAGMA freelist_count").fetchone()[0]:
                break
        driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
