"""What is counted of tasks."""

from __future__ import annotations

import pytest

from monitoring.cells import CellRegistry
from monitoring.metrics import Metrics
from monitoring.observation import JobRecord
from monitoring.recorder import Recorder
from monitoring.task_metrics import TaskMetrics
from monitoring.tasks import TaskOutcome, TaskRecord, TaskSent, TaskStart

PLACE = {"messaging_system": "celery", "messaging_destination_name": "drafts", "task": "draft"}


@pytest.fixture
def metrics() -> Metrics:
    registry = CellRegistry(None)
    registry.keep_in_memory()
    return Metrics(registry)


def _task(outcome: TaskOutcome = "ok", error_type: str = "", *, has_run: bool = True) -> TaskRecord:
    record = TaskRecord()
    record.system, record.queue, record.route = "celery", "drafts", "draft"
    record.outcome, record.error_type, record.has_run = outcome, error_type, has_run
    record.duration_seconds = 0.5
    return record


def _values(metrics: Metrics, name: str) -> list[tuple[dict[str, str], float]]:
    snapshot = metrics.snapshot().get(name)
    return [(dict(one.labels), one.count or one.value) for one in (snapshot.series if snapshot else ())]


def test_a_task_is_in_progress_from_its_start_to_its_end(metrics: Metrics) -> None:
    """The gauge goes up and down."""
    recorder = Recorder([TaskMetrics(metrics)])
    task = _task()
    recorder.record(TaskStart(task))
    assert _values(metrics, "monitoring_tasks_in_progress") == [(PLACE, 1.0)]
    recorder.record(task)
    assert _values(metrics, "monitoring_tasks_in_progress") == [(PLACE, 0.0)]


def test_a_task_that_did_not_run_here_leaves_the_gauge_alone(metrics: Metrics) -> None:
    """A parent tells of a lost child's."""
    Recorder([TaskMetrics(metrics)]).record(_task("error", "WorkerLostError", has_run=False))
    assert _values(metrics, "monitoring_tasks_in_progress") == []
    assert _values(metrics, "messaging_process_duration_seconds") == [
        ({**PLACE, "outcome": "error", "error_type": "WorkerLostError"}, 1.0)
    ]


def test_a_wait_that_is_not_known_is_not_counted(metrics: Metrics) -> None:
    """As 0 it would look short."""
    recorder = Recorder([TaskMetrics(metrics)])
    recorder.record(_task())
    assert _values(metrics, "monitoring_task_queue_wait_seconds") == []
    task = _task()
    task.wait_seconds = 0.0
    recorder.record(task)
    assert _values(metrics, "monitoring_task_queue_wait_seconds") == [(PLACE, 1.0)]


def test_retries_and_sent_messages_are_counted(metrics: Metrics) -> None:
    """By task, and retries by their cause."""
    recorder = Recorder([TaskMetrics(metrics)])
    recorder.record(_task("retry", "ConnectionError"))
    recorder.record(TaskSent("celery", "drafts", "draft"))
    assert _values(metrics, "monitoring_task_retries_total") == [({**PLACE, "error_type": "ConnectionError"}, 1.0)]
    assert _values(metrics, "messaging_client_sent_messages_total") == [(PLACE, 1.0)]


def test_a_job_that_is_no_task_is_none(metrics: Metrics) -> None:
    """``log_request`` makes such."""
    job = JobRecord()
    job.route, job.outcome = "script", "ok"
    Recorder([TaskMetrics(metrics)]).record(job)
    assert metrics.snapshot() == {}
