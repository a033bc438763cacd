"""The jobs of the background: what each does in its turn, and that none holds up another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from monitoring import Monitoring, Rule, families
from monitoring.health_check import HealthChecks
from monitoring.jobs import CheckHistory, Counted, Housekeeping
from monitoring.metrics import REQUEST_DURATION
from monitoring.outbox import Outbox
from monitoring.store import health, rollups
from monitoring.store.facts import EventFact
from monitoring.store.leases import Lease, LeaseLost
from monitoring.store.retention import Retention
from monitoring.testing import use
from tests.support.filled import Periods

NOW = 1_800_000_000.0


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Monitoring]:
    """A Monitoring with an empty store."""
    with use(store=str(tmp_path / "store")) as made:
        yield made


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """A pool of one thread: after one more task, what was asked of it before is done."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def held(made: Monitoring, name: str = "store") -> Lease:
    """Return a lease that this process holds."""
    lease = Lease(name, "test")
    with made.open_database().writing() as connection:
        assert lease.acquire(connection, NOW)
    return lease


class Checked:
    """Checks, their history, and rounds of the job at times that a test gives."""

    def __init__(self, made: Monitoring, pool: ThreadPoolExecutor, function: Callable[[], object]) -> None:
        self.made, self.pool = made, pool
        checks = HealthChecks()
        checks.add("database", function, critical=True, interval_seconds=1e9)
        self.job = CheckHistory(made.open_database(), checks, pool)
        self.lease = held(made)

    def round(self, now: float) -> None:
        """Do one round, and wait for what it began."""
        self.job.run(self.lease, now)
        self.pool.submit(lambda: None).result()

    def states(self, now: float) -> list[tuple[str, str]]:
        """Return how the checks stand."""
        with self.made.open_database().reading() as connection:
            return [(state.name, state.status) for state in health.latest(connection, now)]


def test_a_check_is_noted_in_the_round_after_it_ran(
    made: Monitoring, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first round begins it, the second notes what it found."""
    monkeypatch.setattr("monitoring.health_check.time.time", lambda: NOW)
    checked = Checked(made, pool, lambda: None)
    checked.round(NOW)
    assert checked.states(NOW) == []
    checked.round(NOW + 1)
    assert checked.states(NOW + 1) == [("database", "pass")]


def test_a_check_that_runs_rarely_stands_in_between(
    made: Monitoring, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that failed an hour ago and is not due yet is a failing one."""
    monkeypatch.setattr("monitoring.health_check.time.time", lambda: NOW)

    def fails() -> None:
        raise ConnectionError("gone")

    checked = Checked(made, pool, fails)
    for seconds in range(0, 3_600, 20):
        checked.round(NOW + seconds)
    assert checked.states(NOW + 3_600) == [("database", "fail")]
    with made.open_database().reading() as connection:
        (state,) = health.history(connection, "database", NOW)
    assert (state.since, state.until > NOW + 3_500, state.output) == (NOW, True, "ConnectionError: gone")


def test_a_slow_check_holds_no_round_up(made: Monitoring, pool: ThreadPoolExecutor) -> None:
    """Rounds go on, and no second run begins."""
    go_on, runs = threading.Event(), []

    def slow() -> None:
        runs.append(1)
        go_on.wait(10)

    checks = HealthChecks()
    checks.add("slow", slow, timeout_seconds=30)
    job, lease = CheckHistory(made.open_database(), checks, pool), held(made)
    for second in range(5):
        job.run(lease, NOW + second)
    go_on.set()
    pool.submit(lambda: None).result()
    assert runs == [1]


def test_a_round_of_checks_that_failed_is_not_the_last(made: Monitoring, pool: ThreadPoolExecutor) -> None:
    """The failure is told, and the next round begins anew."""

    class Checks(HealthChecks):
        failures = 1

        def report(self):  # type: ignore[no-untyped-def]
            if self.failures:
                self.failures -= 1
                raise RuntimeError("no event loop")
            return super().report()

    checks = Checks()
    checks.add("database", lambda: None)
    job, lease = CheckHistory(made.open_database(), checks, pool), held(made)

    def round(now: float) -> None:
        job.run(lease, now)
        pool.submit(lambda: None).result()

    round(NOW)
    with pytest.raises(RuntimeError, match="no event loop"):
        round(NOW + 1)
    round(NOW + 2)
    round(NOW + 3)
    with made.open_database().reading() as connection:
        assert [state.name for state in health.latest(connection, NOW)] == ["database"]


def test_checks_are_not_noted_by_who_lost_the_lease(made: Monitoring, pool: ThreadPoolExecutor) -> None:
    """Another process notes them now."""
    checked = Checked(made, pool, lambda: None)
    checked.round(NOW)
    with made.open_database().writing() as connection:
        assert Lease("store", "other").acquire(connection, NOW + 10)
    with pytest.raises(LeaseLost):
        checked.round(NOW + 11)
    assert checked.states(NOW) == []


def test_what_was_dropped_is_counted_once(made: Monitoring) -> None:
    """However often the job runs."""
    outbox = Outbox(capacity=1)
    job = Counted(outbox, made.metrics.add)
    for _ in range(4):
        outbox.put(EventFact(NOW, "export"))
    for _ in range(3):
        job.run(Lease("", ""), NOW)
    assert made.metrics.totals().metrics[families.FACTS_DROPPED.name].series[()].value == 3


def test_housekeeping_makes_hours_of_minutes(made: Monitoring) -> None:
    """A bounded number of steps in a round, and the rest in the next ones."""
    periods = Periods(made)
    for hour in range(12):
        made.metrics.observe(REQUEST_DURATION, ("GET", "/x", "200", ""), 0.1)
        periods.roll_up(NOW + hour * 3_600)
    job, lease = Housekeeping(made.open_database(), Retention()), held(made)
    later = NOW + 14 * 3_600
    for _ in range(5):
        job.run(lease, later)
    with made.open_database().reading() as connection:
        (series,) = rollups.read(connection, REQUEST_DURATION.name, NOW, later, rollups.HOUR)
        assert rollups.roll_up(connection, later) is False
    assert [gained.count for gained in series.buckets.values()] == [1.0] * 12


def test_a_flush_makes_readable_what_was_counted_until_then(made: Monitoring) -> None:
    """Also when the last round was a moment ago."""
    for number in range(1, 4):
        made.metrics.observe(REQUEST_DURATION, ("GET", "/x", "200", ""), 0.1)
        made.flush()
        with made.open_database().reading() as connection:
            (series,) = rollups.read(connection, REQUEST_DURATION.name, 0, 1e11, rollups.DAY)
        assert series.sum().count == number


def test_the_store_goes_on_whatever_the_rules_are_about(tmp_path: Path) -> None:
    """Each rule of one's own is evaluated in a round, beside the default ones."""
    rule = Rule("busy", "request_rate", above=0.0, for_seconds=0)
    with use(store=str(tmp_path / "store"), rules=(rule,)) as made:
        made.metrics.observe(REQUEST_DURATION, ("GET", "/x", "200", ""), 0.1)
        made.flush()
        made.alerts.evaluate(made.background.flusher.last_flush_at)  # type: ignore[union-attr, arg-type]
        assert [row.rule for row in made.alerts.reports.open()] == ["busy"]
