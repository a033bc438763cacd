"""Where rendered lines go: straight to the destination, or, once a process serves requests, through a queue and one
thread.

The thread does nothing but join and write: Python work in a thread costs more under the GIL than in place. It wakes
on a timer, when enough bytes wait, and at once for errors. The queue is bounded in bytes; lines below error are
dropped first, and counted.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Final

_BLOCK: Final = 512 * 1024
"""Bytes that wake the thread before its time. A wake-up costs about as much as a hundred lines, so it is worth many."""

_PAUSE_SECONDS: Final = 0.2
"""Shortest time between two wake-ups: of many errors the first is written at once, the others that soon."""

OnDropped = Callable[[str, int], None]


class LogWriter:
    """Writes lines to stdout, stderr or a file that several processes may append to. Never raises. Thread-safe."""

    def __init__(
        self,
        destination: str,
        *,
        queue_bytes: int = 8 * 1024 * 1024,
        flush_seconds: float = 0.2,
        on_dropped: OnDropped = lambda reason, lines: None,
    ) -> None:
        self.destination = destination
        self._queue_bytes = queue_bytes
        self._flush_seconds = flush_seconds
        self._on_dropped = on_dropped
        self._fd: int | None = None
        self._complained = False
        self._closed = self._hurry = False
        self.queues = False
        """Whether lines are queued in this process, for the thread to write."""
        self._thread: threading.Thread | None = None
        self._lines: deque[bytes] = deque()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._end = threading.Event()
        self._start_afresh()
        _writers.add(self)

    def write(self, line: bytes, urgent: bool = False) -> None:
        """Write one line, which ends in a newline. ``urgent`` lines (errors) do not wait and are dropped last."""
        if not self.queues:
            self._write_block(line, 1)
            return
        waiting = self._taken - self._written
        if waiting > self._queue_bytes and not (urgent and waiting < 2 * self._queue_bytes):
            self._on_dropped("queue_full", 1)
            return
        self._lines.append(line)
        self._taken += len(line)
        if (urgent or waiting > _BLOCK) and not self._hurry:
            self._hurry = True
            self._wake.set()

    def start_queue(self) -> None:
        """Begin to queue: called when this process serves its first request, never in a master that only preloads."""
        with self._lock:
            if self._thread is None and not self._closed:
                thread = threading.Thread(target=self._run, name="monitoring-log-writer", daemon=True)
                self._thread, self.queues = thread, True
                self._end.clear()
                thread.start()
                atexit.register(self.flush)
                _flush_at_end_of_multiprocessing_child(self.flush)

    def stop_queue(self) -> None:
        """Write everything that waits, and later lines directly until the next request."""
        with self._lock:
            self.queues = False
            thread, self._thread = self._thread, None
        if thread is not None:
            self._end.set()
            self._wake.set()
            thread.join(timeout=2.0)
            atexit.unregister(self.flush)
        self.flush()

    def flush(self) -> None:
        """Write everything that waits, in this thread."""
        with self._lock:
            self._drain()

    def close(self) -> None:
        """Write everything that waits and stop the thread for good; later lines are written directly."""
        self._closed = True
        self.stop_queue()

    def _start_afresh(self) -> None:
        self._lines = deque()
        self._taken = 0
        self._written = 0
        self._thread = None
        self.queues = self._closed = self._hurry = False
        self._wake = threading.Event()
        self._end = threading.Event()
        self._lock = threading.Lock()

    def _run(self) -> None:
        while self.queues:
            self._wake.wait(self._flush_seconds)
            self._wake.clear()
            if self._lines:
                self.flush()
            if self._hurry:  # one wake-up serves all the lines that come soon after
                self._end.wait(min(self._flush_seconds, _PAUSE_SECONDS))
                self._hurry = False
                self.flush()

    def _drain(self) -> None:
        lines = self._lines
        taken = [lines.popleft() for _ in range(len(lines))]
        if taken:
            block = b"".join(taken)
            self._write_block(block, len(taken))
            self._written += len(block)

    def _write_block(self, block: bytes, lines: int) -> None:
        try:
            if self._fd is None:
                self._fd = _open(self.destination)
            while block:
                block = block[os.write(self._fd, block) :]
        except OSError as error:
            self._on_dropped("write_failed", lines)
            self._complain(error)

    def _complain(self, error: OSError) -> None:
        if self._complained or self.destination == "stderr":
            return
        self._complained = True
        try:
            sys.stderr.write(
                f"monitoring cannot write log lines to {self.destination}: {error}. They are counted as dropped.\n"
            )
        except OSError:
            pass


_writers: weakref.WeakSet[LogWriter] = weakref.WeakSet()


def _open(destination: str) -> int:
    if destination in ("stdout", "stderr"):
        return 1 if destination == "stdout" else 2
    folder = os.path.dirname(destination)
    if folder:
        os.makedirs(folder, exist_ok=True)
    return os.open(destination, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def _flush_at_end_of_multiprocessing_child(flush: Callable[[], None]) -> None:
    """Register ``flush`` where ``atexit`` does not run: a child of multiprocessing leaves by ``os._exit``."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, flush, exitpriority=0)


def _after_fork_in_child() -> None:
    for writer in list(_writers):
        writer._start_afresh()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
