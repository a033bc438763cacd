"""pymemcache's clients: one observation per method, whatever number of servers it asks.

The clients in a pool, and those of the servers of a ``HashClient``, are made by the library and stay what they are.
"""

from __future__ import annotations

from typing import Any, Final

from monitoring.calls import CacheCall
from monitoring.integrations.attachment import Detach, Link, observing, observing_async, replace_attributes
from monitoring.integrations.layers import lies_below

from .keys import found
from .methods import (
    Command,
    looked_up,
    looked_up_many,
    observed_methods,
    put,
    put_many,
    removed,
    removed_many,
)


def _looked_up_with_token(call: CacheCall, key: Any, result: Any) -> None:
    is_there = result is not None and result[1] is not None
    found(call, key, is_there, not is_there)


_GET_MANY: Final = Command("get_many", looked_up_many, "keys")
_SET_MANY: Final = Command("set_many", put_many, "values")
_DELETE_MANY: Final = Command("delete_many", removed_many, "keys")
_COMMANDS: Final = {
    "get": Command("get", looked_up, has_default=True),
    "get_many": _GET_MANY,
    "get_multi": _GET_MANY,
    "gets": Command("gets", _looked_up_with_token),
    "gets_many": Command("gets_many", looked_up_many, "keys"),
    "set": Command("set", put),
    "set_many": _SET_MANY,
    "set_multi": _SET_MANY,
    "delete": Command("delete", removed),
    "delete_many": _DELETE_MANY,
    "delete_multi": _DELETE_MANY,
    **{name: Command(name, put) for name in ("add", "replace", "append", "prepend", "cas")},
    **{name: Command(name) for name in ("incr", "decr", "touch", "flush_all", "stats", "version", "raw_command")},
}


def carrier(client: Any) -> Any:
    """Return the client itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Time the methods that send a command."""
    lies_below("cache")
    commands = dict(_COMMANDS)
    if hasattr(client, "clients"):
        del commands["gets_many"]  # of several servers: it asks by get_many
    methods = observed_methods(client, link, "memcached", commands, observing, observing_async)
    return replace_attributes(client, methods)
