"""Repeats: of lines that say the same again and again, the first few are written and the others counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

WINDOW_SECONDS: Final = 10.0
_REMEMBERED: Final = 2_000


class Said(NamedTuple):
    """What makes two lines the same: their logger, level and event, and the type of their exception."""

    level: str
    logger: str
    event: str
    exception: str


@dataclass(slots=True)
class _Window:
    began: float
    written: int = 0
    left_out: int = 0


class Repeats:
    """Admits ``limit`` lines that say the same in ten seconds. Bounded; thread-safe under the GIL, to a line."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._windows: dict[Said, _Window] = {}

    def admits(self, said: Said) -> bool:
        """Say whether one more such line is written; one that is not is counted."""
        window = self._windows.get(said)
        if window is None:
            if len(self._windows) >= _REMEMBERED:
                return True
            window = self._windows[said] = _Window(self._clock())
        if window.written < self._limit:
            window.written += 1
            return True
        window.left_out += 1
        return False

    def start_anew(self) -> None:
        """Forget everything, in a forked child: its parent tells it."""
        self._windows.clear()

    def ended(self, *, all: bool = False) -> Iterator[tuple[Said, int]]:
        """Forget the windows that are over, or all of them; yield what was left out in each of them."""
        over = self._clock() - WINDOW_SECONDS
        for said, window in list(self._windows.items()):
            if all or window.began <= over:
                ended = self._windows.pop(said, None)
                if ended is not None and ended.left_out:  # else another thread has told it
                    yield said, ended.left_out
