"""The watchdog of an event loop: it notices one that does not get round any more, and tells where it stands."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final

Say = Callable[[str, str, Mapping[str, Any]], object]
"""Writes a line: its level, its event and its fields."""

_LONGEST_STEP_SECONDS: Final = 2.0
"""Most of the time between two looks that counts: a process that was stopped as a whole is not stuck."""
_FRAMES: Final = 40


class LoopWatch:
    """Asks the event loop that runs in this thread for an answer. ``look`` is for one other thread."""

    def __init__(self, stuck_seconds: float, say: Say, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._stuck_seconds = stuck_seconds
        self._say = say
        self._clock = clock
        self._looked = clock()
        self._waited = 0.0
        self._has_answered = True
        self._is_stuck = False

    def stuck_for(self) -> float:
        """Return the seconds that a stuck loop has not answered for, 0 for one that is well."""
        return self._waited if self._is_stuck and not self._has_answered else 0.0

    def look(self) -> None:
        """See whether the loop has answered, and ask it again; tell once that it is stuck, and that it goes on."""
        now = self._clock()
        passed, self._looked = min(now - self._looked, _LONGEST_STEP_SECONDS), now
        if self._has_answered or not self.loop.is_running():
            self._go_on()
            return
        self._waited += passed
        if self._waited >= self._stuck_seconds and not self._is_stuck:
            self._is_stuck = True
            self._say("error", "event loop is stuck", {"seconds": round(self._waited, 1), "stack": self._stack()})

    def _go_on(self) -> None:
        if self._is_stuck:
            self._say("warning", "event loop goes on", {"seconds": round(self._waited, 1)})
        self._is_stuck = False
        self._waited = 0.0
        self._has_answered = False
        try:
            self.loop.call_soon_threadsafe(self._answer)
        except RuntimeError:  # closed
            self._has_answered = True

    def _answer(self) -> None:
        self._has_answered = True

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._thread)
        return "".join(traceback.format_stack(frame)[-_FRAMES:]) if frame is not None else ""
