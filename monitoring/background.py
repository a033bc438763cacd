"""The background thread: one per process, which runs the flusher's rounds.

It starts with the first request, again after a fork, and never in a master that only preloads. The flusher is made in
the thread, because what it needs (SQLAlchemy) takes longer to import than a request may wait.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from .utils.forks import unforked

if TYPE_CHECKING:
    from .flusher import Flusher

TICK_SECONDS: Final = 1.0
_JOIN_SECONDS: Final = 5.0


class Background:
    """Runs a flusher in a thread. Thread-safe."""

    def __init__(
        self,
        make_flusher: Callable[[], Flusher],
        *,
        on_failure: Callable[[str, Exception], None],
        on_fork: Callable[[], None] = lambda: None,
    ) -> None:
        self._make_flusher = make_flusher
        self._on_failure = on_failure
        self._on_fork = on_fork
        self._start_anew()
        _backgrounds.add(self)

    def _start_anew(self) -> None:
        self._thread: threading.Thread | None = None
        self._flusher: Flusher | None = None
        self._lock = threading.Lock()
        self._making = threading.Lock()
        self._wake = threading.Event()

    @property
    def flusher(self) -> Flusher | None:
        """Return this process's flusher, None before its first round."""
        return self._flusher

    def start(self) -> None:
        """Start the thread unless it runs. Raise RuntimeError when the system has no more threads."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="monitoring-flusher", daemon=True)
                try:
                    self._thread.start()
                except BaseException:
                    self._thread = None
                    raise

    def flush(self) -> None:
        """Do one round in this thread: for tests, scripts and whoever cannot wait a second."""
        self._made().flush_all()

    def stop(self) -> None:
        """Stop the thread, write what waits and give the leases up. A later ``start`` begins anew."""
        with self._lock:
            thread, self._thread = self._thread, None
        self._wake.set()
        if thread is not None:
            thread.join(timeout=_JOIN_SECONDS)
        if self._flusher is not None:
            try:
                self._flusher.finish()
            except Exception as error:
                self._on_failure("flusher", error)

    def _run(self) -> None:
        thread = threading.current_thread()
        while self._thread is thread:
            try:
                self._made().flush()
            except Exception as error:
                self._on_failure("flusher", error)
            self._wake.wait(TICK_SECONDS)
            self._wake.clear()

    def _made(self) -> Flusher:
        with unforked(), self._making:  # what is being imported, no child could import
            if self._flusher is None:
                self._flusher = self._make_flusher()
            return self._flusher


_backgrounds: weakref.WeakSet[Background] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for background in list(_backgrounds):
        background._start_anew()
        background._on_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
