"""Kept requests in the store: found by what they did, and read whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from monitoring.store import requests
from monitoring.store.database import Database
from monitoring.store.facts import RequestFact, SpanFact
from monitoring.store.requests import LIMIT, RequestFilter
from monitoring.store.writer import FactWriter

AT = 1_800_000_000.0
FACT = RequestFact(AT, "", "t", "GET", "/items/{id}", "/items/7", 200, "ok", 0.1, "sampled", user="alice")


@pytest.fixture
def filled(database: Database) -> Database:
    """A store with requests of all sorts."""
    query = SpanFact("db", "SELECT items", "ok", 0.01, 0.05, detail={"rows": 2})
    facts = [
        replace(FACT, request_id="plain"),
        replace(FACT, request_id="posted", method="POST", at=AT + 1),
        replace(FACT, request_id="other", route="/other", user="bob", at=AT + 2),
        replace(FACT, request_id="missing", status=404, outcome="client_error", at=AT + 3),
        replace(FACT, request_id="failed", status=503, outcome="server_error", error_group="v1:a", at=AT + 4),
        replace(FACT, request_id="slow", duration_seconds=3.0, spans=(query,), at=AT + 5),
        replace(FACT, request_id="asking", spans=(replace(query, kind="llm", name="chat m"), query), at=AT + 6),
    ]
    FactWriter(database, "host:1", hash_users=False).write("b", facts)
    return database


def find(database: Database, **wanted: Any) -> list[str]:
    """Return the IDs of the requests that fit."""
    given = {"since": AT, "until": AT + 100, **wanted}
    with database.reading() as connection:
        return [found.request_id for found in requests.find(connection, RequestFilter(**given))]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["asking", "slow", "failed", "missing", "other", "posted", "plain"]),
        ({"method": "POST"}, ["posted"]),
        ({"route": "/other"}, ["other"]),
        ({"status": "404"}, ["missing"]),
        ({"status": "5xx"}, ["failed"]),
        ({"status": "nonsense"}, []),
        ({"outcome": "server_error"}, ["failed"]),
        ({"min_seconds": 1.0}, ["slow"]),
        ({"user": "bob"}, ["other"]),
        ({"error_group": "v1:a"}, ["failed"]),
        ({"span_kind": "db"}, ["asking", "slow"]),
        ({"span_kind": "db", "span_name": "chat m"}, []),
        ({"span_kind": "llm", "span_name": "chat m"}, ["asking"]),
        ({"order": "slowest", "limit": 1}, ["slow"]),
        ({"since": AT + 3, "until": AT + 5}, ["failed", "missing"]),
        ({"route": "/items/{id}", "status": "2xx", "method": "GET"}, ["asking", "slow", "plain"]),
    ],
    ids=str,
)
def test_requests_are_found_by_what_they_did(filled: Database, wanted: dict[str, Any], found: list[str]) -> None:
    """Alone or together; the newest first, or the slowest."""
    assert find(filled, **wanted) == found


def test_a_list_is_bounded(database: Database) -> None:
    """Whatever limit is asked for; there is one more than is shown, to tell that there are more."""
    facts = [replace(FACT, request_id=f"r{number}") for number in range(LIMIT + 50)]
    FactWriter(database, "host:1").write("b", facts)
    assert len(find(database, limit=10_000)) == LIMIT + 1


def test_a_request_is_read_whole(database: Database) -> None:
    """With its spans and lines in their order, and what a list does not show."""
    spans = tuple(
        SpanFact("span", f"s{number}", "ok", number / 10, 0.1, number - 1, {"n": number}) for number in range(3)
    )
    fact = replace(FACT, request_id="r1", spans=spans, spans_dropped=7, bytes_sent=12, lines=(b'{"event":"a"}\n',))
    FactWriter(database, "host:1").write("b", [fact])
    with database.reading() as connection:
        detail = requests.read(connection, "r1")
        assert requests.read(connection, "r2") is None
    assert detail is not None
    assert (detail.trace_id, detail.path, detail.bytes_sent, detail.process) == ("t", "/items/7", 12, "host:1")
    assert [(span.name, span.parent, span.detail) for span in detail.spans] == [
        ("s0", -1, {"n": 0}),
        ("s1", 0, {"n": 1}),
        ("s2", 1, {"n": 2}),
    ]
    assert (detail.spans_dropped, detail.lines) == (7, ({"event": "a"},))
    assert (detail.request.request_id, detail.request.duration_seconds) == ("r1", 0.1)


def test_of_one_id_the_last_request_is_read(database: Database) -> None:
    """A client may send the same ID again."""
    FactWriter(database, "host:1").write("b", [replace(FACT, request_id="r1", path=path) for path in ("/a", "/b")])
    with database.reading() as connection:
        detail = requests.read(connection, "r1")
    assert detail is not None
    assert detail.path == "/b"
