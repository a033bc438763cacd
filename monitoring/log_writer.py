"""Where rendered lines go: straight to the destination, or, once a process serves requests, through a queue and one
thread.

A line comes as bytes, or as something that ``render`` makes one of. Those wait until there are enough of them, and are
rendered in a row: the app's own code has emptied the processor's caches each time, and a row finds them full. The lines
go into a few blocks of memory that are used again and again: thousands of freed lines would leave a heap full of holes,
in which the app's own allocations take longer (for Starlette's routing by regular expressions: 2 us a request).

The thread does hardly more than write those blocks: Python work in a thread costs more under the GIL than in place.
Whoever writes a line that is due (after a while, when enough bytes wait, at once for an error) hands over: it wakes the
thread and pauses for a moment, so that the thread gets the GIL. A busy event loop would let go of it for microseconds
only, and wake the thread in vain each time. The queue is bounded in bytes; lines below error are dropped first, and
counted.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from io import BytesIO
from time import perf_counter
from typing import Any, Final

_ROW: Final = 64
"""Lines that are rendered at once."""

_LONG: Final = 480
"""Bytes of a line that ends a row: only what is in a block counts as waiting."""

_BLOCK: Final = 64 * 1024
"""Bytes from which a block is full."""

_BLOCKS_KEPT: Final = 8

_MUCH: Final = _BLOCKS_KEPT * _BLOCK
"""Bytes that are handed over before their time."""

_PATIENCE_SECONDS: Final = 1.0
"""Longest wait for another thread's row; a signal handler's own thread may be in the middle of one."""

_ERROR_PAUSE_SECONDS: Final = 0.5
"""Shortest time between two hand-overs for errors: of many the first is written at once, the others that soon."""

_HAND_OVER_SECONDS: Final = 0.001
"""Longest pause of a hand-over. A block in the page cache takes a tenth of it; a stalled disk costs no more."""

OnDropped = Callable[[str, int], None]
Render = Callable[[Iterator[Any], Callable[[bytes], object]], None]
"""Writes a row of lines. When it raises, it is called again with the rest of the row."""


def _write_as_they_are(lines: Iterator[Any], write: Callable[[bytes], object]) -> None:
    for line in lines:
        write(line)


class LogWriter:
    """Writes lines to stdout, stderr or a file that several processes may append to. Never raises. Thread-safe."""

    def __init__(
        self,
        destination: str,
        *,
        queue_bytes: int = 8 * 1024 * 1024,
        flush_seconds: float = 0.5,
        on_dropped: OnDropped = lambda reason, lines: None,
    ) -> None:
        self.destination = destination
        self._queue_bytes = queue_bytes
        self._flush_seconds = flush_seconds
        self._on_dropped = on_dropped
        self._fd: int | None = None
        self._complained = False
        self.render: Render = _write_as_they_are
        """Makes lines of what came by ``write_later``."""
        self.queues = False
        """Whether lines are queued in this process, for the thread to write."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._start_afresh()
        _writers.add(self)

    def write(self, line: bytes, urgent: bool = False) -> None:
        """Write one line, which ends in a newline. ``urgent`` lines (errors) do not wait and are dropped last."""
        if not self.queues:
            self._write_block(line, 1)
            return
        self.write_later(line, perf_counter(), urgent)
        if len(line) > _LONG:
            self._gather()

    def write_later(self, line: Any, moment: float, urgent: bool = False) -> None:
        """Write what ``render`` makes of ``line``, or ``line`` itself where it is bytes; in order with all others.

        ``moment`` is the present reading of ``perf_counter``. The first such line begins the queue: it is a request's.
        """
        if not self.queues and not self.start_queue():
            self._render([line], lambda rendered: self._write_block(rendered, 1))
            return
        if self._is_full and not self._has_room(urgent):
            self._on_dropped("queue_full", 1)
            return
        lines = self._lines
        lines.append(line)
        if len(lines) >= _ROW:
            self._gather()
        if moment >= self._due or (urgent and moment >= self._errors_due):
            self._hand_over(moment)

    def start_queue(self) -> bool:
        """Begin to queue, unless the writer is closed; say whether lines are queued now."""
        with self._lock:
            if self._thread is None and not self._closed:
                thread = threading.Thread(target=self._run, name="monitoring-log-writer", daemon=True)
                self._thread, self.queues = thread, True
                thread.start()
                atexit.register(self.flush)
                _flush_at_end_of_multiprocessing_child(self.flush)
            return self.queues

    def stop_queue(self) -> None:
        """Write everything that waits, and later lines directly until the next request."""
        with self._lock:
            self.queues = False
            thread, self._thread = self._thread, None
        if thread is not None:
            _release(self._wake)
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
        self._lines: deque[Any] = deque()
        self._block = _new_block()
        self._lines_in_block = 0
        self._blocks: deque[tuple[BytesIO, int]] = deque()
        self._blocks_kept: list[BytesIO] = []
        self._taken = 0
        self._written = 0
        self._is_full = False
        self._due = self._errors_due = 0.0
        self._thread = None
        self.queues = self._closed = False
        self._gathering = threading.Lock()
        self._lock = threading.Lock()
        self._wake = threading.Lock()
        self._done = threading.Lock()
        self._wake.acquire()
        self._done.acquire()

    def _hand_over(self, moment: float) -> None:
        self._due = moment + self._flush_seconds
        self._errors_due = moment + min(self._flush_seconds, _ERROR_PAUSE_SECONDS)
        self._gather(closing=True)
        self._done.acquire(blocking=False)
        _release(self._wake)
        self._done.acquire(timeout=_HAND_OVER_SECONDS)

    def _run(self) -> None:
        while self.queues:
            # Under traffic the lines themselves bring a wake-up in time; this one is for the last before a silence.
            self._wake.acquire(timeout=2 * self._flush_seconds)
            if self._blocks or self._lines or self._lines_in_block:
                self.flush()
            _release(self._done)

    def _gather(self, *, closing: bool = False, patience: float = 0.0) -> None:
        """Render what waits into the block; one thread does it at a time, so that lines keep their order."""
        if not self._gathering.acquire(timeout=patience):
            return
        try:
            self._fill_block()
            if closing or self._block.tell() >= _BLOCK:
                self._close_block()
        finally:
            self._gathering.release()

    def _fill_block(self) -> None:
        lines, before = self._lines, self._block.tell()
        row = [lines.popleft() for _ in range(len(lines))]
        self._render(row, self._block.write)
        self._lines_in_block += len(row)
        self._taken += self._block.tell() - before
        self._measure()

    def _render(self, row: list[Any], write: Callable[[bytes], object]) -> None:
        lines = iter(row)
        for _ in range(len(row) + 1):
            try:
                return self.render(lines, write)
            except Exception:  # of one line, which is lost
                self._on_dropped("not_rendered", 1)

    def _close_block(self) -> None:
        if self._lines_in_block:
            self._blocks.append((self._block, self._lines_in_block))
            self._block = self._blocks_kept.pop() if self._blocks_kept else _new_block()
            self._lines_in_block = 0

    def _drain(self) -> None:
        self._gather(closing=True, patience=_PATIENCE_SECONDS)
        while self._blocks:
            block, lines = self._blocks.popleft()
            size = block.tell()
            with block.getbuffer() as buffer, buffer[:size] as filled:
                self._write_block(filled, lines)
            self._written += size
            if len(self._blocks_kept) < _BLOCKS_KEPT:
                block.seek(0)
                self._blocks_kept.append(block)
        self._measure()

    def _measure(self) -> None:
        waiting = self._taken - self._written
        self._is_full = waiting > self._queue_bytes
        if waiting > _MUCH:
            self._due = 0.0

    def _has_room(self, urgent: bool) -> bool:
        waiting = self._taken - self._written
        return waiting <= self._queue_bytes or (urgent and waiting < 2 * self._queue_bytes)

    def _write_block(self, block: bytes | memoryview, lines: int) -> None:
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


def _new_block() -> BytesIO:
    block = BytesIO(bytes(_BLOCK + _BLOCK // 2))
    block.seek(0)
    return block


def _open(destination: str) -> int:
    if destination in ("stdout", "stderr"):
        return 1 if destination == "stdout" else 2
    folder = os.path.dirname(destination)
    if folder:
        os.makedirs(folder, exist_ok=True)
    return os.open(destination, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def _release(lock: threading.Lock) -> None:
    """Let go whoever waits for ``lock``, used as a signal; a signal that is there already is enough."""
    with contextlib.suppress(RuntimeError):
        lock.release()


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
