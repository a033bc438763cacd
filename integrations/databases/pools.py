"""Which connections of a pool its adapter has wrapped."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from monitoring.integrations.attachment import Detach, Link
from monitoring.integrations.marks import mark_of, set_mark, take_mark


class Members:
    """The connections that a pool's adapter wraps, each with a link of its own, so that one can be unwrapped alone."""

    def __init__(
        self, link: Link, attach: Callable[[Any, Link], Detach], carrier: Callable[[Any], Any] = lambda client: client
    ) -> None:
        self._link = link
        self._attach = attach
        self._carrier = carrier
        self._carriers: weakref.WeakSet[Any] = weakref.WeakSet()

    def wrap(self, connection: Any) -> None:
        """Wrap a connection, unless it is."""
        carrier = self._carrier(connection)
        if mark_of(carrier) is None:
            own = Link(self._link.recorder_of, self._link.name)
            set_mark(carrier, (own, self._attach(connection, own)))
            self._carriers.add(carrier)

    def unwrap(self, connection: Any) -> None:
        """Undo it. A connection that its user has wrapped is left alone."""
        self._restore(self._carrier(connection))

    def unwrap_all(self) -> None:
        """Undo it for all that live."""
        for carrier in list(self._carriers):
            self._restore(carrier)

    def _restore(self, carrier: Any) -> None:
        if carrier in self._carriers:
            self._carriers.discard(carrier)
            mark = take_mark(carrier)
            if mark is not None:
                own, detach = mark
                own.cut()
                detach()
