"""Performance: rates, errors and percentiles by route, statement, cache, model and agent over any time.

All of it is read from roll-ups of the metric cells: exact counts over all workers, percentiles within 2 %. Single
requests are those that were kept. Times are unix seconds, and a time is widened to whole buckets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from sqlalchemy import Connection

from . import families
from .metrics import BODY_SIZE, REQUEST_DURATION
from .store import requests, rollups, sketches
from .store.database import Database
from .store.requests import KeptRequest, RequestDetail, RequestFilter
from .store.rollups import Gained, SeriesGains

QUANTILES: Final = (0.5, 0.95, 0.99)
Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Stats:
    """How often something happened in ``period_seconds``, how often it failed, and how long it took."""

    count: int
    errors: int
    period_seconds: float
    mean_seconds: float | None
    p50_seconds: float | None
    p95_seconds: float | None
    p99_seconds: float | None

    @property
    def rate_per_second(self) -> float:
        """Return the mean number per second."""
        return self.count / self.period_seconds if self.period_seconds else 0.0

    @property
    def error_rate(self) -> float | None:
        """Return the share that failed; None where nothing happened."""
        return self.errors / self.count if self.count else None


@dataclass(frozen=True, slots=True)
class Point:
    """One bucket of a time series; ``at`` is its start."""

    at: int
    count: int
    errors: int
    p50_seconds: float | None
    p95_seconds: float | None
    p99_seconds: float | None


@dataclass(frozen=True, slots=True)
class RouteStats:
    """One route and method: see ``Stats``. ``total_seconds`` is the time spent in all of its requests."""

    method: str
    route: str
    stats: Stats
    total_seconds: float
    status: Mapping[str, int]
    bytes_sent: int


@dataclass(frozen=True, slots=True)
class CallStats:
    """One statement, or one host and method: see ``Stats``."""

    name: str
    system: str
    operation: str
    stats: Stats
    total_seconds: float


@dataclass(frozen=True, slots=True)
class CacheStats:
    """One cache: its look-ups by key, and its commands as ``Stats``."""

    cache: str
    system: str
    hits: int
    misses: int
    stats: Stats

    @property
    def hit_rate(self) -> float | None:
        """Return hits over look-ups; None before the first."""
        looked_up = self.hits + self.misses
        return self.hits / looked_up if looked_up else None


@dataclass(frozen=True, slots=True)
class ModelStats:
    """One language model. ``cost_usd`` sums the calls whose price is known, ``unpriced_calls`` counts the others."""

    provider: str
    model: str
    operation: str
    stats: Stats
    input_tokens: int
    output_tokens: int
    cost_usd: float
    unpriced_calls: int
    usage_missing: int
    first_chunk_p50_seconds: float | None


@dataclass(frozen=True, slots=True)
class AgentStats:
    """One agent: its runs as ``Stats``, and what the LLM calls inside of it used."""

    agent: str
    stats: Stats
    llm_calls: int
    tokens: int
    cost_usd: float


@dataclass(slots=True)
class _Tally:
    """What is gathered of a thing before it is shown."""

    all: Gained = field(default_factory=Gained)
    errors: float = 0.0

    def add(self, gained: Gained, failed: bool) -> None:
        self.all.add(gained)
        if failed:
            self.errors += gained.count

    def stats(self, period_seconds: float, unit: str = "seconds") -> Stats:
        count = self.all.count
        mean = self.all.total / count if count else None
        percentiles = sketches.quantiles(self.all.counts, unit, QUANTILES)
        return Stats(int(count), int(self.errors), period_seconds, mean, *percentiles)


class PerformanceTracker:
    """Reads the store. Thread-safe; every method raises StoreUnusable when the store cannot be read."""

    def __init__(self, open_database: Callable[[], Database]) -> None:
        self._open_database = open_database

    def requests(self, since: float, until: float, *, method: str = "", route: str = "") -> Stats:
        """Return how all requests of a time went, or those of one route."""
        tally = _Tally()
        for one in self._requests(since, until, method, route):
            tally.add(one.sum(), _failed(one.labels))
        return tally.stats(until - since)

    def series(
        self, since: float, until: float, *, method: str = "", route: str = "", step: int | None = None
    ) -> list[Point]:
        """Return the same bucket by bucket, without gaps."""
        step = step or rollups.resolution_for(since, until)
        tallies: dict[int, _Tally] = {}
        for one in self._requests(since, until, method, route, step):
            for bucket, gained in one.buckets.items():
                tallies.setdefault(bucket, _Tally()).add(gained, _failed(one.labels))
        return [_point(bucket, tallies.get(bucket), step) for bucket in buckets(since, until, step)]

    def routes(self, since: float, until: float) -> list[RouteStats]:
        """Return every route of a time, those first that took most time in all."""
        tallies: dict[tuple[str, str], _Tally] = {}
        status: dict[tuple[str, str], dict[str, int]] = {}
        with self._open_database().reading() as connection:
            durations = rollups.read(connection, REQUEST_DURATION.name, since, until)
            sizes = rollups.read(connection, BODY_SIZE.name, since, until)
        for one in durations:
            key, gained = _route(one.labels), one.sum()
            tallies.setdefault(key, _Tally()).add(gained, _failed(one.labels))
            code = one.labels["http_response_status_code"]
            status.setdefault(key, {})[code] = status.get(key, {}).get(code, 0) + int(gained.count)
        sent = _totals(sizes, _route)
        found = [
            RouteStats(*key, tally.stats(until - since), tally.all.total, status[key], int(sent.get(key, 0)))
            for key, tally in tallies.items()
        ]
        return sorted(found, key=lambda one: -one.total_seconds)

    def databases(self, since: float, until: float) -> list[CallStats]:
        """Return every statement of a time, those first that took most time in all."""
        return self._calls(families.DB_DURATION.name, since, until, _statement)

    def outgoing(self, since: float, until: float) -> list[CallStats]:
        """Return every host that was asked in a time, those first that took most time in all."""
        return self._calls(families.HTTP_CLIENT_DURATION.name, since, until, _host)

    def caches(self, since: float, until: float) -> list[CacheStats]:
        """Return every cache of a time, the most used first."""
        with self._open_database().reading() as connection:
            commands = rollups.read(connection, families.CACHE_DURATION.name, since, until)
            gets = rollups.read(connection, families.CACHE_GETS.name, since, until)
        tallies = _tallies(commands, _cache)
        found = _totals(gets, lambda labels: (*_cache(labels), labels["result"]))
        stats = [
            CacheStats(
                *key, int(found.get((*key, "hit"), 0)), int(found.get((*key, "miss"), 0)), tally.stats(until - since)
            )
            for key, tally in tallies.items()
        ]
        return sorted(stats, key=lambda one: -one.stats.count)

    def models(self, since: float, until: float) -> list[ModelStats]:
        """Return every model of a time, the dearest first."""
        with self._open_database().reading() as connection:
            durations = rollups.read(connection, families.LLM_DURATION.name, since, until)
            chunks = rollups.read(connection, families.LLM_FIRST_CHUNK.name, since, until)
            amounts = {
                declaration.name: _totals(rollups.read(connection, declaration.name, since, until), _model)
                for declaration in _MODEL_AMOUNTS
            }
        first = {key: tally.stats(0).p50_seconds for key, tally in _tallies(chunks, _model).items()}
        found = []
        for key, tally in _tallies(durations, _model).items():
            given, answered, cost, unpriced, missing = (amounts[one.name].get(key, 0.0) for one in _MODEL_AMOUNTS)
            found.append(
                ModelStats(
                    *key,
                    stats=tally.stats(until - since),
                    input_tokens=int(given),
                    output_tokens=int(answered),
                    cost_usd=cost,
                    unpriced_calls=int(unpriced),
                    usage_missing=int(missing),
                    first_chunk_p50_seconds=first.get(key),
                )
            )
        return sorted(found, key=lambda one: (-one.cost_usd, -one.stats.count))

    def model_series(self, since: float, until: float) -> list[tuple[int, int, int, float]]:
        """Return calls, tokens and known cost of all models, bucket by bucket, without gaps."""
        step = rollups.resolution_for(since, until)
        with self._open_database().reading() as connection:
            calls = _by_bucket(connection, (families.LLM_DURATION.name,), since, until, step, "count")
            tokens = _by_bucket(
                connection, (families.LLM_INPUT_TOKENS.name, families.LLM_OUTPUT_TOKENS.name), since, until, step
            )
            cost = _by_bucket(connection, (families.LLM_COST.name,), since, until, step)
        return [
            (bucket, int(calls.get(bucket, 0)), int(tokens.get(bucket, 0)), cost.get(bucket, 0.0))
            for bucket in buckets(since, until, step)
        ]

    def agents(self, since: float, until: float) -> list[AgentStats]:
        """Return every agent of a time, the dearest first."""

        with self._open_database().reading() as connection:
            runs = rollups.read(connection, families.AGENT_DURATION.name, since, until)
            calls, tokens, cost = (
                _totals(rollups.read(connection, declaration.name, since, until), _agent)
                for declaration in (families.AGENT_CALLS, families.AGENT_TOKENS, families.AGENT_COST)
            )
        found = [
            AgentStats(
                agent,
                tally.stats(until - since),
                int(calls.get(agent, 0)),
                int(tokens.get(agent, 0)),
                cost.get(agent, 0.0),
            )
            for agent, tally in _tallies(runs, _agent).items()
        ]
        return sorted(found, key=lambda one: (-one.cost_usd, -one.stats.count))

    def gauge_series(self, metric: str, since: float, until: float) -> list[tuple[int, float | None]]:
        """Return the mean of a gauge, summed over its label sets, bucket by bucket."""
        step = rollups.resolution_for(since, until)
        sums: dict[int, float] = {}
        with self._open_database().reading() as connection:
            for one in rollups.read(connection, metric, since, until, step):
                for bucket, gained in one.buckets.items():
                    sums[bucket] = sums.get(bucket, 0.0) + gained.total / gained.count
        return [(bucket, sums.get(bucket)) for bucket in buckets(since, until, step)]

    def kept(self, wanted: RequestFilter) -> list[KeptRequest]:
        """Return kept requests that fit, the newest or the slowest first."""
        with self._open_database().reading() as connection:
            return requests.find(connection, wanted)

    def request(self, request_id: str) -> RequestDetail | None:
        """Return one kept request with its spans and lines, None where it was not kept."""
        with self._open_database().reading() as connection:
            return requests.read(connection, request_id)

    def _requests(
        self, since: float, until: float, method: str, route: str, step: int | None = None
    ) -> list[SeriesGains]:
        with self._open_database().reading() as connection:
            found = rollups.read(connection, REQUEST_DURATION.name, since, until, step)
        return [
            one
            for one in found
            if route in ("", one.labels["http_route"]) and method in ("", one.labels["http_request_method"])
        ]

    def _calls(
        self, metric: str, since: float, until: float, key_of: Callable[[Mapping[str, str]], tuple[str, str, str]]
    ) -> list[CallStats]:
        with self._open_database().reading() as connection:
            tallies = _tallies(rollups.read(connection, metric, since, until), key_of)
        found = [
            CallStats(name, system, operation, tally.stats(until - since), tally.all.total)
            for (name, system, operation), tally in tallies.items()
        ]
        return sorted(found, key=lambda one: -one.total_seconds)


def buckets(since: float, until: float, step: int) -> range:
    """Return the starts of the buckets that a time touches."""
    return range(int(since // step) * step, int(until // step) * step + 1, step)


_MODEL_AMOUNTS = (
    families.LLM_INPUT_TOKENS,
    families.LLM_OUTPUT_TOKENS,
    families.LLM_COST,
    families.LLM_UNPRICED,
    families.LLM_USAGE_MISSING,
)


def _tallies(series: Iterable[SeriesGains], key_of: Callable[[Mapping[str, str]], Key]) -> dict[Key, _Tally]:
    tallies: dict[Key, _Tally] = {}
    for one in series:
        tallies.setdefault(key_of(one.labels), _Tally()).add(one.sum(), _failed(one.labels))
    return tallies


def _totals(series: Iterable[SeriesGains], key_of: Callable[[Mapping[str, str]], Key]) -> dict[Key, float]:
    totals: dict[Key, float] = {}
    for one in series:
        key = key_of(one.labels)
        totals[key] = totals.get(key, 0.0) + one.sum().total
    return totals


def _by_bucket(
    connection: Connection, metrics: Sequence[str], since: float, until: float, step: int, what: str = "total"
) -> dict[int, float]:
    sums: dict[int, float] = {}
    for metric in metrics:
        for one in rollups.read(connection, metric, since, until, step):
            for bucket, gained in one.buckets.items():
                sums[bucket] = sums.get(bucket, 0.0) + (gained.count if what == "count" else gained.total)
    return sums


def _point(bucket: int, tally: _Tally | None, step: int) -> Point:
    stats = (tally or _Tally()).stats(step)
    return Point(bucket, stats.count, stats.errors, stats.p50_seconds, stats.p95_seconds, stats.p99_seconds)


def _failed(labels: Mapping[str, str]) -> bool:
    return bool(labels.get("error_type"))


def _route(labels: Mapping[str, str]) -> tuple[str, str]:
    return labels["http_request_method"], labels["http_route"]


def _statement(labels: Mapping[str, str]) -> tuple[str, str, str]:
    return labels["db_query_summary"], labels["db_system_name"], labels["db_operation_name"]


def _host(labels: Mapping[str, str]) -> tuple[str, str, str]:
    method, host = labels["http_request_method"], labels["server_address"]
    return f"{method} {host}", host, method


def _model(labels: Mapping[str, str]) -> tuple[str, str, str]:
    return labels["gen_ai_provider_name"], labels["gen_ai_request_model"], labels["gen_ai_operation_name"]


def _agent(labels: Mapping[str, str]) -> str:
    return labels["gen_ai_agent_name"]


def _cache(labels: Mapping[str, str]) -> tuple[str, str]:
    return labels["cache"], labels["cache_system"]
