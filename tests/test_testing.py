"""The helpers that users test their own apps with."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

import monitoring
from monitoring.observation import Kind, Observation
from monitoring.recorder import Fold
from monitoring.testing import FakeClock, MemorySink, use


def test_use_makes_a_monitoring_current_for_a_block() -> None:
    """Inside the block everything reports to the given sink; afterwards nothing does."""
    sink = MemorySink()
    with use(sink) as active:
        assert monitoring.current() is active
        with monitoring.observe("work"):
            pass
    with monitoring.observe("later"):
        pass
    assert [(one.kind, one.name, one.outcome) for one in sink.observations] == [("span", "work", "ok")]


def test_checks_of_the_app_are_there_in_a_block_and_those_of_the_block_end_with_it() -> None:
    """One test's checks do not run in the next."""
    configured = monitoring.configure(store=None, log_destination="stderr")
    configured.health.add("of the app", lambda: None)
    with use() as active:
        assert active.health.of("of the app") is not None
        active.health.add("of the test", lambda: None)
    assert monitoring.current() is configured
    assert configured.health.of("of the test") is None


def test_use_raises_what_the_pack_would_swallow() -> None:
    """A failing sink is an AssertionError in tests, so that nothing hides."""

    class Broken(MemorySink):
        def folds(self) -> Mapping[Kind, Fold]:
            return {"span": self.fold}

        def fold(self, observation: Observation) -> None:
            raise RuntimeError("broken")

    with (
        use(Broken()),
        pytest.raises(AssertionError, match=r"monitoring failed in .*Broken\.fold"),
        monitoring.observe("x"),
    ):
        pass


def test_use_shares_no_cells_with_other_processes() -> None:
    """Counts of a test stay in the test."""
    with use() as active:
        active.counter("tests_total", "Counted in a test.").inc()
        assert active.metrics.snapshot()["tests_total"].series[0].value == 1
        assert active.registry.folder() is None


def test_a_fake_clock_moves_only_when_told() -> None:
    """Time is what the test says."""
    clock = FakeClock(100.0)
    assert clock() == clock() == 100.0
    clock.advance(2.5)
    assert clock() == 102.5
