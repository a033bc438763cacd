"""What is counted of a pool of connections, whichever library has it: waits, use, openings, and how many are open."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from monitoring import families
from monitoring.families import CountsMetrics
from monitoring.recorder import Recorder

OpenNow = Callable[[Any], tuple[int, int]]
"""Tells how many connections of a pool are in use, and how many are idle."""


class PoolNumbers:
    """The numbers of one pool, under its name. Thread-safe under the GIL, as far as the pool's own numbers are."""

    __slots__ = ("_idle", "_names", "_pid", "_recorder", "_used", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._names = (name,)
        self._recorder: Recorder | None = None
        self._pid = 0
        self._used = self._idle = 0

    def obtained(self, recorder: Recorder, seconds: float, open_now: OpenNow, pool: Any) -> None:
        """Count that a connection of ``pool`` was obtained after a wait."""
        recorder.measure(self._obtained, recorder, seconds, open_now, pool)

    def given_back(self, recorder: Recorder, seconds: float | None, open_now: OpenNow, pool: Any) -> None:
        """Count that a connection was given back after a use; None where its beginning was not seen."""
        recorder.measure(self._given_back, recorder, seconds, open_now, pool)

    def opened(self, recorder: Recorder, seconds: float) -> None:
        """Count that a connection was opened."""
        recorder.measure(self._observe, families.DB_CONNECTION_CREATE, seconds)

    def timed_out(self, recorder: Recorder) -> None:
        """Count that a wait ended without a connection."""
        recorder.measure(self._timed_out)

    def look(self, recorder: Recorder, open_now: OpenNow, pool: Any) -> None:
        """Count anew how many connections are open."""
        recorder.measure(self._look, recorder, open_now, pool)

    def transaction(self, recorder: Recorder, system: str, outcome: str, seconds: float) -> None:
        """Count a transaction that has ended."""
        recorder.measure(_transaction, (system, self.name, outcome), seconds)

    def forget(self) -> None:
        """Take this pool's connections out of the numbers: it is gone, or nobody looks after it any more."""
        if self._recorder is not None:
            self._recorder.measure(self._are_open, self._recorder, 0, 0)
            self._recorder = None

    def _obtained(
        self, metrics: CountsMetrics, recorder: Recorder, seconds: float, open_now: OpenNow, pool: Any
    ) -> None:
        metrics.observe(families.DB_CONNECTION_WAIT, self._names, seconds)
        self._are_open(metrics, recorder, *open_now(pool))

    def _given_back(
        self, metrics: CountsMetrics, recorder: Recorder, seconds: float | None, open_now: OpenNow, pool: Any
    ) -> None:
        if seconds is not None:
            metrics.observe(families.DB_CONNECTION_USE, self._names, seconds)
        self._are_open(metrics, recorder, *open_now(pool))

    def _look(self, metrics: CountsMetrics, recorder: Recorder, open_now: OpenNow, pool: Any) -> None:
        self._are_open(metrics, recorder, *open_now(pool))

    def _observe(self, metrics: CountsMetrics, declaration: Any, seconds: float) -> None:
        metrics.observe(declaration, self._names, seconds)

    def _timed_out(self, metrics: CountsMetrics) -> None:
        metrics.add(families.DB_CONNECTION_TIMEOUTS, self._names, 1.0)

    def _are_open(self, metrics: CountsMetrics, recorder: Recorder, used: int, idle: int) -> None:
        """Add what has changed since the last time: pools of one name add up."""
        pid = os.getpid()
        if recorder is not self._recorder or pid != self._pid:  # its numbers begin at nothing, as a forked child's do
            self._recorder, self._pid = recorder, pid
            self._used = self._idle = 0
        more_used, self._used = used - self._used, used
        more_idle, self._idle = idle - self._idle, idle
        if more_used:
            metrics.add(families.DB_CONNECTIONS, (self.name, "used"), float(more_used))
        if more_idle:
            metrics.add(families.DB_CONNECTIONS, (self.name, "idle"), float(more_idle))


def _transaction(metrics: CountsMetrics, values: tuple[str, str, str], seconds: float) -> None:
    metrics.observe(families.DB_TRANSACTION, values, seconds)
