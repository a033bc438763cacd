"""Writing facts: once, whole or not at all, and without the names of users."""

from __future__ import annotations

import enum
import math
import uuid
from dataclasses import replace
from typing import Any

import orjson
import pytest
from sqlalchemy import func, select

from monitoring.store import schema
from monitoring.store.database import Database, StoreUnusable
from monitoring.store.facts import (
    ActivityFact,
    ErrorFact,
    EventFact,
    Fact,
    OperationFact,
    RequestFact,
    SpanFact,
)
from monitoring.store.writer import FactWriter, hashed, user_key

AT = 1_800_000_000.0
ALICE = "alice@example.org"

REQUEST = RequestFact(
    at=AT,
    request_id="r1",
    trace_id="t1",
    method="GET",
    route="/items/{id}",
    path="/items/7",
    status=500,
    outcome="server_error",
    duration_seconds=0.25,
    reason="error",
    user=ALICE,
    db_calls=2,
    db_seconds=0.1,
    spans=(
        SpanFact("span", "load", "ok", 0.01, 0.2, detail={"user": ALICE, "size": 3}),
        SpanFact("db", "SELECT items", "ok", 0.02, 0.1, 0, {"statement": "SELECT ?", "rows": 1}),
    ),
    spans_dropped=4,
    lines=(
        b'{"event":"loading","user_id":"alice@example.org"}\n',
        b'{"event":"request","user_id":"alice@example.org","context":{"user_ids":[1]}}\n',
        b'{"event":"plain"}\n',
    ),
)
ERROR = ErrorFact(
    at=AT,
    keys=("k1",),
    category="app",
    level="error",
    type="KeyError",
    title="KeyError: 'x'",
    culprit="app.load",
    message="'x'",
    user=ALICE,
    context={"user_id": ALICE, "order": 7},
)
EVENT = EventFact(AT, "export", ALICE, 2.5, {"format": "pdf", "user": ALICE}, "r1")
BEGUN = OperationFact("o1", "generate", AT, user=ALICE, deadline_at=AT + 60, dimensions={"funder": "NSF"})
ENDED = replace(BEGUN, outcome="ok", duration_seconds=2.0)
ACTIVITY = ActivityFact("2027-01-15", ALICE, "", 2)
ALL: list[Fact] = [REQUEST, ERROR, EVENT, ENDED, ACTIVITY]


class Format(enum.Enum):
    """An enum as apps have them."""

    PDF = 1


@pytest.fixture
def writer(database: Database) -> FactWriter:
    """The writer of one process."""
    return FactWriter(database, "host:1")


def rows(database: Database, table: Any) -> list[Any]:
    """Return the rows of a table."""
    with database.reading() as connection:
        return list(connection.execute(select(table)).mappings())


def count(database: Database, table: Any) -> int:
    """Return how many rows a table has."""
    with database.reading() as connection:
        return int(connection.scalar(select(func.count()).select_from(table)) or 0)


def everything(database: Database) -> str:
    """Return all that is in the store, as text."""
    return "\n".join(
        str(list(row.values())) for table in schema.metadata.tables.values() for row in rows(database, table)
    )


def test_a_request_is_written_with_its_spans_and_lines(database: Database, writer: FactWriter) -> None:
    """In their order, and under its number."""
    writer.write("b1", [replace(REQUEST, request_id="r0", spans=(), lines=()), REQUEST])
    first, second = rows(database, schema.request)
    assert [first["request_id"], second["request_id"]] == ["r0", "r1"]
    assert (second["route"], second["status"], second["duration_seconds"]) == ("/items/{id}", 500, 0.25)
    assert (second["db_calls"], second["spans_dropped"], second["process"]) == (2, 4, "host:1")
    spans, lines = rows(database, schema.span), rows(database, schema.line)
    assert [(span["request"], span["seq"], span["kind"], span["parent"]) for span in spans] == [
        (second["id"], 0, "span", -1),
        (second["id"], 1, "db", 0),
    ]
    assert orjson.loads(spans[1]["detail"]) == {"statement": "SELECT ?", "rows": 1}
    assert [(line["request"], orjson.loads(line["text"])["event"]) for line in lines] == [
        (second["id"], event) for event in ("loading", "request", "plain")
    ]


def test_a_batch_that_comes_again_is_written_once(database: Database, writer: FactWriter) -> None:
    """Also by another process: nobody knows whether the first try was committed."""
    writer.write("b1", ALL)
    writer.write("b1", ALL)
    FactWriter(database, "host:2").write("b1", ALL)
    for table in (schema.request, schema.error_event, schema.event, schema.operation, schema.activity):
        assert count(database, table) == 1
    assert rows(database, schema.activity)[0]["count"] == 2
    writer.write("b2", ALL)
    assert count(database, schema.request) == 2


def test_a_batch_that_fails_is_not_written(database: Database, writer: FactWriter) -> None:
    """Not a part of it, and the same batch without the bad fact can be written afterwards."""
    with pytest.raises(StoreUnusable):
        writer.write("b1", [EVENT, replace(REQUEST, duration_seconds=math.nan)])
    assert count(database, schema.event) == count(database, schema.batch) == 0
    writer.write("b1", [EVENT])
    assert count(database, schema.event) == 1


def test_a_text_that_no_database_takes_is_mended(database: Database, writer: FactWriter) -> None:
    """A NUL and half a character are replaced, wherever they stand: nothing else of the fact is lost."""
    writer.write("b1", [replace(REQUEST, path="/\0", route="/\ud800"), replace(EVENT, name="a\0b")])
    (request,), (event,) = rows(database, schema.request), rows(database, schema.event)
    assert (request["path"], request["route"], event["name"]) == ("/\ufffd", "/?", "a\ufffdb")


def test_names_and_ids_of_other_types_are_stored_as_their_text(database: Database, writer: FactWriter) -> None:
    """Apps have them as enums, UUIDs and numbers; a driver that cannot bind one would hold up the store for ever."""
    given: Any = (Format.PDF, uuid.UUID(int=7), 7)
    writer.write("b1", [replace(EVENT, name=name) for name in given])
    writer.write("b2", [replace(ENDED, id=id, name=id) for id in given])
    texts = [str(one) for one in given]
    assert [row["name"] for row in rows(database, schema.event)] == texts
    assert [(row["id"], row["name"]) for row in rows(database, schema.operation)] == list(zip(texts, texts))


def test_no_user_is_in_the_store(database: Database, writer: FactWriter) -> None:
    """Not of a request, its spans and lines, nor of errors, events, operations and activity."""
    writer.write("b1", ALL)
    assert ALICE not in everything(database)


def test_a_user_is_the_same_hash_everywhere(database: Database, writer: FactWriter) -> None:
    """So that what one user did can be found."""
    writer.write("b1", ALL)
    with database.reading() as connection:
        alice = hashed(ALICE, user_key(connection))
    for table in (schema.request, schema.error_event, schema.event, schema.operation, schema.activity):
        assert [row["user"] for row in rows(database, table)] == [alice]
    assert orjson.loads(rows(database, schema.span)[0]["detail"]) == {"user": alice, "size": 3}
    assert [orjson.loads(row["text"]).get("user_id") for row in rows(database, schema.line)] == [alice, alice, None]
    assert orjson.loads(rows(database, schema.event)[0]["dimensions"]) == {"format": "pdf", "user": alice}
    assert orjson.loads(rows(database, schema.error_event)[0]["context"]) == {"user_id": alice, "order": 7}


def test_another_store_has_another_hash(database: Database, tmp_path: Any) -> None:
    """Users of two stores cannot be matched."""
    other = Database(str(tmp_path / "other"))
    with database.reading() as one, other.reading() as two:
        assert hashed(ALICE, user_key(one)) != hashed(ALICE, user_key(two))
    other.close()


def test_nobody_is_not_hashed(database: Database, writer: FactWriter) -> None:
    """No user stays no user."""
    writer.write("b1", [replace(REQUEST, user="", lines=()), replace(EVENT, user="", dimensions={"user": ""})])
    assert rows(database, schema.request)[0]["user"] == rows(database, schema.event)[0]["user"] == ""
    assert orjson.loads(rows(database, schema.event)[0]["dimensions"]) == {"user": ""}


def test_users_can_be_kept(database: Database) -> None:
    """``hash_users=False``: for whoever must find a user by name. Lines stay as they were written."""
    FactWriter(database, "host:1", hash_users=False).write("b1", ALL)
    for table in (schema.request, schema.error_event, schema.event, schema.operation, schema.activity):
        assert [row["user"] for row in rows(database, table)] == [ALICE]
    assert [row["text"] for row in rows(database, schema.line)] == [line.decode().strip() for line in REQUEST.lines]
    assert orjson.loads(rows(database, schema.span)[0]["detail"])["user"] == ALICE


def test_an_end_replaces_its_beginning(database: Database, writer: FactWriter) -> None:
    """In one batch or in two."""
    writer.write("b1", [BEGUN, replace(BEGUN, id="o2"), replace(ENDED, id="o2")])
    writer.write("b2", [ENDED])
    found = {row["id"]: (row["outcome"], row["duration_seconds"]) for row in rows(database, schema.operation)}
    assert found == {"o1": ("ok", 2.0), "o2": ("ok", 2.0)}


def test_an_end_is_not_undone_by_its_late_beginning(database: Database, writer: FactWriter) -> None:
    """Another process wrote the end first."""
    writer.write("b1", [ENDED])
    writer.write("b2", [BEGUN])
    assert [row["outcome"] for row in rows(database, schema.operation)] == ["ok"]


def test_activity_of_a_day_adds_up(database: Database, writer: FactWriter) -> None:
    """Over batches, within one, and over processes."""
    writer.write("b1", [ACTIVITY, ACTIVITY])
    FactWriter(database, "host:2").write("b2", [ACTIVITY, replace(ACTIVITY, feature="export", count=1)])
    found = {row["feature"]: row["count"] for row in rows(database, schema.activity)}
    assert found == {"": 6, "export": 1}


def test_odd_values_of_dimensions_are_written(database: Database, writer: FactWriter) -> None:
    """What JSON does not know becomes something that it knows."""
    odd: Any = {"nan": math.nan, "lone": "\ud800", "bytes": b"\xff", "deep": {"set": {1}}, 5: "five"}
    writer.write("b1", [replace(EVENT, dimensions=odd)])
    dimensions = orjson.loads(rows(database, schema.event)[0]["dimensions"])
    assert dimensions == {"nan": None, "lone": "?", "bytes": "\ufffd", "deep": {"set": [1]}, "5": "five"}


def test_what_was_written_before_stays_when_a_batch_comes_with_nothing(database: Database, writer: FactWriter) -> None:
    """An empty batch is a batch."""
    writer.write("b1", [EVENT])
    writer.write("b2", [])
    assert count(database, schema.event) == 1
