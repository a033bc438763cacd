"""A task's run: its record is the context of all that happens in it, and is reported at its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import Token
from time import perf_counter
from typing import Any, Final, NamedTuple

from monitoring.context import current_record, reset
from monitoring.integrations.attachment import Link
from monitoring.middleware.edge import attach
from monitoring.observation import RequestRecord
from monitoring.recorder import Recorder
from monitoring.tasks import FAILED, TaskOutcome, TaskRecord, TaskSent, TaskStart
from monitoring.utils.ids import new_ids_at
from monitoring.utils.plain import safe_str

from .stamps import continue_request, queued_at

_NAME_LENGTH: Final = 200
_KEY: Final = "_monitoring_run"


class Work(NamedTuple):
    """What an adapter knows of a task before it runs."""

    system: str
    queue: str
    task: str
    attempt: int = 1
    stamp: object = None
    due_at: float | None = None
    """Unix time before which it was not to run, or when it was queued by the library's own word."""


class Ending(NamedTuple):
    """How an attempt ended."""

    outcome: TaskOutcome
    error: BaseException | None = None
    is_expected: bool = False
    """Whether the task says that its exception is none of the app's errors: it is counted only."""


class Run:
    """One attempt that goes on in this thread or coroutine."""

    __slots__ = ("error", "record", "recorder", "token")

    def __init__(self, record: TaskRecord, recorder: Recorder) -> None:
        self.record = record
        self.recorder = recorder
        self.error: BaseException | None = None
        """What it raised, where that is heard of before its end."""
        self.token: Token[RequestRecord | None] = current_record.set(record)


def begin(link: Link, describe: Callable[..., Work], *facts: Any) -> Run | None:
    """Make the task that ``describe(*facts)`` tells of the present context. Never raises; None when nobody listens."""
    recorder = link.recorder()
    if recorder is None:
        return None
    try:
        record = new_record(describe(*facts))
        record.has_run = True
        recorder.record(TaskStart(record))
        return Run(record, recorder)
    except Exception as error:
        recorder.failed(f"{describe.__module__}.{describe.__qualname__}", error)
        return None


def end(run: Run, judge: Callable[..., Ending], *facts: Any) -> None:
    """Report a run that ended as ``judge(*facts)`` tells, and leave its context. Never raises."""
    try:
        run.record.duration_seconds = perf_counter() - run.record.started
        _report(run.recorder, run.record, judge(*facts))
    except Exception as bug:
        run.recorder.failed(f"{judge.__module__}.{judge.__qualname__}", bug)
    finally:
        reset(current_record, run.token)


def ending_of(error: BaseException | None) -> Ending:
    """Return how a function ended that returned, or raised ``error``."""
    if error is None:
        return Ending("ok")
    return Ending("error" if isinstance(error, Exception) else "cancelled", error)


def leave(run: Run) -> None:
    """Leave the context of a run whose end another process tells."""
    reset(current_record, run.token)


def report_unrun(
    link: Link,
    outcome: TaskOutcome,
    describe: Callable[..., Work],
    *facts: Any,
    error: BaseException | None = None,
    ran_since: float | None = None,
) -> None:
    """Report a task whose end is known here, but which did not run here, or not to its end. Never raises.

    ``ran_since`` is the unix time at which it began elsewhere.
    """
    recorder = link.recorder()
    if recorder is None:
        return
    token = current_record.set(None)
    try:
        record = new_record(describe(*facts))
        if ran_since is None:
            record.wait_seconds = None
        else:
            record.duration_seconds = max(0.0, time.time() - ran_since)
            if record.wait_seconds is not None:
                record.wait_seconds = max(0.0, record.wait_seconds - record.duration_seconds)
        current_record.set(record)
        _report(recorder, record, Ending(outcome, error))
    except Exception as bug:
        recorder.failed(f"{describe.__module__}.{describe.__qualname__}", bug)
    finally:
        reset(current_record, token)


def _report(recorder: Recorder, record: TaskRecord, ending: Ending) -> None:
    record.outcome = ending.outcome
    record.finished = True
    error = ending.error
    if error is not None:
        record.error_type = type(error).__name__
        if ending.outcome in FAILED and not ending.is_expected:
            attach(error, record)
    recorder.record(record)
    record.exception = None  # its frames hold the record: as a cycle both would be the garbage collector's


def new_record(work: Work) -> TaskRecord:
    """Return the record of a task that begins now, with the IDs of what it is part of."""
    record, outer = TaskRecord(), current_record.get()
    record.started = perf_counter()
    record.request_id, record.span_id = new_ids_at(record.started)
    record.trace_id = record.request_id
    record.method = record.path = ""
    record.system, record.attempt = work.system, work.attempt
    record.queue, record.route = (safe_str(name, _NAME_LENGTH) for name in (work.queue, work.task))
    if outer is not None:
        record.request_id, record.trace_id, record.parent_span_id = outer.request_id, outer.trace_id, outer.span_id
        record.trace_flags, record.tracestate = outer.trace_flags, outer.tracestate
        record.user_id = outer.user_id
    if work.stamp is not None:
        continue_request(record, work.stamp)
    times = [at for at in (queued_at(work.stamp), work.due_at) if at is not None]
    if times:
        record.wait_seconds = max(0.0, time.time() - max(times))
    return record


def report_sent(recorder: Recorder, describe: Callable[..., tuple[str, str, str]], *facts: Any) -> None:
    """Report that a task was queued: library, queue and task as ``describe(*facts)`` tells them. Never raises."""
    try:
        recorder.record(TaskSent(*describe(*facts)))
    except Exception as error:
        recorder.failed(f"{describe.__module__}.{describe.__qualname__}", error)


def put_run(holder: Any, run: Run | None) -> None:
    """Let a library's own object of this attempt hold its run: it goes away with it, however the attempt ends."""
    if run is not None:
        vars(holder)[_KEY] = run


def take_run(holder: Any) -> Run | None:
    """Return the run that an object holds, and take it from there; None where there is none."""
    run: Run | None = vars(holder).pop(_KEY, None)
    return run


def held_run(holder: Any) -> Run | None:
    """Return the run that an object holds."""
    run: Run | None = vars(holder).get(_KEY)
    return run
