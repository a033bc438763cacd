"""Lines that wait to be sent: bounded, in order, and never in the way of who writes them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from .limits import Limits

_Waiting = deque[tuple[int, bytes]]


class LineQueue:
    """Keeps lines until they are taken; when it is full, lines below error make room for errors. Thread-safe.

    Who puts a line waits for nobody, and may be a signal handler that interrupts another put: the line is left for
    whoever sorts lines in at the moment, or does so next.
    """

    def __init__(self, limits: Limits, on_dropped: Callable[[int], None]) -> None:
        """Call ``on_dropped`` with the number of lines that found no place."""
        self._limits = limits
        self._on_dropped = on_dropped
        self._arrived: deque[tuple[bytes, bool]] = deque()
        self._ordinary: _Waiting = deque()
        self._urgent: _Waiting = deque()
        self._sorting = threading.Lock()
        self._number = 0
        self._bytes = 0
        self._is_announced = False

    def __len__(self) -> int:
        return len(self._arrived) + len(self._ordinary) + len(self._urgent)

    @property
    def has_batch(self) -> bool:
        """Say whether so many lines wait that they are sent without waiting for more."""
        return len(self) >= self._limits.batch_lines or self._bytes >= self._limits.batch_bytes

    def put(self, line: bytes, urgent: bool = False) -> bool:
        """Take a line. Return whether a batch is complete now; that is said once until lines are taken."""
        self._arrived.append((line, urgent))
        if not self._sorting.acquire(blocking=False):
            return False
        try:
            dropped = self._sort_in()
            is_news = not self._is_announced and self.has_batch
            self._is_announced |= is_news
        finally:
            self._sorting.release()
        if dropped:
            self._on_dropped(dropped)
        return is_news

    def take(self) -> list[bytes]:
        """Remove and return the oldest lines, a batch at most."""
        with self._sorting:
            dropped = self._sort_in()
            batch = self._oldest()
            self._is_announced = False
        if dropped:
            self._on_dropped(dropped)
        return batch

    def _oldest(self) -> list[bytes]:
        batch: list[bytes] = []
        room = self._limits.batch_bytes
        while len(batch) < self._limits.batch_lines and (lines := self._next()):
            room -= len(lines[0][1])
            if room < 0 and batch:
                break
            batch.append(self._remove(lines))
        return batch

    def _sort_in(self) -> int:
        """Find places for the lines that have arrived. Return how many were dropped for it."""
        dropped = 0
        while self._arrived:
            dropped += self._admit(*self._arrived.popleft())
        return dropped

    def _admit(self, line: bytes, urgent: bool) -> int:
        if len(line) > self._limits.queue_bytes:
            return 1
        dropped = 0
        while not self._has_room(len(line)):
            if not urgent or not self._ordinary:
                return dropped + 1
            self._remove(self._ordinary)
            dropped += 1
        self._number += 1
        self._bytes += len(line)
        (self._urgent if urgent else self._ordinary).append((self._number, line))
        return dropped

    def _has_room(self, size: int) -> bool:
        lines = len(self._ordinary) + len(self._urgent)
        return lines < self._limits.queue_lines and self._bytes + size <= self._limits.queue_bytes

    def _next(self) -> _Waiting:
        """Return the lines of which the first is the oldest of all."""
        if not self._urgent or not self._ordinary:
            return self._urgent or self._ordinary
        return min(self._urgent, self._ordinary, key=lambda lines: lines[0][0])

    def _remove(self, lines: _Waiting) -> bytes:
        line = lines.popleft()[1]
        self._bytes -= len(line)
        return line
