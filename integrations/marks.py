"""Which objects are wrapped, and how that is undone."""

from __future__ import annotations

import weakref
from typing import Any, Final

from .attachment import Detach, Link

Mark = tuple[Link, Detach]

_NAME: Final = "_monitoring"

_of_slotted: dict[int, tuple[weakref.ref[Any], Mark]] = {}
"""By the identity of objects that have no ``__dict__`` to carry it; they need a place for weak references."""


def mark_of(carrier: Any) -> Mark | None:
    """Return the mark of a wrapped object, None of any other."""
    try:
        mark: Mark | None = carrier.__dict__.get(_NAME)
    except AttributeError:
        return _mark_of_slotted(carrier)
    return mark


def _mark_of_slotted(carrier: Any) -> Mark | None:
    known = _of_slotted.get(id(carrier))
    return known[1] if known is not None and known[0]() is carrier else None


def set_mark(carrier: Any, mark: Mark) -> None:
    """Mark an object as wrapped, for as long as it lives."""
    if hasattr(carrier, "__dict__"):
        vars(carrier)[_NAME] = mark
        return
    place = id(carrier)
    _of_slotted[place] = (weakref.ref(carrier, lambda _: _of_slotted.pop(place, None)), mark)


def take_mark(carrier: Any) -> Mark | None:
    """Return the mark of an object and take it away."""
    mark = mark_of(carrier)
    if mark is not None:
        if hasattr(carrier, "__dict__"):
            del vars(carrier)[_NAME]
        else:
            del _of_slotted[id(carrier)]
    return mark
