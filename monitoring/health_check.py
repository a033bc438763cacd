"""Health: the registered checks and what they found."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from asgiref.sync import async_to_sync

from .context import carry_context, muted
from .daemon_pool import DaemonPool
from .utils.plain import clip

Status = Literal["pass", "warn", "fail"]
CheckFunction = Callable[[], object | Awaitable[object]]

_POOL_THREADS: Final = 4


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found, and when. ``output`` says why it did not pass."""

    name: str
    status: Status
    critical: bool
    duration_seconds: float
    checked_at: float
    """Unix seconds."""
    output: str = ""


@dataclass(frozen=True, slots=True)
class HealthReport:
    """All checks together: ``fail`` when a critical one fails, ``warn`` when another does."""

    status: Status
    service: str
    uptime_seconds: float
    checks: tuple[CheckResult, ...]


@dataclass(slots=True)
class _Check:
    name: str
    function: CheckFunction
    critical: bool
    timeout_seconds: float
    interval_seconds: float
    result: CheckResult | None = None
    run: concurrent.futures.Future[object] | None = None
    run_since: float = 0.0


class HealthChecks:
    """The checks of one app. A check runs at most once per interval and never twice at a time. Thread-safe."""

    def __init__(self, service: str = "app") -> None:
        self._service = service
        self._checks: dict[str, _Check] = {}
        self._started = time.monotonic()
        self._has_been_ready = False
        self._pool: DaemonPool | None = None
        self._pool_pid = 0

    def add(
        self,
        name: str,
        function: CheckFunction,
        *,
        critical: bool = False,
        timeout_seconds: float = 0.8,
        interval_seconds: float = 10.0,
    ) -> None:
        """Register a check: it passes when ``function`` (sync or async) returns, fails when it raises or takes too
        long.

        ``critical`` ones decide on readiness. The same name again replaces the check. Raise ValueError for unusable
        times.
        """
        if not 0 < timeout_seconds <= 60:
            raise ValueError(f"timeout_seconds of check {name!r} must be between 0 and 60, got {timeout_seconds!r}.")
        if interval_seconds < 0:
            raise ValueError(f"interval_seconds of check {name!r} must not be negative, got {interval_seconds!r}.")
        self._checks[name] = _Check(name, function, critical, timeout_seconds, interval_seconds)

    def adopt(self, other: HealthChecks) -> None:
        """Take over the checks that were registered with another object."""
        for check in other._checks.values():
            self._checks.setdefault(check.name, check)

    def report(self) -> HealthReport:
        """Run the checks that are due and return what all of them found. For code outside an event loop."""
        return async_to_sync(self.areport)()

    async def areport(self, *, critical_only: bool = False) -> HealthReport:
        """Run the checks that are due, side by side, and return what all of them found."""
        wanted = [check for check in self._checks.values() if check.critical or not critical_only]
        results = await asyncio.gather(*map(self._result_of, wanted))
        report = HealthReport(_worst(results), self._service, time.monotonic() - self._started, tuple(results))
        if not any(result.critical and result.status == "fail" for result in results):
            self._has_been_ready = True
        return report

    async def has_started(self) -> bool:
        """Say whether every critical check has passed at some time since the start."""
        if not self._has_been_ready:
            await self.areport(critical_only=True)
        return self._has_been_ready

    async def _result_of(self, check: _Check) -> CheckResult:
        known = check.result
        if known is not None and time.time() - known.checked_at < check.interval_seconds:
            return known
        started = time.perf_counter()
        output = await self._run(check)
        duration = time.perf_counter() - started
        status: Status = "fail" if output else "pass"
        check.result = CheckResult(check.name, status, check.critical, duration, time.time(), output)
        return check.result

    async def _run(self, check: _Check) -> str:
        """Run a check and return why it failed, "" when it passed. What it asks of others is in no number."""
        try:
            with muted():
                if inspect.iscoroutinefunction(check.function):
                    await asyncio.wait_for(check.function(), check.timeout_seconds)
                    return ""
                return await self._run_in_pool(check)
        except TimeoutError:
            return f"timeout after {check.timeout_seconds:g} s"
        except Exception as error:
            return clip(f"{type(error).__name__}: {error}", 200)

    async def _run_in_pool(self, check: _Check) -> str:
        now = time.monotonic()
        if check.run is None or check.run.done():
            check.run = self._executor().submit(carry_context(check.function))
            check.run_since = now
        elif now - check.run_since > check.timeout_seconds:
            return f"still running for {now - check.run_since:.0f} s"
        answer = await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(check.run)), check.timeout_seconds)
        if inspect.isawaitable(answer):
            await asyncio.wait_for(answer, check.timeout_seconds)
        return ""

    def _executor(self) -> DaemonPool:
        if self._pool is None or self._pool_pid != os.getpid():
            self._pool = DaemonPool(_POOL_THREADS, "monitoring-check")
            self._pool_pid = os.getpid()
        return self._pool


def _worst(results: Iterable[CheckResult]) -> Status:
    failed = [result for result in results if result.status == "fail"]
    if any(result.critical for result in failed):
        return "fail"
    return "warn" if failed else "pass"
