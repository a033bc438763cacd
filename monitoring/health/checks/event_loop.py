"""How long the app's event loop makes others wait."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..results import Reading
from .limits import check_limits, judged
from .telling import Answer, telling

NO_LOOP = "no event loop of an app is known"


def event_loop_lag(warn_seconds: float = 0.1, fail_seconds: float | None = None) -> Callable[[], Answer]:
    """Check how late the app's event loop comes to a callback. Add it with ``per_process=True``: each has a loop.

    The first call finds the loop, by running in it once; from then on a thread asks it for one callback each time, and
    waits for half a second. A callback that is not answered by then stays the only one, and its age is the lag. Raise
    ValueError unless 0 <= warn_seconds <= fail_seconds.
    """
    check_limits("event_loop_lag", warn_seconds, fail_seconds)
    return telling(_Lag(warn_seconds, fail_seconds))


@dataclass(slots=True)
class _Probe:
    """One callback that the loop was asked for."""

    asked_at: float = field(default_factory=time.monotonic)
    came_at: float | None = None
    came: threading.Event = field(default_factory=threading.Event)

    def arrive(self) -> None:
        self.came_at = time.monotonic()
        self.came.set()

    def lag(self) -> float:
        return (time.monotonic() if self.came_at is None else self.came_at) - self.asked_at


class _Lag:
    def __init__(self, warn: float, fail: float | None) -> None:
        self._warn = warn
        self._fail = fail
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0
        self._probe: _Probe | None = None

    def __call__(self) -> Answer:
        loop = self._loop
        if loop is None or not loop.is_running() or self._process != os.getpid():
            self._loop = self._probe = None
            return self._find_loop(threading.get_ident())
        probe = self._probe = self._probe or _ask(loop)
        if probe.came.wait(0.5):
            self._probe = None
        return self._reading(probe.lag())

    async def _find_loop(self, asked_in: int) -> Reading:
        """Remember the loop that this runs in, unless it is one that the asking thread made for it."""
        if threading.get_ident() == asked_in:
            return Reading("pass", NO_LOOP)
        self._loop, self._process = asyncio.get_running_loop(), os.getpid()
        asked_at = time.monotonic()
        await asyncio.sleep(0)
        return self._reading(time.monotonic() - asked_at)

    def _reading(self, lag: float) -> Reading:
        status = judged(lag, self._warn, self._fail)
        output = "" if status == "pass" else f"the event loop came {lag:.2f} s late"
        return Reading(status, output, round(lag, 6), "s", "event_loop_lag")


def _ask(loop: asyncio.AbstractEventLoop) -> _Probe:
    probe = _Probe()
    loop.call_soon_threadsafe(probe.arrive)
    return probe
