"""Statistics of caches in memory, which are asked for now and then instead of being told of each call.

A look-up in a dict takes less time than telling of it. So these caches count for themselves, and each round of the
flusher, and each scrape that this process answers, adds what was gained since the last time. Caches are held weakly.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from . import families
from .cells import Declaration
from .families import CountsMetrics


class Reading(NamedTuple):
    """What a cache says of itself: counts since it was made or cleared, and its size now."""

    hits: float = 0
    misses: float = 0
    puts: float = 0
    removals: float = 0
    evictions: float = 0
    size: float = 0.0


_NOTHING: Final = Reading()


class PolledCache:
    """One cache that is read now and then, from any thread. Counts begin with what is gained from here on.

    ``can_read_in_fork`` says that ``read`` takes no lock: in a forked child another thread may have held it for ever.
    Without that, what is gained between a fork and the child's first round is not counted.
    """

    def __init__(
        self,
        cache: Any,
        read: Callable[[Any], Reading],
        *,
        name: str,
        system: str,
        recorder_of: Callable[[], object],
        can_read_in_fork: bool,
    ) -> None:
        self.labels = (name, system)
        self.recorder_of = recorder_of
        self._cache = weakref.ref(cache)
        self._read = read
        self._can_read_in_fork = can_read_in_fork
        self._last: Reading | None = read(cache)

    @property
    def is_gone(self) -> bool:
        """Return whether nobody has the cache any more."""
        return self._cache() is None

    def gain(self) -> Reading:
        """Return what was counted since the last time, and the size as it is."""
        cache = self._cache()
        if cache is None:
            return _NOTHING
        now, last = self._read(cache), self._last
        self._last = now
        if last is None:
            last = now
        elif now.hits < last.hits or now.misses < last.misses:
            last = _NOTHING  # it was cleared, and has begun anew
        gained = [max(0, ours - former) for ours, former in zip(now, last)]
        return Reading(*gained)._replace(size=now.size)

    def start_anew(self) -> None:
        """Leave what was gained before a fork to the parent."""
        cache = self._cache()
        self._last = self._read(cache) if cache is not None and self._can_read_in_fork else None


_lock = threading.Lock()
_known: dict[int, PolledCache] = {}


def add(cache: PolledCache) -> Callable[[], None]:
    """Have a cache read from now on, and return the function that ends that."""
    _known[id(cache)] = cache

    def remove() -> None:
        _known.pop(id(cache), None)

    return remove


class SetsMetrics(CountsMetrics, Protocol):
    """Where values are counted and set."""

    def set(self, declaration: Declaration, values: tuple[str, ...], value: float) -> None:
        """Set a gauge of this process."""
        ...


class Polled:
    """Adds to the metrics of one Monitoring what the caches that report to it have gained. Thread-safe."""

    def __init__(self, metrics: SetsMetrics, recorder: object, on_failure: Callable[[str, Exception], None]) -> None:
        self._metrics = metrics
        self._recorder = recorder
        self._on_failure = on_failure
        self._sized: set[tuple[str, str]] = set()

    def read(self) -> None:
        """Read all caches once. Never raises: what a cache raises is reported, and the others are read."""
        if not _known and not self._sized:
            return
        with _lock:
            sizes = dict.fromkeys(self._sized, 0.0)
            for cache in list(_known.values()):
                if cache.is_gone:
                    _known.pop(id(cache), None)
                elif cache.recorder_of() is self._recorder:
                    self._read_one(cache, sizes)
            for labels, size in sizes.items():
                self._metrics.set(families.CACHE_SIZE, labels, size)
            self._sized = {labels for labels, size in sizes.items() if size}

    def _read_one(self, cache: PolledCache, sizes: dict[tuple[str, str], float]) -> None:
        try:
            gained = cache.gain()
        except Exception as error:
            self._on_failure("polled", error)
            return
        sizes[cache.labels] = sizes.get(cache.labels, 0.0) + gained.size
        for declaration, values, amount in (
            (families.CACHE_GETS, (*cache.labels, "hit"), gained.hits),
            (families.CACHE_GETS, (*cache.labels, "miss"), gained.misses),
            (families.CACHE_PUTS, cache.labels, gained.puts),
            (families.CACHE_REMOVALS, cache.labels, gained.removals),
            (families.CACHE_EVICTIONS, cache.labels, gained.evictions),
        ):
            if amount:
                self._metrics.add(declaration, values, float(amount))


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()
    for cache in list(_known.values()):
        cache.start_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
