"""Clients that work through other clients: of those around one another, the innermost that is wrapped counts a call.

An ORM sends its statements by a driver, a cache its look-ups by a Redis client. The inner one sees each of them, with
retries and all; the outer one knows what the user calls the whole. So the outer one opens a layer, lends its name, and
reports only what nobody below has counted.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from monitoring.calls import CacheCall, Call
from monitoring.context import reset
from monitoring.observation import Kind

T = TypeVar("T")
Describe = Callable[[tuple[Any, ...], float, Any, BaseException | None], Call | None]
"""Makes the observation of a call from its arguments, its start, its result and what it raised; None for nothing."""


class Layer:
    """One call of an outer client that goes on."""

    __slots__ = ("ended", "is_counted", "is_over", "kind", "name", "outer")

    def __init__(self, kind: Kind, name: str | None) -> None:
        self.kind = kind
        self.name = name
        """What the user calls the outer client, None where nothing."""
        self.outer = current_layer.get()
        self.is_counted = False
        """Whether a client below has counted what it did for this call."""
        self.is_over = False
        """Whether the call has ended: what a driver tells later of it is counted already."""
        self.ended = math.inf
        """When it ended, where contexts may be left behind that are not of this call any more: what begins later in one
        of them counts.
        """

    def around(self, function: Callable[..., T]) -> Callable[..., T]:
        """Return a function that does the same in this layer, once."""

        def act(*args: Any, **kwargs: Any) -> T:
            token = current_layer.set(self)
            try:
                return function(*args, **kwargs)
            finally:
                self.is_over = True
                reset(current_layer, token)

        return act

    def around_async(self, function: Callable[..., Awaitable[T]]) -> Callable[..., Coroutine[Any, Any, T]]:
        """Do the same with a function that is awaited."""

        async def act(*args: Any, **kwargs: Any) -> T:
            token = current_layer.set(self)
            try:
                return await function(*args, **kwargs)
            finally:
                self.is_over = True
                reset(current_layer, token)

        return act

    def unless_counted(self, describe: Describe) -> Describe:
        """Return a description of the outer client's call, which is nothing where one below has counted it."""
        return lambda *facts: None if self.is_counted else describe(*facts)


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
