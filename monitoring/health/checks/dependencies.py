"""Whether a dependency serves the app's own calls: health from real traffic, without a call of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..results import Reading
from ..traffic import RECENT, WINDOW_SECONDS, DependencyKind, Recent
from .limits import check_limits, judged
from .telling import Answer, telling

NO_TRAFFIC: Final = "no traffic"


def traffic(
    kind: DependencyKind,
    name: str,
    *,
    warn_error_rate: float = 0.05,
    fail_error_rate: float | None = 0.5,
    min_calls: int = 5,
    window_seconds: int = 60,
) -> Callable[[], Answer]:
    """Check the share of failed calls to a dependency in the last seconds, as wrapped clients report them.

    ``name`` is what the metrics have: the database's system, the cache's name, the server's host, the LLM's provider.
    Below ``min_calls`` it passes, with the output ``no traffic``. It sees the calls of its own process: add it with
    ``per_process=True``. Raise ValueError for limits that are none, and a window over 300 seconds.
    """
    if kind not in ("db", "cache", "http", "llm"):
        raise ValueError(f"traffic() was given the kind {kind!r}; pass 'db', 'cache', 'http' or 'llm'.")
    if not 1 <= window_seconds <= WINDOW_SECONDS:
        raise ValueError(f"traffic() was given window_seconds={window_seconds!r}; pass 1 to {WINDOW_SECONDS} seconds.")
    check_limits("traffic", warn_error_rate, fail_error_rate)
    RECENT.watch(kind)

    def look() -> Reading:
        recent = RECENT.of(kind, name, window_seconds)
        if recent.calls < max(1, min_calls):
            return Reading("pass", NO_TRAFFIC)
        status = judged(recent.error_rate, warn_error_rate, fail_error_rate)
        return Reading(
            status,
            "" if status == "pass" else _words(recent, window_seconds),
            round(recent.error_rate, 4),
            "ratio",
            "error_rate",
            "datastore" if kind in ("db", "cache") else "component",
        )

    return telling(look)


def _words(recent: Recent, window_seconds: int) -> str:
    mean = f"{1000 * recent.mean_seconds:.0f} ms on average"
    return f"{recent.errors} of {recent.calls} calls failed in {window_seconds} s, {mean}"
