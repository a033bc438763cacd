"""The jobs of the background: what each does in its turn, and that none holds up another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
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
from monitoring.testing import FakeClock, use
from tests.support.filled import Periods
from tests.support.processes import poll

NOW = 1_800_000_000.0


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Monitoring]:
    """A Monitoring with an empty store."""
    with use(store=str(tmp_path / "store")) as made:
        yield made


def held(made: Monitoring, name: str = "store") -> Lease:
    """Return a lease that this process holds."""
    lease = Lease(name, "test")
    with made.open_database().writing() as connection:
        assert lease.acquire(connection, NOW)
    return lease


class Checked:
    """Checks, their history, and rounds of the job at times that a test gives."""

    def __init__(self, made: Monitoring, function: Callable[[], object], interval_seconds: float = 10.0) -> None:
        self.made, self.clock = made, FakeClock(NOW)
        self.checks = HealthChecks(unix_clock=self.clock)
        self.checks.add("database", function, critical=True, interval_seconds=interval_seconds)
        self.job = CheckHistory(made.open_database(), self.checks)
        self.lease = held(made)

    def round(self, now: float) -> None:
        """Do one round at a time."""
        self.clock.now = now
        self.job.run(self.lease, now)

    def states(self, now: float) -> list[tuple[str, str]]:
        """Return how the checks stand."""
        with self.made.open_database().reading() as connection:
            return [(state.name, state.status) for state in health.latest(connection, now)]


def _fails() -> None:
    raise ConnectionError("gone")


def test_what_a_check_found_is_noted(made: Monitoring) -> None:
    """Nothing before it has run."""
    release = threading.Event()
    checked = Checked(made, lambda: release.wait(10) and None)
    checked.round(NOW)
    assert checked.states(NOW) == []
    release.set()
    poll(checked.checks.known, "the check")
    checked.round(NOW + 1)
    checked.checks.stop()
    assert checked.states(NOW + 1) == [("database", "pass")]


def test_a_check_that_runs_rarely_stands_in_between(made: Monitoring) -> None:
    """One that failed an hour ago and is not due yet is a failing one."""
    checked = Checked(made, _fails, interval_seconds=86_400)
    checked.checks.report()
    for seconds in range(0, 3_600, 20):
        checked.round(NOW + seconds)
    checked.checks.stop()
    assert checked.states(NOW + 3_600) == [("database", "fail")]
    with made.open_database().reading() as connection:
        (state,) = health.history(connection, "database", NOW)
    assert (state.since, state.until > NOW + 3_500, state.output) == (NOW, True, "ConnectionError: gone")


def test_a_check_that_runs_no_more_is_not_known_to_stand(made: Monitoring) -> None:
    """Its last state ends where it was seen last."""
    checked = Checked(made, lambda: None)
    checked.checks.report()
    checked.checks.start = lambda: None  # type: ignore[method-assign]
    for seconds in range(0, 3_600, 20):
        checked.round(NOW + seconds)
    assert checked.states(NOW + 3_600) == []


def test_checks_are_not_noted_by_who_lost_the_lease(made: Monitoring) -> None:
    """Another process notes them now."""
    checked = Checked(made, lambda: None)
    checked.checks.report()
    with made.open_database().writing() as connection:
        assert Lease("store", "other").acquire(connection, NOW + 10)
    with pytest.raises(LeaseLost):
        checked.round(NOW + 11)
    checked.checks.stop()
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
