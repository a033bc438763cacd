"""Retention: what is too old goes, and what is oldest goes when the store is too large.

Rows go in small steps by the order they came in, so that nobody who writes waits long, and the space is given back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Table, and_, delete, func, select

from . import schema
from .database import Database
from .rollups import DAY, HOUR, MINUTE

STEP: Final = 2_000
"""Rows of a table that one transaction removes at most."""

_FREED_PAGES: Final = 2_000
_SECONDS_A_DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long each kind is kept, in days, and how large the embedded database may become, in bytes."""

    facts_days: float = 14.0
    """Kept requests with spans and lines, error events, events and operations."""
    minutes_days: float = 7.0
    """Roll-ups by the minute."""
    hours_days: float = 90.0
    """Roll-ups by the hour. Those by the day, error groups and activity are kept for 400 days."""
    alerts_days: float = 90.0
    """Resolved episodes, their timeline, and the states of checks."""
    max_bytes: int = 1024 * 1024 * 1024


_LONG_DAYS: Final = 400.0


def trim(database: Database, retention: Retention, now: float) -> int:
    """Remove one step of what is too old, or of the oldest facts when the database is too large.

    Return how many rows went: call again until it is 0. Raise StoreUnusable.
    """
    with database.writing() as connection:
        removed = _trim_by_age(connection, retention, now)
        if not removed and database.size_bytes() > retention.max_bytes:
            removed = sum(_oldest(connection, table) for table in (schema.request, schema.error_event, schema.event))
            removed += _drop_orphans(connection)
    if removed and database.is_embedded:
        _give_space_back(database)
    return removed


def _trim_by_age(connection: Connection, retention: Retention, now: float) -> int:
    def before(days: float) -> float:
        return now - days * _SECONDS_A_DAY

    facts, alerts, long = before(retention.facts_days), before(retention.alerts_days), before(_LONG_DAYS)
    removed = sum(_older(connection, table, facts) for table in (schema.request, schema.error_event, schema.event))
    if removed:
        removed += _drop_orphans(connection)
    for table, condition in (
        (schema.batch, schema.batch.c.at < now - _SECONDS_A_DAY),
        (schema.operation, schema.operation.c.started_at < facts),
        (schema.rollup, _rollups_before(MINUTE, before(retention.minutes_days))),
        (schema.rollup, _rollups_before(HOUR, before(retention.hours_days))),
        (schema.rollup, _rollups_before(DAY, long)),
        (schema.error_count, schema.error_count.c.bucket < long),
        (schema.error_group, schema.error_group.c.last_seen < long),
        (schema.health_state, schema.health_state.c.until < alerts),
        (schema.episode, and_(schema.episode.c.state == "resolved", schema.episode.c.resolved_at < alerts)),
        (schema.silence, schema.silence.c.ends_at < alerts),
        (schema.audit, schema.audit.c.at < long),
    ):
        removed += connection.execute(delete(table).where(condition)).rowcount
    return removed


def _rollups_before(resolution: int, moment: float) -> Any:
    return and_(schema.rollup.c.resolution == resolution, schema.rollup.c.bucket < moment)


def _older(connection: Connection, table: Table, moment: float) -> int:
    """Remove a step of rows by id, as long as the oldest is too old."""
    oldest = connection.execute(select(table.c.id, table.c.at).order_by(table.c.id).limit(1)).one_or_none()
    if oldest is None or oldest.at >= moment:
        return 0
    inside = (table.c.id < oldest.id + STEP) & (table.c.at < moment)
    return connection.execute(delete(table).where(inside)).rowcount


def _oldest(connection: Connection, table: Table) -> int:
    first, last = connection.execute(select(func.min(table.c.id), func.max(table.c.id))).one()
    if first is None:
        return 0
    return connection.execute(delete(table).where(table.c.id <= min(first + STEP - 1, last - 1))).rowcount


def _drop_orphans(connection: Connection) -> int:
    """Remove the spans and lines of requests that are gone."""
    first = connection.scalar(select(func.min(schema.request.c.id)))
    floor = first if first is not None else 2**62
    tables = (schema.span, schema.line)
    return sum(connection.execute(delete(table).where(table.c.request < floor)).rowcount for table in tables)


def _give_space_back(database: Database) -> None:
    with database.maintaining() as driver:
        driver.executescript(f"PRAGMA incremental_vacuum({_FREED_PAGES}); PRAGMA wal_checkpoint(PASSIVE);")
