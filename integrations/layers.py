"""Clients that work through other clients: of those around one another, the innermost that is wrapped counts a call.

An ORM sends its statements by a driver, a cache its look-ups by a Redis client. The inner one sees each of them, with
retries and all; the outer one knows what the user calls the whole. So the outer one opens a layer, lends its name, and
reports only what nobody below has counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

from monitoring.calls import CacheCall, Call
from monitoring.observation import Kind

Describe = Callable[[tuple[Any, ...], float, Any, BaseException | None], Call | None]
"""Makes the observation of a call from its arguments, its start, its result and what it raised; None for nothing."""


class KeySpace:
    """What an outer cache does with the keys that its user gives it."""

    __slots__ = ("client", "is_repeated", "lead")

    def __init__(self, client: object, lead: str, *, is_repeated: bool = False) -> None:
        self.client = client
        """The outer cache: a call of it may consist of others of its own calls."""
        self.lead = lead
        """What it puts in front of a key."""
        self.is_repeated = is_repeated
        """Whether it reads once more what it has just stored: no look-up of the app's."""


class Layer:
    """One call of an outer client that goes on."""

    __slots__ = ("ended", "is_counted", "is_over", "keys", "kind", "name", "outer")

    def __init__(self, kind: Kind, name: str | None, keys: KeySpace | None = None) -> None:
        self.kind = kind
        self.name = name
        """What the user calls the outer client, None where nothing."""
        self.outer = current_layer.get()
        self.keys = keys
        self.is_counted = False
        """Whether a client below has counted what it did for this call."""
        self.is_over = False
        """Whether the call has ended: what a driver tells later of it is counted already."""
        self.ended = math.inf
        """When it ended, where contexts may be left behind that are not of this call any more: what begins later in one
        of them counts.
        """


current_layer: Final[ContextVar[Layer | None]] = ContextVar("monitoring_layer", default=None)

_below: set[Kind] = set()
has_clients_below: Final = _below.__contains__
"""Says whether a client is wrapped that others of its kind may work through: without any, layers cost something for
nothing.
"""


def lies_below(kind: Kind) -> None:
    """Have the clients that work through others of a kind open layers from now on."""
    _below.add(kind)


def claim(call: Call) -> bool:
    """Say whether ``call`` counts, tell the layers around it so, and give it the name of the outermost."""
    layer = current_layer.get()
    while layer is not None:
        if layer.kind == call.kind:
            if not layer.is_over:
                layer.is_counted = True
                if layer.name and isinstance(call, CacheCall):
                    call.cache = layer.name
            elif call.started < layer.ended:
                return False
        layer = layer.outer
    return True
