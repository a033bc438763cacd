"""Roll-ups: every bucket together is what the cells counted, whoever wrote it and whatever failed meanwhile."""

from __future__ import annotations

import contextlib
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import Connection

from monitoring.cells import CellRegistry, Declaration, Total, Totals, scale
from monitoring.cells.layout import Header
from monitoring.metrics import Metrics, histogram_declaration
from monitoring.store import rollups, schema, sketches
from monitoring.store.database import Database, StoreUnusable
from monitoring.store.leases import Lease, LeaseLost
from monitoring.store.rollups import DAY, HOUR, MINUTE, Gained, RollupWriter, SeriesGains

NOW = 1_800_057_600.0
"""A full day of UTC, and so a full hour."""

JOBS = Declaration(name="jobs_total", kind="counter", help="Jobs done.", labels=("kind",))
QUEUE = Declaration(name="queue_length", kind="gauge", help="Jobs that wait.")
SECONDS = Declaration(
    name="job_seconds", kind="histogram", help="Time of a job.", labels=("kind",), le=scale.HTTP_SECONDS
)


class Service:
    """The cells of a service, one process of it, and what was counted in all its generations."""

    def __init__(self) -> None:
        self.jobs: dict[str, float] = {}
        self.samples: dict[str, list[float]] = {}
        self._generation = 0
        self.restart()

    def restart(self) -> None:
        """Begin at zero: a new generation."""
        self._generation += 1
        registry = CellRegistry()
        registry.keep_in_memory()
        self.metrics = Metrics(registry)

    def work(self, kind: str = "a", seconds: float = 0.02, times: int = 1) -> None:
        """Count jobs and their time."""
        for _ in range(times):
            self.metrics.add(JOBS, (kind,), 1.0)
            self.metrics.observe(SECONDS, (kind,), seconds)
        self.jobs[kind] = self.jobs.get(kind, 0.0) + times
        self.samples.setdefault(kind, []).extend([seconds] * times)

    def totals(self) -> Totals:
        """Return the sums of the present generation."""
        totals = self.metrics.totals()
        totals.living[:] = [Header(1, 0.0, f"generation {self._generation}", "")]
        return totals


class Writer:
    """A process that may roll up: a lease and a memory of its own."""

    def __init__(self, database: Database, name: str = "one", host: str = "host") -> None:
        self._database = database
        self.lease = Lease(f"host:{host}", name)
        self._rollups = RollupWriter(database, host)

    def write(self, totals: Totals, now: float = NOW) -> None:
        """Take the lease, as soon as it is free, and write."""
        with self._database.writing() as connection:
            held = self.lease.acquire(connection, now)
        assert held
        self._rollups.write(self.lease, totals, now)

    def give_up(self) -> None:
        """Let the next one have the lease."""
        with self._database.writing() as connection:
            self.lease.release(connection)


@pytest.fixture
def service() -> Service:
    """A service that has counted nothing yet."""
    return Service()


@pytest.fixture
def writer(database: Database) -> Writer:
    """The process that rolls up."""
    return Writer(database)


def read(
    database: Database,
    declaration: Declaration = JOBS,
    since: float = NOW - DAY,
    until: float = NOW + 10 * DAY,
    step: int | None = None,
) -> list[SeriesGains]:
    """Return what was rolled up."""
    with database.reading() as connection:
        return rollups.read(connection, declaration.name, since, until, step)


def total(database: Database, **options: Any) -> dict[str, float]:
    """Return the jobs of each kind over all buckets."""
    return {one.labels["kind"]: one.sum().total for one in read(database, **options)}


def buckets(database: Database, step: int = MINUTE, **options: Any) -> dict[int, float]:
    """Return the jobs of the kind ``a`` in each bucket, counted in buckets from ``NOW``."""
    (series,) = read(database, step=step, **options)
    return {int(bucket - NOW) // step: gained.total for bucket, gained in series.buckets.items()}


def roll_up(database: Database, now: float) -> int:
    """Sum up all there is to sum up, and return the number of steps."""
    steps = 0
    while True:
        with database.writing() as connection:
            if not rollups.roll_up(connection, now):
                return steps
        steps += 1


# What is written


def test_a_counter_is_rolled_up_as_its_gain(database: Database, service: Service, writer: Writer) -> None:
    """Each minute has what was counted in it, and no more."""
    for minute, times in enumerate((3, 0, 5)):
        service.work(times=times)
        writer.write(service.totals(), NOW + minute * MINUTE + 10)
        writer.write(service.totals(), NOW + minute * MINUTE + 20)
    assert buckets(database) == {0: 3, 2: 5}


def test_writes_within_a_minute_add_up(database: Database, service: Service, writer: Writer) -> None:
    """Every five seconds one is made; the minute has them all."""
    for second in range(0, 60, 5):
        service.work()
        writer.write(service.totals(), NOW + second)
    assert buckets(database) == {0: 12}


def test_a_histogram_keeps_count_sum_and_buckets(database: Database, service: Service, writer: Writer) -> None:
    """They are those of the cells."""
    service.work(seconds=0.25, times=3)
    service.work(seconds=2.0)
    writer.write(service.totals())
    (series,) = read(database, SECONDS)
    gained = series.sum()
    assert (gained.count, gained.total, series.kind) == (4, 2.75, "histogram")
    assert sketches.quantiles(gained.counts, series.unit, [0.5]) == [pytest.approx(0.25, rel=scale.RELATIVE_ERROR)]


def test_a_gauge_has_its_mean_and_its_high(database: Database, service: Service, writer: Writer) -> None:
    """A sample per write: the mean of a minute comes from their sum and number."""
    for second, value in enumerate((4.0, 10.0, 1.0)):
        service.metrics.set(QUEUE, (), value)
        writer.write(service.totals(), NOW + second)
    (series,) = read(database, QUEUE)
    gained = series.sum()
    assert (gained.total / gained.count, gained.high) == (5.0, 10.0)


def test_the_high_of_a_gauge_may_be_below_zero(database: Database, service: Service, writer: Writer) -> None:
    """It is the highest sample, not the higher of that and nothing."""
    for second, value in enumerate((-7.0, -5.0, -9.0)):
        service.metrics.set(QUEUE, (), value)
        writer.write(service.totals(), NOW + second * MINUTE)
    (series,) = read(database, QUEUE)
    assert series.sum().high == -5.0


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_gauge_that_is_no_number_holds_up_no_other(
    database: Database, service: Service, writer: Writer, odd: float
) -> None:
    """The database takes no NaN; the app may set one all the same."""
    service.metrics.set(QUEUE, (), odd)
    service.work()
    writer.write(service.totals())
    assert total(database) == {"a": 1}
    assert read(database, QUEUE) == []


def test_a_sum_that_was_spoilt_stands_still(database: Database, service: Service, writer: Writer) -> None:
    """One infinite value in a histogram: counts go on, and no bucket has an infinite sum."""
    service.work(seconds=0.5)
    writer.write(service.totals())
    service.metrics.observe(SECONDS, ("a",), math.inf)
    for second in range(3):
        service.work(seconds=0.5)
        writer.write(service.totals(), NOW + second)
    (series,) = read(database, SECONDS)
    assert (series.sum().count, series.sum().total) == (5, 0.5)


def test_a_custom_histogram_is_read_with_its_own_buckets(database: Database, service: Service, writer: Writer) -> None:
    """Its own bounds are among the fine ones, and shift all those above them."""
    pages = histogram_declaration("pages_read", "Pages.", (), buckets=(7, 70, 701, 7013))
    for value in range(1, 10_001):
        service.metrics.observe(pages, (), value)
    writer.write(service.totals())
    (series,) = read(database, pages)
    assert sketches.quantiles(series.sum().counts, series.unit, [0.5, 0.99]) == [
        pytest.approx(5_000, rel=0.02),
        pytest.approx(9_900, rel=0.02),
    ]
    assert sketches.share_above(series.sum().counts, series.unit, 7013) == pytest.approx(0.2987)


def test_a_histogram_whose_buckets_were_changed_is_another_series(
    database: Database, service: Service, writer: Writer
) -> None:
    """Sketches of different bounds are never added up."""
    for generation, bounds in enumerate(((7, 70), (5, 55))):
        service.restart()
        service.metrics.observe(histogram_declaration("pages_read", "Pages.", (), buckets=bounds), (), 1_000)
        writer.write(service.totals(), NOW + generation)
    found = read(database, histogram_declaration("pages_read", "Pages."))
    assert len(found) == 2
    for series in found:
        (median,) = sketches.quantiles(series.sum().counts, series.unit, [0.5])
        assert median == pytest.approx(1_000, rel=0.02)


def test_two_hosts_add_up(database: Database) -> None:
    """Each writes rows of its own, also in the same minute."""
    for host in ("one", "two"):
        service, writer = Service(), Writer(database, host, host)
        service.work(times=2)
        writer.write(service.totals())
        service.work()
        writer.write(service.totals(), NOW + 1)
    assert buckets(database) == {0: 6}


# Nothing twice, nothing lost


class _Trouble(Exception):
    pass


def fail_after(step: str, write: Callable[[], None]) -> None:
    """Write, and let it fail when a step of it has succeeded."""
    done = getattr(rollups, step)

    def failing(*args: Any) -> Any:
        done(*args)
        raise _Trouble

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rollups, step, failing)
        with pytest.raises(_Trouble):
            write()


@pytest.mark.parametrize("step", ["_series", "_find_or_make", "_add_to_bucket", "_upsert"])
def test_a_write_that_fails_half_way_is_made_up_for(
    database: Database, service: Service, writer: Writer, step: str
) -> None:
    """Nothing of it is in the store, nothing of it is remembered, and the next one has it all."""
    service.work("a")
    writer.write(service.totals())
    service.work("a", times=3)
    service.work("b", times=5)
    fail_after(step, lambda: writer.write(service.totals(), NOW + 1))
    assert total(database) == {"a": 1}
    service.work("c")
    writer.write(service.totals(), NOW + 2)
    assert total(database) == {"a": 4, "b": 5, "c": 1}


def test_ids_of_a_write_that_failed_are_forgotten(database: Database, service: Service, writer: Writer) -> None:
    """The series it made are gone, and their ids are given to others."""
    service.work("lost")
    fail_after("_add_to_bucket", lambda: writer.write(service.totals()))
    other = Service()
    other.metrics.add(Declaration(name="others_total", kind="counter", help="."), (), 100.0)
    Writer(database, "other", "other").write(other.totals())
    writer.write(service.totals(), NOW + 1)
    assert total(database) == {"lost": 1}


def test_a_failed_first_write_is_made_up_for(database: Database, service: Service, writer: Writer) -> None:
    """Before anything was remembered."""
    service.work(times=2)
    fail_after("_upsert", lambda: writer.write(service.totals()))
    writer.write(service.totals(), NOW + 1)
    assert total(database) == {"a": 2}


def test_a_commit_of_which_no_news_came_counts_once(
    database: Database, service: Service, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection broke after the commit: the next write asks the store what is in it."""
    writer.write(service.totals())  # it has the lease
    service.work(times=2)
    writing = database.writing

    @contextlib.contextmanager
    def losing_the_answer() -> Iterator[Connection]:
        with writing() as connection:
            yield connection
        raise StoreUnusable("connection lost")

    with monkeypatch.context() as patched:
        patched.setattr(database, "writing", losing_the_answer)
        with pytest.raises(StoreUnusable, match="connection lost"):
            writer._rollups.write(writer.lease, service.totals(), NOW)
    writer.write(service.totals(), NOW + 1)
    assert total(database) == {"a": 2}


def test_a_writer_without_the_lease_is_refused(database: Database, service: Service) -> None:
    """It woke up late; its successor has counted already what it is about to count."""
    late, successor = Writer(database, "late"), Writer(database, "successor")
    service.work()
    late.write(service.totals(), NOW)
    service.work()
    successor.write(service.totals(), NOW + 10)
    with pytest.raises(LeaseLost):
        late._rollups.write(late.lease, service.totals(), NOW + 10)
    assert total(database) == {"a": 2}


def test_who_takes_over_goes_on_from_what_is_stored(database: Database, service: Service) -> None:
    """Back and forth, each with an old memory."""
    one, two = Writer(database, "one"), Writer(database, "two")
    for turn in range(6):
        service.work(times=turn)
        current = (one, two)[turn % 2]
        current.write(service.totals(), NOW + turn)
        current.give_up()
    assert total(database) == {"a": 15}


def test_a_restarted_service_begins_at_zero(database: Database, service: Service, writer: Writer) -> None:
    """Its counters are all gain, also where they are lower than before."""
    service.work(times=5)
    writer.write(service.totals())
    service.restart()
    service.work(times=2)
    writer.write(service.totals(), NOW + 1)
    Writer(database, "one").write(service.totals(), NOW + 10)
    assert total(database) == {"a": 7}


@pytest.mark.parametrize("failing_first", [False, True])
def test_a_new_database_goes_on_from_the_deleted_one(database: Database, service: Service, failing_first: bool) -> None:
    """What was rolled up there is not counted again here, also after a change of holders or a failure."""
    one, two = Writer(database, "one"), Writer(database, "two")
    service.work("old", times=3)
    one.write(service.totals())
    one.give_up()
    two.write(service.totals())
    service.work("new", times=2)
    if failing_first:
        fail_after("_upsert", lambda: two.write(service.totals(), NOW + 1))
    assert database.path is not None
    database.path.unlink()
    two.write(service.totals(), NOW + 2)
    assert total(database) == {"new": 2}
    two.give_up()
    one.write(service.totals(), NOW + 3)
    assert total(database) == {"new": 2}


def test_processes_without_shared_cells_count_their_own_once(database: Database) -> None:
    """Each is a generation of its own; a lease that goes back and forth counts nothing twice."""
    writers = [(Service(), Writer(database, name)) for name in ("one", "two")]
    for number, (service, _) in enumerate(writers):
        service._generation = 100 + number
    for turn in range(6):
        service, writer = writers[turn % 2]
        service.work()
        writer.write(service.totals(), NOW + turn)
        writer.give_up()
    assert total(database) == {"a": 6}


class _Life(RuleBasedStateMachine):
    """Whatever happens to a service and its writers, the buckets are what was counted."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = Path(tempfile.mkdtemp())
        self.database = Database(str(self._folder / "store"))
        self.service = Service()
        self.now = NOW
        self.expected: dict[str, float] = {}
        self.pending: dict[str, float] = {}

    @initialize()
    def begin(self) -> None:
        self.writers = [Writer(self.database, name) for name in ("one", "two", "three")]
        self.current = 0
        self.write(self.current)

    @rule(kind=st.sampled_from("abc"), times=st.integers(1, 3), seconds=st.sampled_from((0.001, 0.3, 20.0)))
    def work(self, kind: str, times: int, seconds: float) -> None:
        self.service.work(kind, seconds, times)
        self.pending[kind] = self.pending.get(kind, 0.0) + times

    @rule(seconds=st.sampled_from((5, 61, 3601, 90_000, -7200)))
    def time_passes(self, seconds: int) -> None:
        self.writers[self.current].give_up()
        self.now += seconds

    @rule(number=st.integers(0, 2))
    def write(self, number: int) -> None:
        self.writers[self.current].give_up()
        self.current = number
        self.writers[number].write(self.service.totals(), self.now)
        for kind, times in self.pending.items():
            self.expected[kind] = self.expected.get(kind, 0.0) + times
        self.pending = {}

    @rule(step=st.sampled_from(("_series", "_add_to_bucket", "_upsert")))
    def write_half_way(self, step: str) -> None:
        self.service.work("a")
        self.pending["a"] = self.pending.get("a", 0.0) + 1
        fail_after(step, lambda: self.writers[self.current].write(self.service.totals(), self.now))

    @rule()
    def restart(self) -> None:
        self.write(self.current)
        self.service.restart()
        self.writers[self.current].give_up()
        self.writers = [Writer(self.database, name) for name in ("one", "two", "three")]

    @rule()
    def delete_the_database(self) -> None:
        assert self.database.path is not None
        self.write(self.current)
        self.database.path.unlink()
        self.expected = {}
        self.write(self.current)  # another writer does not know how far this one had come

    @rule()
    def roll_up(self) -> None:
        with self.database.writing() as connection:
            rollups.roll_up(connection, self.now)

    @invariant()
    def buckets_are_what_was_counted(self) -> None:
        whole = {"since": NOW - 100 * DAY, "until": NOW + 1000 * DAY}
        for step in (MINUTE, HOUR, DAY):
            assert total(self.database, step=step, **whole) == self.expected
            counts = {one.labels["kind"]: one.sum() for one in read(self.database, SECONDS, step=step, **whole)}
            assert {kind: gained.count for kind, gained in counts.items()} == self.expected
            assert {kind: sum(gained.counts.values()) for kind, gained in counts.items()} == self.expected

    def teardown(self) -> None:
        self.database.close()
        shutil.rmtree(self._folder)


def test_the_buckets_are_what_was_counted_whatever_happens() -> None:
    """Any order of work, takeovers, failures, restarts, clocks that jump, roll-ups and a deleted database."""
    run_state_machine_as_test(
        _Life,
        settings=settings(
            max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


# Hours and days


@pytest.fixture
def three_days(database: Database, service: Service, writer: Writer) -> Database:
    """A job every 20 minutes for three days, and one every minute in the first hour."""
    for minute in range(0, 60):
        service.work("a", seconds=0.1)
        writer.write(service.totals(), NOW + minute * MINUTE)
    for minute in range(60, 3 * 24 * 60, 20):
        service.work("a", seconds=0.1 + minute / 1000)
        writer.write(service.totals(), NOW + minute * MINUTE)
        writer.give_up()
    return database


def test_hours_and_days_are_the_sums_of_their_minutes(three_days: Database) -> None:
    """Before any is made, while a part is made, and when all are."""
    expected = {
        step: {bucket: gained for bucket, gained in read(three_days, SECONDS, step=step)[0].buckets.items()}
        for step in (HOUR, DAY)
    }
    assert expected[HOUR][int(NOW)].count == 60
    assert [gained.count for gained in expected[DAY].values()] == [60 + 23 * 3, 72, 72]
    for _ in range(200):
        with three_days.writing() as connection:
            more = rollups.roll_up(connection, NOW + 3 * DAY + 61)
        for step in (HOUR, DAY):
            found = read(three_days, SECONDS, step=step)[0].buckets
            assert {bucket: (gained.count, gained.counts) for bucket, gained in found.items()} == {
                bucket: (gained.count, gained.counts) for bucket, gained in expected[step].items()
            }
            for bucket, gained in found.items():
                assert gained.total == pytest.approx(expected[step][bucket].total)
        if not more:
            break
    assert not more


def test_the_running_hour_is_not_summed_up(database: Database, service: Service, writer: Writer) -> None:
    """Nor one that ended less than a minute ago: its last write may still be on its way."""
    service.work()
    writer.write(service.totals(), NOW + 59 * MINUTE)
    assert roll_up(database, NOW + HOUR + 59) == 0
    assert roll_up(database, NOW + HOUR + 60) == 1


def test_a_coarse_row_stands_in_for_trimmed_minutes(three_days: Database) -> None:
    """Where minutes are gone, hours and days still have it all."""
    before = total(three_days)
    roll_up(three_days, NOW + 3 * DAY + 61)
    with three_days.writing() as connection:
        connection.execute(schema.rollup.delete().where(schema.rollup.c.resolution == MINUTE))
    assert total(three_days, step=HOUR) == before
    with three_days.writing() as connection:
        connection.execute(schema.rollup.delete().where(schema.rollup.c.resolution == HOUR))
    assert total(three_days, step=DAY) == before


def test_what_comes_after_an_hour_was_summed_up_is_added_to_it(
    database: Database, service: Service, writer: Writer
) -> None:
    """The clock was set back by two days: the minute, the hour and the day have it."""
    service.work()
    writer.write(service.totals())
    roll_up(database, NOW + 2 * DAY)
    writer.give_up()
    service.work(times=4)
    writer.write(service.totals(), NOW + MINUTE)
    assert buckets(database, MINUTE) == {0: 1, 1: 4}
    assert buckets(database, HOUR) == {0: 5}
    assert buckets(database, DAY) == {0: 5}


# Reading


@pytest.mark.parametrize(
    ("seconds", "step"),
    [
        (HOUR, MINUTE),
        (6 * HOUR, MINUTE),
        (400 * MINUTE, MINUTE),
        (401 * MINUTE, HOUR),
        (7 * DAY, HOUR),
        (400 * HOUR, HOUR),
        (30 * DAY, DAY),
        (3000 * DAY, DAY),
    ],
)
def test_the_resolution_is_the_finest_of_at_most_400_points(seconds: int, step: int) -> None:
    """A longer time is read from coarser roll-ups."""
    assert rollups.resolution_for(NOW, NOW + seconds) == step


def test_a_range_begins_with_the_whole_bucket_it_lies_in(database: Database, service: Service, writer: Writer) -> None:
    """And ends with the one before its end."""
    for minute in range(10):
        service.work()
        writer.write(service.totals(), NOW + minute * MINUTE)
    assert buckets(database, since=NOW + 150, until=NOW + 300) == {2: 1, 3: 1, 4: 1}


@pytest.mark.parametrize("until", [NOW + HOUR + 0.5, NOW + 1.5 * HOUR, NOW + 2 * HOUR, NOW + 2 * HOUR + 0.5])
def test_no_minute_is_read_beside_its_own_hour(three_days: Database, until: float) -> None:
    """An end in the middle of an hour, or just after its beginning, takes the hour once."""
    whole_hours = total(three_days, until=math.ceil(until / HOUR) * HOUR)
    roll_up(three_days, NOW + 3 * DAY + 61)
    assert total(three_days, until=until, step=HOUR) == whole_hours


def test_an_unknown_metric_has_no_series(database: Database) -> None:
    """Before anything was counted there is nothing to read."""
    assert read(database) == []


def test_many_series_are_read_in_one_go(database: Database, writer: Writer) -> None:
    """More than a statement may have parameters."""
    totals = Totals(living=[Header(1, 0.0, "generation", "")])
    for number in range(1_500):
        totals.metric(JOBS).series[(f"{number}",)] = Total(1.0)
    writer.write(totals)
    assert len(total(database)) == 1_500


def test_gains_add_up_over_times(database: Database) -> None:
    """Counts, sums, highs and buckets."""
    whole = Gained(2, 3.0, 5.0, {1: 2})
    whole.add(Gained(1, 1.0, 7.0, {1: 1, 4: 2}))
    assert whole == Gained(3, 4.0, 7.0, {1: 3, 4: 2})
