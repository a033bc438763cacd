"""Functions that keep their results and say how often that helped: ``functools.lru_cache``, ``cachetools.cached``.

They are read now and then; a call of one costs nothing more than before.
"""

from __future__ import annotations

from typing import Any

from monitoring import polled
from monitoring.integrations.attachment import Detach, Link
from monitoring.polled import PolledCache, Reading


def carrier(client: Any) -> Any:
    """Return the function itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Have the function's statistics read; nothing of it is replaced."""
    if not callable(getattr(client, "cache_info", None)):
        raise AttributeError(
            "it has no cache_info(), as functions under functools.lru_cache or cachetools.cached(..., info=True) have"
        )
    lock = getattr(client, "cache_lock", None)
    if lock is None and hasattr(getattr(client, "cache", None), "timer"):
        raise AttributeError("another thread cannot read the size of a cache with a clock unless cached() has a lock")
    link.name = link.name or f"{client.__module__}.{client.__qualname__}"
    return polled.add(
        PolledCache(
            client,
            _read,
            name=link.name,
            system="memory",
            recorder_of=link.recorder_of,
            can_read_in_fork=lock is None,
        )
    )


def _read(function: Any) -> Reading:
    told = function.cache_info()
    return Reading(hits=told.hits, misses=told.misses, size=told.currsize)
