"""Where rendered lines go: straight to the destination, or, once a process serves requests, through a queue and one
thread.

The queue is a few blocks of memory that are used again and again. Lines that are kept and freed one by one would leave
a heap full of holes, in which the app's own allocations take longer: routing 200 routes took 2 us more.

The thread does nothing but write blocks: Python work in a thread costs more under the GIL than in place. Whoever writes
a line that is due (after a while, when enough bytes wait, at once for an error) hands over: it wakes the thread and
pauses for a moment, so that the thread gets the GIL. A busy event loop would let go of it for microseconds only, and
wake the thread in vain each time. The queue is bounded in bytes; lines below error are dropped first, and counted.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from io import BytesIO
from time import perf_counter
from typing import Final, Protocol

from ..utils.children import at_end_of_multiprocessing_child

_BLOCK: Final = 64 * 1024
"""Bytes from which a block is full."""

_BLOCKS_KEPT: Final = 8

_MUCH: Final = _BLOCKS_KEPT * _BLOCK
"""Bytes that are handed over before their time."""

_PATIENCE_SECONDS: Final = 1.0
"""Longest wait for whoever closes a block: it may be this thread, which a signal has interrupted."""

_ERROR_PAUSE_SECONDS: Final = 0.5
"""Shortest time between two hand-overs for errors: of many the first is written at once, the others that soon."""

_HAND_OVER_SECONDS: Final = 0.001
"""Longest pause of a hand-over. A block in the page cache takes a tenth of it; a stalled disk costs no more."""

_TICK_SECONDS: Final = 0.9

_STALLED_SECONDS: Final = 5
"""Longest wait for the reader of a stream that is non-blocking."""

_TEND_SECONDS: Final = 0.01
"""Pause between two slices of a file's own work, so that it takes a third of a processor."""

OnDropped = Callable[[str, int], None]


class BlockFile(Protocol):
    """A file with work of its own, such as ``RotatingFile``."""

    path: str

    def write(self, block: bytes | memoryview) -> None:
        """Take a block of lines; raise OSError when none of them is taken."""
        ...

    def flush(self) -> None:
        """Write what was taken and could not be written yet. Raise OSError when it still cannot."""
        ...

    def tend(self) -> bool:
        """Do a slice of what is due; return whether the next one can follow."""
        ...

    def close(self) -> int:
        """Close it, and return how many of the lines it took are lost."""
        ...

    def start_afresh(self) -> None:
        """Begin anew in a forked child."""
        ...


class LogWriter:
    """Writes lines to stdout, stderr or a file that several processes may append to. Never raises. Thread-safe.

    With ``queues_at_once`` lines are queued from the first one on, not from the first request on: the thread has more
    to do than to write.
    """

    def __init__(
        self,
        destination: str | BlockFile,
        *,
        queue_bytes: int = 8 * 1024 * 1024,
        flush_seconds: float = 0.5,
        on_dropped: OnDropped = lambda reason, lines: None,
        queues_at_once: bool = False,
    ) -> None:
        self._queues_at_once = queues_at_once
        self._file = None if isinstance(destination, str) else destination
        self.destination = destination if isinstance(destination, str) else destination.path
        self._queue_bytes = queue_bytes
        self._block_bytes = min(_BLOCK, queue_bytes)
        self._flush_seconds = flush_seconds
        self._on_dropped = on_dropped
        self.on_tick: Callable[[], None] = lambda: None
        """Called in the thread about once a second, for what is due beside the lines."""
        self._fd: int | None = None
        self._complained = False
        self.queues = False
        """Whether lines are queued in this process, for the thread to write."""
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._start_afresh()
        _writers.add(self)

    def write(self, line: bytes, urgent: bool = False) -> None:
        """Write one line, which ends in a newline. ``urgent`` lines (errors) do not wait and are dropped last."""
        if self.queues:
            self._queue(line, urgent, perf_counter())
        elif self._queues_at_once:
            self.write_of_request(line, urgent, perf_counter())
        else:
            self._write_block(line)

    def write_of_request(self, line: bytes, urgent: bool, moment: float) -> None:
        """Write a request's line at ``moment``, the present reading of ``perf_counter``.

        The first one in a process begins the queue, so that a master that only preloads has none.
        """
        if not self.queues:
            self.start_queue()
            if not self.queues:  # it is closed
                return self._write_block(line)
        self._queue(line, urgent, moment)

    def _queue(self, line: bytes, urgent: bool, moment: float) -> None:
        if self._is_full and not self._has_room(urgent):
            self._on_dropped("queue_full", 1)
            return
        size = self._block.write(line)
        self._room -= size
        if self._room <= 0:
            self._close_block()
        if moment >= self._due or (urgent and moment >= self._errors_due):
            self._hand_over(moment)

    def start_queue(self) -> None:
        """Begin to queue, unless the writer is closed."""
        with self._lock:
            if self._thread is None and not self._closed:
                thread = threading.Thread(target=self._run, name="monitoring-log-writer", daemon=True)
                self._thread, self.queues = thread, True
                try:
                    thread.start()
                except RuntimeError:  # no threads any more: the interpreter is ending
                    self._thread, self.queues = None, False
                    return
                atexit.register(self.flush)
                at_end_of_multiprocessing_child(self.flush)

    def stop_queue(self, seconds: float = 5.0) -> None:
        """Write everything that waits, and later lines directly until the next request."""
        end = perf_counter() + seconds
        is_held = self._lock.acquire(timeout=max(0.0, seconds))  # a thread that has stalled is not waited for
        self.queues = False
        thread, self._thread = self._thread, None
        if is_held:
            self._lock.release()
        if thread is not None:
            _release(self._wake)
            thread.join(timeout=max(0.0, min(2.0, end - perf_counter())))
            atexit.unregister(self.flush)
        self.flush(end - perf_counter())

    def flush(self, seconds: float = 5.0) -> None:
        """Write everything that waits, in this thread; begin with no block after so many seconds."""
        end = perf_counter() + seconds
        if not self._lock.acquire(timeout=max(0.0, seconds)):
            return
        try:
            self._drain(end)
            if self._file is not None:
                with contextlib.suppress(OSError):
                    self._file.flush()
        finally:
            self._lock.release()

    def close(self, seconds: float = 5.0) -> None:
        """Write everything that waits and stop the thread for good; later lines are written directly."""
        self._closed = True
        self.stop_queue(seconds)
        lost = 0 if self._file is None else self._file.close()
        if lost:
            self._on_dropped("write_failed", lost)

    def _start_afresh(self) -> None:
        if self._file is not None:
            self._file.start_afresh()
        self._block = _new_block()
        self._room = self._block_bytes
        """Bytes until the block is full."""
        self._blocks: deque[BytesIO] = deque()
        self._blocks_kept: list[BytesIO] = []
        self._waiting = 0
        """Bytes in the blocks that are full."""
        self._is_full = False
        self._due = self._errors_due = self._tick_due = 0.0
        self._thread = None
        self.queues = self._closed = False
        self._closing = threading.Lock()
        self._lock = threading.Lock()
        self._wake = threading.Lock()
        self._done = threading.Lock()
        self._wake.acquire()
        self._done.acquire()

    def _hand_over(self, moment: float) -> None:
        self._due = moment + self._flush_seconds
        self._errors_due = moment + min(self._flush_seconds, _ERROR_PAUSE_SECONDS)
        self._close_block()
        self._done.acquire(blocking=False)
        _release(self._wake)
        if not self._lock.locked():  # a thread that is still writing has stalled: nobody waits for it
            self._done.acquire(timeout=_HAND_OVER_SECONDS)

    def _run(self) -> None:
        longest = pause = 2 * self._flush_seconds
        while self.queues:
            # Under traffic the lines themselves bring a wake-up in time; this one is for the last before a silence.
            self._wake.acquire(timeout=pause)
            if self._blocks or self._block.tell():
                self.flush()
            _release(self._done)
            self._tick()
            pause = _TEND_SECONDS if self._tend() else longest

    def _tend(self) -> bool:
        try:
            return self._file is not None and self._file.tend()
        except Exception as error:  # the thread must go on
            self._complain(error)
            return False

    def _tick(self) -> None:
        moment = perf_counter()
        if moment < self._tick_due:
            return
        self._tick_due = moment + _TICK_SECONDS
        try:
            self.on_tick()
        except Exception as error:  # the thread must go on
            sys.stderr.write(f"monitoring failed beside its log lines: {error!r}\n")

    def _close_block(self, patience: float = 0.0) -> None:
        """Put the block in line to be written, and begin another; one thread at a time, so that they keep their
        order.
        """
        if not self._closing.acquire(timeout=patience):
            return
        try:
            following = self._blocks_kept.pop() if self._blocks_kept else _new_block()
            # Between these two nothing is called, so that no thread writes to a block that is closed.
            block, self._block = self._block, following
            self._room = self._block_bytes
            self._blocks.append(block)
            self._count_waiting(block.tell())
        finally:
            self._closing.release()

    def _drain(self, end: float) -> None:
        self._close_block(_PATIENCE_SECONDS)
        while self._blocks and perf_counter() < end:
            block = self._blocks.popleft()
            size = block.tell()
            if size:
                with block.getbuffer() as buffer, buffer[:size] as filled:
                    self._write_block(filled)
            self._count_waiting(-size)
            if size < 2 * _BLOCK and len(self._blocks_kept) < _BLOCKS_KEPT:
                block.seek(0)
                self._blocks_kept.append(block)

    def _count_waiting(self, size: int) -> None:
        self._waiting += size
        self._is_full = self._waiting > self._queue_bytes
        if self._waiting > _MUCH:
            self._due = 0.0

    def _has_room(self, urgent: bool) -> bool:
        waiting = self._waiting + self._block.tell()
        return waiting <= self._queue_bytes or (urgent and waiting < 2 * self._queue_bytes)

    def _write_block(self, block: bytes | memoryview) -> None:
        try:
            if self._file is not None:
                return self._file.write(block)
            if self._fd is None:
                self._fd = _open(self.destination)
            while block:
                block = block[_write_some(self._fd, block) :]
        except OSError as error:
            self._on_dropped("write_failed", bytes(block).count(b"\n"))
            self._complain(error)

    def _complain(self, error: Exception) -> None:
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
    return BytesIO(bytes(_BLOCK + _BLOCK // 8))


def _open(destination: str) -> int:
    if destination in ("stdout", "stderr"):
        return 1 if destination == "stdout" else 2
    folder = os.path.dirname(destination)
    if folder:
        os.makedirs(folder, exist_ok=True)
    return os.open(destination, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def _write_some(fd: int, block: bytes | memoryview) -> int:
    """Write what goes, and return how much. Who shares a stream may have made it non-blocking: then it is waited for,
    as a blocking one is, but not for ever.
    """
    try:
        return os.write(fd, block)
    except BlockingIOError:
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        poll.poll(_STALLED_SECONDS * 1000)
        return os.write(fd, block)


def _release(lock: threading.Lock) -> None:
    """Let go whoever waits for ``lock``, used as a signal; a signal that is there already is enough."""
    with contextlib.suppress(RuntimeError):
        lock.release()


def _after_fork_in_child() -> None:
    for writer in list(_writers):
        writer._start_afresh()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
