"""The store on PostgreSQL, for several hosts: the same claims where another database might answer otherwise."""

from __future__ import annotations

import math
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import func, select

from monitoring.cells import Total, Totals
from monitoring.cells.layout import Header
from monitoring.store import database as module
from monitoring.store import health, requests, rollups, schema, usage
from monitoring.store.database import Database, FactRefused, StoreUnusable
from monitoring.store.facts import ActivityFact, ErrorFact, EventFact, OperationFact, RequestFact, SpanFact
from monitoring.store.health import CheckState
from monitoring.store.leases import SECONDS, Lease, LeaseLost
from monitoring.store.requests import RequestFilter
from monitoring.store.retention import Retention, trim
from monitoring.store.rollups import DAY, HOUR, MINUTE, RollupWriter
from monitoring.store.writer import FactWriter
from tests.cells.support import Forked, in_child
from tests.store.test_rollups import JOBS
from tests.store.test_rollups import SECONDS as JOB_SECONDS
from tests.support.components import unavailable
from tests.support.postgresql import postgresql

NOW = 1_800_057_600.0
REQUEST = RequestFact(
    at=NOW,
    request_id="r1",
    trace_id="t",
    method="GET",
    route="/",
    path="/",
    status=200,
    outcome="ok",
    duration_seconds=0.1,
    reason="slow",
    user="alice",
    spans=(SpanFact("db", "SELECT", "ok", 0.0, 0.1),) * 2,
    lines=(b'{"event":"a"}',),
)
ERROR = ErrorFact(NOW, ("k1", "k2"), "app", "error", "KeyError", "KeyError", "app.load", message="'x'")
OPERATION = OperationFact("o1", "generate", NOW, deadline_at=NOW + 60)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The database of a server that runs for these tests."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        unavailable("the module 'psycopg' is not installed; install monitoring-kit[postgres].")
    with postgresql() as url:
        yield url


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """An empty store on that server."""
    engine = sqlalchemy.create_engine(url)
    schema.metadata.drop_all(engine)
    engine.dispose()
    database = Database(url)
    yield database
    database.close()


def count(database: Database, table: sqlalchemy.Table) -> int:
    """Return how many rows a table has."""
    with database.reading() as connection:
        return int(connection.scalar(select(func.count()).select_from(table)) or 0)


def totals(**jobs: float) -> Totals:
    """Return the sums of a service that has done these jobs, each in a tenth of a second."""
    found = Totals(living=[Header(1, 0.0, "generation", "")])
    for kind, number in jobs.items():
        found.metric(JOBS).series[(kind,)] = Total(number)
        if not math.isfinite(number):
            continue
        pages = {12: [number, *[0.0] * 31]}
        found.metric(JOB_SECONDS).series[(kind,)] = Total(number / 10, pages)
    return found


def test_eight_processes_that_start_at_once_leave_one_schema(database: Database, url: str) -> None:
    """None fails, and there is one key that users are hashed with."""

    def work() -> str:
        with Database(url).reading() as connection:
            key = select(schema.meta.c.value).where(schema.meta.c.key == "user_key")
            return str(connection.scalar(key))

    workers = [Forked(work) for _ in range(8)]
    try:
        assert len({worker.answer() for worker in workers}) == 1
    finally:
        for worker in workers:
            worker.kill()


def test_a_forked_child_opens_connections_of_its_own(database: Database) -> None:
    """Two processes on one connection would read each other's answers."""
    writer = FactWriter(database, "host:1")
    writer.write("b1", [REQUEST])
    assert in_child(lambda: FactWriter(database, "host:2").write("b2", [REQUEST])) is None
    writer.write("b3", [REQUEST])
    assert count(database, schema.request) == 3


def test_facts_are_written_once(database: Database) -> None:
    """All kinds of them, in batches that come again."""
    facts = [REQUEST, ERROR, EventFact(NOW, "e", "alice", 1.5), OPERATION, ActivityFact("2027-01-15", "alice")]
    for _ in range(2):
        FactWriter(database, "host:1").write("b1", facts)
    for table in (schema.request, schema.error_event, schema.event, schema.operation, schema.activity):
        assert count(database, table) == 1
    assert count(database, schema.span) == 2
    with database.reading() as connection:
        detail = requests.read(connection, "r1")
    assert detail is not None
    assert [len(detail.spans), len(detail.lines)] == [2, 1]


def test_a_number_that_it_does_not_take_is_refused(database: Database) -> None:
    """SQLite takes any; here it is the fact that is wrong and not the store."""
    with pytest.raises(FactRefused):
        FactWriter(database, "host:1").write("b1", [replace(REQUEST, status=2**40)])
    assert count(database, schema.request) == 0


def test_a_request_for_a_path_with_a_nul_is_kept_and_can_be_asked_for(database: Database) -> None:
    """The server takes no NUL, in a row or in a question, and anybody can send ``%00``."""
    FactWriter(database, "host:1").write("b1", [replace(REQUEST, path="/\0", route="\0")])
    with database.reading() as connection:
        (found,) = requests.find(connection, RequestFilter(since=NOW - 1, until=NOW + 1, route="\0"))
        detail = requests.read(connection, found.request_id)
    assert detail is not None
    assert (found.route, detail.path) == ("\N{REPLACEMENT CHARACTER}", "/\N{REPLACEMENT CHARACTER}")


def test_ids_of_other_types_are_stored_as_their_text(database: Database) -> None:
    """As on SQLite: apps have them as numbers and UUIDs."""
    given: Any = (7, uuid.UUID(int=7))
    FactWriter(database, "host:1").write("b1", [replace(OPERATION, id=id, name=id) for id in given])
    with database.reading() as connection:
        found = connection.execute(select(schema.operation.c.id, schema.operation.c.name)).all()
    assert {tuple(row) for row in found} == {(str(one), str(one)) for one in given}


def test_processes_that_write_requests_at_once_number_them_once(database: Database) -> None:
    """Each in transactions of its own."""

    def write(name: str) -> None:
        for number in range(10):
            FactWriter(database, name).write(f"{name}-{number}", [REQUEST] * 5)

    threads = [threading.Thread(target=write, args=(f"host:{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (count(database, schema.request), count(database, schema.span)) == (200, 400)


def test_an_end_is_not_undone_and_an_overdue_operation_ends_once(database: Database) -> None:
    """The same upserts as on SQLite."""
    writer = FactWriter(database, "host:1")
    writer.write("b1", [replace(OPERATION, outcome="ok", duration_seconds=1.0), replace(OPERATION, id="o2")])
    writer.write("b2", [OPERATION])
    with database.writing() as connection:
        assert [one.name for one in usage.end_overdue(connection, NOW + 61)] == ["generate"]
    with database.writing() as connection:
        assert usage.end_overdue(connection, NOW + 61) == []


def test_of_many_that_want_a_free_lease_one_gets_it(database: Database) -> None:
    """At the same moment, from many connections: each epoch has one holder."""
    for turn in range(5):
        leases = [Lease("work", f"{number}") for number in range(8)]
        start = threading.Barrier(len(leases))

        def ask(lease: Lease, turn: int = turn, start: threading.Barrier = start) -> None:
            start.wait(10)
            with database.writing() as connection:
                lease.acquire(connection, NOW + turn * (SECONDS + 1))

        threads = [threading.Thread(target=ask, args=(lease,)) for lease in leases]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [lease.epoch for lease in leases if lease.epoch] == [turn + 1]


def test_nobody_takes_a_lease_over_while_its_holder_writes(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was allowed at the beginning of a transaction is so at its end."""
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.05)
    holder, next_one = Lease("work", "a"), Lease("work", "b")
    with database.writing() as connection:
        holder.acquire(connection, NOW)

    def take_over() -> None:
        with database.writing() as other:
            next_one.acquire(other, NOW + SECONDS + 1)

    with database.writing() as connection:
        holder.require(connection)
        with pytest.raises(StoreUnusable, match="lock"):
            take_over()
    take_over()
    with pytest.raises(LeaseLost), database.writing() as connection:
        holder.require(connection)


def test_roll_ups_are_what_was_counted(database: Database) -> None:
    """From two hosts, by the minute, the hour and the day, and after a change of holders."""
    for turn, host in enumerate(("one", "two", "one")):
        lease = Lease(f"host:{host}", f"{turn}")
        at = NOW + turn * HOUR
        with database.writing() as connection:
            lease.acquire(connection, at)
        writer = RollupWriter(database, host)
        writer.write(lease, totals(a=2.0 + 3 * turn, b=math.inf), at)
        writer.write(lease, totals(a=5.0 + 3 * turn), at + MINUTE)
    for _ in range(5):
        with database.writing() as connection:
            rollups.roll_up(connection, NOW + 2 * DAY)
    for step in (MINUTE, HOUR, DAY):
        with database.reading() as connection:
            (jobs,) = rollups.read(connection, JOBS.name, NOW, NOW + DAY, step)
            (seconds, *_) = rollups.read(connection, JOB_SECONDS.name, NOW, NOW + DAY, step)
        assert jobs.sum().total == 19.0
        assert sum(seconds.sum().counts.values()) == seconds.sum().count == 19.0


def test_what_is_old_is_trimmed(database: Database) -> None:
    """By the same steps; there is no file to make smaller."""
    FactWriter(database, "host:1").write("b1", [REQUEST, ERROR, OPERATION, ActivityFact("2020-01-01", "alice")])
    with database.writing() as connection:
        health.note(connection, [CheckState("db", NOW, NOW, "pass", True, 0.1, "")])
    while trim(database, Retention(), NOW + 1_000 * DAY):
        pass
    for table in (schema.request, schema.span, schema.line, schema.operation, schema.activity, schema.health_state):
        assert count(database, table) == 0
    assert (count(database, schema.error_group), count(database, schema.error_key)) == (0, 0)
    assert database.size_bytes() == 0


def test_a_read_that_takes_too_long_is_interrupted(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the server."""
    monkeypatch.setattr(module, "READ_SECONDS", 0.05)
    with pytest.raises(StoreUnusable, match="statement timeout"), database.reading() as connection:
        connection.exec_driver_sql("SELECT pg_sleep(60)")


def test_a_server_that_is_not_there_is_unusable() -> None:
    """The message is the driver's, and the next use tries again."""
    database = Database("postgresql+psycopg://monitoring@127.0.0.1:1/postgres")
    for _ in range(2):
        with pytest.raises(StoreUnusable, match="OperationalError"), database.reading():
            pass
