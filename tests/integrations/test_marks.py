"""Which objects are wrapped, told of objects with and without attributes of their own."""

from __future__ import annotations

import gc

import pytest

from monitoring.integrations import marks
from monitoring.integrations.attachment import Link
from monitoring.integrations.marks import mark_of, set_mark, take_mark
from monitoring.recorder import Recorder


class Plain:
    """It has a ``__dict__``."""


class Slotted:
    """It has not."""

    __slots__ = ("__weakref__",)


def mark() -> marks.Mark:
    return Link(Recorder), lambda: None


@pytest.mark.parametrize("kind", [Plain, Slotted])
def test_an_object_is_marked_until_the_mark_is_taken(kind: type) -> None:
    """And another of its class is not."""
    one, made = kind(), mark()
    set_mark(one, made)
    assert mark_of(one) is made
    assert mark_of(kind()) is None
    assert take_mark(one) is made
    assert (mark_of(one), take_mark(one)) == (None, None)


def test_a_mark_ends_with_its_object() -> None:
    """So a later object at the same address is not taken for wrapped."""
    before = len(marks._of_slotted)
    one = Slotted()
    set_mark(one, mark())
    assert len(marks._of_slotted) == before + 1
    del one
    gc.collect()
    assert len(marks._of_slotted) == before
