"""The numbers that alert rules ask for, read from the store.

Windows are widened to whole minutes, those of over half a day to whole hours, the running one included; rates are per
second of the widened window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final
from urllib.parse import urlencode

from sqlalchemy import Connection, func, select

from . import families, system_resources
from .alerting.rules import QUERIES, Sample
from .metrics import REQUEST_DURATION
from .performance_tracker import is_failure
from .store import health, rollups, schema, sketches
from .store.database import Database
from .store.rollups import Gained, SeriesGains

_LABELS: Final[Mapping[str, str]] = {
    "route": "http_route",
    "model": "gen_ai_request_model",
    "cache": "cache",
    "budget": "budget",
    "operation": "operation",
    "host": "server_address",
    "quota": "limit",
}
"""What rules call a metric's label."""
_QUANTILES: Final = {"p50_seconds": 0.5, "p95_seconds": 0.95, "p99_seconds": 0.99, "db_p95_seconds": 0.95}
_GAUGES: Final = {
    "cpu_share": system_resources.HOST_CPU.name,
    "memory_share": system_resources.HOST_MEMORY_SHARE.name,
    "disk_share": system_resources.HOST_DISK.name,
}
_COUNTERS: Final = {
    "facts_dropped": families.FACTS_DROPPED.name,
    "store_failures": families.STORE_FAILURES.name,
    "llm_cost_usd": families.LLM_COST.name,
}
_MINUTES_SECONDS: Final = rollups.DAY / 2
"""Longest window that is read by the minute: they are kept for that long at least."""

Labels = Mapping[str, str]
Answer = Callable[[Connection, str, Labels, float, float], Iterable[Sample]]


class StoreNumbers:
    """Answers the queries of rules. Thread-safe; raises StoreUnusable when the store cannot be read."""

    def __init__(self, open_database: Callable[[], Database]) -> None:
        self._open_database = open_database

    def sample(self, query: str, labels: Labels, window_seconds: float, now: float) -> Sequence[Sample]:
        """Return the samples of a query over a window that ends now."""
        asked = QUERIES[query]
        if asked.always_split:
            labels = {**dict.fromkeys(asked.labels, "*"), **labels}
        with self._open_database().reading() as connection:
            return list(_ANSWERS[query](connection, query, labels, now - window_seconds, now))


def _shares_failed(metric: str, page: str) -> Answer:
    def answer(connection: Connection, query: str, labels: Labels, since: float, now: float) -> Iterable[Sample]:
        for split, series in _split(_window(connection, metric, since, now), labels):
            count = sum(one.sum().count for one in series)
            failed = sum(one.sum().count for one in series if is_failure(one.labels))
            if count:
                yield Sample(split, failed / count, count, _link(page, split, since, now))

    return answer


def _quantiles(metric: str, page: str) -> Answer:
    def answer(connection: Connection, query: str, labels: Labels, since: float, now: float) -> Iterable[Sample]:
        for split, series in _split(_window(connection, metric, since, now), labels):
            gained = _together(series)
            (value,) = sketches.quantiles(gained.counts, series[0].unit, [_QUANTILES[query]])
            if value is not None:
                yield Sample(split, value, gained.count, _link(page, split, since, now))

    return answer


def _request_rate(connection: Connection, query: str, labels: Labels, since: float, now: float) -> Iterable[Sample]:
    found = list(_split(_window(connection, REQUEST_DURATION.name, since, now), labels))
    seconds = now - _begin(since, now)
    for split, series in found:
        count = _together(series).count
        yield Sample(split, count / seconds, count, _link("#/routes", split, since, now))
    if not found and "*" not in labels.values():
        yield Sample(dict(labels), 0.0, 0.0, _link("#/routes", labels, since, now))


def _counted(connection: Connection, query: str, labels: Labels, since: float, now: float) -> Iterable[Sample]:
    found = list(_split(_window(connection, _COUNTERS[query], since, now), labels))
    page = _link("#/llm" if query == "llm_cost_usd" else "#/system", {}, since, now)
    for split, series in found:
        total = _together(series).total
        yield Sample(split, total, total, page)
    if not found and "*" not in labels.values():
        yield Sample(dict(labels), 0.0, 0.0, page)


def _gauge(connection: Connection, query: str, labels: Labels, since: float, now: float) -> Iterable[Sample]:
    gained = _together(_window(connection, _GAUGES[query], since, now))
    if gained.count:
        value = gained.total / gained.count if query == "cpu_share" else gained.high  # the fullest of the hosts
        yield Sample({}, value, gained.count, _link("#/system", {}, since, now))


def _quotas(connection: Connection, query: str, labels: Labels, since: float, now: float) -> Iterable[Sample]:
    for split, series in _split(_window(connection, families.RATE_LIMIT_USED.name, since, now), labels):
        gained = _together(series)
        if gained.count:
            yield Sample(split, gained.high, gained.count, _link("#/routes", {}, since, now))


def _hit_rate(connection: Connection, query: str, labels: Labels, since: float, now: float) -> Iterable[Sample]:
    for split, series in _split(_window(connection, families.CACHE_GETS.name, since, now), labels):
        looked_up = sum(one.sum().total for one in series)
        hits = sum(one.sum().total for one in series if one.labels["result"] == "hit")
        if looked_up:
            yield Sample(split, hits / looked_up, looked_up, _link("#/routes", {}, since, now))


def _success_rate(connection: Connection, query: str, labels: Labels, since: float, now: float) -> Iterable[Sample]:
    for split, series in _split(_window(connection, families.OPERATION_DURATION.name, since, now), labels):
        ended = sum(one.sum().count for one in series)
        ok = sum(one.sum().count for one in series if one.labels["outcome"] == "ok")
        if ended:
            yield Sample(split, ok / ended, ended, _link("#/usage", {}, since, now))


def _budgets(connection: Connection, query: str, labels: Labels, since: float, now: float) -> Iterable[Sample]:
    for split, series in _split(_window(connection, families.BUDGET_SPENT.name, since, now), labels):
        gained = _together(series)
        yield Sample(split, gained.high, gained.count, _link("#/llm", {}, since, now))


def _checks(connection: Connection, query: str, labels: Labels, since: float, now: float) -> Iterable[Sample]:
    for state in health.latest(connection, now):
        split = {"check": state.name, "critical": "true" if state.critical else "false"}
        if all(split[label] == value or value == "*" for label, value in labels.items()):
            yield Sample(split, float(state.status == "fail"), 1.0, "#/health")


def _new_errors(connection: Connection, query: str, labels: Labels, since: float, now: float) -> Iterable[Sample]:
    table = schema.error_group
    fresh = (table.c.first_seen >= since) | (table.c.regressed_at >= since)
    count = connection.scalar(select(func.count()).select_from(table).where(fresh)) or 0
    yield Sample({}, float(count), float(count), _link("#/errors", {}, since, now))


def _critical_errors(connection: Connection, query: str, labels: Labels, since: float, now: float) -> Iterable[Sample]:
    """Count occurrences, and not kept events: of a storm only the first are kept."""
    minute, group = schema.error_minute, schema.error_group
    seen = select(func.sum(minute.c.count)).join(group, group.c.id == minute.c.group_id)
    recent = (group.c.level == "critical") & (minute.c.bucket >= since // rollups.MINUTE * rollups.MINUTE)
    count = float(connection.scalar(seen.where(recent)) or 0)
    yield Sample({}, count, count, _link("#/errors", {}, since, now))


_ANSWERS: Final[Mapping[str, Answer]] = {
    "error_rate": _shares_failed(REQUEST_DURATION.name, "#/routes"),
    "request_rate": _request_rate,
    "p50_seconds": _quantiles(REQUEST_DURATION.name, "#/routes"),
    "p95_seconds": _quantiles(REQUEST_DURATION.name, "#/routes"),
    "p99_seconds": _quantiles(REQUEST_DURATION.name, "#/routes"),
    "db_p95_seconds": _quantiles(families.DB_DURATION.name, "#/routes"),
    "llm_cost_usd": _counted,
    "budget_spent": _budgets,
    "llm_error_rate": _shares_failed(families.LLM_DURATION.name, "#/llm"),
    "cache_hit_rate": _hit_rate,
    "operation_success_rate": _success_rate,
    "quota_used_share": _quotas,
    "check_failed": _checks,
    "new_errors": _new_errors,
    "critical_errors": _critical_errors,
    "cpu_share": _gauge,
    "memory_share": _gauge,
    "disk_share": _gauge,
    "facts_dropped": _counted,
    "store_failures": _counted,
}


def _window(connection: Connection, metric: str, since: float, now: float) -> list[SeriesGains]:
    return rollups.read(connection, metric, since, now, _step(since, now))


def _step(since: float, now: float) -> int:
    return rollups.MINUTE if now - since <= _MINUTES_SECONDS else rollups.HOUR


def _begin(since: float, now: float) -> float:
    step = _step(since, now)
    return since // step * step


def _split(series: list[SeriesGains], labels: Labels) -> Iterable[tuple[dict[str, str], list[SeriesGains]]]:
    """Yield the series by the labels that a rule names: those with its value, or with ``*`` one set per value."""
    found: dict[tuple[str, ...], list[SeriesGains]] = {}
    for one in series:
        values = tuple(one.labels[_LABELS[label]] for label in labels)
        if all(wanted in ("*", value) for wanted, value in zip(labels.values(), values)):
            found.setdefault(values, []).append(one)
    for values, members in found.items():
        yield dict(zip(labels, values)), members


def _together(series: Iterable[SeriesGains]) -> Gained:
    whole = Gained()
    for one in series:
        whole.add(one.sum())
    return whole


def _link(page: str, split: Mapping[str, str], since: float, now: float) -> str:
    """Return where on the page a window is seen, also when it is long over."""
    window = {"from": int(since), "to": math.ceil(now)}
    if "route" in split:
        return f"#/route?{urlencode({'route': split['route'], **window})}"
    return f"{page}?{urlencode(window)}"
