"""The lag of the app's event loop, in a loop that runs in another thread and is held up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from monitoring.health.checks import event_loop, event_loop_lag
from tests.health.checks.support import outcome
from tests.support.processes import poll


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Run a loop in a thread, as an app has it while checks run in others."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def found_in(loop: asyncio.AbstractEventLoop, **limits: Any) -> Any:
    """Return a check that has found the loop."""
    check = event_loop_lag(**limits)
    first = asyncio.run_coroutine_threadsafe(check(), loop).result(5)  # type: ignore[arg-type]
    assert first.measurement == "event_loop_lag"
    return check


def test_a_loop_that_is_free_passes(loop: asyncio.AbstractEventLoop) -> None:
    """With a reading in seconds, from the second call on without a coroutine."""
    reading = found_in(loop, warn_seconds=60)()
    assert (reading.status, reading.unit) == ("pass", "s")
    assert reading.value >= 0


def test_a_loop_that_is_held_up_is_warned_of_and_its_lag_grows(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One callback waits in it, however often it is asked; the callback's age is the lag."""
    check = found_in(loop, warn_seconds=0.1)
    release, held = threading.Event(), threading.Event()
    loop.call_soon_threadsafe(lambda: (held.set(), release.wait(20)))
    assert held.wait(5)
    asked: list[object] = []
    call_soon = loop.call_soon_threadsafe
    with monkeypatch.context() as patch:
        patch.setattr(loop, "call_soon_threadsafe", lambda callback: (asked.append(callback), call_soon(callback)))
        first, second = check(), check()
    release.set()
    assert (first.status, second.status, len(asked)) == ("warn", "warn", 1)
    assert 0.4 < first.value < second.value
    assert first.output.startswith("the event loop came 0.")
    poll(lambda: check().status == "pass", "the loop to be free")


def test_it_fails_from_a_limit_on(loop: asyncio.AbstractEventLoop) -> None:
    """Where one is given."""
    check = found_in(loop, warn_seconds=0.1, fail_seconds=0.3)
    release = threading.Event()
    loop.call_soon_threadsafe(release.wait, 20)
    status = check().status
    release.set()
    assert status == "fail"


def test_without_an_apps_loop_it_passes_and_says_so() -> None:
    """A loop that the asking thread has made for the check is nobody's."""
    check = event_loop_lag()
    assert [outcome(check).output, outcome(check).output] == [event_loop.NO_LOOP] * 2


def test_a_loop_that_has_ended_is_looked_for_again(loop: asyncio.AbstractEventLoop) -> None:
    """As after a reload."""
    check = found_in(loop)
    loop.call_soon_threadsafe(loop.stop)
    poll(lambda: not loop.is_running(), "the loop to end")
    assert outcome(check).output == event_loop.NO_LOOP


def test_a_loop_of_the_parent_is_not_the_childs(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forked child has a copy that seems to run."""
    check = found_in(loop)
    monkeypatch.setattr(event_loop.os, "getpid", lambda: -1)
    assert outcome(check).output == event_loop.NO_LOOP
