"""A run of a task, from inside of an adapter."""

from __future__ import annotations

import pytest

from monitoring.context import current_record
from monitoring.integrations.attachment import Link
from monitoring.integrations.tasks.runs import Ending, Work, begin, end, ending_of, report_unrun
from monitoring.monitor import current
from monitoring.testing import MemorySink, use
from tests.integrations.tasks.contract import in_request, tasks_of

LINK = Link(lambda: current().recorder)


def _work() -> Work:
    return Work("celery", "queue", "task")


def test_a_run_is_the_context_until_its_end() -> None:
    """Then the context is what it was."""
    with use(MemorySink()), in_request() as request:
        run = begin(LINK, _work)
        assert run is not None
        assert current_record.get() is run.record
        end(run, ending_of, None)
        assert current_record.get() is request


def test_a_failure_to_judge_leaves_the_context_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread's next task is not part of this one; the failure is the pack's own."""
    failures: list[str] = []

    def broken() -> Ending:
        raise RuntimeError("a bug")

    with use(MemorySink()):
        monkeypatch.setattr(current().recorder, "_on_failure", lambda part, error: failures.append(part))
        run = begin(LINK, _work)
        assert run is not None
        end(run, broken)
        assert current_record.get() is None
    assert len(failures) == 1


@pytest.mark.parametrize(
    ("error", "outcome", "has_group"),
    [(None, "ok", False), (LookupError("x"), "error", True), (KeyboardInterrupt(), "cancelled", False)],
)
def test_only_an_exception_is_an_error(error: BaseException | None, outcome: str, has_group: bool) -> None:
    """An interruption is none."""
    sink = MemorySink()
    with use(sink):
        run = begin(LINK, _work)
        assert run is not None
        end(run, ending_of, error)
    (task,) = tasks_of(sink)
    assert (task.outcome, task.error_group != "") == (outcome, has_group)


def test_the_exception_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """The record outlives it in no cycle."""
    with use(MemorySink()):
        run = begin(LINK, _work)
        assert run is not None
        end(run, ending_of, LookupError("x"))
        assert run.record.exception is None


def test_a_run_that_ended_elsewhere_has_its_wait_and_its_duration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to its beginning, and from there to now."""
    monkeypatch.setattr("monitoring.integrations.tasks.runs.time.time", lambda: 1_000.0)
    sink = MemorySink()
    with use(sink):
        work = Work("celery", "queue", "task", 1, {"queued_at": 990.0})
        report_unrun(LINK, "error", lambda: work, error=LookupError("lost"), ran_since=997.0)
        report_unrun(LINK, "revoked", lambda: work)
    assert [(one.wait_seconds, one.duration_seconds) for one in tasks_of(sink)] == [(7.0, 3.0), (None, 0.0)]
