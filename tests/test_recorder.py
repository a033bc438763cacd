"""The recorder: one choke point that guards, mutes and counts."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import pytest

from monitoring.context import muted
from monitoring.observation import Kind, Observation, RequestRecord
from monitoring.recorder import Fold, NullRecorder, Recorder, only_of_noted_requests
from monitoring.testing import MemorySink


class BrokenSink:
    def folds(self) -> Mapping[Kind, Fold]:
        return {"span": self.fold}

    def fold(self, observation: Observation) -> None:
        raise RuntimeError("broken sink")


SPAN = Observation("span", "work", "ok", 0.1)


def test_an_observation_reaches_every_sink_that_wants_its_kind() -> None:
    """Sinks are independent of each other."""
    first, second = MemorySink(), MemorySink()
    Recorder([first, second]).record(SPAN)
    assert [one.name for one in first.observations] == [one.name for one in second.observations] == ["work"]


def test_a_broken_sink_breaks_neither_the_caller_nor_the_other_sinks() -> None:
    """A failure is counted by its part, and the next sink still gets the observation."""
    counted: list[str] = []
    memory = MemorySink()
    recorder = Recorder([BrokenSink(), memory], count_failure=counted.append)
    recorder.record(SPAN)
    assert [one.name for one in memory.observations] == ["work"]
    assert recorder.failures == {"BrokenSink.fold: RuntimeError": 1}
    assert counted == ["BrokenSink.fold: RuntimeError"]


def test_the_first_failure_of_a_kind_is_logged_with_its_traceback_and_the_rest_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A sink that fails on each request does not flood the log."""
    recorder = Recorder([BrokenSink()])
    with caplog.at_level(logging.ERROR, "monitoring"):
        recorder.record(SPAN)
        recorder.record(SPAN)
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info is not None
    assert recorder.failures == {"BrokenSink.fold: RuntimeError": 2}


def test_what_happens_while_muted_is_not_recorded() -> None:
    """The pack's own work is invisible to its own numbers."""
    memory = MemorySink()
    recorder = Recorder([memory])
    with muted():
        recorder.record(SPAN)
    assert memory.observations == []


def test_the_null_recorder_records_nothing() -> None:
    """Before configure, observations go nowhere."""
    memory = MemorySink()
    NullRecorder([memory]).record(SPAN)
    assert memory.observations == []


def test_a_fold_of_noted_requests_alone_is_not_called_for_others() -> None:
    """Most requests have neither user nor error, and sinks that want those cost them nothing."""
    seen: list[str] = []

    class Users:
        @only_of_noted_requests
        def _fold(self, record: RequestRecord) -> None:
            seen.append(record.user_id)

        def folds(self) -> Mapping[Kind, Fold]:
            return {"request": self._fold}

    plain, noted = RequestRecord(), RequestRecord()
    noted.noted, noted.user_id = True, "ada"
    recorder = Recorder([Users()])
    recorder.record_request(plain)
    recorder.record_request(noted)
    assert seen == ["ada"]


def test_numbers_that_are_no_observations_are_counted_by_the_same_way() -> None:
    """What is measured of a pool goes to the metrics, unless muted or where there are none."""
    counted: list[object] = []

    def count(metrics: list[object], number: int) -> None:
        metrics.append(number)

    recorder = Recorder(metrics=counted)
    recorder.measure(count, 1)
    with muted():
        recorder.measure(count, 2)
    for other in (Recorder(), NullRecorder(metrics=counted)):
        other.measure(count, 3)
    assert counted == [1]


def test_a_failure_to_measure_is_counted_and_goes_no_further() -> None:
    """Like one of a sink."""
    failures: list[str] = []

    def broken(_: object) -> None:
        raise RuntimeError("no space")

    Recorder(metrics=object(), on_failure=lambda part, error: failures.append(part)).measure(broken)
    (failure,) = failures
    assert failure.endswith("broken: RuntimeError")
