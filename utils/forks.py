"""Blocks that no fork cuts in two: a child would have the locks that they hold, and no thread that gives them back.

Some of these locks are out of reach: those of modules that are being imported, and SQLite's own.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

PATIENCE_SECONDS: Final = 5.0
"""Longest time that a fork waits."""


@contextmanager
def unforked() -> Iterator[None]:
    """Run a block that a fork in another thread waits for, five seconds at most.

    Blocks run beside and within one another. Not for those that themselves fork.
    """
    if getattr(_here, "is_inside", False):
        yield
        return
    if next(_uses) == 0 and hasattr(os, "register_at_fork"):
        # Only now, because the last that is registered is the first to wait: others take locks that blocks may need.
        os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
    gate = _gate
    gate.enter()
    _here.is_inside = True
    try:
        yield
    finally:
        _here.is_inside = False
        if gate is _gate:  # no longer in a child that was forked in it all the same
            gate.leave()


class _Gate:
    """Counts the blocks that run. Thread-safe. While a fork waits and while it happens, none begins."""

    def __init__(self) -> None:
        self._door = threading.Lock()
        self._left = threading.Condition(threading.Lock())
        self._inside = 0

    def enter(self) -> None:
        """Begin a block."""
        with self._door, self._left:
            self._inside += 1

    def leave(self) -> None:
        """End one."""
        with self._left:
            self._inside -= 1
            self._left.notify_all()

    def shut(self, seconds: float) -> bool:
        """Let none begin, and wait until none runs. Return whether that was in time; otherwise it is open again."""
        if not self._door.acquire(timeout=seconds):
            return False
        with self._left:
            if self._left.wait_for(lambda: not self._inside, seconds):
                return True
        self._door.release()
        return False

    def open(self) -> None:
        """Let blocks begin again."""
        self._door.release()


_gate = _Gate()
_uses = itertools.count()
_here = threading.local()


def _before() -> None:
    _here.gate = _gate if _gate.shut(PATIENCE_SECONDS) else None


def _after_in_parent() -> None:
    gate, _here.gate = getattr(_here, "gate", None), None
    if gate is not None:
        gate.open()


def _after_in_child() -> None:
    global _gate
    _gate = _Gate()
