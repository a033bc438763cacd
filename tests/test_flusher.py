"""The flusher: facts are written once, jobs run under their leases, and nothing that fails holds up the rest."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from monitoring.cells import Declaration
from monitoring.flusher import Flusher, Job
from monitoring.jobs import RollUps
from monitoring.metrics import Metrics
from monitoring.outbox import Outbox
from monitoring.store import database as database_module
from monitoring.store import leases, rollups, schema
from monitoring.store.database import Database, StoreUnusable
from monitoring.store.facts import EventFact, RequestFact
from monitoring.store.leases import SECONDS, Lease, LeaseLost
from monitoring.system_resources import SystemResources
from monitoring.testing import FakeClock
from tests.cells.support import Forked, count, sharing
from tests.support.processes import poll

JOBS = Declaration(name="jobs_total", kind="counter", help="Jobs done.", labels=("kind",))


class World:
    """A store and what the flushers of a test were told and did."""

    def __init__(self, place: Path) -> None:
        self.database = Database(str(place))
        self.clock = FakeClock()
        self.outbox = Outbox()
        self.ran: list[str] = []
        self.failures: list[tuple[str, Exception]] = []

    def job(self, name: str, seconds: float = 1.0, lease: Any = "", *, final: bool = False) -> Job:
        """Return a job that notes that it ran."""
        return Job(name, lambda lease, now: self.ran.append(name), seconds, lease, final)

    def failing(self, name: str, error: Exception, lease: Any = "") -> Job:
        """Return a job that raises."""

        def fail(lease: Lease, now: float) -> None:
            self.ran.append(name)
            raise error

        return Job(name, fail, 1.0, lease)

    def flusher(self, *jobs: Job, host: str = "host", outbox: Outbox | None = None, **options: Any) -> Flusher:
        """Return a flusher that reports to this world."""
        return Flusher(
            self.database,
            self.outbox if outbox is None else outbox,
            jobs,
            host=host,
            on_failure=lambda part, error: self.failures.append((part, error)),
            clock=self.clock,
            **options,
        )

    def events(self) -> list[str]:
        """Return the events in the store."""
        with self.database.reading() as connection:
            return list(connection.scalars(select(schema.event.c.name).order_by(schema.event.c.id)))

    def turns(self) -> list[str]:
        """Return what ran since the last time."""
        ran, self.ran = self.ran, []
        return ran


@pytest.fixture
def world(tmp_path: Path) -> Any:
    """A store that nobody has used."""
    world = World(tmp_path / "store")
    yield world
    world.database.close()


# Facts


def test_facts_are_written(world: World) -> None:
    """All that waits, in batches, in one round."""
    for number in range(2_500):
        world.outbox.put(EventFact(0.0, f"{number}"))
    flusher = world.flusher()
    flusher.flush()
    assert world.events() == [f"{number}" for number in range(2_500)]
    assert (len(world.outbox), flusher.failing, flusher.last_flush_at) == (0, "", world.clock())


def test_facts_survive_a_store_that_cannot_be_used_for_a_while(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round says so, and in the end each fact is there once."""
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 0.01)
    flusher = world.flusher(world.job("own"), world.job("leased", lease="store"))
    world.database.close()
    Path(str(world.database.path)).parent.mkdir()
    with closing(sqlite3.connect(str(world.database.path), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for number in range(3):
            world.outbox.put(EventFact(0.0, f"{number}"))
            flusher.flush()
            assert "locked" in flusher.failing
            world.clock.advance(1)
    assert [part for part, _ in world.failures] == ["store"] * 3
    assert world.turns() == ["own"] * 3
    flusher.flush()
    assert world.events() == ["0", "1", "2"]
    assert (flusher.failing, world.turns()) == ("", ["own", "leased"])


def test_a_batch_of_which_no_news_came_is_written_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection broke after the commit."""
    flusher = world.flusher()
    write = flusher._writer.write

    def losing_the_answer(batch_id: str, facts: Any) -> None:
        write(batch_id, facts)
        raise StoreUnusable("connection lost")

    world.outbox.put(EventFact(0.0, "once"))
    with monkeypatch.context() as patched:
        patched.setattr(flusher._writer, "write", losing_the_answer)
        flusher.flush()
    flusher.flush()
    assert world.events() == ["once"]


@pytest.mark.parametrize(
    "bad",
    [
        RequestFact(0.0, "r", "", "GET", "/", "/", 200, "ok", math.nan, "slow"),
        RequestFact(0.0, "r", "", "GET", "/", "/", 200, "ok", 1.0, "slow", bytes_sent=2**70),
        RequestFact(0.0, "r", "", "GET", "/", "/", 200, "ok", 1.0, "slow", lines=(b'not json "user"',)),
        EventFact(0.0, "bad", value=object()),  # type: ignore[arg-type]
    ],
    ids=["not a number", "too large", "no line", "no value"],
)
def test_a_fact_that_no_store_takes_holds_up_no_other(world: World, bad: Any) -> None:
    """It is left out and reported; those before and after it, and the jobs, go on."""
    for fact in (EventFact(0.0, "before"), bad, EventFact(0.0, "after")):
        world.outbox.put(fact)
    flusher = world.flusher(world.job("leased", lease="store"))
    flusher.flush()
    assert world.events() == ["before", "after"]
    assert [part for part, _ in world.failures] == ["facts"]
    assert world.turns() == ["leased"]
    world.outbox.put(EventFact(0.0, "later"))
    flusher.flush()
    assert world.events() == ["before", "after", "later"]


def test_what_a_job_reports_is_written_in_the_same_round(world: World) -> None:
    """Sinks hand over what they gathered first."""
    gather = Job("gather", lambda lease, now: world.outbox.put(EventFact(now, "gathered")), 1.0)
    world.flusher(gather).flush()
    assert world.events() == ["gathered"]


def test_users_are_kept_where_the_app_says_so(world: World) -> None:
    """``hash_users=False`` reaches the writer."""
    world.outbox.put(EventFact(0.0, "event", "alice"))
    world.flusher(hash_users=False).flush()
    with world.database.reading() as connection:
        assert connection.scalar(select(schema.event.c.user)) == "alice"


# Jobs


def test_a_job_runs_at_its_interval(world: World) -> None:
    """At once, and then when its time has come."""
    flusher = world.flusher(world.job("often", 1.0), world.job("rarely", 5.0))
    turns = []
    for _ in range(6):
        flusher.flush()
        turns.append(world.turns())
        world.clock.advance(1)
    assert turns == [["often", "rarely"], *[["often"]] * 4, ["often", "rarely"]]


def test_a_job_with_a_lease_runs_in_one_process(world: World) -> None:
    """The other has it only when the first is gone."""
    first, second = (world.flusher(world.job(name, lease="store")) for name in ("first", "second"))
    second.process = second._leases["store"].owner = "host:other"
    for _ in range(3):
        first.flush()
        second.flush()
        world.clock.advance(1)
    assert world.turns() == ["first"] * 3
    assert (first.holds("store"), second.holds("store")) == (True, False)
    world.clock.advance(SECONDS)
    second.flush()
    assert world.turns() == ["second"]
    first.flush()
    assert (first.holds("store"), world.turns()) == (False, [])


def test_the_lease_of_a_host_is_its_own(world: World) -> None:
    """Each host has a process that rolls up, and one of all keeps house."""
    jobs = [
        world.flusher(world.job(f"{host} host", lease="host"), world.job(f"{host} store", lease="store"), host=host)
        for host in ("a", "b")
    ]
    for flusher in jobs:
        flusher.flush()
    assert world.turns() == ["a host", "a store", "b host"]


def test_a_job_that_raises_is_reported_and_the_others_go_on(world: World) -> None:
    """And it has its turn again."""
    flusher = world.flusher(
        world.failing("bad", ZeroDivisionError()), world.job("good"), world.failing("worse", KeyError(), "store")
    )
    for _ in range(2):
        flusher.flush()
        world.clock.advance(1)
    assert world.turns() == ["bad", "good", "worse"] * 2
    assert [part for part, _ in world.failures] == ["bad", "worse"] * 2
    assert flusher.failing == ""


def test_a_job_that_the_store_fails_says_so(world: World) -> None:
    """Until a round succeeds."""
    flusher = world.flusher(world.failing("bad", StoreUnusable("full"), "store"))
    flusher.flush()
    assert (flusher.failing, [part for part, _ in world.failures]) == ("full", ["store"])


def test_a_job_that_lost_its_lease_is_no_failure(world: World) -> None:
    """Another process does it now; the jobs of that lease after it are left to that one, too."""
    flusher = world.flusher(
        world.failing("late", LeaseLost("store is held by another"), "store"), world.job("next", lease="store")
    )
    flusher.flush()
    assert (world.failures, flusher.holds("store")) == ([], False)
    assert world.turns() == ["late"]


def test_a_clock_that_is_set_back_stops_no_job(world: World) -> None:
    """By an hour: what was due in a minute is due now."""
    flusher = world.flusher(world.job("own", 60.0), world.job("leased", 60.0, "store"))
    flusher.flush()
    world.turns()
    world.clock.advance(-3600)
    flusher.flush()
    assert world.turns() == ["own", "leased"]
    world.clock.advance(1)
    flusher.flush()
    assert world.turns() == []


def test_a_holder_is_told_apart_from_its_job(world: World) -> None:
    """A job gets the lease that it runs under."""
    seen: list[tuple[str, int]] = []
    note: Callable[[Lease, float], None] = lambda lease, now: seen.append((lease.name, lease.epoch))  # noqa: E731
    world.flusher(Job("a", note, 1.0, "host"), Job("b", note, 1.0, "store"), Job("c", note, 1.0)).flush()
    assert seen == [("", 0), ("host:host", 1), ("store", 1)]


def test_flushing_all_makes_the_final_jobs_due(world: World) -> None:
    """So that a script or a test can read at once what was counted; the others keep their time."""
    flusher = world.flusher(
        world.job("final", 5.0, final=True), world.job("leased", 5.0, "host", final=True), world.job("other", 5.0)
    )
    flusher.flush()
    world.turns()
    flusher.flush_all()
    assert world.turns() == ["final", "leased"]


# The end


def test_finishing_writes_what_waits_and_runs_the_final_jobs(world: World) -> None:
    """Also what those leave in the outbox; others do not run."""
    gather = Job("gather", lambda lease, now: world.outbox.put(EventFact(now, "gathered")), 1.0, final=True)
    flusher = world.flusher(
        gather, world.job("last", lease="host", final=True), world.job("other"), world.job("leased", lease="store")
    )
    world.outbox.put(EventFact(0.0, "waiting"))
    flusher.finish()
    assert world.events() == ["waiting", "gathered"]
    assert world.turns() == ["last"]


def test_finishing_frees_the_leases(world: World) -> None:
    """The next process need not wait for them."""
    first, second = (
        world.flusher(world.job(name, lease="store"), world.job(f"{name} last", lease="host", final=True))
        for name in ("first", "second")
    )
    second._leases["store"].owner = second._leases["host"].owner = "host:other"
    first.flush()
    first.finish()
    assert not first.holds("store")
    world.turns()
    second.flush()
    assert world.turns() == ["second", "second last"]


def test_finishing_waits_for_the_lease_of_a_killed_holder_to_run_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody would roll up what the last process of a service counted."""
    monkeypatch.setattr("monitoring.flusher.time.sleep", world.clock.advance)
    killed, leaving = (world.flusher(world.job(name, lease="host", final=True)) for name in ("killed", "leaving"))
    leaving._leases["host"].owner = "host:other"
    killed.flush()
    world.turns()
    leaving.finish()
    assert world.turns() == ["leaving"]


def test_finishing_leaves_the_final_jobs_to_a_holder_that_lives(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """That one renews its lease in its next round, and rolls up what this process counted."""
    pauses: list[float] = []

    def one_second_passes(pause: float) -> None:
        pauses.append(pause)
        world.clock.advance(1.0)
        holder.flush()

    monkeypatch.setattr("monitoring.flusher.time.sleep", one_second_passes)
    holder, leaving = (world.flusher(world.job(name, lease="host", final=True)) for name in ("holder", "leaving"))
    leaving._leases["host"].owner = "host:other"
    holder.flush()
    world.turns()
    world.outbox.put(EventFact(0.0, "waiting"))
    leaving.finish()
    assert (world.turns(), world.events(), len(pauses)) == (["holder"], ["waiting"], 1)
    assert holder.holds("host")


def test_finishing_does_not_wait_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a clock stands still, the time is bounded by the pauses."""
    pauses: list[float] = []
    monkeypatch.setattr("monitoring.flusher.time.sleep", pauses.append)
    holder, leaving = (world.flusher(world.job(name, lease="host", final=True)) for name in ("holder", "leaving"))
    leaving._leases["host"].owner = "host:other"
    holder.flush()
    world.turns()
    leaving.finish()
    assert (world.turns(), sum(pauses)) == ([], pytest.approx(SECONDS + 0.5))


def test_finishing_over_a_store_that_cannot_be_used_raises_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process must be able to end."""

    def unusable() -> Any:
        raise StoreUnusable("gone")

    monkeypatch.setattr(world.database, "writing", unusable)
    world.outbox.put(EventFact(0.0, "waiting"))
    flusher = world.flusher()
    flusher.finish()
    assert flusher.failing == "gone"


# Two processes


def test_two_processes_write_each_fact_once_and_one_rolls_up(tmp_path: Path) -> None:
    """Of one service, with shared cells: the first is killed, the second goes on, and the numbers are whole."""
    database, rounds = Database(str(tmp_path / "store")), 5

    def work(name: str) -> None:
        world, registry = World(tmp_path / "store"), sharing(tmp_path / "cells")
        world.clock.now = 1_800_000_000.0
        roll_ups = RollUps(world.database, Metrics(registry).totals, SystemResources(str(tmp_path)), "host")
        flusher = world.flusher(Job("roll-ups", roll_ups.run, 1.0, "host"))
        for number in range(rounds):
            world.outbox.put(EventFact(world.clock(), f"{name} {number}"))
            count(registry, kind=name)
            flusher.flush()
        (tmp_path / f"done {name}").touch()
        poll((tmp_path / "killed").exists, "the end of the first")
        world.clock.advance(SECONDS + 1)
        flusher.flush()
        assert flusher.holds("host")

    first, second = Forked(lambda: work("first")), Forked(lambda: work("second"))
    try:
        poll(lambda: len(list(tmp_path.glob("done *"))) == 2, "both to have done their part")
        first.kill()
        (tmp_path / "killed").touch()
        second.answer()
    finally:
        second.kill()
    with database.reading() as connection:
        events = sorted(connection.scalars(select(schema.event.c.name)))
        series = rollups.read(connection, JOBS.name, 1_800_000_000.0, 1_800_000_100.0)
        held = leases.holder(connection, "host:host", 1_800_000_004.0)
    database.close()
    assert events == sorted(f"{name} {number}" for name in ("first", "second") for number in range(rounds))
    assert {one.labels["kind"]: one.sum().total for one in series} == {"first": rounds, "second": rounds}
    assert held == f"host:{second.pid}"
