"""Error groups in the store: written by the flusher, read by the dashboard, the command line and the alerts.

A group is known under one or several keys; whichever is known already decides, and the others become its aliases.
Times are unix seconds. Nothing here is scrubbed or hashed: that is done before a fact is made or written.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, delete, func, select, update

from ..utils.plain import safe_repr, to_plain
from . import schema
from .dialects import Lock, be_alone
from .facts import ErrorFact
from .rollups import DAY, HOUR, MINUTE

Status = Literal["open", "resolved", "regressed"]
Shown = Literal["open", "resolved", "all"]
"""Which groups to list; ``open`` are the regressed ones too."""

LISTED: Final = 100
EVENTS_READ: Final = 20
MINUTES_KEPT_SECONDS: Final = DAY
"""How far back occurrences are known by the minute; before that by the hour."""

_STEPS: Final = ((2 * HOUR, MINUTE), (12 * HOUR, 5 * MINUTE), (DAY, 15 * MINUTE))
"""Longest range, in seconds, that each step shorter than an hour is good for."""

_KEYS_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class GroupRow:
    """Errors of one cause. ``recent_count`` are the occurrences in the range that was asked for: exact to the minute
    within the last day, to the hour before.
    """

    id: str
    title: str
    type: str
    category: str
    level: str
    culprit: str
    status: Status
    first_seen: float
    last_seen: float
    count: int
    recent_count: int


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """One occurrence that was kept whole. ``stack`` is the chain of exceptions, the one that was raised last first."""

    at: float
    level: str
    message: str
    request_id: str
    route: str
    user: str
    context: Mapping[str, Any]
    stack: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class GroupDetail:
    """A group, the readable parts that its key was made of, and its newest events, newest first."""

    group: GroupRow
    why: tuple[str, ...]
    events: tuple[ErrorEvent, ...]


@dataclass(frozen=True, slots=True)
class Frequency:
    """Occurrences in steps of ``step_seconds`` without gaps; ``t`` are the beginnings, ascending."""

    step_seconds: int
    t: tuple[int, ...]
    count: tuple[int, ...]


def write_errors(connection: Connection, facts: Sequence[ErrorFact]) -> None:
    """Add errors to their groups, within the caller's transaction.

    Facts without a stack and a message are counted only. A resolved group that is seen again becomes ``regressed``.
    """
    if not facts:
        return
    be_alone(connection, Lock.ERRORS)
    known = _known_groups(connection, [key for fact in facts for key in fact.keys])
    by_group: dict[str, list[ErrorFact]] = {}
    for fact in facts:
        by_group.setdefault(_group_of(connection, fact, known), []).append(fact)
    for group, its_facts in by_group.items():
        _write_group(connection, group, its_facts)
        _write_events(connection, group, its_facts)
        _write_counts(connection, group, its_facts)
    newest = max(fact.at for fact in facts)
    table = schema.error_minute
    connection.execute(delete(table).where(table.c.bucket < newest - MINUTES_KEPT_SECONDS - MINUTE))


def list_groups(
    connection: Connection, status: Shown, since: float, until: float, *, limit: int = LISTED
) -> list[GroupRow]:
    """Return the groups that were seen in a range, the one seen last first, ``limit`` at most."""
    group = schema.error_group.c
    chosen = _with_recent(connection, since, until).where(group.last_seen >= since, group.first_seen < until)
    if status != "all":
        chosen = chosen.where(group.status == "resolved" if status == "resolved" else group.status != "resolved")
    rows = connection.execute(chosen.order_by(group.last_seen.desc(), group.id).limit(limit))
    return [_group_row(row) for row in rows]


def read_group(connection: Connection, id: str, since: float = 0.0, until: float = float("inf")) -> GroupDetail | None:
    """Return the group that is known under ``id`` or under an alias, with its newest events; None when none is."""
    group_id = resolve_key(connection, id)
    row = connection.execute(
        _with_recent(connection, since, until).where(schema.error_group.c.id == group_id)
    ).one_or_none()
    if row is None:
        return None
    event = schema.error_event.c
    events = connection.execute(
        select(schema.error_event).where(event.group_id == group_id).order_by(event.id.desc()).limit(EVENTS_READ)
    )
    return GroupDetail(_group_row(row), tuple(orjson.loads(row.why)), tuple(map(_event, events)))


def event_of_request(connection: Connection, group_id: str, request_id: str) -> ErrorEvent | None:
    """Return the newest event that a request left in a group, None where it was only counted."""
    event = schema.error_event.c
    row = connection.execute(
        select(schema.error_event)
        .where(event.group_id == resolve_key(connection, group_id), event.request_id == request_id)
        .order_by(event.id.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else _event(row)


def set_status(connection: Connection, id: str, status: Literal["open", "resolved"], now: float) -> GroupRow | None:
    """Resolve a group or open it again, and return it; None when it is not known. Raise ValueError."""
    if status not in ("open", "resolved"):
        raise ValueError(f"A group can be set to 'open' or 'resolved', got {status!r}.")
    group = schema.error_group
    connection.execute(
        update(group)
        .where(group.c.id == resolve_key(connection, id))
        .values(status=status, resolved_at=now if status == "resolved" else None, regressed_at=None)
    )
    detail = read_group(connection, id)
    return None if detail is None else detail.group


def frequency(connection: Connection, id: str | None, since: float, until: float) -> Frequency:
    """Return how often a group, or with None any, was seen in each step of a range.

    A step is from a minute to a day long, by the length of the range.
    """
    step = _step(connection, since, until)
    table = schema.error_minute if step < HOUR else schema.error_count
    chosen = select(table.c.bucket, func.sum(table.c.count)).where(*_within(table.c.bucket, since, until, step))
    if id is not None:
        chosen = chosen.where(table.c.group_id == resolve_key(connection, id))
    counts: Counter[int] = Counter()
    for bucket, count in connection.execute(chosen.group_by(table.c.bucket)):
        counts[bucket - bucket % step] += int(count)
    times = tuple(range(_floor(since, step), max(_floor(since, step) + 1, math.ceil(until)), step))
    return Frequency(step, times, tuple(counts[time] for time in times))


def resolve_key(connection: Connection, key: str) -> str:
    """Return the ID of the group that a key belongs to, or the key itself."""
    table = schema.error_key
    return connection.scalar(select(table.c.group_id).where(table.c.key == key)) or key


# --- writing ----------------------------------------------------------------------------------------------------------


def _known_groups(connection: Connection, keys: Sequence[str]) -> dict[str, str]:
    table = schema.error_key
    wanted = sorted(set(keys))
    known: dict[str, str] = {}
    for start in range(0, len(wanted), _KEYS_AT_ONCE):
        chosen = select(table.c.key, table.c.group_id).where(table.c.key.in_(wanted[start : start + _KEYS_AT_ONCE]))
        known.update((row.key, row.group_id) for row in connection.execute(chosen))
    return known


def _group_of(connection: Connection, fact: ErrorFact, known: dict[str, str]) -> str:
    """Return the group of a fact, and remember those of its keys that are new."""
    group = next((known[key] for key in fact.keys if key in known), fact.keys[0])
    for key in fact.keys:
        if key not in known:
            known[key] = group
            connection.execute(schema.error_key.insert().values(key=key, group_id=group))
    return group


def _write_group(connection: Connection, group: str, facts: Sequence[ErrorFact]) -> None:
    table = schema.error_group
    known = connection.execute(select(table).where(table.c.id == group)).one_or_none()
    count = sum(fact.count for fact in facts)
    first, last = min(fact.at for fact in facts), max(fact.at for fact in facts)
    newest = max(facts, key=lambda fact: fact.at)
    if known is None:
        connection.execute(table.insert().values(**_new_group(group, newest, first, last, count)))
        return
    values: dict[str, Any] = {
        "count": table.c.count + count,
        "first_seen": min(known.first_seen, first),
        "last_seen": max(known.last_seen, last),
        "level": newest.level,
        "category": newest.category,
    }
    if known.status == "resolved" and last > (known.resolved_at or 0.0):
        values |= {"status": "regressed", "regressed_at": last}
    connection.execute(update(table).where(table.c.id == group).values(**values))


def _new_group(group: str, fact: ErrorFact, first: float, last: float, count: int) -> dict[str, Any]:
    return {
        "id": group,
        "category": fact.category,
        "level": fact.level,
        "type": fact.type,
        "title": fact.title,
        "culprit": fact.culprit,
        "why": _json(fact.why),
        "status": "open",
        "first_seen": first,
        "last_seen": last,
        "count": count,
    }


def _write_events(connection: Connection, group: str, facts: Sequence[ErrorFact]) -> None:
    rows = [
        {
            "group_id": group,
            "at": fact.at,
            "level": fact.level,
            "message": fact.message,
            "stack": _json(fact.stack),
            "request_id": fact.request_id,
            "route": fact.route,
            "user": fact.user,
            "context": _json(dict(fact.context)),
        }
        for fact in facts
        if fact.stack or fact.message
    ]
    if rows:
        connection.execute(schema.error_event.insert(), rows)


def _write_counts(connection: Connection, group: str, facts: Sequence[ErrorFact]) -> None:
    for table, step in ((schema.error_count, HOUR), (schema.error_minute, MINUTE)):
        counts: Counter[int] = Counter()
        for fact in facts:
            counts[_floor(fact.at, step)] += fact.count
        for bucket, count in counts.items():
            this = and_(table.c.group_id == group, table.c.bucket == bucket)
            done = connection.execute(update(table).where(this).values(count=table.c.count + count))
            if not done.rowcount:
                connection.execute(table.insert().values(group_id=group, bucket=bucket, count=count))


# --- reading ----------------------------------------------------------------------------------------------------------


def _with_recent(connection: Connection, since: float, until: float) -> Select[Any]:
    """Return the query of groups with their occurrences in a range."""
    is_fine = _is_known_by_the_minute(connection, since)
    table, step = (schema.error_minute, MINUTE) if is_fine else (schema.error_count, HOUR)
    recent = (
        select(func.coalesce(func.sum(table.c.count), 0))
        .where(table.c.group_id == schema.error_group.c.id, *_within(table.c.bucket, since, until, step))
        .scalar_subquery()
    )
    return select(schema.error_group, recent.label("recent_count"))


def _step(connection: Connection, since: float, until: float) -> int:
    if _is_known_by_the_minute(connection, since):
        for longest, step in _STEPS:
            if until - since <= longest:
                return step
    return HOUR if until - since <= 7 * DAY else DAY


def _is_known_by_the_minute(connection: Connection, since: float) -> bool:
    newest = connection.scalar(select(func.max(schema.error_group.c.last_seen)))
    return newest is None or since >= newest - MINUTES_KEPT_SECONDS


def _within(bucket: ColumnElement[int], since: float, until: float, step: int) -> list[ColumnElement[bool]]:
    conditions = [bucket >= _floor(since, step)]
    return conditions if until == float("inf") else [*conditions, bucket < until]


def _floor(at: float, step: int) -> int:
    return int(at // step) * step


def _group_row(row: Row[Any]) -> GroupRow:
    return GroupRow(
        id=row.id,
        title=row.title,
        type=row.type,
        category=row.category,
        level=row.level,
        culprit=row.culprit,
        status=row.status,
        first_seen=row.first_seen,
        last_seen=row.last_seen,
        count=row._mapping["count"],
        recent_count=int(row.recent_count),
    )


def _event(row: Row[Any]) -> ErrorEvent:
    return ErrorEvent(
        at=row.at,
        level=row.level,
        message=row.message,
        request_id=row.request_id,
        route=row.route,
        user=row.user,
        context=orjson.loads(row.context),
        stack=orjson.loads(row.stack),
    )


def _json(value: object) -> str:
    try:
        return orjson.dumps(value, default=safe_repr).decode()
    except Exception:
        return orjson.dumps(to_plain(value)).decode()
