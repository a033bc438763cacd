"""The watchdog: what counts as stuck, and what does not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from monitoring.health.watchdog import LoopWatch
from monitoring.testing import FakeClock


class Lines(list[str]):
    """The events that were written."""

    def say(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        """Keep an event."""
        self.append(event)


def test_a_loop_that_answers_is_never_stuck() -> None:
    """However long ago the start is."""
    clock, lines = FakeClock(), Lines()

    async def live() -> float:
        watch = LoopWatch(3.0, lines.say, clock=clock)
        for _ in range(20):
            watch.look()
            await asyncio.sleep(0)
            clock.advance(1.0)
        return watch.stuck_for()

    assert asyncio.run(live()) == 0.0
    assert lines == []


def test_a_process_that_was_stopped_as_a_whole_is_not_stuck() -> None:
    """A minute in which nobody looked tells nothing of the loop: two seconds of it count."""
    clock, lines = FakeClock(), Lines()

    async def live() -> float:
        watch = LoopWatch(3.0, lines.say, clock=clock)
        watch.look()
        clock.advance(60.0)
        watch.look()
        return watch.stuck_for()

    assert asyncio.run(live()) == 0.0
    assert lines == []


def test_a_loop_that_hangs_again_is_told_again() -> None:
    """Once for each time, and each recovery."""
    clock, lines = FakeClock(), Lines()

    async def live() -> None:
        watch = LoopWatch(3.0, lines.say, clock=clock)
        for _ in range(2):
            for _ in range(6):
                watch.look()
                clock.advance(1.0)
            await asyncio.sleep(0)
            watch.look()
            await asyncio.sleep(0)

    asyncio.run(live())
    assert lines == ["event loop is stuck", "event loop goes on"] * 2


def test_a_loop_that_has_ended_is_not_stuck() -> None:
    """Its server has left it; closed or not."""
    clock, lines = FakeClock(), Lines()

    async def make() -> LoopWatch:
        return LoopWatch(3.0, lines.say, clock=clock)

    loop = asyncio.new_event_loop()
    watch = loop.run_until_complete(make())
    for close in (lambda: None, loop.close):
        close()
        for _ in range(10):
            watch.look()
            clock.advance(1.0)
    assert watch.stuck_for() == 0.0
    assert lines == []
