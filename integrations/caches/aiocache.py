"""aiocache's caches: one observation per method, unless the client below, which is wrapped, counts it.

aiocache takes None for "not there", whatever was stored: so does this.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from monitoring.calls import CacheCall
from monitoring.integrations.attachment import Detach, Link, observing, replace_attributes, within_async
from monitoring.integrations.layers import Describe, Layer

from .keys import KeySpaces, found_each
from .methods import Command, looked_for, looked_up, observed_methods, put, removed


def _looked_up_several(call: CacheCall, keys: Any, values: Any) -> None:
    found_each(call, zip(keys, (value is not None for value in values)))


def _put_several(call: CacheCall, pairs: Any, is_done: Any) -> None:
    call.puts += len(pairs) if is_done else 0


_COMMANDS: Final = {
    "get": Command("get", looked_up, has_default=True),
    "multi_get": Command("multi_get", _looked_up_several, "keys"),
    "exists": Command("exists", looked_for),
    "set": Command("set", put),
    "multi_set": Command("multi_set", _put_several, "pairs"),
    "add": Command("add", put),
    "delete": Command("delete", removed),
    **{name: Command(name) for name in ("increment", "expire", "clear", "raw")},
}


def carrier(client: Any) -> Any:
    """Return the client itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Time the methods of a cache."""

    spaces = KeySpaces(client, client.build_key)

    def timing(link: Link, describe: Describe, method: Any) -> Any:
        async def timed(*args: Any, **kwargs: Any) -> Any:
            recorder = link.recorder()
            if recorder is None:
                return await method(*args, **kwargs)
            namespace = kwargs.get("namespace")
            keys = spaces.of(client.namespace if namespace is None else namespace)
            return await within_async(Layer("cache", link.name, keys), recorder, describe, method, *args, **kwargs)

        return timed

    system = getattr(client, "NAME", "") or "aiocache"
    return replace_attributes(
        client, observed_methods(client, link, system, _COMMANDS, partial(observing, through="cache"), timing)
    )
