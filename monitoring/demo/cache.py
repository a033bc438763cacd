"""A small cache in the process: bounded in size, forgetful by age, safe under threads. And its adapter."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from monitoring.calls import CacheCall
from monitoring.integrations import register_adapter
from monitoring.integrations.attachment import Detach, Link, observing, replace_attribute

Value = TypeVar("Value")


class TTLCache(Generic[Value]):
    """Keep up to `max_entries` values for `ttl_seconds` each; the least recently used one goes first.

    Every worker process has its own. Safe to use from several threads.
    """

    def __init__(self, *, max_entries: int, ttl_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_entries = max_entries
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, tuple[float, Value]] = OrderedDict()

    def get(self, key: str) -> Value | None:
        """Return the value kept under `key`, or None if there is none or it is too old."""
        with self._lock:
            expires_at, value = self._entries.get(key, (0.0, None))
            if value is None:
                return None
            if expires_at <= self._clock():
                del self._entries[key]
                return None
            self._entries.move_to_end(key)
            return value

    def set(self, key: str, value: Value) -> None:
        """Keep `value` under `key`, from now on."""
        with self._lock:
            self._entries[key] = (self._clock() + self._ttl_seconds, value)
            self._entries.move_to_end(key)
            if len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)


class TTLCacheAdapter:
    """Lets `monitoring.wrap` take a TTLCache: what an app does for a client that the pack does not know."""

    def carrier(self, client: TTLCache[Any]) -> TTLCache[Any]:
        """Return what is instrumented."""
        return client

    def attach(self, client: TTLCache[Any], link: Link) -> Detach:
        """Report each look-up as a hit or a miss."""

        def describe(args: tuple[Any, ...], started: float, found: Any, error: BaseException | None) -> CacheCall:
            call = CacheCall(started, error)
            call.name, call.system, call.cache = "get", "memory", link.name or "default"
            call.hits, call.misses = (0, 1) if found is None else (1, 0)
            return call

        return replace_attribute(client, "get", observing(link, describe, client.get))


register_adapter(TTLCache, TTLCacheAdapter())
