"""Numbers of the read side in the API's shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from ..performance_tracker import CacheStats, CallStats, Point, QueryStats, RouteStats, Stats
from .shapes import (
    CacheShape,
    CallShape,
    PointsShape,
    PrefixShape,
    QueriesShape,
    RouteShape,
    StatementShape,
    StatsShape,
)

ROWS: Final = 100


def stats(given: Stats) -> StatsShape:
    """Return stats as they are answered."""
    return StatsShape(**fields(given))


def fields(given: Stats) -> dict[str, Any]:
    """Return the fields that every row with stats has."""
    return {
        "count": given.count,
        "rate_per_second": given.rate_per_second,
        "errors": given.errors,
        "error_rate": given.error_rate,
        "mean_seconds": given.mean_seconds,
        "p50_seconds": given.p50_seconds,
        "p95_seconds": given.p95_seconds,
        "p99_seconds": given.p99_seconds,
    }


def points(series: Sequence[Point]) -> PointsShape:
    """Return a time series as parallel lists."""
    return PointsShape(
        t=[point.at for point in series],
        count=[point.count for point in series],
        errors=[point.errors for point in series],
        p50_seconds=[point.p50_seconds for point in series],
        p95_seconds=[point.p95_seconds for point in series],
        p99_seconds=[point.p99_seconds for point in series],
    )


def route(given: RouteStats, queries: Mapping[str, QueryStats]) -> RouteShape:
    """Return one route, with the ``queries`` of all by their route."""
    return RouteShape(
        method=given.method,
        route=given.route,
        status=given.status,
        bytes_sent=given.bytes_sent,
        queries=queries_of(given.route, queries),
        **fields(given.stats),
    )


def queries_of(route: str, queries: Mapping[str, QueryStats]) -> QueriesShape:
    """Return the database statements of one route."""
    return QueriesShape(**asdict(queries.get(route, QueryStats())))


def statement(given: CallStats) -> StatementShape:
    """Return one database statement."""
    return StatementShape(
        kind="db",
        name=given.name,
        system=given.system,
        operation=given.operation,
        slow=given.slow,
        repeated=given.repeated,
        **fields(given.stats),
    )


def call(kind: str, given: CallStats) -> CallShape:
    """Return one statement or host."""
    return CallShape(kind=kind, name=given.name, system=given.system, operation=given.operation, **fields(given.stats))


def cache(given: CacheStats) -> CacheShape:
    """Return one cache."""
    return CacheShape(
        cache=given.cache,
        system=given.system,
        hits=given.hits,
        misses=given.misses,
        hit_rate=given.hit_rate,
        prefixes=[
            PrefixShape(prefix=one.prefix, hits=one.hits, misses=one.misses, hit_rate=one.hit_rate)
            for one in given.prefixes
        ],
        **fields(given.stats),
    )
