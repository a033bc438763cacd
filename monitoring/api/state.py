"""The pack's own state: who answers, what is degraded, and the sentence that says how it goes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Final, Literal

from ..alerting.reports import EpisodeRow
from ..cells import Totals
from ..performance_tracker import Stats
from ..store import leases
from ..store.database import StoreUnusable
from ..store.errors import GroupRow
from .readers import Readers
from .shapes import MetaShape

State = Literal["ok", "warning", "critical"]

_OPENINGS: Final[Mapping[State, str]] = {"ok": "Healthy.", "warning": "Look here.", "critical": "Something is wrong."}
_LINES_DROPPED: Final = "monitoring_log_lines_dropped_total"
_FACTS_DROPPED: Final = "monitoring_facts_dropped_total"
OWN_COUNTERS: Final = (
    _LINES_DROPPED,
    _FACTS_DROPPED,
    "monitoring_series_dropped_total",
    "monitoring_store_failures_total",
    "monitoring_internal_failures_total",
)
"""What the pack counts of its own troubles: all of them 0 when all is well."""


def meta(readers: Readers, totals: Totals, now: float) -> MetaShape:
    """Return what is known of the pack itself. Never raises for a store that cannot be used: that is told."""
    flusher = readers.background.flusher
    flushed_at = flusher.last_flush_at if flusher is not None else None
    degraded = list(_degraded(readers))
    leader = ""
    try:
        database = readers.open_database()
        with database.reading() as connection:
            leader = leases.holder(connection, "store", now)
        size = database.size_bytes()
    except StoreUnusable as error:
        degraded.append(unreadable(error))
        size = 0
    config = readers.config
    return MetaShape(
        service=config.service,
        environment=config.environment,
        version=_version(),
        now=now,
        workers=len(totals.living),
        leader=leader,
        last_flush_seconds=None if flushed_at is None else max(0.0, time.time() - flushed_at),
        facts_dropped=int(total(totals, _FACTS_DROPPED)),
        lines_dropped=int(total(totals, _LINES_DROPPED)),
        store_bytes=size,
        degraded=degraded,
    )


def total(totals: Totals, metric: str) -> float:
    """Return the sum of a metric over its label sets."""
    found = totals.metrics.get(metric)
    return sum(one.value for one in found.series.values()) if found else 0.0


def unreadable(error: Exception) -> str:
    """Return the sentence that says why the store cannot be read."""
    return f"The store cannot be read now: {_clause(error)}."


def _degraded(readers: Readers) -> Iterable[str]:
    if readers.metrics.registry.degraded:
        yield f"Metrics are degraded: {_clause(readers.metrics.registry.degraded)}."
    flusher = readers.background.flusher
    if flusher is not None and flusher.failing:
        yield f"Nothing is stored at the moment, which is tried again each second: {_clause(flusher.failing)}."


def _clause(reason: object) -> str:
    return str(reason).strip().rstrip(".")


def sentence(
    requests: Stats, groups: Iterable[GroupRow], alerts: Iterable[EpisodeRow], since: float, until: float
) -> tuple[str, State]:
    """Return how it goes from ``since`` until ``until``, in a sentence and in a word."""
    firing = [alert for alert in alerts if alert.state == "firing" and not alert.acked_by]
    fresh = [group for group in groups if group.first_seen >= since or group.status == "regressed"]
    word: State = "warning" if firing or fresh else "ok"
    if any(alert.severity == "critical" for alert in firing):
        word = "critical"
    parts = [f"{requests.count:,} requests in {_length(until - since)}"]
    if requests.p95_seconds is not None:
        parts.append(f"p95 {_duration(requests.p95_seconds)}")
    parts.append(f"{requests.errors:,} {'error' if requests.errors == 1 else 'errors'}")
    said = f"{_OPENINGS[word]} {', '.join(parts)}"
    if fresh:
        said += f" (new: {fresh[0].title})"
    if firing:
        said += f"; {len(firing)} {'alert' if len(firing) == 1 else 'alerts'}: {firing[0].summary.rstrip('.')}"
    return f"{said}.", word


def _length(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{round(seconds / size, 1):g} {unit}"
    return f"{seconds:.0f} s"


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.1f} s"
        if seconds >= 1
        else f"{seconds * 1000:.0f} ms"
        if seconds >= 0.01
        else f"{seconds * 1000:.1f} ms"
    )


def _version() -> str:
    try:
        return version("monitoring-kit")
    except PackageNotFoundError:
        return ""
