"""What the app's own calls tell of a dependency: a sink that remembers of each the last minutes, second by second."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from ..calls import CacheCall, Call, DatabaseCall, HTTPCall, LLMCall
from ..observation import Kind
from ..recorder import Fold

DependencyKind = Literal["db", "cache", "http", "llm"]

WINDOW_SECONDS: Final = 300
"""The longest time that can be asked for."""
_NAMES: Final = 200
"""Most dependencies; those that come later are not remembered."""
_CALLERS_FAULT: Final = frozenset(
    {
        "IntegrityError", "ProgrammingError", "DataError", "NotSupportedError", "ResponseError", "WrongTypeError",
        "UniqueViolation", "ForeignKeyViolation", "NotNullViolation", "CheckViolation", "ExclusionViolation",
        "UndefinedTable", "UndefinedColumn", "UndefinedFunction", "SyntaxError", "InvalidTextRepresentation",
        "StringDataRightTruncation", "NumericValueOutOfRange", "DivisionByZero",
        "BadRequestError", "NotFoundError", "ConflictError", "UnprocessableEntityError",
    }
)  # fmt: skip
"""Classes of exceptions by which a dependency that is well refuses what it was asked."""


@dataclass(frozen=True, slots=True)
class Recent:
    """Calls of the last seconds, how many of them failed, and how long all took together."""

    calls: int = 0
    errors: int = 0
    seconds: float = 0.0

    @property
    def error_rate(self) -> float:
        """Return the share that failed, 0 without calls."""
        return self.errors / self.calls if self.calls else 0.0

    @property
    def mean_seconds(self) -> float:
        """Return the mean time of a call, 0 without calls."""
        return self.seconds / self.calls if self.calls else 0.0


class RecentTraffic:
    """Counts the calls of this process by dependency: a database by its system, a cache by its name, a server by its
    host, an LLM by its provider. Only kinds that somebody watches, for it costs a microsecond a call. Thread-safe;
    about 15 kB per dependency at most.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._watched: set[DependencyKind] = set()
        self._rings: dict[tuple[DependencyKind, str], _Ring] = {}
        self._lock = threading.Lock()

    def watch(self, kind: DependencyKind) -> None:
        """Count the calls of a kind from now on."""
        self._watched.add(kind)

    def folds(self) -> Mapping[Kind, Fold]:
        """Return how each kind of call is counted."""
        return {
            "db": self._fold_database,
            "cache": self._fold_cache,
            "http": self._fold_http,
            "llm": self._fold_llm,
        }

    def forget(self) -> None:
        """Begin anew, as in a forked child: the calls and a lock that is held are its parent's."""
        self._rings = {}
        self._lock = threading.Lock()

    def of(self, kind: DependencyKind, name: str, window_seconds: int) -> Recent:
        """Return the calls to one dependency in the last seconds, this one among them."""
        with self._lock:
            ring = self._rings.get((kind, name))
            return ring.last(int(self._clock()), window_seconds) if ring is not None else Recent()

    def _fold_database(self, call: DatabaseCall) -> None:
        if "db" in self._watched:
            self._count("db", call.system, call)

    def _fold_cache(self, call: CacheCall) -> None:
        if "cache" in self._watched:
            self._count("cache", call.cache, call)

    def _fold_http(self, call: HTTPCall) -> None:
        if "http" in self._watched:
            self._count("http", call.host, call)

    def _fold_llm(self, call: LLMCall) -> None:
        if "llm" in self._watched:
            self._count("llm", call.provider, call)

    def _count(self, kind: DependencyKind, name: str, call: Call) -> None:
        with self._lock:
            ring = self._rings.get((kind, name))
            if ring is None:
                if len(self._rings) >= _NAMES:
                    return
                ring = self._rings[kind, name] = _Ring()
            ring.add(int(self._clock()), has_failed(call), call.duration_seconds)


class _Ring:
    """Calls by second: the place of a second is used again when the window has gone round."""

    __slots__ = ("_places",)

    def __init__(self) -> None:
        self._places: dict[int, tuple[int, int, int, float]] = {}

    def add(self, second: int, failed: bool, seconds: float) -> None:
        place = second % WINDOW_SECONDS
        when, calls, errors, took = self._places.get(place, (second, 0, 0, 0.0))
        if when != second:
            calls, errors, took = 0, 0, 0.0
        self._places[place] = (second, calls + 1, errors + failed, took + seconds)

    def last(self, now: int, window_seconds: int) -> Recent:
        inside = [place for place in self._places.values() if now - window_seconds < place[0] <= now]
        return Recent(sum(one[1] for one in inside), sum(one[2] for one in inside), sum(one[3] for one in inside))


def has_failed(call: Call) -> bool:
    """Say whether a call failed by its dependency: neither cancelled, nor refused because of what was asked."""
    if isinstance(call, HTTPCall) and call.status >= 500:
        return True
    return call.outcome == "error" and call.error_type not in _CALLERS_FAULT


RECENT: Final = RecentTraffic()
"""That of this process. The assembly hands it the calls; ``monitoring.health.checks.traffic`` reads it."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=RECENT.forget)
