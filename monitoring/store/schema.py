"""The tables of the store, one version of them, for SQLite and PostgreSQL alike.

Times are unix seconds as floats, ids grow with time, and no hot table has more than two indexes beside its key.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    TypeDecorator,
    UniqueConstraint,
    func,
    select,
    text,
)

from ..utils.plain import safe_str

VERSION: Final = 1

_Id = BigInteger().with_variant(Integer, "sqlite")
metadata: Final = MetaData()


class Text(TypeDecorator[str]):
    """Text as every database takes it: an app's own ID or name of another type as its ``str``, half characters and
    NUL, which PostgreSQL refuses, replaced. What a driver cannot bind would be tried again for ever.
    """

    impl = sqlalchemy.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Return a text that can be stored; None stays None."""
        if value is None:
            return None
        text = value if isinstance(value, str) else safe_str(value)
        if text.isascii() and "\0" not in text:
            return text
        return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, default="", server_default="")


def _number(name: str, default: str = "0") -> Column[float]:
    return Column(name, Float, nullable=False, server_default=default)


def _count(name: str) -> Column[int]:
    return Column(name, _Id, nullable=False, server_default="0")


meta = Table("meta", metadata, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))
"""Schema version, and the key that user ids are hashed with."""

batch = Table("batch", metadata, Column("id", Text, primary_key=True), Column("at", Float, nullable=False))
"""Batches of facts that were written: one that comes again is not written twice."""

lease = Table(
    "lease",
    metadata,
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("epoch", _Id, nullable=False),
    Column("until", Float, nullable=False),
)

# --- numbers: one row per series, resolution and time bucket ----------------------------------------------------------

series = Table(
    "series",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("metric", Text, nullable=False),
    Column("labels", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("unit", Text, nullable=False),
    UniqueConstraint("metric", "labels", "kind", "unit"),
)
"""A metric and one label set, as a JSON object with sorted keys. ``unit`` names the scale of a sketch: a histogram
whose buckets were changed is another series.
"""

rollup = Table(
    "rollup",
    metadata,
    Column("series", _Id, primary_key=True),
    Column("resolution", Integer, primary_key=True),
    Column("bucket", _Id, primary_key=True),
    Column("host", Text, primary_key=True),
    _number("count"),
    _number("total"),
    _number("high"),
    Column("sketch", LargeBinary),
    sqlite_with_rowid=False,
)
"""What a series gained in the ``resolution`` seconds from ``bucket`` on. Counter: ``total``. Histogram: ``count``,
``total`` and the sketch of fine buckets. Gauge: ``count`` samples that sum to ``total``, the highest ``high``.
"""

baseline = Table(
    "baseline",
    metadata,
    Column("host", Text, primary_key=True),
    Column("series", Text, primary_key=True),
    Column("generation", Text, nullable=False),
    _number("total"),
    Column("sketch", LargeBinary),
    sqlite_with_rowid=False,
)
"""The sums of a host's cells that are in the roll-ups already."""

# --- facts ------------------------------------------------------------------------------------------------------------

request = Table(
    "request",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("request_id", Text, nullable=False),
    _text("trace_id"),
    Column("method", Text, nullable=False),
    Column("route", Text, nullable=False),
    _text("path"),
    Column("status", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("duration_seconds", Float, nullable=False),
    Column("reason", Text, nullable=False),
    _text("user"),
    _text("error_group"),
    _count("bytes_sent"),
    _count("db_calls"),
    _number("db_seconds"),
    _count("cache_hits"),
    _count("cache_misses"),
    _count("llm_calls"),
    _count("llm_tokens"),
    _number("llm_cost_usd"),
    _count("spans_dropped"),
    Column("process", Text, nullable=False),
    Index("request_by_request_id", "request_id"),
    Index("request_by_route", "route", "id"),
)
"""Kept requests: failed, slow and sampled ones."""

span = Table(
    "span",
    metadata,
    Column("request", _Id, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("offset_seconds", Float, nullable=False),
    Column("duration_seconds", Float, nullable=False),
    Column("parent", Integer, nullable=False),
    Column("detail", Text, nullable=False),
    Index("span_by_name", "kind", "name", "request"),
    sqlite_with_rowid=False,
)
"""The calls and blocks of a kept request."""

line = Table(
    "line",
    metadata,
    Column("request", _Id, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("text", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""The log lines of a kept request."""

spend = Table(
    "spend",
    metadata,
    Column("budget", Text, primary_key=True),
    Column("since", Float, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("process", Text, primary_key=True),
    _number("usd"),
    _count("calls"),
    _count("unpriced_calls"),
    Column("at", Float, nullable=False),
    sqlite_with_rowid=False,
)
"""What each process spent of each budget of an hour or a day, by user, feature or agent."""

finding = Table(
    "finding",
    metadata,
    Column("request", _Id, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("statement", Text, nullable=False),
    Column("place", Text, nullable=False),
    Column("times", _Id, nullable=False),
    Column("seconds", Float, nullable=False),
    sqlite_with_rowid=False,
)
"""What is odd about the database statements of a kept request."""

error_group = Table(
    "error_group",
    metadata,
    Column("id", Text, primary_key=True),
    Column("category", Text, nullable=False),
    Column("level", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("culprit", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("status", Text, nullable=False, server_default="open"),
    Column("first_seen", Float, nullable=False),
    Column("last_seen", Float, nullable=False),
    _count("count"),
    Column("resolved_at", Float),
    Column("regressed_at", Float),
    Index("error_group_by_last_seen", "last_seen"),
)
"""Errors of one cause. ``status``: ``open``, ``resolved`` or ``regressed``. ``id`` is its first key."""

error_key = Table(
    "error_key", metadata, Column("key", Text, primary_key=True), Column("group_id", Text, nullable=False)
)
"""All keys under which errors of a group are known."""

error_event = Table(
    "error_event",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("group_id", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("level", Text, nullable=False),
    _text("message"),
    Column("stack", Text, nullable=False),
    _text("request_id"),
    _text("route"),
    _text("user"),
    Column("context", Text, nullable=False),
    Index("error_event_by_group", "group_id", "id"),
)

error_count = Table(
    "error_count",
    metadata,
    Column("group_id", Text, primary_key=True),
    Column("bucket", _Id, primary_key=True),
    _count("count"),
    sqlite_with_rowid=False,
)
"""Occurrences of a group in each hour."""

error_minute = Table(
    "error_minute",
    metadata,
    Column("bucket", _Id, primary_key=True),
    Column("group_id", Text, primary_key=True),
    _count("count"),
    sqlite_with_rowid=False,
)
"""Occurrences of a group in each minute of the last day; who writes also trims."""

event = Table(
    "event",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("name", Text, nullable=False),
    _text("user"),
    Column("value", Float),
    Column("dimensions", Text, nullable=False),
    _text("request_id"),
    Index("event_by_name", "name", "id"),
)

operation = Table(
    "operation",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("started_at", Float, nullable=False),
    _text("outcome"),
    Column("duration_seconds", Float),
    _text("reason"),
    _text("user"),
    Column("deadline_at", Float),
    Column("dimensions", Text, nullable=False),
    _text("request_id"),
    Index("operation_by_name", "name", "started_at"),
    Index("operation_open", "outcome", "deadline_at"),
)
"""Business operations; ``outcome`` is "" while one is open."""

activity = Table(
    "activity",
    metadata,
    Column("day", Text, primary_key=True),
    Column("feature", Text, primary_key=True),
    Column("user", Text, primary_key=True),
    _count("count"),
    sqlite_with_rowid=False,
)
"""Who was active on which day: in a feature, or at all (``feature`` "")."""

health_state = Table(
    "health_state",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("until", Float, nullable=False),
    Column("status", Text, nullable=False),
    Column("critical", Boolean, nullable=False),
    _number("duration_seconds"),
    _text("output"),
    Index("health_state_by_name", "name", "id"),
)
"""How a check stood from ``at`` until ``until``: a row per change, and the last one is extended."""

# --- alerts -----------------------------------------------------------------------------------------------------------

episode = Table(
    "episode",
    metadata,
    Column("id", Text, primary_key=True),
    Column("rule", Text, nullable=False),
    Column("rule_hash", Text, nullable=False),
    Column("labels", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("summary", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("active_since", Float, nullable=False),
    Column("fired_at", Float),
    Column("clear_since", Float),
    Column("resolved_at", Float),
    Column("value", Float),
    Column("threshold", Float),
    Column("evaluated_at", Float, nullable=False),
    _text("acked_by"),
    _text("ack_note"),
    Column("acked_at", Float),
    Column("acked_until", Float),
    Column("notified_at", Float),
    _count("notices"),
    _text("silenced_by"),
    _text("link"),
    Index("episode_by_state", "state", "active_since"),
    Index(
        "episode_open",
        "rule",
        "labels",
        unique=True,
        sqlite_where=text("state <> 'resolved'"),
        postgresql_where=text("state <> 'resolved'"),
    ),
)
"""One time that a rule was breached for one label set. ``state``: ``pending``, ``firing`` or ``resolved``."""

alert_event = Table(
    "alert_event",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("episode", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("what", Text, nullable=False),
    _text("why"),
    Column("value", Float),
    _text("actor"),
    Index("alert_event_by_episode", "episode", "id"),
)
"""What happened to an episode, in order; only ever added to."""

silence = Table(
    "silence",
    metadata,
    Column("id", Text, primary_key=True),
    Column("rule", Text, nullable=False),
    Column("labels", Text, nullable=False),
    Column("starts_at", Float, nullable=False),
    Column("ends_at", Float, nullable=False),
    Column("author", Text, nullable=False),
    _text("comment"),
)
"""Notices of a rule ("*" for all) with these labels are not sent in this time."""

notification = Table(
    "notification",
    metadata,
    Column("id", Text, primary_key=True),
    Column("channel", Text, nullable=False),
    Column("episode", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("status", Text, nullable=False),
    _count("attempts"),
    Column("created_at", Float, nullable=False),
    Column("next_at", Float, nullable=False),
    Column("locked_until", Float),
    UniqueConstraint("channel", "episode", "kind", "seq"),
    Index("notification_by_status", "status", "next_at"),
)
"""The outbox of notices. ``status``: ``queued``, ``sending``, ``sent``, ``superseded`` or ``dead``."""

attempt = Table(
    "attempt",
    metadata,
    Column("notification", Text, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("duration_seconds", Float, nullable=False),
    Column("outcome", Text, nullable=False),
    _text("error"),
)
"""Every try to deliver a notice, and what came of it."""

audit = Table(
    "audit",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
)
"""What was done on the dashboard, and by whom."""


def sizes(connection: Connection) -> list[dict[str, Any]]:
    """Return the number of rows of each table that grows, and when its oldest row is of."""
    found = []
    for table, moment in (
        (request, request.c.at),
        (error_event, error_event.c.at),
        (event, event.c.at),
        (operation, operation.c.started_at),
        (rollup, None),
        (span, None),
        (line, None),
        (episode, episode.c.active_since),
    ):
        rows = connection.scalar(select(func.count()).select_from(table))
        oldest = connection.scalar(select(func.min(moment))) if moment is not None else None
        found.append({"name": table.name, "rows": rows or 0, "oldest": oldest})
    return found
