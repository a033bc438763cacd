"""The outlet of what is shipped: takes lines, and has a thread of its own deliver them."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Final

from ...utils.children import at_end_of_multiprocessing_child
from ..outlets import OnDropped
from .delivery import Delivery, Transport
from .limits import Limits
from .line_queue import LineQueue
from .spool import Spool

_EXIT_SECONDS: Final = 3.0
_SHARE_OF_DELIVERY: Final = 0.7
"""Part of the time to close in which lines are still delivered; in the rest they are put away."""


class ShippingOutlet:
    """Delivers lines by a thread that starts at the first one, in every process anew. Thread-safe.

    ``write`` never blocks and never raises, whatever the receiver does. A child of a fork has nothing of what its
    parent has queued.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], Transport],
        spool_folder: Path | None,
        limits: Limits,
        on_dropped: OnDropped,
    ) -> None:
        """``name`` is how the destination is called when it is complained of: it must hold no secret."""
        self._name = name
        self._connect = connect
        self._spool_folder = spool_folder
        self._limits = limits
        self._on_dropped = on_dropped
        self._has_complained = self._is_closed = False
        self._delivery: Delivery
        self._thread: threading.Thread | None
        self._start_afresh()
        _outlets.add(self)

    def write(self, line: bytes, urgent: bool = False) -> None:
        """Take one line; ``urgent`` ones (errors) are dropped last. After ``close`` they all are."""
        if self._is_closed:
            self._on_dropped("closed", 1)
            return
        if self._queue.put(line, urgent):
            _release(self._wake)
        if self._thread is None:
            self._start()
        if self._delivery.is_over:  # another thread has closed it meanwhile
            self._delivery.put_away(0.0)

    def flush(self, seconds: float = 5.0) -> None:
        """Deliver what waits, or see it on disk, for at most so long. A receiver that is away is tried at once."""
        thread = self._thread
        if thread is None:
            return
        self._delivery.try_soon()
        _release(self._wake)
        with self._rounds:
            self._rounds.wait_for(lambda: self._delivery.is_settled or not thread.is_alive(), seconds)

    def close(self, seconds: float = 5.0) -> None:
        """Deliver what waits, for most of the time given, spool or count what is left, and stop for good."""
        end = monotonic() + seconds
        self._is_closed = True
        self.flush(seconds * _SHARE_OF_DELIVERY)
        self._is_stopping = True
        self._delivery.abort()
        thread, self._thread = self._thread, None
        if thread is not None:
            atexit.unregister(self._end)
            _release(self._wake)
            thread.join(max(0.0, end - monotonic()) / 2)
        self._delivery.put_away(max(0.1, end - monotonic()))

    def _start_afresh(self) -> None:
        self._wake = threading.Lock()
        self._wake.acquire()
        self._rounds = threading.Condition()
        self._starting = threading.Lock()
        self._thread = None
        self._is_stopping = False
        self._queue = LineQueue(self._limits, lambda lines: self._on_dropped("queue_full", lines))
        spool = Spool(self._spool_folder, self._limits.spool_bytes) if self._spool_folder is not None else None
        self._delivery = Delivery(
            self._queue, self._connect(), spool, self._limits, self._on_dropped, complain=self._complain
        )

    def _start_in_child(self) -> None:
        self._delivery.leave()
        self._start_afresh()

    def _start(self) -> None:
        if not self._starting.acquire(blocking=False):
            return
        try:
            if self._thread is None and not self._is_closed:
                thread = threading.Thread(target=self._run, name=f"monitoring-logs-{self._name}", daemon=True)
                thread.start()
                self._thread = thread
                self._deliver_at_exit()
        except RuntimeError:  # no more threads, or the interpreter is about to end: a later line, or close, may do
            pass
        finally:
            self._starting.release()

    def _deliver_at_exit(self) -> None:
        atexit.unregister(self._end)
        atexit.register(self._end)
        at_end_of_multiprocessing_child(self._end)

    def _end(self) -> None:
        """Deliver what waits, and close only where that fails: whoever opened the outlet may have a last line."""
        self.flush(_EXIT_SECONDS)
        if not self._delivery.is_settled:
            self.close(_EXIT_SECONDS / 2)

    def _run(self) -> None:
        while not self._is_stopping:
            self._wake.acquire(timeout=self._delivery.pause)
            try:
                self._delivery.work()
            except Exception as error:
                self._complain(f"{type(error).__name__} in the thread that sends")
            with self._rounds:
                self._rounds.notify_all()
        self._delivery.leave()

    def _complain(self, reason: str) -> None:
        if self._has_complained:
            return
        self._has_complained = True
        with contextlib.suppress(OSError, ValueError, AttributeError):  # stderr may be closed, or None
            sys.stderr.write(f"monitoring cannot send log lines to {self._name}: {reason}.\n")


_outlets: weakref.WeakSet[ShippingOutlet] = weakref.WeakSet()


def _release(lock: threading.Lock) -> None:
    """Let go whoever waits for ``lock``, used as a signal; a signal that is there already is enough."""
    with contextlib.suppress(RuntimeError):
        lock.release()


def _after_fork_in_child() -> None:
    for outlet in list(_outlets):
        outlet._start_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
