"""The life of a process as probes see it: it starts, serves, drains, and may break.

A probe reads what is known. One thread looks after the event loop and after the other workers of the host.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ..utils.shared_file import SharedFile
from .results import Status
from .watchdog import LoopWatch, Say

STARTING: Final = "starting"
DRAINING: Final = "draining"

_FILE: Final = "draining"
_LOOK_SECONDS: Final = 1.0


class Lifecycle:
    """Where this process stands. Thread-safe.

    ``folder`` is what the workers of a host share, ``on_serving`` is called whenever a server is seen to serve,
    ``on_failure`` with what went wrong in here. The clocks give monotonic and unix seconds.
    """

    def __init__(
        self,
        *,
        drain_seconds: float = 0.0,
        stuck_seconds: float | None = 30.0,
        folder: Callable[[], Path | None] = lambda: None,
        say: Say = lambda level, event, fields: None,
        on_serving: Callable[[], object] = lambda: None,
        on_failure: Callable[[str, Exception], None] = lambda part, error: None,
        clock: Callable[[], float] = time.monotonic,
        unix_clock: Callable[[], float] = time.time,
    ) -> None:
        self._drain_seconds = drain_seconds
        self._stuck_seconds = stuck_seconds
        self._folder = folder
        self._say = say
        self._on_serving = on_serving
        self._on_failure = on_failure
        self._clock = clock
        self._unix_clock = unix_clock
        self._broken = ""
        self.start_anew()

    def start_anew(self) -> None:
        """Begin again in a forked child: it has no server, no thread and no loop yet, and does not drain."""
        self._born = self._unix_clock()
        self._is_starting = False
        self._is_serving = False
        self._draining_since: float | None = None
        self._has_told = False
        self._drain_file = SharedFile(self._folder, _FILE)
        self._watch: LoopWatch | None = None
        self._thread: threading.Thread | None = None
        self._starting_thread = threading.Lock()
        self._wake = threading.Event()

    def liveness(self) -> tuple[Status, str]:
        """Return whether this process works, and why not. It never looks outside."""
        if self._broken:
            return "fail", self._broken
        seconds = self._watch.stuck_for() if self._watch is not None else 0.0
        return ("fail", f"the event loop has not answered for {seconds:.0f} s") if seconds else ("pass", "")

    def readiness(self) -> tuple[Status, str]:
        """Return whether this process wants requests, and why not: ``draining``, or ``starting``."""
        if self._draining_since is not None:
            return "fail", DRAINING
        return ("fail", STARTING) if self._is_starting else ("pass", "")

    def mark_broken(self, reason: str) -> None:
        """Say that this process cannot work any more and is to be restarted: it is not live from now on.

        Raise ValueError without a reason.
        """
        if not reason:
            raise ValueError('mark_broken needs a reason, got ""; say what is broken, such as "the model is gone".')
        self._broken = reason

    def drain(self, *, all_workers: bool = False) -> None:
        """Stop being ready; requests are served as before. ``all_workers`` of this host follow within two seconds, but
        not those that start later. Draining does not end.
        """
        self._begin_to_drain()
        if all_workers:
            self._drain_file.write(repr(self._unix_clock()).encode())

    def leave(self) -> float:
        """Drain because the process is to end, and return the seconds for which its server should go on.

        Those are 0 where no server serves. Takes no lock and does no I/O: for handlers of signals.
        """
        if not self._is_serving:
            return 0.0
        return max(0.0, self._begin_to_drain() + self._drain_seconds - self._clock())

    def startup_begins(self) -> None:
        """Note that the hooks of the app's startup run."""
        self._is_starting = True

    def startup_ends(self) -> None:
        """Note that they are done; again is once."""
        if self._is_starting:
            self._is_starting = False
            self.serve()

    def serve(self) -> None:
        """Note that a server calls the app: in the thread of its event loop, if it has one. Again is cheap."""
        self._is_serving = True
        try:
            self._on_serving()
            self._watch_loop()
            self._start_thread()
        except Exception as error:
            self._on_failure("lifecycle", error)

    def look(self) -> None:
        """Follow the other workers, and see after the event loop: every second, in one thread."""
        self._follow_others()
        if self._draining_since is not None and not self._has_told:
            self._has_told = True
            self._say("info", "draining: not ready any more", {})
        if self._watch is not None:
            self._watch.look()

    def close(self) -> None:
        """Stop looking: the server has ended. ``serve`` begins again."""
        self._is_serving = False
        self._thread = None
        self._watch = None
        self._wake.set()

    def _begin_to_drain(self) -> float:
        since = self._draining_since
        if since is None:
            since = self._draining_since = self._clock()
        return since

    def _follow_others(self) -> None:
        if self._draining_since is not None or not self._drain_file.has_changed():
            return
        with contextlib.suppress(ValueError):
            if float(self._drain_file.read() or "nan") >= self._born:
                self._begin_to_drain()

    def _watch_loop(self) -> None:
        loop = _running_loop()
        if loop is None or self._stuck_seconds is None:
            return
        if self._watch is None or self._watch.loop is not loop:
            self._watch = LoopWatch(self._stuck_seconds, self._say, clock=self._clock)

    def _start_thread(self) -> None:
        if self._thread is not None:
            return
        with self._starting_thread:
            if self._thread is None:
                self._wake.clear()
                thread = threading.Thread(target=self._run, name="monitoring-lifecycle", daemon=True)
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        thread = threading.current_thread()
        while not self._wake.wait(_LOOK_SECONDS) and self._thread is thread:
            try:
                self.look()
            except Exception as error:
                self._on_failure("lifecycle", error)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
