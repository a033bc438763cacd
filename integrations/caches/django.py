"""Django's caches: one observation per method, whichever backend; where its own client is wrapped, that one's.

Each thread has cache objects of its own, so ``wrap(caches)`` wraps them as they are made, named by their alias.
"""

from __future__ import annotations

import inspect
import sys
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, Final

from monitoring.calls import CacheCall, Call
from monitoring.context import reset
from monitoring.integrations import unwrap, wrap
from monitoring.integrations.attachment import (
    Detach,
    Link,
    attempt,
    replace_attribute,
    replace_attributes,
    within,
    within_async,
)
from monitoring.integrations.layers import Describe, KeySpace, Layer, current_layer
from monitoring.recorder import Recorder

from .keys import KeySpaces
from .methods import (
    Command,
    looked_for,
    looked_up,
    looked_up_many,
    observed_methods,
    put,
    put_many,
    removed,
    removed_many,
)

_SYSTEMS: Final = {
    "django.core.cache.backends.locmem.LocMemCache": "memory",
    "django.core.cache.backends.filebased.FileBasedCache": "file",
    "django.core.cache.backends.db.BaseDatabaseCache": "database",
    "django.core.cache.backends.dummy.DummyCache": "dummy",
    "django.core.cache.backends.memcached.BaseMemcachedCache": "memcached",
    "django.core.cache.backends.redis.RedisCache": "redis",
    "django_redis.cache.RedisCache": "redis",
}


def _put(call: CacheCall, _key: Any, _result: Any) -> None:
    call.puts += 1


_COMMANDS: Final = {
    "get": Command("get", looked_up, has_default=True),
    "get_many": Command("get_many", looked_up_many, "keys"),
    "has_key": Command("has_key", looked_for),
    "set": Command("set", _put),
    "set_many": Command("set_many", put_many, "data"),
    "add": Command("add", put),
    "delete": Command("delete", removed),
    "delete_many": Command("delete_many", removed_many, "keys"),
    **{name: Command(name) for name in ("touch", "incr", "decr", "clear")},
}
_ALL: Final = {**_COMMANDS, **{f"a{name}": command for name, command in _COMMANDS.items()}}


class _Filling:
    """One ``get_or_set`` that goes on: having added what it did not find, it reads it once more."""

    __slots__ = ("cache", "has_added", "key")

    def __init__(self, cache: _Observed, key: Any) -> None:
        self.cache = cache
        self.key = key
        self.has_added = False

    def is_repeated(self, cache: _Observed, word: str, key: Any) -> bool:
        """Say whether a call reads what has just been added."""
        if self.cache is not cache or self.key != key:
            return False
        self.has_added = self.has_added or word in ("add", "aadd")
        return self.has_added and word in ("get", "aget")


_filling: ContextVar[_Filling | None] = ContextVar("monitoring_filling", default=None)


def observe_caches(recorder_of: Callable[[], Recorder] | None = None) -> None:
    """Wrap all caches of the project's settings, those of threads to come included. Twice is once.

    Call it when Django is set up. The recorder is asked for at each call; by default it is the current one.
    """
    from django.core.cache import caches

    wrap(caches, recorder_of=recorder_of)


def carrier(client: Any) -> Any:
    """Return the client itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Time the methods of a cache; of ``caches``, those of each that it makes."""
    if hasattr(client, "create_connection"):
        return _attach_to_all(client, link)
    link.name = link.name or _alias(client)
    cache = _Observed(client)
    methods = observed_methods(client, link, _system(client), _ALL, cache.timing, cache.timing_async)
    for name in ("get_or_set", "aget_or_set"):
        if hasattr(client, name):
            methods[name] = cache.filled(getattr(client, name))
    return replace_attributes(client, methods)


def _attach_to_all(handler: Any, link: Link) -> Detach:
    made: weakref.WeakSet[Any] = weakref.WeakSet()
    create = handler.create_connection

    def keep(cache: Any, alias: str) -> None:
        wrap(cache, name=alias, recorder_of=link.recorder_of)
        made.add(cache)

    def create_connection(alias: str) -> Any:
        cache = create(alias)
        attempt(link, keep, cache, alias)
        return cache

    for alias in handler:
        if hasattr(handler._connections, alias):
            keep(handler[alias], alias)
    restore = replace_attribute(handler, "create_connection", create_connection)

    def restore_all() -> None:
        restore()
        for cache in list(made):
            unwrap(cache)

    return restore_all


def _alias(cache: Any) -> str | None:
    """Return what the settings call a cache that was taken from ``caches``."""
    module = sys.modules.get("django.core.cache")
    handler = getattr(module, "caches", None)
    connections = getattr(handler, "_connections", None)
    if handler is None or connections is None or "settings" not in vars(handler):
        return None  # it has made no cache yet
    return next((alias for alias in handler if getattr(connections, alias, None) is cache), None)


def _system(cache: Any) -> str:
    names = (f"{kind.__module__}.{kind.__qualname__}" for kind in type(cache).__mro__)
    return next((_SYSTEMS[name] for name in names if name in _SYSTEMS), "django")


class _Observed:
    """One cache while its methods run."""

    def __init__(self, cache: Any) -> None:
        self._spaces = KeySpaces(self, cache.make_key)
        self._keys = self._spaces.of(None)

    def timing(self, link: Link, describe: Describe, method: Any) -> Callable[..., Any]:
        """Return a method that is a layer, unless another method of the cache calls it: then it is part of that."""
        describe_repeated = partial(_without_look_up, describe)

        def timed(*args: Any, **kwargs: Any) -> Any:
            recorder = None if self._is_at_work() else link.recorder()
            if recorder is None:
                return method(*args, **kwargs)
            keys = self._key_space(method, args, kwargs)
            tell = describe_repeated if keys.is_repeated else describe
            return within(Layer("cache", link.name, keys), recorder, tell, method, *args, **kwargs)

        return timed

    def timing_async(self, link: Link, describe: Describe, method: Any) -> Callable[..., Any]:
        """Do the same with a method that is awaited."""
        describe_repeated = partial(_without_look_up, describe)

        async def timed(*args: Any, **kwargs: Any) -> Any:
            recorder = None if self._is_at_work() else link.recorder()
            if recorder is None:
                return await method(*args, **kwargs)
            keys = self._key_space(method, args, kwargs)
            tell = describe_repeated if keys.is_repeated else describe
            return await within_async(Layer("cache", link.name, keys), recorder, tell, method, *args, **kwargs)

        return timed

    def _is_at_work(self) -> bool:
        outer = current_layer.get()
        return outer is not None and outer.keys is not None and outer.keys.client is self and not outer.is_over

    def _key_space(self, method: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> KeySpace:
        keys = self._spaces.of(kwargs.get("version")) if kwargs else self._keys
        if _filling.get() is not None and self._is_repeated(method, args):
            return KeySpace(self, keys.lead, is_repeated=True)
        return keys

    def filled(self, method: Any) -> Callable[..., Any]:
        """Return what stands for ``get_or_set``: not a call of its own, but it knows what its calls are for."""
        if inspect.iscoroutinefunction(method):

            async def aget_or_set(key: Any, *args: Any, **kwargs: Any) -> Any:
                token = _filling.set(_Filling(self, key))
                try:
                    return await method(key, *args, **kwargs)
                finally:
                    reset(_filling, token)

            return aget_or_set

        def get_or_set(key: Any, *args: Any, **kwargs: Any) -> Any:
            token = _filling.set(_Filling(self, key))
            try:
                return method(key, *args, **kwargs)
            finally:
                reset(_filling, token)

        return get_or_set

    def _is_repeated(self, method: Any, args: tuple[Any, ...]) -> bool:
        filling = _filling.get()
        return filling is not None and bool(args) and filling.is_repeated(self, method.__name__, args[0])


def _without_look_up(describe: Describe, *facts: Any) -> Call | None:
    call = describe(*facts)
    if isinstance(call, CacheCall):
        call.hits = call.misses = 0
        call.by_prefix = {}
    return call
