"""Reading kept requests: lists of them by what they did, and one with everything that is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

import orjson
from sqlalchemy import CompoundSelect, Connection, Row, Select, literal, select

from . import schema
from .facts import FindingFact, SpanFact

LIMIT: Final = 100


@dataclass(frozen=True, slots=True)
class KeptRequest:
    """One kept request as it stands in a list; see ``facts.RequestFact``."""

    request_id: str
    at: float
    method: str
    route: str
    status: int
    outcome: str
    duration_seconds: float
    reason: str
    user: str
    error_group: str
    db_calls: int
    db_seconds: float
    cache_hits: int
    cache_misses: int
    llm_calls: int
    llm_tokens: int
    llm_cost_usd: float


@dataclass(frozen=True, slots=True)
class RequestDetail:
    """One kept request with its spans by their start, its log lines in order, and what was found of its statements."""

    request: KeptRequest
    trace_id: str
    path: str
    bytes_sent: int
    process: str
    spans: tuple[SpanFact, ...]
    spans_dropped: int
    lines: tuple[Mapping[str, Any], ...]
    findings: tuple[FindingFact, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFilter:
    """Which kept requests are wanted; what is empty or None does not matter."""

    since: float
    until: float
    method: str = ""
    route: str = ""
    status: str = ""
    """A code such as ``404``, or a class such as ``5xx``."""
    outcome: str = ""
    min_seconds: float = 0.0
    user: str = ""
    """As the store has it: hashed, unless ``hash_users`` is off."""
    span_kind: str = ""
    span_name: str = ""
    error_group: str = ""
    order: Literal["newest", "slowest"] = "newest"
    limit: int = 50


_ROW: Final = tuple(schema.request.c[field.name] for field in fields(KeptRequest))


def find(connection: Connection, wanted: RequestFilter) -> list[KeptRequest]:
    """Return the requests that fit, at most 101: one more than is ever shown, to tell that there are more."""
    table = schema.request
    query = select(*_ROW).where(table.c.at >= wanted.since, table.c.at < wanted.until)
    for column in ("method", "route", "outcome", "user"):
        if value := getattr(wanted, column):
            query = query.where(table.c[column] == value)
    if wanted.error_group:
        query = query.where(table.c.error_group.in_(_keys_of(wanted.error_group)))
    if wanted.status:
        query = _with_status(query, wanted.status)
    if wanted.min_seconds:
        query = query.where(table.c.duration_seconds >= wanted.min_seconds)
    if wanted.span_kind:
        query = query.where(table.c.id.in_(_having_span(wanted)))
    order = table.c.duration_seconds.desc() if wanted.order == "slowest" else table.c.id.desc()
    return [_kept(row) for row in connection.execute(query.order_by(order).limit(min(wanted.limit, LIMIT + 1)))]


def read(connection: Connection, request_id: str) -> RequestDetail | None:
    """Return one request with everything that is kept of it."""
    table = schema.request
    query = select(table).where(table.c.request_id == request_id).order_by(table.c.id.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    spans = connection.execute(select(schema.span).where(schema.span.c.request == row.id).order_by(schema.span.c.seq))
    lines = connection.execute(select(schema.line).where(schema.line.c.request == row.id).order_by(schema.line.c.seq))
    findings = connection.execute(
        select(*(schema.finding.c[field.name] for field in fields(FindingFact)))
        .where(schema.finding.c.request == row.id)
        .order_by(schema.finding.c.seq)
    )
    return RequestDetail(
        request=_kept(row),
        trace_id=row.trace_id,
        path=row.path,
        bytes_sent=row.bytes_sent,
        process=row.process,
        spans=tuple(_span(span) for span in spans),
        spans_dropped=row.spans_dropped,
        lines=tuple(orjson.loads(line.text) for line in lines),
        findings=tuple(FindingFact(**found._mapping) for found in findings),
    )


def _keys_of(group: str) -> CompoundSelect[Any]:
    """Return every key of a group: a request has the one that it was first known by."""
    table = schema.error_key
    own = select(table.c.group_id).where(table.c.key == group)
    return select(table.c.key).where(table.c.group_id.in_(own)).union(select(literal(group)))


def _with_status(query: Select[Any], status: str) -> Select[Any]:
    column = schema.request.c.status
    if status.endswith("xx") and status[:1].isdigit():
        floor = int(status[0]) * 100
        return query.where(column >= floor, column < floor + 100)
    return query.where(column == (int(status) if status.isdigit() else -1))


def _having_span(wanted: RequestFilter) -> Select[Any]:
    table = schema.span
    query = select(table.c.request).where(table.c.kind == wanted.span_kind)
    return query.where(table.c.name == wanted.span_name) if wanted.span_name else query


def _kept(row: Row[Any]) -> KeptRequest:
    return KeptRequest(**{field.name: row._mapping[field.name] for field in fields(KeptRequest)})


def _span(row: Row[Any]) -> SpanFact:
    values = {field.name: row._mapping[field.name] for field in fields(SpanFact)}
    return SpanFact(**{**values, "detail": orjson.loads(row.detail)})
