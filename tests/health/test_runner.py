"""The runner: checks run in time, never twice at once, and what they find is known for a while."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.context import is_muted
from monitoring.health.results import CheckResult, Reading
from monitoring.health.runner import Check, CheckFunction, CheckRunner, standing
from monitoring.health.sharing import SharedResults
from monitoring.testing import FakeClock
from tests.support.processes import poll


class World:
    """A runner of checks on a clock that a test moves."""

    def __init__(self, folder: Path | None = None, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        self.checks: dict[str, Check] = {}
        self.loop: asyncio.AbstractEventLoop | None = None
        self.failures: list[tuple[str, Exception]] = []
        self.shared = SharedResults(lambda: folder)
        self.runner = CheckRunner(
            self.checks,
            self.shared,
            loop=lambda: self.loop,
            clean=lambda text: text.replace("hunter2", "***"),
            on_failure=lambda part, error: self.failures.append((part, error)),
            clock=self.clock,
            unix_clock=self.clock,
        )

    def add(self, name: str, function: CheckFunction, **settings: object) -> Check:
        """Add a check."""
        check = self.checks[name] = Check(name, function, **settings)  # type: ignore[arg-type]
        return check

    def settle(self) -> None:
        """Do rounds until nothing runs."""
        self.runner.round()
        for check in self.checks.values():
            if check.run is not None:
                poll(check.run.done, f"{check.name} to end")
        self.runner.round()

    def after(self, seconds: float) -> None:
        """Let time pass, and settle."""
        self.clock.advance(seconds)
        self.settle()


@pytest.fixture
def world() -> World:
    """Return a world without a shared folder."""
    return World()


class Dependency:
    """Something that a check asks, and that can be taken away."""

    def __init__(self) -> None:
        self.is_up = True
        self.asked = 0

    def __call__(self) -> None:
        self.asked += 1
        if not self.is_up:
            raise ConnectionError("password hunter2 is refused")


def status_of(check: Check) -> tuple[str, str]:
    """Return how a check was found."""
    assert check.result is not None
    return check.result.status, check.result.output


def test_a_check_runs_once_per_interval(world: World) -> None:
    """A tenth sooner or later: those of many workers do not ask together."""
    asked = Dependency()
    world.add("database", asked, interval_seconds=10.0)
    world.settle()
    for _ in range(8):
        world.after(1.0)
    assert asked.asked == 1
    for _ in range(4):
        world.after(1.0)
    assert asked.asked == 2


def test_a_dependency_that_is_lost_is_warned_of_and_then_failed(world: World) -> None:
    """Three failures in a row, looked at every two seconds, and without secrets; one success and it is back."""
    dependency = Dependency()
    check = world.add("database", dependency)
    world.settle()
    dependency.is_up = False
    world.after(11.0)
    assert status_of(check) == ("warn", "ConnectionError: password *** is refused")
    world.after(2.0)
    assert status_of(check) == ("warn", "ConnectionError: password *** is refused (2 in a row)")
    world.after(2.0)
    assert status_of(check) == ("fail", "ConnectionError: password *** is refused (3 in a row)")
    dependency.is_up = True
    world.after(11.0)
    assert status_of(check) == ("pass", "")


def test_what_never_passed_has_failed_at_once(world: World) -> None:
    """A wrong address is told with the first look."""
    dependency = Dependency()
    dependency.is_up = False
    check = world.add("database", dependency)
    world.settle()
    assert status_of(check)[0] == "fail"


def test_a_check_that_hangs_times_out_is_told_and_not_started_again(world: World) -> None:
    """It says for how long; when it is let go, the next run begins."""
    release, runs = threading.Event(), []

    def hang() -> None:
        runs.append(1)
        release.wait(20)

    check = world.add("stuck", hang, timeout_seconds=0.5, failures_allowed=1)
    world.runner.round()
    world.clock.advance(0.6)
    world.runner.round()
    assert status_of(check) == ("fail", "timeout after 0.5 s")
    world.clock.advance(12)
    world.runner.round()
    assert status_of(check) == ("fail", "still running for 13 s (2 in a row)")
    assert runs == [1]
    release.set()
    world.settle()
    world.settle()
    assert (status_of(check), runs) == (("pass", ""), [1, 1])


def test_one_that_hangs_holds_up_no_other(world: World) -> None:
    """They run side by side."""
    release = threading.Event()
    world.add("stuck", lambda: release.wait(20) and None)
    other = world.add("other", lambda: None)
    world.runner.round()
    assert other.run is not None
    poll(other.run.done, "the other")
    world.runner.round()
    assert status_of(other) == ("pass", "")
    release.set()


def test_a_reading_tells_more_than_yes_and_no(world: World) -> None:
    """A status of its own, a value and a unit."""
    reading = Reading("warn", "disk is 91 % full", 0.91, "ratio", "utilization", "system")
    check = world.add("disk", lambda: reading)
    world.settle()
    assert status_of(check) == ("warn", "disk is 91 % full")
    assert check.result is not None
    assert check.result.reading == reading


def test_checks_are_in_no_number_of_the_app(world: World) -> None:
    """Sync and async ones run muted."""
    muted: list[bool] = []

    async def look() -> None:
        muted.append(is_muted())

    world.add("sync", lambda: muted.append(is_muted()))
    world.add("async", look)
    world.settle()
    assert muted == [True, True]


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Run an event loop in a thread, as the app's."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_an_async_check_runs_in_the_apps_loop(world: World, loop: asyncio.AbstractEventLoop) -> None:
    """Its clients belong there; without one it runs in a loop of its own."""
    found: list[object] = []

    async def look() -> None:
        found.append(asyncio.get_running_loop())

    world.add("database", look)
    world.settle()
    world.loop = loop
    world.after(20.0)
    assert found[0] is not loop
    assert found[1] is loop


def test_an_async_check_that_hangs_is_cancelled(world: World) -> None:
    """At its time-out."""
    ended: list[str] = []

    async def hang() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.append("cancelled")

    check = world.add("database", hang, timeout_seconds=0.1)
    world.runner.round()
    assert check.run is not None
    poll(check.run.done, "the end")
    world.after(0.2)
    assert ended == ["cancelled"]
    assert status_of(check) == ("fail", "timeout after 0.1 s")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_exception_that_cannot_be_shown_is_named(world: World) -> None:
    """Nothing stops the runner."""

    def fails() -> None:
        raise Unprintable

    check = world.add("odd", fails)
    world.settle()
    assert status_of(check) == ("fail", "Unprintable")


def test_a_result_goes_stale(world: World) -> None:
    """After three intervals it tells nothing any more; a failure stays one."""
    check = world.add("database", lambda: None)
    world.settle()
    now = world.clock()
    assert standing(check, now + 30).status == "pass"
    shown = standing(check, now + 40)
    assert (shown.status, shown.output) == ("warn", "stale: last checked 40 s ago")
    check.result = CheckResult("database", "fail", True, 0.0, now, "gone")
    assert standing(check, now + 40).status == "fail"


def test_one_process_of_a_host_runs_the_checks(tmp_path: Path) -> None:
    """The others know what it found; when it ends, another goes on."""
    clock = FakeClock()
    worlds = [World(tmp_path, clock) for _ in range(3)]
    dependencies = [Dependency() for _ in worlds]
    checks = [world.add("database", dependency) for world, dependency in zip(worlds, dependencies)]
    for _ in range(2):
        for world in worlds:
            world.settle()
    assert [dependency.asked for dependency in dependencies] == [1, 0, 0]
    assert [status_of(check) for check in checks] == [("pass", "")] * 3
    worlds[0].runner.stop()
    clock.advance(12)
    for world in worlds[1:]:
        world.settle()
    assert [dependency.asked for dependency in dependencies] == [1, 1, 0]


def test_what_looks_at_the_process_runs_in_each(tmp_path: Path) -> None:
    """And is not told to the others."""
    clock = FakeClock()
    worlds = [World(tmp_path, clock) for _ in range(2)]
    dependencies = [Dependency() for _ in worlds]
    for world, dependency in zip(worlds, dependencies):
        world.add("loop", dependency, per_process=True)
        world.settle()
    assert [dependency.asked for dependency in dependencies] == [1, 1]


def test_a_leader_that_tells_nothing_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    """It may hang, or not know the check: then each process looks for itself."""
    clock = FakeClock()
    leader, other = World(tmp_path, clock), World(tmp_path, clock)
    leader.settle()
    dependency = Dependency()
    other.add("database", dependency)
    other.settle()
    assert dependency.asked == 0
    other.after(4.0)
    assert dependency.asked == 1


@pytest.mark.parametrize("garbage", [b"", b"{", b"[1]", b'[{"name": 1}]', b"\xff"])
def test_garbage_in_the_shared_file_is_nothing(tmp_path: Path, garbage: bytes) -> None:
    """A process that was killed while it wrote, or somebody else's file."""
    clock = FakeClock()
    leader, other = World(tmp_path, clock), World(tmp_path, clock)
    leader.settle()
    (tmp_path / "health.json").write_bytes(garbage)
    check = other.add("database", lambda: None)
    other.settle()
    assert check.result is None
    assert other.failures == []


def test_run_all_runs_what_is_due_and_waits_for_it(world: World) -> None:
    """For scripts; a second time nothing is due."""
    dependency = Dependency()
    check = world.add("database", dependency)
    world.runner.run_all()
    assert status_of(check) == ("pass", "")
    world.runner.run_all()
    assert dependency.asked == 1


def test_the_thread_runs_rounds_until_it_is_stopped() -> None:
    """One thread for all checks, and those of the pool."""
    world, dependency = World(), Dependency()
    world.add("database", dependency)
    world.runner.start()
    world.runner.start()
    poll(lambda: dependency.asked, "the check")
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("monitoring-health") == 1
    world.runner.stop()
    assert "monitoring-health" not in [thread.name for thread in threading.enumerate()]
