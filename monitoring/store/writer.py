"""Writing facts: a batch is one transaction and has an id, so that a batch that is tried again is written once."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

import orjson
from sqlalchemy import Connection, func, select

from ..utils.plain import safe_str, to_plain
from . import schema
from .database import Database
from .dialects import Lock, be_alone, insert
from .errors import write_errors
from .facts import ActivityFact, ErrorFact, EventFact, Fact, OperationFact, RequestFact, SpanFact

_REQUEST_COLUMNS: Final = tuple(
    column.name for column in schema.request.columns if column.name not in ("id", "process", "user")
)
_USER_KEYS: Final = frozenset({"user", "user_id"})
"""Names under which apps keep a user among a span's attributes, a dimension or an error's context."""


class FactWriter:
    """Writes facts of one process. Not thread-safe: it belongs to the flusher's thread."""

    def __init__(self, database: Database, process: str, *, hash_users: bool = True) -> None:
        self._database = database
        self._process = process
        self._hash_users = hash_users
        self._user_key = b""

    def write(self, batch_id: str, facts: Sequence[Fact]) -> None:
        """Write a batch unless it was written before. Raise StoreUnusable, or whatever a fact of odd values leads to:
        then nothing of it is written.
        """
        with self._database.writing() as connection:
            if not _is_new(connection, batch_id):
                return
            self._user_key = user_key(connection)
            for kind, write in self._writers.items():
                chosen = [fact for fact in facts if isinstance(fact, kind)]
                if chosen:
                    write(self, connection, chosen)

    def _write_requests(self, connection: Connection, facts: Sequence[RequestFact]) -> None:
        """Write requests with their spans, lines and findings, as four statements however many there are."""
        numbered = list(enumerate(facts, _next_request(connection)))
        requests = [{"id": number, **self._request_row(fact)} for number, fact in numbered]
        spans = [self._span_row(number, seq, span) for number, fact in numbered for seq, span in enumerate(fact.spans)]
        lines = [
            {"request": number, "seq": seq, "text": self._hidden(line)}
            for number, fact in numbered
            for seq, line in enumerate(fact.lines)
        ]
        findings = [
            {"request": number, "seq": seq, **asdict(finding)}
            for number, fact in numbered
            for seq, finding in enumerate(fact.findings)
        ]
        parts = ((schema.request, requests), (schema.span, spans), (schema.line, lines), (schema.finding, findings))
        for table, rows in parts:
            if rows:
                connection.execute(table.insert(), rows)

    def _request_row(self, fact: RequestFact) -> dict[str, Any]:
        row = {name: getattr(fact, name) for name in _REQUEST_COLUMNS}
        return {**row, "user": self._user(fact.user), "process": self._process}

    def _write_errors(self, connection: Connection, facts: Sequence[ErrorFact]) -> None:
        hidden = [
            replace(fact, user=self._user(fact.user), context=self._without_users(fact.context)) for fact in facts
        ]
        write_errors(connection, hidden)

    def _write_events(self, connection: Connection, facts: Sequence[EventFact]) -> None:
        rows = [
            {
                "at": fact.at,
                "name": fact.name,
                "user": self._user(fact.user),
                "value": fact.value,
                "dimensions": self._json(fact.dimensions),
                "request_id": fact.request_id,
            }
            for fact in facts
        ]
        connection.execute(schema.event.insert(), rows)

    def _write_operations(self, connection: Connection, facts: Sequence[OperationFact]) -> None:
        """Write operations; of one id the last word counts, and an end is never undone by a late beginning."""
        table = schema.operation
        inserted = insert(connection, table)
        keys = [column.name for column in table.columns if column.name != "id"]
        newer = inserted.on_conflict_do_update(
            index_elements=["id"], set_={name: inserted.excluded[name] for name in keys}, where=table.c.outcome == ""
        )
        rows = [{name: getattr(fact, name) for name in ("id", *keys)} for fact in facts]
        for row in rows:
            row.update(user=self._user(row["user"]), dimensions=self._json(row["dimensions"]))
        connection.execute(newer, rows)

    def _write_activity(self, connection: Connection, facts: Sequence[ActivityFact]) -> None:
        table = schema.activity
        inserted = insert(connection, table)
        added = inserted.on_conflict_do_update(
            index_elements=["day", "feature", "user"], set_={"count": table.c.count + inserted.excluded.count}
        )
        connection.execute(
            added,
            [
                {"day": fact.day, "feature": fact.feature, "user": self._user(fact.user), "count": fact.count}
                for fact in facts
            ],
        )

    def _user(self, user: str) -> str:
        return hashed(user, self._user_key) if self._hash_users else user

    def _hidden(self, line: bytes) -> str:
        """Return a log line with its user hashed like everywhere in the store."""
        if not self._hash_users or b'"user' not in line:
            return line.decode().rstrip("\n")
        return orjson.dumps(self._without_users(orjson.loads(line))).decode()

    def _json(self, fields: Mapping[str, Any]) -> str:
        return to_json(self._without_users(fields))

    def _without_users(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        if not self._hash_users or _USER_KEYS.isdisjoint(fields):
            return fields
        return {
            name: self._user(safe_str(value)) if name in _USER_KEYS and value else value
            for name, value in fields.items()
        }

    def _span_row(self, request: int, seq: int, span: SpanFact) -> dict[str, Any]:
        return {
            "request": request,
            "seq": seq,
            "kind": span.kind,
            "name": span.name,
            "outcome": span.outcome,
            "offset_seconds": span.offset_seconds,
            "duration_seconds": span.duration_seconds,
            "parent": span.parent,
            "detail": self._json(span.detail),
        }

    _writers: Mapping[type, Callable[[FactWriter, Connection, Any], None]] = {
        RequestFact: _write_requests,
        ErrorFact: _write_errors,
        EventFact: _write_events,
        OperationFact: _write_operations,
        ActivityFact: _write_activity,
    }


def _next_request(connection: Connection) -> int:
    """Return the number of the next request; nobody else takes one in this transaction."""
    be_alone(connection, Lock.REQUESTS)
    return int(connection.scalar(select(func.max(schema.request.c.id))) or 0) + 1


def user_key(connection: Connection) -> bytes:
    """Return the key of this store that user ids are hashed with."""
    value = connection.scalar(select(schema.meta.c.value).where(schema.meta.c.key == "user_key"))
    return bytes.fromhex(value or "")


def hashed(user: str, key: bytes) -> str:
    """Return what stands for a user in the store: 16 hex digits of a keyed BLAKE2b, "" for nobody."""
    return hashlib.blake2b(user.encode("utf-8", "replace"), key=key, digest_size=8).hexdigest() if user else ""


def to_json(value: Mapping[str, Any]) -> str:
    """Return any mapping as JSON text."""
    return orjson.dumps(to_plain(value), option=orjson.OPT_NON_STR_KEYS).decode()


def _is_new(connection: Connection, batch_id: str) -> bool:
    once = insert(connection, schema.batch).values(id=batch_id, at=time.time()).on_conflict_do_nothing()
    options = {"preserve_rowcount": True}  # of an insert, not every driver tells it unasked
    return connection.execute(once, execution_options=options).rowcount > 0
