"""Analytics: users, features, events and operations, counted once over all days and processes."""

from __future__ import annotations

import asyncio
import contextvars
import datetime
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import monitoring
from monitoring import Monitoring, analytics, families, operations
from monitoring.analytics import Analytics
from monitoring.context import current_record
from monitoring.jobs import RollUps
from monitoring.observation import Observation, RequestRecord
from monitoring.recorder import Recorder
from monitoring.store.facts import Fact
from monitoring.store.leases import Lease
from monitoring.store.usage import OperationStats
from monitoring.store.writer import FactWriter
from monitoring.system_resources import SystemResources
from monitoring.testing import FakeClock, use
from tests.cells.support import in_child

NOON = datetime.datetime(2026, 3, 10, 12, tzinfo=datetime.UTC).timestamp()
DAY = 86_400.0


class World:
    """An app's analytics over a store, at a time of the test's choosing."""

    def __init__(self, current: Monitoring, folder: Path) -> None:
        self.monitoring = current
        self.clock = FakeClock(NOON)
        self.analytics = Analytics(current.outbox, current.metrics, current.open_database, clock=self.clock)
        self.recorder = Recorder([self.analytics], _raise)
        self._resources = SystemResources(str(folder))
        self._written = 0

    def request(self, user: str) -> None:
        """Let a request of a user end."""
        record = RequestRecord()
        record.user_id = user
        self.recorder.record(record)

    def feature(self, name: str, user: str = "") -> None:
        """Let a user use a feature."""
        self.recorder.record(Observation("event", name, "ok", 0.0, None, None, {"user": user, "feature": True}))

    def operation(self, name: str = "generate", **options: Any) -> operations.Operation:
        """Return an operation that reports here."""
        given = {key: options.pop(key) for key in ("user", "id", "deadline_seconds") if key in options}
        return operations.Operation(lambda: self.recorder, name, **given, dimensions=options)

    def begin(self, **options: Any) -> None:
        """Begin an operation that never ends."""
        contextvars.copy_context().run(self.operation(**options).__enter__)

    def write(self) -> None:
        """Write all facts and counts to the store."""
        self.analytics.flush()
        facts: list[Fact] = self.monitoring.outbox.take(100_000)
        database = self.monitoring.open_database()
        self._written += 1
        FactWriter(database, "host:1").write(f"{os.getpid()}-{self._written}", facts)
        lease = Lease("host:host", "host:1")
        with database.writing() as connection:
            lease.acquire(connection, self.clock())
        RollUps(database, self.monitoring.metrics.totals, self._resources, "host").run(lease, self.clock())
        with database.writing() as connection:
            lease.release(connection)

    def stats(self, name: str = "generate") -> OperationStats:
        """Return how the operations of a name ended."""
        (stats,) = [one for one in self.analytics.operations(NOON - DAY, NOON + DAY) if one.name == name]
        return stats

    def users(self) -> tuple[int, int, int]:
        """Return the active users of a day, a week and a month."""
        users = self.analytics.active_users()
        return users.day, users.week, users.month


def _raise(part: str, error: Exception) -> None:
    raise AssertionError(part) from error


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A store that nobody has used."""
    with use(store=str(tmp_path / "store"), log_destination=str(tmp_path / "lines.log")) as current:
        yield World(current, tmp_path)
        current.open_database().close()


def outcomes(stats: OperationStats) -> tuple[int, int, int, int]:
    """Return how many are ok, failed, abandoned and open."""
    return stats.ok, stats.failed, stats.abandoned, stats.open


# Operations


def test_operations_are_counted_by_outcome(world: World) -> None:
    """ok, failed by an exception, failed by word, and abandoned by cancellation."""
    for _ in range(5):
        with world.operation():
            pass
    with pytest.raises(LookupError), world.operation():
        raise LookupError
    with world.operation() as operation:
        operation.fail("no budget")
    with pytest.raises(asyncio.CancelledError), world.operation():
        raise asyncio.CancelledError
    world.write()
    stats = world.stats()
    assert outcomes(stats) == (5, 2, 1, 0)
    assert (stats.ended, stats.success_rate) == (8, 5 / 8)


def test_an_operation_is_open_until_it_ends(world: World) -> None:
    """It is in no rate before."""
    with world.operation():
        world.write()
        assert (outcomes(world.stats()), world.stats().success_rate) == ((0, 0, 0, 1), None)
    world.write()
    assert outcomes(world.stats()) == (1, 0, 0, 0)


def test_the_operation_of_a_process_that_died_is_abandoned_at_its_deadline(world: World) -> None:
    """Once, whoever looks, and with the values of its dimensions."""

    def begin() -> None:
        world.begin(deadline_seconds=60, funder="NSF")
        world.write()

    in_child(begin)
    assert outcomes(world.stats()) == (0, 0, 0, 1)
    world.analytics.abandon_overdue(NOON + 59)
    world.write()
    assert outcomes(world.stats()) == (0, 0, 0, 1)
    for _ in range(3):
        world.analytics.abandon_overdue(NOON + 61)
    world.write()
    assert outcomes(world.stats()) == (0, 0, 1, 0)
    (value,) = world.stats().dimensions["funder"]
    assert (value.name, value.abandoned) == ("NSF", 1)
    (row,) = world.analytics.latest_operations("generate", NOON - 1, NOON + 1, {})
    assert (row["outcome"], row["reason"], row["duration_seconds"]) == ("abandoned", "deadline", 60)


def test_an_operation_without_a_deadline_has_an_hour(world: World) -> None:
    """So that those of dead processes do not stay open for ever."""
    world.begin()
    world.write()
    world.analytics.abandon_overdue(NOON + analytics.DEADLINE_SECONDS - 1)
    world.write()
    assert outcomes(world.stats()) == (0, 0, 0, 1)
    world.analytics.abandon_overdue(NOON + analytics.DEADLINE_SECONDS + 1)
    world.write()
    assert outcomes(world.stats()) == (0, 0, 1, 0)


@pytest.mark.parametrize("looked", [False, True], ids=["before anybody looked", "after it was abandoned"])
@pytest.mark.parametrize("deadline", [60, None])
def test_an_operation_that_ends_too_late_has_one_outcome(
    world: World, monkeypatch: pytest.MonkeyPatch, deadline: float | None, looked: bool
) -> None:
    """It is abandoned, and not ok as well."""
    elapsed, late = [0.0], (deadline or analytics.DEADLINE_SECONDS) + 10
    monkeypatch.setattr(operations, "perf_counter", lambda: elapsed[0])
    with world.operation(deadline_seconds=deadline):
        world.write()
        elapsed[0] += late
        world.clock.advance(late)
        if looked:
            world.analytics.abandon_overdue(world.clock())
    world.write()
    world.analytics.abandon_overdue(world.clock())
    world.write()
    assert outcomes(world.stats()) == (0, 0, 1, 0)


def test_without_a_store_a_late_end_is_counted_where_it_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else would."""
    with use(log_destination=str(tmp_path / "lines.log")) as current:
        elapsed = [0.0]
        monkeypatch.setattr(operations, "perf_counter", lambda: elapsed[0])
        with monitoring.operation("generate", deadline_seconds=60):
            elapsed[0] += 61
        (series,) = current.metrics.snapshot()[families.OPERATION_DURATION.name].series
        assert (series.labels["outcome"], series.count) == ("abandoned", 1)


def test_the_time_to_complete_is_of_those_that_succeeded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 2 %; one that failed at once does not make it quicker."""
    elapsed = [0.0]
    monkeypatch.setattr(operations, "perf_counter", lambda: elapsed[0])
    for seconds in range(1, 101):
        with world.operation(deadline_seconds=3600):
            elapsed[0] += seconds
        with world.operation(deadline_seconds=3600) as operation:
            operation.fail("at once")
    world.write()
    assert (world.stats().p50_seconds, world.stats().p95_seconds) == (
        pytest.approx(50, rel=0.02),
        pytest.approx(95, rel=0.02),
    )


def test_dimensions_are_counted_by_value(world: World) -> None:
    """Each with outcomes and rate of its own, the most frequent first."""
    for funder, times in (("NSF", 3), ("NIH", 2)):
        for number in range(times):
            with world.operation(funder=funder, kind="long") as operation:
                if number == 0:
                    operation.fail("no budget")
    world.write()
    dimensions = world.stats().dimensions
    assert [(one.name, one.ok, one.failed, one.success_rate) for one in dimensions["funder"]] == [
        ("NSF", 2, 1, 2 / 3),
        ("NIH", 1, 1, 1 / 2),
    ]
    assert [(one.name, one.ended) for one in dimensions["kind"]] == [("long", 5)]


def test_values_of_a_dimension_are_capped(world: World) -> None:
    """What is past the cap is counted under ``(other)``, and nothing is lost."""
    for number in range(600):
        with world.operation(number=number):
            pass
    world.write()
    snapshot = world.monitoring.metrics.snapshot()[families.OPERATION_VALUE_DURATION.name]
    values = {series.labels["value"]: series.count for series in snapshot.series}
    assert (len(values), values["(other)"], sum(values.values())) == (501, 100, 600)
    (other,) = [one for one in world.stats().dimensions["number"] if one.name == "(other)"]
    assert (other.ok, world.stats().ok) == (100, 600)


def test_the_latest_operations_are_found_by_their_dimensions(world: World) -> None:
    """The newest first, each with its request."""
    for number, funder in enumerate(("NSF", "NIH", "NSF")):
        world.clock.advance(1)
        with world.operation(id=f"o{number}", funder=funder):
            pass
    world.write()

    def found(values: dict[str, str]) -> list[str]:
        return [row["id"] for row in world.analytics.latest_operations("generate", NOON, NOON + 60, values)]

    assert found({}) == ["o2", "o1", "o0"]
    assert found({"funder": "NSF"}) == ["o2", "o0"]
    assert found({"funder": "ERC"}) == []


# Users


def test_a_user_counts_once_however_long_the_time(world: World) -> None:
    """Not as a sum of days: the same user on seven days is one of the week."""
    for ago in range(40):
        world.clock.now = NOON - ago * DAY
        world.request("everyday")
        world.request(f"only {ago} days ago")
        world.request("everyday")
    world.clock.now = NOON
    world.write()
    assert world.users() == (2, 8, 31)
    assert set(world.analytics.active_by_day(7).values()) == {2}


def test_days_are_utc_and_exact(world: World) -> None:
    """A request of before midnight is of that day, also where it is written after it."""
    midnight = datetime.datetime(2026, 3, 11, tzinfo=datetime.UTC).timestamp()
    world.clock.now = midnight - 0.1
    world.request("late")
    world.clock.now = midnight + 0.1
    world.request("early")
    world.write()
    days = world.analytics.active_by_day(2)
    assert days == {"2026-03-10": 1, "2026-03-11": 1}
    assert world.users() == (1, 2, 2)


def test_users_are_exact_over_processes(world: World) -> None:
    """Four workers see the same and other users."""

    def work(number: int) -> None:
        world.request("everywhere")
        world.request(f"of {number}")
        world.write()

    for number in range(4):
        in_child(lambda number=number: work(number))
    assert world.users() == (5, 5, 5)


def test_a_user_set_late_in_a_request_counts(world: World) -> None:
    """The sink looks when the request has ended."""
    record = RequestRecord()
    token = current_record.set(record)
    monitoring.set_user("late")
    current_record.reset(token)
    world.recorder.record(record)
    world.request("")
    world.write()
    assert world.users() == (1, 1, 1)


def test_a_flood_of_users_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nobody flushes; and without a store nothing is gathered at all."""
    for number in range(60_000):
        world.request(f"{number}")
    assert len(world.analytics._seen) == 50_000
    world.monitoring.outbox._capacity = 0
    world.analytics.start_anew()
    world.request("nobody asks")
    assert len(world.analytics._seen) == 0


# Features and events


def test_features_have_uses_users_and_their_share(world: World) -> None:
    """Of the active users; uses of nobody count as uses."""
    for user in ("a", "b", "c", "d"):
        world.request(user)
    for user in ("a", "a", "b", ""):
        world.feature("export", user)
    world.feature("search", "a")
    world.write()
    found = [
        (one.feature, one.uses, one.users, one.share_of_active) for one in world.analytics.features(NOON, NOON + 1)
    ]
    assert found == [("export", 4, 2, 0.5), ("search", 1, 1, 0.25)]
    assert {one.first_used for one in world.analytics.features(NOON, NOON + 1)} == {"2026-03-10"}


def test_events_are_counted_by_name(world: World) -> None:
    """The most frequent first; each is kept with its user and its value."""
    for name, times in (("export", 2), ("import", 5)):
        for _ in range(times):
            operations.report_event(world.recorder, name, "alice", 1.5, {"format": "pdf"})
    world.write()
    assert list(world.analytics.events(NOON, NOON + 1).items()) == [("import", 5), ("export", 2)]
