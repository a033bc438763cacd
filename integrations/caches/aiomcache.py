"""aiomcache's clients: one observation per method."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from monitoring.calls import CacheCall
from monitoring.integrations.attachment import Detach, Link, observing, observing_async, replace_attributes
from monitoring.integrations.layers import lies_below

from .keys import found, found_each
from .methods import Command, looked_up, observed_methods, put, removed


def _looked_up_with_token(call: CacheCall, key: Any, result: Any) -> None:
    is_there = result[1] is not None
    found(call, key, is_there, not is_there)


_COMMANDS: Final = {
    "get": Command("get", looked_up, has_default=True),
    "gets": Command("gets", _looked_up_with_token),
    "delete": Command("delete", removed),
    **{name: Command(name, put) for name in ("set", "cas", "add", "replace", "append", "prepend")},
    **{name: Command(name) for name in ("incr", "decr", "touch", "flush_all", "stats", "version")},
}


def carrier(client: Any) -> Any:
    """Return the client itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Time the methods that send a command."""
    lies_below("cache")
    methods = observed_methods(client, link, "memcached", _COMMANDS, observing, observing_async)
    methods["multi_get"] = observing_async(link, partial(_multi_get, link), client.multi_get)
    return replace_attributes(client, methods)


def _multi_get(
    link: Link, keys: tuple[Any, ...], started: float, result: Any, error: BaseException | None
) -> CacheCall:
    call = CacheCall(started, error)
    call.name, call.system, call.cache = "multi_get", "memcached", link.name or call.cache
    if error is None:
        found_each(call, zip(keys, (value is not None for value in result)))
    return call
