"""Performance: rates, errors and percentiles by route, statement, cache, model and agent over any time.

All of it is read from roll-ups of the metric cells: exact counts over all workers, percentiles within 2 %. Single
requests are those that were kept. Times are unix seconds, and a time is widened to whole buckets; rates are per second
of the widened time. What the caller ended (a client that left, a stream that was closed early) is no error.
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from . import families
from .cells import Declaration
from .metrics import BODY_SIZE, REQUEST_DURATION
from .store import requests, rollups, sketches
from .store.database import Database
from .store.requests import KeptRequest, RequestDetail, RequestFilter
from .store.retention import Retention
from .store.rollups import Gained, SeriesGains

QUANTILES: Final = (0.5, 0.95, 0.99)
Key = TypeVar("Key")

_HOURS_KEPT_SECONDS: Final = Retention().hours_days * rollups.DAY
_NO_FAILURES: Final = frozenset(
    {"client_disconnected", "aborted", "cancelled", "abandoned", "closed_early", "CancelledError"}
)
"""Values of ``error_type`` that say who ended it, and not that it failed."""


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
class QueryStats:
    """Database statements per request, of a route's requests that sent any, and of how many some were repeated.

    ``repeated`` counts each statement of each request that repeated it.
    """

    requests: int = 0
    mean: float | None = None
    p50: int | None = None
    p95: int | None = None
    repeated: int = 0


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
    """One statement, or one host and method: see ``Stats``. ``slow`` and ``repeated`` are told of statements only."""

    name: str
    system: str
    operation: str
    stats: Stats
    total_seconds: float
    slow: int = 0
    """Calls that took longer than was asked for, as far as buckets tell: within 2 % of that time."""
    repeated: int = 0
    """Requests that repeated the statement, whatever its system."""


@dataclass(frozen=True, slots=True)
class PrefixStats:
    """The look-ups of one kind of key, named by what stands before the first colon."""

    prefix: str
    hits: int
    misses: int

    @property
    def hit_rate(self) -> float | None:
        """Return hits over look-ups; None before the first."""
        return _rate(self.hits, self.misses)


@dataclass(frozen=True, slots=True)
class CacheStats:
    """One cache: its look-ups by key, its commands as ``Stats`` (none of a cache in memory), and its kinds of keys,
    the most asked first.
    """

    cache: str
    system: str
    hits: int
    misses: int
    stats: Stats
    prefixes: Sequence[PrefixStats] = ()

    @property
    def hit_rate(self) -> float | None:
        """Return hits over look-ups; None before the first."""
        return _rate(self.hits, self.misses)


def _rate(hits: int, misses: int) -> float | None:
    looked_up = hits + misses
    return hits / looked_up if looked_up else None


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

    def above(self, threshold: float, metric: Declaration) -> int:
        share = sketches.share_above(self.all.counts, sketches.scale_name(metric), threshold)
        return round((share or 0.0) * self.all.count)

    def stats(self, period_seconds: float, unit: str = "seconds") -> Stats:
        count = self.all.count
        mean = self.all.total / count if count else None
        percentiles = sketches.quantiles(self.all.counts, unit, QUANTILES)
        return Stats(int(count), int(self.errors), period_seconds, mean, *percentiles)


@dataclass(frozen=True, slots=True)
class _Period:
    """A time in whole buckets of ``step`` seconds, from ``begin`` until before ``end``; ``seconds`` of it are over."""

    begin: int
    end: int
    step: int
    seconds: float

    @property
    def buckets(self) -> range:
        return range(self.begin, self.end, self.step)


class PerformanceTracker:
    """Reads the store. Thread-safe; every method raises StoreUnusable when the store cannot be read."""

    def __init__(
        self,
        open_database: Callable[[], Database],
        *,
        clock: Callable[[], float] = time.time,
        minutes_days: float = 7.0,
    ) -> None:
        """``minutes_days`` is how long roll-ups by the minute are kept: older times are read by the hour."""
        self._open_database = open_database
        self._clock = clock
        self._minutes_seconds = minutes_days * rollups.DAY

    def requests(self, since: float, until: float, *, method: str = "", route: str = "") -> Stats:
        """Return how all requests of a time went, or those of one route."""
        return self._stats(self._period(since, until), method, route)

    def requests_before(self, since: float, until: float, *, method: str = "", route: str = "") -> Stats:
        """Return how requests of the time of the same length before went: no bucket belongs to both."""
        period = self._period(since, until)
        begin = _floor(since - (until - since), period.step)
        before = _Period(begin, period.begin, period.step, float(period.begin - begin))
        return self._stats(before, method, route)

    def series(self, since: float, until: float, *, method: str = "", route: str = "") -> list[Point]:
        """Return the same bucket by bucket, without gaps."""
        period = self._period(since, until)
        tallies: dict[int, _Tally] = {}
        for one in self._requests(period, method, route):
            for bucket, gained in one.buckets.items():
                tallies.setdefault(bucket, _Tally()).add(gained, is_failure(one.labels))
        return [_point(bucket, tallies.get(bucket), period.step) for bucket in period.buckets]

    def routes(self, since: float, until: float) -> list[RouteStats]:
        """Return every route of a time, those first that took most time in all."""
        period = self._period(since, until)
        durations, sizes = self._read(period, REQUEST_DURATION, BODY_SIZE)
        status: dict[tuple[str, str], Counter[str]] = {}
        for one in durations:
            status.setdefault(_route(one.labels), Counter())[one.labels["http_response_status_code"]] += int(
                one.sum().count
            )
        sent = _totals(sizes, _route)
        found = [
            RouteStats(*key, tally.stats(period.seconds), tally.all.total, status[key], int(sent.get(key, 0)))
            for key, tally in _tallies(durations, _route).items()
        ]
        return sorted(found, key=lambda one: -one.total_seconds)

    def databases(self, since: float, until: float, *, slow_seconds: float = 0.5) -> list[CallStats]:
        """Return every statement of a time, those first that took most time in all."""
        period = self._period(since, until)
        durations, repeated = self._read(period, families.DB_DURATION, families.DB_REPEATED_QUERIES)
        times = _totals(repeated, lambda labels: labels["db_query_summary"])
        found = [
            CallStats(
                *key,
                tally.stats(period.seconds),
                tally.all.total,
                slow=tally.above(slow_seconds, families.DB_DURATION),
                repeated=int(times.get(key[0], 0)),
            )
            for key, tally in _tallies(durations, _statement).items()
        ]
        return sorted(found, key=lambda one: -one.total_seconds)

    def queries(self, since: float, until: float) -> dict[str, QueryStats]:
        """Return how many statements the requests of each route sent, by route."""
        counted, repeated = self._read(
            self._period(since, until), families.DB_QUERIES_PER_REQUEST, families.DB_REPEATED_QUERIES
        )
        times = _totals(repeated, _template)
        return {
            route: _queries(tally, int(times.get(route, 0))) for route, tally in _tallies(counted, _template).items()
        }

    def repeated(self, since: float, until: float, route: str) -> list[tuple[str, int]]:
        """Return the statements that requests of a route repeated, and how many of them did, most first."""
        (found,) = self._read(self._period(since, until), families.DB_REPEATED_QUERIES)
        of_route = [one for one in found if one.labels["http_route"] == route]
        totals = _totals(of_route, lambda labels: labels["db_query_summary"])
        return sorted(((name, int(times)) for name, times in totals.items() if times), key=lambda one: -one[1])

    def outgoing(self, since: float, until: float) -> list[CallStats]:
        """Return every host that was asked in a time, those first that took most time in all."""
        return self._calls(families.HTTP_CLIENT_DURATION, since, until, _host)

    def caches(self, since: float, until: float) -> list[CacheStats]:
        """Return every cache of a time, the most used first: by its commands, or by its look-ups if those are more."""
        period = self._period(since, until)
        commands, gets, by_prefix = self._read(
            period, families.CACHE_DURATION, families.CACHE_GETS, families.CACHE_PREFIX_GETS
        )
        found = _totals(gets, lambda labels: (*_cache(labels), labels["result"]))
        prefixes = _prefixes(by_prefix)
        tallies = {key[:2]: _Tally() for key in found} | _tallies(commands, _cache)
        stats = [
            CacheStats(
                *key,
                int(found.get((*key, "hit"), 0)),
                int(found.get((*key, "miss"), 0)),
                tally.stats(period.seconds),
                prefixes.get(key[0], ()),
            )
            for key, tally in tallies.items()
        ]
        return sorted(stats, key=lambda one: -max(one.stats.count, one.hits + one.misses))

    def models(self, since: float, until: float) -> list[ModelStats]:
        """Return every model of a time, the dearest first."""
        period = self._period(since, until)
        durations, chunks, *others = self._read(
            period, families.LLM_DURATION, families.LLM_FIRST_CHUNK, *_MODEL_AMOUNTS
        )
        amounts = [_totals(series, _model) for series in others]
        first = {key: tally.stats(0).p50_seconds for key, tally in _tallies(chunks, _model).items()}
        found = []
        for key, tally in _tallies(durations, _model).items():
            given, answered, cost, unpriced, missing = (amount.get(key, 0.0) for amount in amounts)
            found.append(
                ModelStats(
                    *key,
                    stats=tally.stats(period.seconds),
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
        period = self._period(since, until)
        durations, given, answered, spent = self._read(
            period, families.LLM_DURATION, families.LLM_INPUT_TOKENS, families.LLM_OUTPUT_TOKENS, families.LLM_COST
        )
        calls, tokens, cost = _by_bucket(durations), _by_bucket([*given, *answered]), _by_bucket(spent)
        return [
            (bucket, int(calls[bucket].count), int(tokens[bucket].total), cost[bucket].total)
            for bucket in period.buckets
        ]

    def agents(self, since: float, until: float) -> list[AgentStats]:
        """Return every agent of a time, the dearest first."""
        period = self._period(since, until)
        runs, *amounts = self._read(
            period, families.AGENT_DURATION, families.AGENT_CALLS, families.AGENT_TOKENS, families.AGENT_COST
        )
        calls, tokens, cost = (_totals(series, _agent) for series in amounts)
        found = [
            AgentStats(
                agent,
                tally.stats(period.seconds),
                int(calls.get(agent, 0)),
                int(tokens.get(agent, 0)),
                cost.get(agent, 0.0),
            )
            for agent, tally in _tallies(runs, _agent).items()
        ]
        return sorted(found, key=lambda one: (-one.cost_usd, -one.stats.count))

    def tools(self, since: float, until: float) -> list[tuple[str, Stats]]:
        """Return how every tool of agents did in a time, the busiest first."""
        period = self._period(since, until)
        (calls,) = self._read(period, families.TOOL_DURATION)
        found = [(tool, tally.stats(period.seconds)) for tool, tally in _tallies(calls, _tool).items()]
        return sorted(found, key=lambda one: -one[1].count)

    def gauge_series(self, gauge: Declaration, since: float, until: float) -> list[tuple[int, float | None]]:
        """Return the mean of a gauge bucket by bucket, summed over its label sets; None where nobody looked."""
        period = self._period(since, until)
        sums: dict[int, float] = {}
        (found,) = self._read(period, gauge)
        for one in found:
            for bucket, gained in one.buckets.items():
                sums[bucket] = sums.get(bucket, 0.0) + gained.total / gained.count
        return [(bucket, sums.get(bucket)) for bucket in period.buckets]

    def kept(self, wanted: RequestFilter) -> list[KeptRequest]:
        """Return kept requests that fit, the newest or the slowest first."""
        with self._open_database().reading() as connection:
            return requests.find(connection, wanted)

    def request(self, request_id: str) -> RequestDetail | None:
        """Return one kept request with its spans and lines, None where it was not kept."""
        with self._open_database().reading() as connection:
            return requests.read(connection, request_id)

    def _period(self, since: float, until: float) -> _Period:
        """Return a time in the finest buckets that are few enough and still kept."""
        now = self._clock()
        step = rollups.resolution_for(since, until)
        for finer, kept_seconds in ((rollups.MINUTE, self._minutes_seconds), (rollups.HOUR, _HOURS_KEPT_SECONDS)):
            if step == finer and since < now - kept_seconds:
                step = rollups.RESOLUTIONS[rollups.RESOLUTIONS.index(step) + 1]
        begin, end = _floor(since, step), -_floor(-until, step)
        return _Period(begin, end, step, max(1.0, min(end, now) - begin))

    def _read(self, period: _Period, *metrics: Declaration) -> list[list[SeriesGains]]:
        with self._open_database().reading() as connection:
            return [rollups.read(connection, metric.name, period.begin, period.end, period.step) for metric in metrics]

    def _requests(self, period: _Period, method: str, route: str) -> list[SeriesGains]:
        (found,) = self._read(period, REQUEST_DURATION)
        return [
            one
            for one in found
            if route in ("", one.labels["http_route"]) and method in ("", one.labels["http_request_method"])
        ]

    def _stats(self, period: _Period, method: str, route: str) -> Stats:
        tally = _Tally()
        for one in self._requests(period, method, route):
            tally.add(one.sum(), is_failure(one.labels))
        return tally.stats(period.seconds)

    def _calls(
        self,
        metric: Declaration,
        since: float,
        until: float,
        key_of: Callable[[Mapping[str, str]], tuple[str, str, str]],
    ) -> list[CallStats]:
        period = self._period(since, until)
        (series,) = self._read(period, metric)
        found = [
            CallStats(*key, tally.stats(period.seconds), tally.all.total)
            for key, tally in _tallies(series, key_of).items()
        ]
        return sorted(found, key=lambda one: -one.total_seconds)


def is_failure(labels: Mapping[str, str]) -> bool:
    """Say whether a series with these labels counts what failed."""
    error = labels.get("error_type", "")
    return error != "" and error not in _NO_FAILURES


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
        tallies.setdefault(key_of(one.labels), _Tally()).add(one.sum(), is_failure(one.labels))
    return tallies


def _totals(series: Iterable[SeriesGains], key_of: Callable[[Mapping[str, str]], Key]) -> dict[Key, float]:
    totals: dict[Key, float] = {}
    for one in series:
        key = key_of(one.labels)
        totals[key] = totals.get(key, 0.0) + one.sum().total
    return totals


def _by_bucket(series: Iterable[SeriesGains]) -> defaultdict[int, Gained]:
    sums: defaultdict[int, Gained] = defaultdict(Gained)
    for one in series:
        for bucket, gained in one.buckets.items():
            sums[bucket].add(gained)
    return sums


def _floor(moment: float, step: int) -> int:
    return math.floor(moment / step) * step


def _point(bucket: int, tally: _Tally | None, step: int) -> Point:
    stats = (tally or _Tally()).stats(step)
    return Point(bucket, stats.count, stats.errors, stats.p50_seconds, stats.p95_seconds, stats.p99_seconds)


def _route(labels: Mapping[str, str]) -> tuple[str, str]:
    return labels["http_request_method"], labels["http_route"]


def _template(labels: Mapping[str, str]) -> str:
    return labels["http_route"]


def _queries(tally: _Tally, repeated: int) -> QueryStats:
    scale = sketches.scale_name(families.DB_QUERIES_PER_REQUEST)
    stats = tally.stats(0, scale)
    p50, p95 = (None if value is None else round(value) for value in (stats.p50_seconds, stats.p95_seconds))
    return QueryStats(stats.count, stats.mean_seconds, p50, p95, repeated)


def _statement(labels: Mapping[str, str]) -> tuple[str, str, str]:
    return labels["db_query_summary"], labels["db_system_name"], labels["db_operation_name"]


def _host(labels: Mapping[str, str]) -> tuple[str, str, str]:
    method, host = labels["http_request_method"], labels["server_address"]
    return f"{method} {host}", host, method


def _model(labels: Mapping[str, str]) -> tuple[str, str, str]:
    return labels["gen_ai_provider_name"], labels["gen_ai_request_model"], labels["gen_ai_operation_name"]


def _agent(labels: Mapping[str, str]) -> str:
    return labels["gen_ai_agent_name"]


def _tool(labels: Mapping[str, str]) -> str:
    return labels["gen_ai_tool_name"]


def _prefixes(series: Iterable[SeriesGains]) -> dict[str, list[PrefixStats]]:
    """Return the kinds of keys of each cache, the most asked first."""
    found = _totals(series, lambda labels: (labels["cache"], labels["key_prefix"], labels["result"]))
    prefixes: dict[str, list[PrefixStats]] = {}
    for cache, prefix in dict.fromkeys(key[:2] for key in found):
        hits, misses = (int(found.get((cache, prefix, result), 0)) for result in ("hit", "miss"))
        prefixes.setdefault(cache, []).append(PrefixStats(prefix, hits, misses))
    return {cache: sorted(members, key=lambda one: -one.hits - one.misses) for cache, members in prefixes.items()}


def _cache(labels: Mapping[str, str]) -> tuple[str, str]:
    return labels["cache"], labels["cache_system"]
