"""The numbers that rules ask for: every query is answered, in its window, narrowed and split by its labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from monitoring import Monitoring, families
from monitoring.alerting.rules import QUERIES, Rule, Sample, default_rules
from monitoring.cells import Declaration, Total, Totals
from monitoring.metrics import REQUEST_DURATION
from monitoring.numbers import StoreNumbers
from monitoring.store import health, rollups
from monitoring.store.database import StoreUnusable
from monitoring.store.errors import set_status, write_errors
from monitoring.store.facts import ErrorFact
from monitoring.store.health import CheckState
from monitoring.store.leases import Lease
from monitoring.store.retention import Retention, trim
from monitoring.system_resources import HOST_CPU, HOST_DISK, HOST_MEMORY_SHARE
from monitoring.testing import use
from tests.support.filled import Periods

NOW = 1_800_000_030.0
"""Half a minute past the full minute."""
MINUTE = 60
HOUR = 3_600


class Past:
    """What happened when, as a test tells it, and the numbers of it."""

    def __init__(self, made: Monitoring) -> None:
        self.made = made
        self.database = made.open_database()
        self.numbers = StoreNumbers(made.open_database)
        self._periods = Periods(made)

    def requests(self, ago: float, *durations: float, route: str = "/x", error: str = "") -> None:
        """Let requests of these durations happen some seconds ago."""
        for duration in durations:
            self.made.metrics.observe(REQUEST_DURATION, ("GET", route, "500" if error else "200", error), duration)
        self._periods.roll_up(NOW - ago)

    def observed(self, declaration: Declaration, *series: tuple[tuple[str, ...], int], duration: float = 0.1) -> None:
        """Count samples in a histogram a minute ago."""
        for labels, count in series:
            for _ in range(count):
                self.made.metrics.observe(declaration, labels, duration)
        self._periods.roll_up(NOW - MINUTE)

    def counted(self, declaration: Declaration, *series: tuple[tuple[str, ...], float], ago: float = MINUTE) -> None:
        """Add to a counter some seconds ago."""
        for labels, amount in series:
            self.made.metrics.add(declaration, labels, amount)
        self._periods.roll_up(NOW - ago)

    def gauge(self, declaration: Declaration, *values: float, labels: tuple[str, ...] = ()) -> None:
        """Let each of several hosts have a value now."""
        for number, value in enumerate(values):
            host = f"host-{number}"
            totals = Totals()
            totals.metric(declaration).series[labels] = Total(value)
            lease = Lease(f"host:{host}", host)
            with self.database.writing() as connection:
                lease.acquire(connection, NOW)
            rollups.RollupWriter(self.database, host).write(lease, totals, NOW)

    def error(self, ago: float, level: str = "error", count: int = 1, key: str = "v1:a") -> None:
        """Let an error happen some seconds ago."""
        fact = ErrorFact(NOW - ago, (key,), "code", level, "ValueError", "ValueError", "shop.load", count=count)  # type: ignore[arg-type]
        with self.database.writing() as connection:
            write_errors(connection, [fact])

    def check(self, name: str, status: str, critical: bool, ago: float = 5.0) -> None:
        """Let a check have stood so some seconds ago."""
        with self.database.writing() as connection:
            health.note(connection, [CheckState(name, NOW - ago, NOW - ago, status, critical, 0.1, "")])

    def ask(self, query: str, window: float = 300.0, **labels: str) -> list[Sample]:
        """Return the samples of a query."""
        return list(self.numbers.sample(query, labels, window, NOW))

    def value(self, query: str, window: float = 300.0, **labels: str) -> float:
        """Return the value of the only sample of a query."""
        (sample,) = self.ask(query, window, **labels)
        return sample.value


@pytest.fixture
def past(tmp_path: Path) -> Iterator[Past]:
    """Nothing has happened yet."""
    with use(store=str(tmp_path / "store")) as made:
        yield Past(made)


# All of them


@pytest.mark.parametrize("query", sorted(QUERIES.keys() - {"channel_broken"}))
def test_every_query_is_answered_over_an_empty_store(past: Past, query: str) -> None:
    """With nothing, or with a 0 that is known to be one."""
    assert [sample.value for sample in past.ask(query)] in ([], [0.0])


@pytest.mark.parametrize("query", sorted(QUERIES.keys() - {"channel_broken", "check_failed"}))
def test_every_query_is_narrowed_and_split_by_its_labels(past: Past, query: str) -> None:
    """By each label that a rule may name."""
    for label in QUERIES[query].labels:
        for value in ("*", "any"):
            assert all(sample.value == 0.0 for sample in past.ask(query, **{label: value}))


@pytest.mark.parametrize("rule", default_rules(), ids=lambda rule: rule.name)
def test_nothing_happened_breaches_no_default_rule(past: Past, rule: Rule) -> None:
    """A new app begins without an alert."""
    if rule.query != "channel_broken":
        samples = past.numbers.sample(rule.query, rule.labels, rule.window_seconds, NOW)
        assert not any(rule.is_breached_by(sample.value) for sample in samples)


def test_a_store_that_cannot_be_read_is_no_missing_data(tmp_path: Path) -> None:
    """It is said, so that no alert ends by it."""
    (tmp_path / "store").write_text("no folder")
    with use(store=str(tmp_path / "store")) as made, pytest.raises(StoreUnusable):
        StoreNumbers(made.open_database).sample("error_rate", {}, 300, NOW)


# Requests


def test_the_error_rate_is_the_share_that_failed(past: Past) -> None:
    """Of all routes together; a client that left did not fail."""
    past.requests(60, *[0.1] * 17)
    past.requests(60, 0.1, 0.1, error="ValueError")
    past.requests(60, 0.1, error="client_disconnected")
    (sample,) = past.ask("error_rate")
    assert (sample.labels, sample.value, sample.samples) == ({}, 0.1, 20)


def test_requests_are_split_by_route(past: Past) -> None:
    """One sample for each, and one alone when it is named."""
    past.requests(60, 0.1, error="ValueError", route="/x")
    past.requests(60, 0.1, 0.1, route="/y")
    assert {sample.labels["route"]: sample.value for sample in past.ask("error_rate", route="*")} == {
        "/x": 1.0,
        "/y": 0.0,
    }
    assert past.value("error_rate", route="/y") == 0.0
    assert past.ask("error_rate", route="/z") == []


@pytest.mark.parametrize(("query", "expected"), [("p50_seconds", 0.1), ("p95_seconds", 0.1), ("p99_seconds", 8.0)])
def test_percentiles_are_those_of_the_whole_window(past: Past, query: str, expected: float) -> None:
    """Over all minutes and statuses of it."""
    past.requests(120, *[0.1] * 97)
    past.requests(60, 8.0, 8.0, error="TimeoutError")
    past.requests(60, 8.0)
    assert past.value(query) == pytest.approx(expected, rel=0.02)


def test_the_request_rate_is_per_second_of_the_minutes_that_are_counted(past: Past) -> None:
    """A window of two minutes that began inside of a minute has that minute's requests, and its seconds."""
    past.requests(140, *[0.1] * 30)
    past.requests(10, *[0.1] * 15)
    assert past.value("request_rate", 120) == 45 / 150


def test_without_requests_the_rate_is_zero_and_known(past: Past) -> None:
    """So a rule can tell of an app that nobody reaches; of routes that are not known there is none."""
    assert [(sample.value, sample.samples) for sample in past.ask("request_rate")] == [(0.0, 0.0)]
    assert past.value("request_rate", route="/x") == 0.0
    assert past.ask("request_rate", route="*") == []


@pytest.mark.parametrize(("ago", "counted"), [(0, 1), (29, 1), (300, 1), (329, 1), (331, 0), (600, 0)])
def test_a_window_is_widened_to_whole_minutes(past: Past, ago: float, counted: int) -> None:
    """Five minutes before half past a minute begin at a full one."""
    past.requests(ago, 0.1)
    assert sum(sample.samples for sample in past.ask("error_rate", 300)) == counted


def test_a_long_window_outlives_the_minutes(past: Past) -> None:
    """The costs of a month are those of the month, although minutes are kept for a week."""
    labels = ("openai", "gpt-4o", "chat")
    past.counted(families.LLM_COST, (labels, 7.0), ago=20 * 86_400)
    past.counted(families.LLM_COST, (labels, 0.5))
    with past.database.writing() as connection:
        while rollups.roll_up(connection, NOW):
            pass
    while trim(past.database, Retention(), NOW):
        pass
    assert past.value("llm_cost_usd", 30 * 86_400) == 7.5


# Calls and business


def test_database_calls_have_their_percentile(past: Past) -> None:
    """Failed ones included: they took their time."""
    past.observed(families.DB_DURATION, (("sqlite", "SELECT", "SELECT funders", ""), 94))
    past.observed(families.DB_DURATION, (("sqlite", "SELECT", "SELECT funders", "TimeoutError"), 6), duration=3.0)
    assert past.value("db_p95_seconds") == pytest.approx(3.0, rel=0.02)


def test_costs_are_summed_and_split_by_model(past: Past) -> None:
    """A counter without a gain in the window has cost nothing."""
    for model, cost in (("a", 0.25), ("b", 1.5)):
        past.counted(families.LLM_COST, (("openai", model, "chat"), cost))
    assert past.value("llm_cost_usd") == 1.75
    assert {sample.labels["model"]: sample.value for sample in past.ask("llm_cost_usd", model="*")} == {
        "a": 0.25,
        "b": 1.5,
    }
    assert past.value("llm_cost_usd", model="a") == 0.25
    assert past.value("llm_cost_usd", model="c") == 0.0


def test_failed_calls_of_models_are_a_share(past: Past) -> None:
    """Streams that were left did not fail."""
    model = ("openai", "gpt-4o", "chat")
    past.observed(
        families.LLM_DURATION, ((*model, ""), 5), ((*model, "RateLimitError"), 2), ((*model, "closed_early"), 3)
    )
    assert past.value("llm_error_rate") == 0.2
    assert past.value("llm_error_rate", model="gpt-4o") == 0.2


def test_the_hit_rate_is_of_look_ups(past: Past) -> None:
    """By cache, or over all of them."""
    for cache, hits, misses in (("a", 9.0, 1.0), ("b", 0.0, 10.0)):
        past.counted(families.CACHE_GETS, ((cache, "redis", "hit"), hits), ((cache, "redis", "miss"), misses))
    assert past.value("cache_hit_rate") == 0.45
    assert {sample.labels["cache"]: sample.value for sample in past.ask("cache_hit_rate", cache="*")} == {
        "a": 0.9,
        "b": 0.0,
    }


def test_operations_are_always_split(past: Past) -> None:
    """Each has a success rate of its own, of those that ended."""
    past.observed(
        families.OPERATION_DURATION,
        (("generate", "ok"), 6),
        (("generate", "failed"), 3),
        (("generate", "abandoned"), 1),
        (("export", "ok"), 2),
    )
    found = {
        sample.labels["operation"]: (sample.value, sample.samples) for sample in past.ask("operation_success_rate")
    }
    assert found == {"generate": (0.6, 10), "export": (1.0, 2)}
    assert past.value("operation_success_rate", operation="generate") == 0.6


@pytest.mark.parametrize("declaration", [families.FACTS_DROPPED, families.STORE_FAILURES], ids=lambda one: one.name)
def test_the_packs_own_troubles_are_counted(past: Past, declaration: Declaration) -> None:
    """Facts that were dropped, rounds in which the store failed."""
    query = "facts_dropped" if declaration is families.FACTS_DROPPED else "store_failures"
    past.counted(declaration, ((), 3.0))
    assert past.value(query) == 3.0
    assert past.value(query, 30) == 0.0


# Checks, errors, the machine


def test_checks_fail_or_do_not(past: Past) -> None:
    """Those that were looked at in the last minute; a warning is no failure."""
    past.check("database", "fail", True)
    past.check("mail", "pass", False)
    past.check("disk", "warn", False)
    past.check("former", "fail", True, ago=90)
    found = {(sample.labels["check"], sample.labels["critical"]): sample.value for sample in past.ask("check_failed")}
    assert found == {("database", "true"): 1.0, ("mail", "false"): 0.0, ("disk", "false"): 0.0}


@pytest.mark.parametrize(
    ("labels", "checks"),
    [
        ({"critical": "true"}, {"database"}),
        ({"critical": "false"}, {"mail"}),
        ({"check": "mail"}, {"mail"}),
        ({"check": "*", "critical": "*"}, {"database", "mail"}),
        ({"check": "other"}, set()),
    ],
)
def test_checks_are_narrowed(past: Past, labels: dict[str, str], checks: set[str]) -> None:
    """By name, and by whether they are critical."""
    past.check("database", "fail", True)
    past.check("mail", "pass", False)
    assert {sample.labels["check"] for sample in past.ask("check_failed", **labels)} == checks


def test_new_errors_are_groups_that_were_not_seen_before(past: Past) -> None:
    """However often each was seen."""
    past.error(4_000, key="v1:old")
    past.error(100, key="v1:old")
    past.error(100, count=50, key="v1:new")
    assert past.value("new_errors") == 1


def test_errors_that_came_back_are_new_ones(past: Past) -> None:
    """Resolved, and seen again."""
    past.error(4_000)
    with past.database.writing() as connection:
        set_status(connection, "v1:a", "resolved", NOW - 2_000)
    assert past.value("new_errors") == 0
    past.error(100)
    assert past.value("new_errors") == 1


def test_critical_errors_are_occurrences(past: Past) -> None:
    """Also those of a storm, of which only the first are kept whole."""
    past.error(4_000, "critical", count=7, key="v1:b")
    past.error(100, "critical", count=40, key="v1:b")
    past.error(100, "error", count=3, key="v1:c")
    assert past.value("critical_errors") == 40


@pytest.mark.parametrize(
    ("query", "declaration", "expected"),
    [("cpu_share", HOST_CPU, 0.5), ("memory_share", HOST_MEMORY_SHARE, 0.9), ("disk_share", HOST_DISK, 0.9)],
)
def test_of_several_hosts_the_fullest_counts_and_of_cores_the_mean(
    past: Past, query: str, declaration: Declaration, expected: float
) -> None:
    """A full disk is not made up for by an empty one."""
    past.gauge(declaration, 0.1, 0.9)
    assert past.value(query) == pytest.approx(expected)


def test_a_quota_is_told_by_host_and_name(past: Past) -> None:
    """As the share that is used, the highest of the window; one instance for each, unasked."""
    past.gauge(families.RATE_LIMIT_USED, 0.5, 0.95, labels=("api.example.org", "tokens"))
    (sample,) = past.ask("quota_used_share")
    assert (sample.labels, sample.value) == ({"host": "api.example.org", "quota": "tokens"}, 0.95)


# Links


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ("request_rate", "#/routes"),
        ("llm_cost_usd", "#/llm"),
        ("facts_dropped", "#/system"),
        ("new_errors", "#/errors"),
    ],
)
def test_a_number_leads_to_the_time_that_it_is_of(past: Past, query: str, page: str) -> None:
    """Also when somebody reads the notice the day after."""
    (sample,) = past.ask(query, 300)
    place, _, asked = sample.link.partition("?")
    assert place == page
    assert parse_qs(asked) == {"from": ["1799999730"], "to": ["1800000030"]}


def test_a_number_of_a_route_leads_to_the_route(past: Past) -> None:
    """Whatever is in its template."""
    past.requests(60, 0.1, route="/a b&c=#/{id}")
    (sample,) = past.ask("p95_seconds", route="*")
    place, _, asked = sample.link.partition("?")
    assert (place, parse_qs(asked)["route"]) == ("#/route", ["/a b&c=#/{id}"])
