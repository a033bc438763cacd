"""The read side of performance: whole buckets, each counted once, and percentiles of all samples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitoring import Monitoring, families
from monitoring.metrics import REQUEST_DURATION
from monitoring.performance_tracker import PerformanceTracker, is_failure
from monitoring.store import rollups
from monitoring.store.requests import RequestFilter
from monitoring.store.retention import Retention, trim
from monitoring.system_resources import HOST_MEMORY
from monitoring.testing import FakeClock, use
from tests.support.filled import Filled, Periods, filled

MIDNIGHT = 1_800_057_600
"""A full day of UTC, and so a full hour."""
HOUR = 3_600
DAY = 86_400
OK = ("GET", "/x", "200", "")
FAILED = ("GET", "/x", "500", "ValueError")


class Past:
    """Requests at the times that a test gives, and a tracker that reads them at a time of its own."""

    def __init__(self, made: Monitoring) -> None:
        self.made = made
        self.periods = Periods(made)
        self.clock = FakeClock(MIDNIGHT)
        self.tracker = PerformanceTracker(made.open_database, clock=self.clock)

    def ask(self, at: float, *durations: float, labels: tuple[str, ...] = OK) -> None:
        """Let requests of these durations happen."""
        for duration in durations:
            self.made.metrics.observe(REQUEST_DURATION, labels, duration)
        self.periods.roll_up(at)

    def roll_up(self, now: float) -> None:
        """Make the hours and days that are complete."""
        self.clock.now = now
        with self.periods.database.writing() as connection:
            while rollups.roll_up(connection, now):
                pass


@pytest.fixture
def past(tmp_path: Path) -> Iterator[Past]:
    """Nothing has happened yet."""
    with use(store=str(tmp_path / "store")) as made:
        yield Past(made)


# Windows


MOMENTS = [*range(MIDNIGHT - 3 * DAY, MIDNIGHT, 4 * HOUR + 660), MIDNIGHT - 60, MIDNIGHT - 1, MIDNIGHT + 90]
NOW = MIDNIGHT + 2 * HOUR + 90


@pytest.fixture(scope="module")
def three_days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    """One request at each of some moments of three days, with hours and days made."""
    with use(store=str(tmp_path_factory.mktemp("days") / "store")) as made:
        past = Past(made)
        for moment in MOMENTS:
            past.ask(moment, 0.1)
        past.roll_up(NOW)
        yield past


def inside(since: float, until: float, step: int) -> int:
    """Count the moments in the whole buckets that a time touches."""
    begin, end = math.floor(since / step) * step, math.ceil(until / step) * step
    return sum(begin <= moment < end for moment in MOMENTS)


TIMES = st.tuples(
    st.one_of(st.integers(MIDNIGHT - 4 * DAY, NOW).map(float), st.floats(MIDNIGHT - 4 * DAY, NOW)),
    st.sampled_from([60.0, 61.5, HOUR, 2 * HOUR + 7.25, DAY, DAY - 1, 3 * DAY, 20 * DAY]),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TIMES)
def test_each_request_of_a_time_is_counted_once(three_days: Past, time: tuple[float, float]) -> None:
    """From minutes, hours or days, wherever the time begins and ends: in the whole buckets that it touches."""
    until = min(time[0] + time[1], NOW)
    since = until - time[1]
    step = rollups.resolution_for(since, until)
    assert three_days.tracker.requests(since, until).count == inside(since, until, step)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TIMES)
def test_the_series_adds_up_to_the_whole_without_gaps(three_days: Past, time: tuple[float, float]) -> None:
    """Bucket by bucket as much as in all, and no bucket lies outside of the time."""
    since, until = time[0] - time[1], time[0]
    points = three_days.tracker.series(since, until)
    assert sum(point.count for point in points) == three_days.tracker.requests(since, until).count
    step = rollups.resolution_for(since, until)
    assert [point.at for point in points] == list(range(int(since // step) * step, math.ceil(until), step))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TIMES)
def test_no_request_is_in_a_time_and_in_the_one_before(three_days: Past, time: tuple[float, float]) -> None:
    """The time before ends where this one begins."""
    since, until = time[0] - time[1], time[0]
    step = rollups.resolution_for(since, until)
    begin = since // step * step
    before = three_days.tracker.requests_before(since, until)
    assert before.count == inside(since - (until - since), begin, step)
    assert before.period_seconds == begin - (since - (until - since)) // step * step


def test_a_time_that_ends_inside_of_an_hour_is_read_from_the_hour_alone(three_days: Past) -> None:
    """Also where a minute begins just there."""
    since, until = MIDNIGHT - 3 * DAY, MOMENTS[9] // 60 * 60 + 0.5
    assert MOMENTS[9] % HOUR
    with three_days.periods.database.reading() as connection:
        (series,) = rollups.read(connection, REQUEST_DURATION.name, since, until, rollups.HOUR)
    assert series.sum().count == inside(since, until, HOUR)


def test_a_time_that_ends_on_an_edge_has_no_bucket_after_it(past: Past) -> None:
    """The end is not part of the time."""
    points = past.tracker.series(MIDNIGHT - 120, MIDNIGHT)
    assert [point.at for point in points] == [MIDNIGHT - 120, MIDNIGHT - 60]


def test_a_rate_is_per_second_of_what_is_counted(past: Past) -> None:
    """Of the widened time, as far as it is over."""
    past.clock.now = MIDNIGHT + 90.0
    past.ask(MIDNIGHT + 10, *[0.1] * 30)
    past.ask(MIDNIGHT + 80, *[0.1] * 15)
    assert past.tracker.requests(MIDNIGHT + 30, MIDNIGHT + 90).rate_per_second == 45 / 90
    assert past.tracker.requests(MIDNIGHT + 30, MIDNIGHT + 60).rate_per_second == 30 / 60


def test_a_time_that_is_to_come_is_empty(past: Past) -> None:
    """No division by what is not over yet."""
    stats = past.tracker.requests(MIDNIGHT + DAY, MIDNIGHT + DAY + 60)
    assert (stats.count, stats.rate_per_second, stats.error_rate, stats.mean_seconds) == (0, 0.0, None, None)


@pytest.mark.parametrize("age_days", [8, 12])
def test_a_short_time_long_ago_is_read_by_the_hour(past: Past, age_days: int) -> None:
    """The minutes are gone, and what happened is not."""
    past.ask(MIDNIGHT + 600, 0.1, 0.1)
    past.roll_up(MIDNIGHT + age_days * DAY)
    while trim(past.periods.database, Retention(), past.clock.now):
        pass
    assert past.tracker.requests(MIDNIGHT + 300, MIDNIGHT + 900).count == 2
    assert [point.at for point in past.tracker.series(MIDNIGHT + 300, MIDNIGHT + 900)] == [MIDNIGHT]


def test_a_time_of_months_ago_is_read_by_the_day(past: Past) -> None:
    """The hours are gone as well."""
    past.ask(MIDNIGHT + 600, 0.1)
    past.roll_up(MIDNIGHT + 95 * DAY)
    while trim(past.periods.database, Retention(), past.clock.now):
        pass
    assert past.tracker.requests(MIDNIGHT + 300, MIDNIGHT + 900).count == 1


def test_minutes_are_read_as_long_as_they_are_kept(past: Past) -> None:
    """A longer retention is made use of."""
    past.ask(MIDNIGHT + 600, 0.1)
    past.clock.now = MIDNIGHT + 10 * DAY
    longer = PerformanceTracker(past.made.open_database, clock=past.clock, minutes_days=30)
    assert [point.count for point in longer.series(MIDNIGHT + 600, MIDNIGHT + 720)] == [1, 0]


# Numbers


def test_percentiles_are_those_of_all_samples(past: Past) -> None:
    """And not the mean of each minute's: a busy minute weighs more than a quiet one."""
    past.ask(MIDNIGHT - 120, *[0.01] * 980)
    past.ask(MIDNIGHT - 60, *[5.0] * 20)
    stats = past.tracker.requests(MIDNIGHT - 120, MIDNIGHT)
    assert stats.p50_seconds == pytest.approx(0.01, rel=0.02)
    assert stats.p95_seconds == pytest.approx(0.01, rel=0.02)
    assert stats.p99_seconds == pytest.approx(5.0, rel=0.02)
    assert stats.mean_seconds == pytest.approx((980 * 0.01 + 20 * 5) / 1_000)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.floats(1e-5, 900), min_size=1, max_size=30), min_size=1, max_size=3))
def test_percentiles_are_within_two_per_cent(
    tmp_path_factory: pytest.TempPathFactory, minutes: list[list[float]]
) -> None:
    """Whatever the durations, over however many minutes."""
    with use(store=str(tmp_path_factory.mktemp("exact") / "store")) as made:
        past = Past(made)
        for number, durations in enumerate(minutes):
            past.ask(MIDNIGHT - 60 * (number + 1), *durations)
        stats = past.tracker.requests(MIDNIGHT - 600, MIDNIGHT)
    samples = sorted(duration for durations in minutes for duration in durations)
    for share, found in ((0.5, stats.p50_seconds), (0.95, stats.p95_seconds), (0.99, stats.p99_seconds)):
        assert found == pytest.approx(samples[math.ceil(share * len(samples)) - 1], rel=0.02)


def test_failed_requests_are_a_share_of_all(past: Past) -> None:
    """Also when they are read by route and by bucket."""
    past.ask(MIDNIGHT - 60, *[0.1] * 9)
    past.ask(MIDNIGHT - 60, 0.1, labels=FAILED)
    assert past.tracker.requests(MIDNIGHT - 60, MIDNIGHT).error_rate == 0.1
    (route,) = past.tracker.routes(MIDNIGHT - 60, MIDNIGHT)
    assert (route.stats.errors, route.status) == (1, {"200": 9, "500": 1})
    (point,) = past.tracker.series(MIDNIGHT - 60, MIDNIGHT)
    assert (point.count, point.errors) == (10, 1)


@pytest.mark.parametrize(
    ("error", "failed"),
    [
        ("ValueError", True),
        ("500", True),
        ("TimeoutError", True),
        ("error_after_start", True),
        ("", False),
        ("client_disconnected", False),
        ("aborted", False),
        ("cancelled", False),
        ("CancelledError", False),
        ("abandoned", False),
        ("closed_early", False),
    ],
)
def test_what_the_caller_ended_did_not_fail(error: str, failed: bool) -> None:
    """A client that leaves a stream is no failure of the app."""
    assert is_failure({"error_type": error}) is failed


def test_what_has_no_such_label_did_not_fail() -> None:
    """First chunks are counted without one."""
    assert not is_failure({})


@pytest.mark.parametrize(
    ("method", "route", "count"), [("", "", 6), ("GET", "", 3), ("", "/x", 4), ("POST", "/x", 3), ("PUT", "/x", 0)]
)
def test_requests_are_narrowed_to_a_route_and_a_method(past: Past, method: str, route: str, count: int) -> None:
    """By either, by both, by none."""
    past.ask(MIDNIGHT - 60, 0.1, labels=("GET", "/x", "200", ""))
    past.ask(MIDNIGHT - 60, 0.1, 0.1, labels=("GET", "/y", "200", ""))
    past.ask(MIDNIGHT - 60, 0.1, 0.1, 0.1, labels=("POST", "/x", "200", ""))
    assert past.tracker.requests(MIDNIGHT - 60, MIDNIGHT, method=method, route=route).count == count
    assert (
        sum(point.count for point in past.tracker.series(MIDNIGHT - 60, MIDNIGHT, method=method, route=route)) == count
    )


def test_routes_are_ordered_by_the_time_spent_in_them(past: Past) -> None:
    """Many fast ones may cost more than one slow one."""
    past.ask(MIDNIGHT - 60, 1.0, labels=("GET", "/slow", "200", ""))
    past.ask(MIDNIGHT - 60, *[0.1] * 20, labels=("GET", "/busy", "200", ""))
    assert [route.route for route in past.tracker.routes(MIDNIGHT - 60, MIDNIGHT)] == ["/busy", "/slow"]


def test_a_cache_without_look_ups_has_no_hit_rate(past: Past) -> None:
    """Writes alone are no misses."""
    past.made.metrics.observe(families.CACHE_DURATION, ("profiles", "redis", "set", ""), 0.001)
    past.periods.roll_up(MIDNIGHT - 60)
    (cache,) = past.tracker.caches(MIDNIGHT - 60, MIDNIGHT)
    assert (cache.hits, cache.misses, cache.hit_rate, cache.stats.count) == (0, 0, None, 1)


def test_kinds_of_keys_belong_to_their_cache(past: Past) -> None:
    """The most asked first."""
    past.made.metrics.observe(families.CACHE_DURATION, ("profiles", "redis", "get", ""), 0.001)
    for cache, prefix, result, times in (
        ("profiles", "users", "hit", 1.0),
        ("profiles", "pages", "hit", 3.0),
        ("profiles", "pages", "miss", 1.0),
        ("others", "users", "miss", 9.0),
    ):
        past.made.metrics.add(families.CACHE_PREFIX_GETS, (cache, prefix, result), times)
    past.periods.roll_up(MIDNIGHT - 60)
    (cache_stats,) = past.tracker.caches(MIDNIGHT - 60, MIDNIGHT)
    found = [(one.prefix, one.hits, one.misses, one.hit_rate) for one in cache_stats.prefixes]
    assert found == [("pages", 3, 1, 0.75), ("users", 1, 0, 1.0)]


def test_a_cache_in_memory_is_listed_by_its_look_ups(past: Past) -> None:
    """Nobody is told of its calls."""
    past.made.metrics.add(families.CACHE_GETS, ("prices", "memory", "hit"), 3.0)
    past.periods.roll_up(MIDNIGHT - 60)
    (cache,) = past.tracker.caches(MIDNIGHT - 60, MIDNIGHT)
    assert (cache.cache, cache.hits, cache.misses, cache.hit_rate) == ("prices", 3, 0, 1.0)
    assert (cache.stats.count, cache.stats.p95_seconds, cache.prefixes) == (0, None, ())


def test_models_are_ordered_by_their_cost(past: Past) -> None:
    """The dearest first, those without a price by their calls."""
    for model, cost, calls in (("a", 0.0, 1), ("b", 0.2, 1), ("c", 0.0, 5), ("d", 0.7, 1)):
        labels = ("openai", model, "chat")
        for _ in range(calls):
            past.made.metrics.observe(families.LLM_DURATION, (*labels, ""), 1.0)
        past.made.metrics.add(families.LLM_COST, labels, cost)
    past.periods.roll_up(MIDNIGHT - 60)
    assert [model.model for model in past.tracker.models(MIDNIGHT - 60, MIDNIGHT)] == ["d", "b", "c", "a"]


def test_the_series_of_models_has_zeros_where_nothing_happened(past: Past) -> None:
    """Calls, tokens and cost of each minute."""
    labels = ("openai", "gpt-4o", "chat")
    past.made.metrics.observe(families.LLM_DURATION, (*labels, ""), 1.0)
    past.made.metrics.add(families.LLM_INPUT_TOKENS, labels, 100.0)
    past.made.metrics.add(families.LLM_OUTPUT_TOKENS, labels, 20.0)
    past.made.metrics.add(families.LLM_COST, labels, 0.5)
    past.periods.roll_up(MIDNIGHT - 60)
    series = past.tracker.model_series(MIDNIGHT - 120, MIDNIGHT)
    assert series == [(MIDNIGHT - 120, 0, 0, 0.0), (MIDNIGHT - 60, 1, 120, 0.5)]


def test_a_gauge_is_its_mean_and_unknown_where_nobody_looked(past: Past) -> None:
    """A minute without a sample is no minute at 0."""
    past.periods.roll_up(MIDNIGHT - 120)
    first, second = past.tracker.gauge_series(HOST_MEMORY, MIDNIGHT - 120, MIDNIGHT)
    assert (first[0], second) == (MIDNIGHT - 120, (MIDNIGHT - 60, None))
    assert first[1] is not None
    assert first[1] > 1e6


# Kept requests


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """Fill a store by a real app."""
    with filled(tmp_path_factory.mktemp("kept") / "store") as done:
        yield done


def test_kept_requests_are_found_and_opened(done: Filled) -> None:
    """In Python as on the page."""
    performance = done.monitoring.performance
    (first, _) = performance.kept(RequestFilter(since=0, until=1e11, status="5xx"))
    assert first.request_id == done.ids["/crash"][1]
    detail = performance.request(first.request_id)
    assert detail is not None
    assert detail.request == first
    assert performance.request("unknown") is None


# Database statements


def test_statements_tell_how_many_were_slow_and_how_many_requests_repeated_them(past: Past) -> None:
    """Slow is what took longer than is asked for; who repeated one is counted by the statement alone."""
    statement = ("sqlite", "SELECT", "SELECT funders", "")
    for seconds in (0.01, 0.2, 0.6, 3.0):
        past.made.metrics.observe(families.DB_DURATION, statement, seconds)
    past.made.metrics.add(families.DB_REPEATED_QUERIES, ("/a", "SELECT funders"), 2.0)
    past.made.metrics.add(families.DB_REPEATED_QUERIES, ("/b", "SELECT funders"), 1.0)
    past.periods.roll_up(MIDNIGHT - 60)
    (usual,) = past.tracker.databases(MIDNIGHT - HOUR, MIDNIGHT)
    (strict,) = past.tracker.databases(MIDNIGHT - HOUR, MIDNIGHT, slow_seconds=0.1)
    assert (usual.slow, strict.slow, usual.repeated) == (2, 3, 3)
    assert past.tracker.repeated(MIDNIGHT - HOUR, MIDNIGHT, "/a") == [("SELECT funders", 2)]
    assert past.tracker.repeated(MIDNIGHT - HOUR, MIDNIGHT, "/c") == []


def test_queries_per_request_are_told_by_route(past: Past) -> None:
    """Small numbers come back as they are."""
    for number in (1, 2, 2, 3, 10):
        past.made.metrics.observe(families.DB_QUERIES_PER_REQUEST, ("/a",), number)
    past.made.metrics.add(families.DB_REPEATED_QUERIES, ("/a", "SELECT funders"), 1.0)
    past.periods.roll_up(MIDNIGHT - 60)
    found = past.tracker.queries(MIDNIGHT - HOUR, MIDNIGHT)
    assert list(found) == ["/a"]
    one = found["/a"]
    assert (one.requests, one.mean, one.p50, one.p95, one.repeated) == (5, pytest.approx(3.6), 2, 10, 1)
