"""cachetools' mappings. They count what they are asked, and are read now and then.

``cache[key]`` is looked up on the class, so a wrapped cache is one of a subclass that is made here. Copies and pickles
of it are of the class that it was.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any, Final, cast

from monitoring import polled
from monitoring.integrations.attachment import Detach, Link
from monitoring.polled import PolledCache, Reading

_TALLY: Final = "_monitoring_tally"
_OURS: Final = (_TALLY, "_monitoring")
_ABSENT: Final = object()


class _Tally:
    """What one cache was asked. Not more thread-safe than the cache."""

    __slots__ = ("evictions", "hits", "is_aside", "is_storing", "misses", "puts", "removals")

    def __init__(self) -> None:
        self.hits = self.misses = self.puts = self.removals = self.evictions = 0
        self.is_storing = False
        self.is_aside = False
        """Whether the cache does something of its own, which nobody asked for."""


def carrier(client: Any) -> Any:
    """Return the cache itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Make the cache count, and have its counts read."""
    kind: Any = type(client)
    size = _base(kind).currsize.fget  # that of caches with a clock changes them, which only their owner may do
    setattr(client, _TALLY, _Tally())
    try:
        client.__class__ = _counting(kind)
    except TypeError as error:
        delattr(client, _TALLY)
        raise AttributeError(f"its class leaves no room for counts ({error})") from None

    def read(cache: Any) -> Reading:
        tally: _Tally = vars(cache)[_TALLY]
        return Reading(tally.hits, tally.misses, tally.puts, tally.removals, tally.evictions, float(size(cache)))

    remove = polled.add(
        PolledCache(
            client,
            read,
            name=link.name or "default",
            system="memory",
            recorder_of=link.recorder_of,
            can_read_in_fork=True,
        )
    )

    def restore() -> None:
        remove()
        client.__class__ = kind
        delattr(client, _TALLY)

    return restore


def _base(kind: Any) -> Any:
    return next(base for base in kind.__mro__ if f"{base.__module__}.{base.__name__}" == "cachetools.Cache")


class _Counting:
    """What the subclass of a cache's class does itself."""

    _monitoring_kind: Any
    _monitoring_tally: _Tally

    def __getitem__(self, key: Any) -> Any:
        tally = self._monitoring_tally
        misses = tally.misses
        value = self._monitoring_kind.__getitem__(self, key)
        if misses == tally.misses and not tally.is_aside:
            tally.hits += 1
        return value

    def __missing__(self, key: Any) -> Any:
        self._monitoring_tally.misses += 1
        return self._monitoring_kind.__missing__(self, key)

    def get(self, key: Any, default: Any = None) -> Any:
        value = self._monitoring_kind.get(self, key, _ABSENT)  # it asks for an item only where there is one
        if value is not _ABSENT:
            return value
        self._monitoring_tally.misses += 1
        return default

    def __setitem__(self, key: Any, value: Any) -> None:
        tally = self._monitoring_tally
        was_storing, tally.is_storing = tally.is_storing, True
        try:
            self._monitoring_kind.__setitem__(self, key, value)
        finally:
            tally.is_storing = was_storing
        tally.puts += 1

    def setdefault(self, *args: Any, **kwargs: Any) -> Any:
        return _aside(self._monitoring_tally, self._monitoring_kind.setdefault, self, *args, **kwargs)

    def __delitem__(self, key: Any) -> None:
        self._monitoring_kind.__delitem__(self, key)
        self._monitoring_tally.removals += not self._monitoring_tally.is_aside

    def pop(self, key: Any, *args: Any, **kwargs: Any) -> Any:
        is_there = key in cast(Any, self)
        value = _aside(self._monitoring_tally, self._monitoring_kind.pop, self, key, *args, **kwargs)
        self._monitoring_tally.removals += is_there and not self._monitoring_tally.is_aside
        return value

    def popitem(self) -> Any:
        tally = self._monitoring_tally
        item = _aside(tally, self._monitoring_kind.popitem, self)
        if tally.is_storing:
            tally.evictions += 1
        else:
            tally.removals += not tally.is_aside
        return item

    def clear(self) -> None:
        _aside(self._monitoring_tally, self._monitoring_kind.clear, self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        oldest_form = 1  # the others are refused for an object that says another class than it is of
        make, (_kind, *args), state, *rest = self._monitoring_kind.__reduce_ex__(self, oldest_form)
        return (make, (self._monitoring_kind, *args), _without_ours(state), *rest)


class _Expiring:
    """The same for a cache with a clock, which says what it gave up."""

    _monitoring_kind: Any
    _monitoring_tally: _Tally

    def expire(self, *args: Any, **kwargs: Any) -> Any:
        count = _base(self._monitoring_kind).__len__  # that of the caches with a clock expires
        before = count(self)
        expired = self._monitoring_kind.expire(self, *args, **kwargs)
        self._monitoring_tally.evictions += before - count(self)
        return expired


class _Copied:
    """The same for a cache that makes its own copies."""

    _monitoring_kind: Any

    def __copy__(self) -> Any:
        copied = self._monitoring_kind.__copy__(self)
        copied.__class__ = self._monitoring_kind
        for name in _OURS:
            vars(copied).pop(name, None)
        return copied


@cache
def _counting(kind: Any) -> Any:
    """Return a subclass of a cache's class that counts."""
    parts: list[type] = [_Counting]
    if hasattr(kind, "expire"):
        parts.append(_Expiring)
    if hasattr(kind, "__copy__"):
        parts.append(_Copied)
    members = {name: part for one in parts for name, part in vars(one).items() if inspect.isfunction(part)}
    about = {"__module__": kind.__module__, "__doc__": kind.__doc__, "_monitoring_kind": kind}
    return type(kind.__name__, (kind,), {**members, **about})


def _aside(tally: _Tally, act: Any, *args: Any, **kwargs: Any) -> Any:
    was_aside, tally.is_aside = tally.is_aside, True
    try:
        return act(*args, **kwargs)
    finally:
        tally.is_aside = was_aside


def _without_ours(state: Any) -> Any:
    return {name: value for name, value in state.items() if name not in _OURS} if isinstance(state, dict) else state
