"""Retention: what is too old goes, what is too much goes, in steps, and the disk has it back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select

from monitoring.store import retention, schema
from monitoring.store.database import Database
from monitoring.store.facts import ActivityFact, EventFact, FindingFact, OperationFact, RequestFact, SpanFact
from monitoring.store.retention import STEP, Retention, trim
from monitoring.store.rollups import DAY, HOUR, MINUTE
from monitoring.store.writer import FactWriter

NOW = 1_800_057_600.0
KEPT = Retention(facts_days=10, minutes_days=2, hours_days=30, alerts_days=20)


def request(number: int, at: float, size: int = 10) -> RequestFact:
    """Return a kept request with two spans and a line of so many bytes."""
    spans = tuple(SpanFact("db", "SELECT", "ok", 0.0, 0.1) for _ in range(2))
    line = b'{"event":"' + os.urandom(size // 2).hex().encode() + b'"}'
    common = {"trace_id": "", "method": "GET", "route": "/", "path": "/", "status": 200, "outcome": "ok"}
    return RequestFact(at, f"r{number}", **common, duration_seconds=0.1, reason="slow", spans=spans, lines=(line,))


def write(database: Database, batch: str, facts: list[Any]) -> None:
    """Write facts, by a batch of this test's time."""
    FactWriter(database, "host:1", hash_users=False).write(batch, facts)
    with database.writing() as connection:
        connection.execute(schema.batch.update().values(at=NOW))


def insert(database: Database, table: Any, rows: list[Mapping[str, Any]]) -> None:
    """Put rows into a table."""
    with database.writing() as connection:
        connection.execute(table.insert(), rows)


def values(database: Database, column: Any) -> list[Any]:
    """Return a column, sorted."""
    with database.reading() as connection:
        return sorted(connection.scalars(select(column)))


def trim_all(database: Database, kept: Retention = KEPT, now: float = NOW) -> int:
    """Trim until nothing goes any more; return the number of steps in which something went."""
    steps = 0
    while trim(database, kept, now):
        steps += 1
        assert steps < 500
    return steps


def test_nothing_goes_before_its_time(database: Database) -> None:
    """What is as old as it may be stays."""
    write(database, "b", [request(1, NOW - 9.9 * DAY), EventFact(NOW - 9.9 * DAY, "e"), OperationFact("o", "n", NOW)])
    insert(database, schema.rollup, [rollup(MINUTE, 1.9), rollup(HOUR, 29), rollup(DAY, 399)])
    assert trim(database, KEPT, NOW) == 0
    assert values(database, schema.request.c.request_id) == ["r1"]


def test_a_request_goes_with_its_spans_lines_and_findings(database: Database) -> None:
    """Those of the others stay."""
    found = FindingFact("slow", "SELECT t", "SELECT a FROM t", "app.py:1 in f", 1, 1.0)
    facts = [request(1, NOW - 11 * DAY), request(2, NOW - 11 * DAY), request(3, NOW)]
    write(database, "b", [replace(fact, findings=(found,)) for fact in facts])
    trim_all(database)
    (kept,) = values(database, schema.request.c.id)
    assert values(database, schema.span.c.request) == [kept, kept]
    assert values(database, schema.line.c.request) == [kept]
    assert values(database, schema.finding.c.request) == [kept]


def rollup(resolution: int, days: float, series: int = 1) -> dict[str, Any]:
    """Return a row of so many days ago."""
    bucket = int(NOW - days * DAY)
    return {"series": series, "resolution": resolution, "bucket": bucket, "host": "h", "count": 1, "total": 1}


def test_each_resolution_of_roll_ups_has_its_age(database: Database) -> None:
    """Minutes, hours and days: 2, 30 and 400."""
    insert(database, schema.series, [{"metric": "m", "labels": "{}", "kind": "counter", "unit": "seconds"}])
    rows = [
        rollup(resolution, days)
        for resolution, ages in ((MINUTE, (1, 3)), (HOUR, (3, 31)), (DAY, (31, 401)))
        for days in ages
    ]
    insert(database, schema.rollup, rows)
    trim_all(database)
    with database.reading() as connection:
        kept = connection.execute(select(schema.rollup.c.resolution, schema.rollup.c.bucket)).all()
    assert sorted(kept) == [(MINUTE, NOW - DAY), (HOUR, NOW - 3 * DAY), (DAY, NOW - 31 * DAY)]


def test_other_facts_go_by_age(database: Database) -> None:
    """Events, operations and activity."""
    old, older = NOW - 11 * DAY, NOW - 401 * DAY
    write(
        database,
        "b",
        [
            EventFact(old, "old"),
            EventFact(NOW, "new"),
            OperationFact("old", "n", old),
            OperationFact("new", "n", NOW),
            ActivityFact("2025-12-01", "old"),
            ActivityFact("2026-12-31", "new"),
        ],
    )
    insert(database, schema.batch, [{"id": "old", "at": NOW - 2 * DAY}, {"id": "new", "at": NOW}])
    counted = [{"group_id": "g", "bucket": int(bucket), "count": 1} for bucket in (older, old)]
    insert(database, schema.error_count, counted)
    trim_all(database)
    assert values(database, schema.event.c.name) == ["new"]
    assert values(database, schema.operation.c.id) == ["new"]
    assert values(database, schema.activity.c.user) == ["new"]
    assert "old" not in values(database, schema.batch.c.id)
    assert values(database, schema.error_count.c.bucket) == [old]


def test_a_group_goes_with_its_keys(database: Database) -> None:
    """So that an error that comes after a year makes a new group."""
    common = {"category": "c", "level": "error", "type": "t", "title": "t", "culprit": "", "why": "[]", "first_seen": 0}
    ages = {"old": NOW - 401 * DAY, "new": NOW}
    insert(database, schema.error_group, [{**common, "id": name, "last_seen": at} for name, at in ages.items()])
    insert(database, schema.error_key, [{"key": f"key of {name}", "group_id": name} for name in ages])
    trim_all(database)
    assert values(database, schema.error_key.c.key) == ["key of new"]


def test_a_resolved_episode_goes_with_its_timeline_and_notices(database: Database) -> None:
    """An open one stays however old it is, and so does what belongs to it."""
    old = NOW - 21 * DAY
    for name, resolved_at in (("old", old), ("open", None)):
        episode = dict.fromkeys(("rule_hash", "labels", "severity", "summary"), "")
        episode |= {"id": name, "rule": name, "state": "resolved" if resolved_at else "firing"}
        episode |= {"active_since": old, "evaluated_at": old, "resolved_at": resolved_at}
        insert(database, schema.episode, [episode])
        insert(database, schema.alert_event, [{"episode": name, "at": old, "what": "fired"}])
        notice = {"id": name, "channel": "c", "episode": name, "kind": "firing", "seq": 1, "body": "", "status": "sent"}
        insert(database, schema.notification, [{**notice, "created_at": old, "next_at": old}])
        tried = {"notification": name, "seq": 1, "at": old, "duration_seconds": 0.1, "outcome": "sent"}
        insert(database, schema.attempt, [tried])
    trim_all(database)
    for column in (
        schema.episode.c.id,
        schema.alert_event.c.episode,
        schema.notification.c.episode,
        schema.attempt.c.notification,
    ):
        assert values(database, column) == ["open"]


def test_steps_are_bounded(database: Database) -> None:
    """Nobody who writes waits for the whole of it."""
    for batch in range(5):
        write(database, f"b{batch}", [EventFact(NOW - 11 * DAY, "old") for _ in range(STEP // 2)])
    with database.writing() as connection:
        batches = [{"id": f"old{number}", "at": 0.0} for number in range(3 * STEP)]
        connection.execute(schema.batch.insert(), batches)
    before = len(values(database, schema.event.c.id)), len(values(database, schema.batch.c.id))
    trim(database, KEPT, NOW)
    after = len(values(database, schema.event.c.id)), len(values(database, schema.batch.c.id))
    assert (before[0] - after[0], before[1] - after[1]) == (STEP, STEP)
    trim_all(database)
    assert values(database, schema.event.c.id) == []


def test_requests_with_many_spans_go_in_smaller_steps(database: Database) -> None:
    """Their spans and lines are rows, too."""
    spans = tuple(SpanFact("db", "SELECT", "ok", 0.0, 0.1) for _ in range(100))
    write(database, "b", [RequestFact(0.0, "r", "", "GET", "/", "/", 200, "ok", 1.0, "slow", spans=spans)] * 200)
    removed = trim(database, KEPT, NOW)
    assert STEP <= removed <= STEP + 50 * 101
    trim_all(database)
    assert values(database, schema.span.c.seq) == []


def test_the_space_is_given_back(database: Database) -> None:
    """The file is smaller afterwards."""
    write(database, "b", [request(number, NOW - 11 * DAY, 4_000) for number in range(1_500)])
    assert database.path is not None
    with database.maintaining() as driver:
        driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    before = database.path.stat().st_size
    trim_all(database)
    with database.maintaining() as driver:
        driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert before > 5_000_000
    assert database.path.stat().st_size < before / 5


def test_a_store_that_is_too_large_loses_its_oldest_facts(database: Database) -> None:
    """Down to its size and not much further; the newest stay."""
    cap = 3_000_000
    for batch in range(6):
        write(database, f"b{batch}", [request(batch * 300 + number, NOW, 4_000) for number in range(300)])
    trim_all(database, Retention(max_bytes=cap))
    with database.writing() as connection:
        used = retention._used_bytes(connection)
    kept = values(database, schema.request.c.id)
    assert cap / 2 < used <= cap
    assert kept == list(range(1_801 - len(kept), 1_801))


def test_a_store_within_its_size_keeps_everything(database: Database) -> None:
    """Free pages are no reason to remove more."""
    write(database, "b", [request(number, NOW, 4_000) for number in range(300)])
    assert trim(database, Retention(max_bytes=10_000_000), NOW) == 0


def test_where_there_are_no_facts_the_oldest_roll_ups_go(database: Database) -> None:
    """Minutes first; hours stand in for them."""
    insert(database, schema.series, [{"metric": "m", "labels": "{}", "kind": "counter", "unit": "seconds"}])
    rows = [{**rollup(MINUTE, number / 600), "sketch": os.urandom(2_000)} for number in range(1_000)]
    insert(database, schema.rollup, [*rows, {**rollup(HOUR, 1.5), "sketch": None}])
    trim_all(database, Retention(max_bytes=1_500_000))
    with database.reading() as connection:
        kept = connection.execute(select(schema.rollup.c.resolution, func.count()).group_by(schema.rollup.c.resolution))
        assert dict(iter(kept)) == {MINUTE: pytest.approx(400, abs=350), HOUR: 1}
    with database.writing() as connection:
        assert retention._used_bytes(connection) <= 1_500_000


def test_old_roll_ups_are_found_by_their_key(database: Database) -> None:
    """Without looking at each row of the largest table, every quarter of a minute."""
    query = select(schema.rollup.c.bucket).where(retention._rollups_before(MINUTE, NOW))
    with database.reading() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query.compile(compile_kwargs={'literal_binds': True})}")
        steps = [row[3] for row in plan]
    assert any("SEARCH rollup USING PRIMARY KEY (series=? AND resolution=? AND bucket<?)" in step for step in steps)
