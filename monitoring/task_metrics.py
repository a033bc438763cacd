"""The sink that counts tasks: sent, waiting, in progress, ended and tried again."""

from __future__ import annotations

from collections.abc import Mapping

from . import families
from .families import CountsMetrics
from .observation import Kind, Observation
from .recorder import Fold
from .tasks import TaskRecord, TaskSent, TaskStart


class TaskMetrics:
    """Counts tasks, whatever library runs them. Thread-safe."""

    def __init__(self, metrics: CountsMetrics) -> None:
        self._metrics = metrics

    def folds(self) -> Mapping[Kind, Fold]:
        """Return how the three moments of a task are counted."""
        return {"task_sent": self._fold_sent, "task_start": self._fold_start, "job": self._fold_end}

    def _fold_sent(self, sent: TaskSent) -> None:
        self._metrics.add(families.TASKS_SENT, (sent.system, sent.queue, sent.name), 1.0)

    def _fold_start(self, start: TaskStart) -> None:
        self._metrics.add(families.TASKS_IN_PROGRESS, _place(start.record), 1.0)

    def _fold_end(self, record: Observation) -> None:
        if not isinstance(record, TaskRecord):
            return
        place = _place(record)
        values = (*place, record.outcome, record.error_type)
        self._metrics.observe(families.TASK_DURATION, values, record.duration_seconds)
        if record.wait_seconds is not None:
            self._metrics.observe(families.TASK_QUEUE_WAIT, place, record.wait_seconds)
        if record.outcome == "retry":
            self._metrics.add(families.TASK_RETRIES, (*place, record.error_type), 1.0)
        if record.has_run:
            self._metrics.add(families.TASKS_IN_PROGRESS, place, -1.0)


def _place(record: TaskRecord) -> tuple[str, str, str]:
    return record.system, record.queue, record.route
