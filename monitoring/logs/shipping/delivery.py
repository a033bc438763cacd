"""Delivery: what waits is sent in order, spooled batches first; what the receiver does not take now is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from ..outlets import OnDropped
from .limits import Limits
from .line_queue import LineQueue
from .retries import LONGEST_ASKED_SECONDS, NotDelivered, Refused, pause_seconds
from .spool import Spool, lines_of

_FAILURES_OF_A_BATCH: Final = 20
"""Failures of a receiver that is there, after which a batch is dropped, lest nothing gets past it for ever."""


class Transport(Protocol):
    """The way to a receiver. One thread sends; ``abort`` comes from another."""

    def send(self, lines: Sequence[bytes]) -> int:
        """Deliver lines in order. Return how many of them were refused for good.

        Raise NotDelivered when they may be taken later, Refused when none ever will.
        """
        ...

    def abort(self) -> None:
        """Have a send that is under way, and later ones, fail soon."""
        ...

    def close(self) -> None:
        """Let go of the connection, and of nothing that a forking parent still uses."""
        ...


class Delivery:
    """Brings the lines of a queue to a receiver. ``work`` is called by one thread; the others by any."""

    def __init__(
        self,
        queue: LineQueue,
        transport: Transport,
        spool: Spool | None,
        limits: Limits,
        on_dropped: OnDropped,
        complain: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._transport = transport
        self._spool = spool
        self._limits = limits
        self._on_dropped = on_dropped
        self._complain = complain
        self._clock = clock
        self._batch: list[bytes] = []
        """Lines that were taken from the queue, and are in nobody else's keeping yet."""
        self._keeping = threading.Lock()
        self.is_over = False
        """Whether nothing is sent any more."""
        self._failures = 0
        self._next_try = 0.0
        self._asked_until = 0.0

    @property
    def is_settled(self) -> bool:
        """Say whether every line is delivered, on disk, or counted as dropped."""
        if not self._keeping.acquire(blocking=False):
            return False
        try:
            return not self._batch and not len(self._queue)
        finally:
            self._keeping.release()

    @property
    def pause(self) -> float:
        """Return the seconds until there is something to do, unless a batch is complete before."""
        left = self._next_try - self._clock()
        return min(left, self._limits.batch_seconds) if left > 0 else self._limits.batch_seconds

    def try_soon(self) -> None:
        """Do not wait for the next try, unless the receiver has asked for that."""
        self._next_try = self._asked_until

    def work(self) -> None:
        """Send what waits, until all is sent or the receiver does not take more; then spool what waits."""
        while self._may_try() and self._send_next():
            pass
        if not self._may_try():
            self._spool_waiting()

    def put_away(self, seconds: float) -> None:
        """End: spool what is not delivered, or count it as dropped. Wait so long at most for a spooling under way."""
        if not self._keeping.acquire(timeout=seconds):
            return
        self.is_over = True
        while self._load():
            if self._spool is None or not self._spool.add(self._batch):
                self._on_dropped("undelivered" if self._spool is None else "spool_full", len(self._batch))
            self._batch = []
        self._keeping.release()

    def abort(self) -> None:
        """Have what is being sent fail soon, and count as not delivered."""
        self._transport.abort()

    def leave(self) -> None:
        """Let go, in a forked child, of what is the parent's."""
        self._transport.close()
        if self._spool is not None:
            self._spool.leave_claim()

    def _may_try(self) -> bool:
        return self._clock() >= self._next_try

    def _send_next(self) -> bool:
        """Send the oldest lines there are. Return whether there may be more to send now."""
        if self._spool is not None and self._spool.batches():
            return self._send_spooled(self._spool)
        with self._keeping:
            lines = self._batch if self._load() else []
        if not lines:
            return False
        rest = self._send(lines)
        with self._keeping:
            if not self.is_over:
                self._batch = rest
        return not rest

    def _send_spooled(self, spool: Spool) -> bool:
        with spool.claim() as is_mine:
            if is_mine:
                return all(self._send_file(spool, batch) for batch in spool.batches())
        # Another process sends these now. Lines of this one go behind them, so that they keep their order.
        self._spool_waiting()
        return False

    def _send_file(self, spool: Spool, batch: Path) -> bool:
        if self._queue.has_batch:  # a long spool takes its time, and the queue must not run over meanwhile
            self._spool_waiting()
        lines = spool.read(batch)
        if lines is None:
            self._on_dropped("spool_broken", lines_of(batch))
            return True
        rest = self._send(lines)
        if len(rest) < len(lines):
            spool.shorten(batch, rest)
        return not rest

    def _send(self, lines: list[bytes]) -> list[bytes]:
        """Send lines. Return those that are still to be delivered."""
        try:
            refused = self._transport.send(lines)
        except NotDelivered as error:
            self._complain(f"{error}. They are sent later, or counted as dropped")
            self._failures += 1
            if error.refused:
                self._on_dropped("refused", error.refused)
            if not error.has_failed or self._failures < _FAILURES_OF_A_BATCH:
                self._pause(min(error.retry_after_seconds, LONGEST_ASKED_SECONDS))
                return lines[error.delivered :]
            refused = len(lines)
        except Refused as error:
            self._complain(f"{error}. They are counted as dropped")
            refused = len(lines)
        except Exception as error:  # lines that cannot be brought into the receiver's form hold up no others
            self._complain(f"{type(error).__name__} while sending. They are counted as dropped")
            refused = len(lines)
        self._failures = 0
        if refused:
            self._on_dropped("refused", refused)
        return []

    def _pause(self, asked_seconds: float) -> None:
        now = self._clock()
        self._asked_until = now + asked_seconds
        self._next_try = max(self._asked_until, now + pause_seconds(self._failures, self._limits.retry_seconds))

    def _spool_waiting(self) -> None:
        if self._spool is None:
            return
        with self._keeping:
            while not self.is_over and self._load() and self._spool.add(self._batch):
                self._batch = []

    def _load(self) -> bool:
        """Have a batch at hand, if there are lines."""
        if not self._batch:
            self._batch = self._queue.take()
        return bool(self._batch)
