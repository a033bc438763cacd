"""Health: the registered checks, and how each stands.

Checks run in the background, once for all workers of a host; whoever asks reads what was found. See
``monitoring.health`` for the parts, and ``monitoring.health.checks`` for ready-made checks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import weakref
from collections.abc import Callable
from pathlib import Path

from .health.results import CheckResult, HealthReport, Reading, Status, worst
from .health.runner import NOT_YET, Check, CheckFunction, CheckRunner, standing
from .health.sharing import SharedResults

__all__ = ["CheckFunction", "CheckResult", "HealthChecks", "HealthReport", "Reading", "Status"]


class HealthChecks:
    """The checks of one app. Thread-safe.

    ``folder`` is what the workers of a host share. ``clean`` takes secrets out of the texts of exceptions.
    """

    def __init__(
        self,
        service: str = "app",
        *,
        folder: Callable[[], Path | None] = lambda: None,
        clean: Callable[[str], str] = str,
        on_failure: Callable[[str, Exception], None] = lambda part, error: None,
        unix_clock: Callable[[], float] = time.time,
    ) -> None:
        self._service = service
        self._folder = folder
        self._clean = clean
        self._on_failure = on_failure
        self._unix_clock = unix_clock
        self._checks: dict[str, Check] = {}
        self._started = time.monotonic()
        self._has_been_ready = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._make_runner()
        _made.add(self)

    def add(
        self,
        name: str,
        function: CheckFunction,
        *,
        critical: bool = False,
        timeout_seconds: float = 0.8,
        interval_seconds: float = 10.0,
        failures_allowed: int = 3,
        per_process: bool = False,
    ) -> None:
        """Register a check: it passes when ``function`` (sync or async) returns, fails when it raises or takes too
        long; it may return a ``Reading``.

        ``critical`` ones decide on readiness. A component that has passed counts as failed from the
        ``failures_allowed``-th failure in a row on. ``per_process`` is for what looks at the process itself: each
        worker runs it. The same name again replaces the check. Raise ValueError for unusable numbers.
        """
        if not 0 < timeout_seconds <= 60:
            raise ValueError(f"timeout_seconds of check {name!r} must be between 0 and 60, got {timeout_seconds!r}.")
        if not 0 < interval_seconds <= 86_400:
            raise ValueError(
                f"interval_seconds of check {name!r} must be above 0 and a day at most, got {interval_seconds!r}."
            )
        if failures_allowed < 1:
            raise ValueError(f"failures_allowed of check {name!r} must be 1 at least, got {failures_allowed!r}.")
        self._checks[name] = Check(
            name, function, critical, timeout_seconds, interval_seconds, failures_allowed, per_process
        )
        self._runner.wake()

    def adopt(self, other: HealthChecks) -> None:
        """Take over the checks that were registered with another object."""
        for check in other._checks.values():
            if check.name not in self._checks:
                self.add(
                    check.name,
                    check.function,
                    critical=check.critical,
                    timeout_seconds=check.timeout_seconds,
                    interval_seconds=check.interval_seconds,
                    failures_allowed=check.failures_allowed,
                    per_process=check.per_process,
                )

    def start(self) -> bool:
        """Begin to run the checks in the background, and say whether there are any. Called when a server serves and at
        each probe; again is cheap.

        While a component is not known yet, it is seen here whether another worker knows it.
        """
        if not self._checks:
            return False
        if any(check.result is None for check in list(self._checks.values())):
            self._runner.try_round()  # before the thread runs, whose first round would be in its way
        self._runner.start()
        return True

    def stop(self) -> None:
        """Stop running them; another worker goes on. ``start`` begins again."""
        self._runner.stop()

    def use_loop(self) -> None:
        """Have async checks run in the event loop of this thread, if one runs: the clients of the app belong to it."""
        if self._loop is None or self._loop.is_closed():
            with contextlib.suppress(RuntimeError):
                self._loop = asyncio.get_running_loop()

    def standing(self) -> HealthReport:
        """Return how everything stands, from memory: microseconds, whatever hangs."""
        return self._report(list(self._checks.values()))

    def known(self) -> list[CheckResult]:
        """Return what was found of late: nothing of components that were not checked, or too long ago."""
        now = self._unix_clock()
        found = [(check.result, standing(check, now)) for check in list(self._checks.values())]
        return [result for result, shown in found if result is not None and result is shown]

    def of(self, name: str) -> CheckResult | None:
        """Return how one component stands, None for one that does not exist."""
        check = self._checks.get(name)
        return standing(check, self._unix_clock()) if check is not None else None

    def readiness(self) -> Status:
        """Return how the critical components stand together: ``fail`` also before each was checked once."""
        critical = [check for check in self._checks.values() if check.critical]
        report = self._report(critical)
        pending = any(result.output == NOT_YET for result in report.checks)
        if not pending and report.status != "fail":
            self._has_been_ready = True
        return "fail" if pending else report.status

    def has_started(self) -> bool:
        """Say whether every critical component has passed at some time since the start."""
        return self._has_been_ready or self.readiness() != "fail"

    def report(self) -> HealthReport:
        """Run the checks that are due and return how everything stands. Waits for them, for five seconds at most: for
        code outside an event loop and outside probes.
        """
        self._runner.run_all()
        return self.standing()

    def _report(self, checks: list[Check]) -> HealthReport:
        now = self._unix_clock()
        results = tuple(standing(check, now) for check in checks)
        return HealthReport(worst(results), self._service, time.monotonic() - self._started, results)

    def _make_runner(self) -> None:
        self._runner = CheckRunner(
            self._checks,
            SharedResults(self._folder),
            loop=lambda: self._loop,
            clean=self._clean,
            on_failure=self._on_failure,
            unix_clock=self._unix_clock,
        )

    def _start_anew(self) -> None:
        """Begin again in a forked child: the threads, the loop and the lead are its parent's."""
        self._runner.leave_to_parent()
        self._loop = None
        for check in self._checks.values():
            check.run = None
        self._make_runner()


_made: weakref.WeakSet[HealthChecks] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for checks in list(_made):
        checks._start_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
