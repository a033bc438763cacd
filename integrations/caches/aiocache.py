"""aiocache's caches: one observation per method, unless the client below, which is wrapped, counts it.

aiocache takes None for "not there", whatever was stored: so does this.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from monitoring.calls import CacheCall
from monitoring.integrations.attachment import Describe, Detach, Link, layered, layered_async, replace_attributes
from monitoring.integrations.layers import Layer, current_layer

from .keys import Leads, found_each
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

    leads = Leads(client.build_key)

    async def timed(link: Link, describe: Describe, method: Any, *args: Any, **kwargs: Any) -> Any:
        inside = partial(_inside, client, leads, current_layer.get(), method)
        return await layered_async("cache", link, describe, inside, *args, **kwargs)

    system = getattr(client, "NAME", "") or "aiocache"
    return replace_attributes(
        client, observed_methods(client, link, system, _COMMANDS, partial(layered, "cache"), timed)
    )


def _inside(client: Any, leads: Leads, outer: Layer | None, method: Any, *args: Any, **kwargs: Any) -> Any:
    layer = current_layer.get()
    if layer is not None and layer is not outer:  # somebody listens
        namespace = kwargs.get("namespace")
        layer.key_lead = leads.of(client.namespace if namespace is None else namespace)
    return method(*args, **kwargs)
