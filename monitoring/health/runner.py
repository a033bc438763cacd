"""The runner: it has each check run in the background, in time, and knows how each stands.

A probe reads what is known; nothing runs on its path. The loop never waits for a check: each runs in a thread of a
pool, at most once at a time, and a result is made when it ends or its time is over.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from ..context import muted
from ..daemon_pool import DaemonPool
from ..utils.plain import clip
from .results import CheckResult, Reading, Status
from .sharing import SharedResults

CheckFunction = Callable[[], object | Awaitable[object]]

_THREADS: Final = 64
"""Most checks that run at once; each has at most one thread, also when it is stuck."""
_LONGEST_PAUSE_SECONDS: Final = 0.5
_AGAIN_SECONDS: Final = 2.0
"""Longest wait for the next look at a component that has just failed and does not count as failed yet."""
_GRACE_SECONDS: Final = 3.0
"""Time that the process that leads has for its first results, before another runs a check by itself."""
_JITTER: Final = 0.1
_STALE_INTERVALS: Final = 3
_OUTPUT_LENGTH: Final = 200

NOT_YET: Final = "not checked yet"

_random = Random()
"""The pack's own: an app that seeds ``random`` does not find its numbers changed."""


@dataclass(slots=True, eq=False)
class Check:
    """One check, and where its runs stand in this process."""

    name: str
    function: CheckFunction
    critical: bool = False
    timeout_seconds: float = 0.8
    interval_seconds: float = 10.0
    failures_allowed: int = 3
    """Failures in a row from which the component counts as failed; one that never passed counts at once."""
    per_process: bool = False
    """Whether each worker runs it for itself: it looks at the process, not at a dependency."""

    result: CheckResult | None = None
    due: float = 0.0
    run: Future[object] | None = field(default=None, repr=False)
    began: float = 0.0
    has_timed_out: bool = False
    has_passed: bool = False

    @property
    def stale_after_seconds(self) -> float:
        """Age from which a result tells nothing any more."""
        return _STALE_INTERVALS * self.interval_seconds + self.timeout_seconds + _AGAIN_SECONDS


class CheckRunner:
    """Runs checks while it is started. ``round`` is for one thread at a time; the rest is thread-safe."""

    def __init__(
        self,
        checks: Mapping[str, Check],
        shared: SharedResults,
        *,
        loop: Callable[[], asyncio.AbstractEventLoop | None] = lambda: None,
        clean: Callable[[str], str] = str,
        on_failure: Callable[[str, Exception], None] = lambda part, error: None,
        clock: Callable[[], float] = time.monotonic,
        unix_clock: Callable[[], float] = time.time,
    ) -> None:
        self._checks = checks
        self._shared = shared
        self._loop = loop
        self._clean = clean
        self._on_failure = on_failure
        self._clock = clock
        self._unix_clock = unix_clock
        self._began = unix_clock()
        self._pool = DaemonPool(_THREADS, "monitoring-check")
        self._wake = threading.Event()
        self._working = threading.Lock()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def start(self) -> None:
        """Start the thread unless it runs."""
        if self._thread is not None:
            return
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="monitoring-health", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError as error:  # no threads any more
                    self._thread = None
                    self._on_failure("health", error)

    def stop(self) -> None:
        """Stop the thread; another process leads from now on."""
        thread, self._thread = self._thread, None
        self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=1.0)
        self._shared.leave()

    def leave_to_parent(self) -> None:
        """Forget, in a forked child, what is its parent's."""
        self._shared.leave()

    def wake(self) -> None:
        """Have the next round begin now."""
        self._wake.set()

    def round(self) -> float:
        """Begin what is due, take in what has ended, and return the seconds until the next round."""
        with self._working:
            return self._round()

    def _round(self) -> float:
        now = self._clock()
        leads = self._shared.leads()
        if not leads:
            self._take_over()
        changed = [check for check in list(self._checks.values()) if self._step(check, now, leads)]
        if leads and changed:
            self._shared.publish(
                check.result for check in list(self._checks.values()) if check.result and not check.per_process
            )
        return self._pause(now)

    def try_round(self) -> None:
        """Do a round in this thread, unless another does one; it waits for nothing."""
        if self._working.acquire(blocking=False):
            try:
                self._round()
            except Exception as error:
                self._on_failure("health", error)
            finally:
                self._working.release()

    def run_all(self, seconds: float = 5.0) -> None:
        """Run every check that has no result or is due, in this call: for scripts, and whoever asks outside a probe."""
        end = time.monotonic() + seconds
        waiting = [check for check in self._checks.values() if self._is_due(check, self._clock())]
        for check in waiting:
            check.due = 0.0
        self.round()
        while any(check.run is not None and not check.has_timed_out for check in waiting) and time.monotonic() < end:
            self._wake.wait(min(0.05, self.round()))
            self._wake.clear()

    def _run(self) -> None:
        thread = threading.current_thread()
        while self._thread is thread:
            try:
                pause = self.round()
            except Exception as error:  # the thread must go on
                self._on_failure("health", error)
                pause = _LONGEST_PAUSE_SECONDS
            self._wake.wait(pause)
            self._wake.clear()

    def _step(self, check: Check, now: float, leads: bool) -> bool:
        """Bring one check on; return whether it has another result now."""
        if check.run is not None and check.run.done():
            run, check.run = check.run, None
            if not check.has_timed_out:
                self._conclude(check, run, now)
                return True
            check.due = now
        if check.run is not None:
            return self._look_at_running(check, now)
        if self._is_due(check, now) and (leads or check.per_process or self._is_stale(check)):
            self._begin(check, now)
        return False

    def _look_at_running(self, check: Check, now: float) -> bool:
        taken = now - check.began
        if not check.has_timed_out:
            if taken < check.timeout_seconds:
                return False
            check.has_timed_out = True
            self._note(check, "fail", f"timeout after {check.timeout_seconds:g} s", None, taken, now)
            return True
        if now < check.due:
            return False
        self._note(check, "fail", f"still running for {taken:.0f} s", None, taken, now)
        return True

    def _begin(self, check: Check, now: float) -> None:
        check.began, check.has_timed_out = now, False
        check.run = self._pool.submit(self._call, check)
        check.run.add_done_callback(lambda _: self._wake.set())

    def _call(self, check: Check) -> object:
        """Run a check in a thread of the pool; what it asks of others is in no number."""
        with muted():
            answer = check.function()
            return self._awaited(answer, check.timeout_seconds) if inspect.isawaitable(answer) else answer

    def _awaited(self, answer: Awaitable[object], seconds: float) -> object:
        """Await what a check returned: in the app's loop, which its clients belong to, or in one of its own."""

        async def wait() -> object:
            with muted():
                return await asyncio.wait_for(answer, seconds)

        loop = self._loop()
        if loop is None or not loop.is_running():
            return asyncio.run(wait())
        running = asyncio.run_coroutine_threadsafe(wait(), loop)
        try:
            return running.result(seconds + 1.0)
        finally:
            running.cancel()

    def _conclude(self, check: Check, run: Future[object], now: float) -> None:
        taken = now - check.began
        error = run.exception()
        if error is None:
            answer = run.result()
            reading = answer if isinstance(answer, Reading) else None
            status: Status = reading.status if reading else "pass"
            return self._note(check, status, reading.output if reading else "", reading, taken, now)
        if isinstance(error, TimeoutError) and taken >= check.timeout_seconds:
            return self._note(check, "fail", f"timeout after {check.timeout_seconds:g} s", None, taken, now)
        self._note(check, "fail", self._text_of(error), None, taken, now)

    def _text_of(self, error: BaseException) -> str:
        try:
            text = f"{type(error).__name__}: {error}"
        except Exception:
            text = type(error).__name__
        return clip(self._clean(text), _OUTPUT_LENGTH)

    def _note(
        self, check: Check, found: Status, output: str, reading: Reading | None, taken: float, now: float
    ) -> None:
        failures = (check.result.failures if check.result else 0) + 1 if found == "fail" else 0
        check.has_passed = check.has_passed or found != "fail"
        is_down = failures >= check.failures_allowed or not check.has_passed
        status: Status = "warn" if found == "fail" and not is_down else found
        if failures > 1:
            output = f"{output} ({failures} in a row)"
        check.result = CheckResult(
            check.name, status, check.critical, taken, self._unix_clock(), output, failures, reading
        )
        wait = check.interval_seconds * _random.uniform(1 - _JITTER, 1 + _JITTER)
        check.due = now + (min(wait, _AGAIN_SECONDS) if found == "fail" and not is_down else wait)

    def _take_over(self) -> None:
        """Take over what the process that leads has found."""
        for found in self._shared.read() or ():
            check = self._checks.get(found.name)
            if check is not None and not check.per_process and check.run is None:
                check.result = replace(found, critical=check.critical)
                check.has_passed = check.has_passed or found.failures == 0
                check.due = self._clock() + check.interval_seconds

    def _is_due(self, check: Check, now: float) -> bool:
        return now >= check.due or check.due - now > 2 * check.interval_seconds + _AGAIN_SECONDS

    def _is_stale(self, check: Check) -> bool:
        """Say whether the process that leads tells nothing of a check; it may not know it, or hang."""
        since = self._began if check.result is None else check.result.checked_at
        return self._unix_clock() - since > (_GRACE_SECONDS if check.result is None else check.stale_after_seconds)

    def _pause(self, now: float) -> float:
        times = [
            check.began + check.timeout_seconds if check.run is not None and not check.has_timed_out else check.due
            for check in list(self._checks.values())
        ]
        return min(max(0.005, min(times, default=now + 1.0) - now), _LONGEST_PAUSE_SECONDS)


def standing(check: Check, now: float) -> CheckResult:
    """Return how a check stands at a unix time: what was found last, unless that is too long ago."""
    result = check.result
    if result is None:
        return CheckResult(check.name, "warn", check.critical, 0.0, now, NOT_YET)
    age = now - result.checked_at
    if age <= check.stale_after_seconds:
        return result
    status: Status = "fail" if result.status == "fail" else "warn"
    return replace(result, status=status, output=f"stale: last checked {age:.0f} s ago", reading=None)
