"""Tasks: jobs that one process queues and another, or the same one later, works off."""

from __future__ import annotations

from typing import Final, Literal, get_args

from .context import current_record
from .observation import JobRecord, Observation

TaskOutcome = Literal[
    "ok", "error", "time_limit", "retry", "rejected", "revoked", "missed", "cancelled", "ignored"
]  # fmt: skip
"""How one attempt ended: it returned, raised, took too long, or will be tried again; it was not accepted, called off,
or not started in time; it was interrupted, or its worker dropped it without a result.
"""

TASK_OUTCOMES: Final[tuple[TaskOutcome, ...]] = get_args(TaskOutcome)

FAILED: Final = frozenset({"error", "time_limit", "retry"})
"""Outcomes of an attempt whose exception is an error of the app, where it has one."""


class TaskRecord(JobRecord):
    """One attempt at a task. ``request_id`` is that of the request that queued it, as far as that is known."""

    system: str = ""
    """The library, as in OpenTelemetry's ``messaging.system``: ``celery``, ``rq``, ``dramatiq``."""
    queue: str = ""
    attempt: int = 1
    wait_seconds: float | None = None
    """From being queued, or due, to the start, by the wall clocks of two hosts; None where it is not known."""
    error_type: str = ""
    has_run: bool = False
    """Whether this process ran it, and told so by a ``TaskStart``."""

    @property
    def task(self) -> str:
        """Return the task's name."""
        return self.route


class TaskStart(Observation):
    """A task begins to run in this process. Its end is told by the record itself."""

    def __init__(self, record: TaskRecord) -> None:
        super().__init__("task_start", record.route, "", 0.0, record)
        self.record = record


class TaskSent(Observation):
    """A task was handed to its queue."""

    def __init__(self, system: str, queue: str, task: str) -> None:
        super().__init__("task_sent", task, "ok", 0.0, current_record.get())
        self.system = system
        self.queue = queue
