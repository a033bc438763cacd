"""RQ queues, which send, and workers. Seams: methods of the queue's and of the worker's object.

A forking worker runs each job in a work-horse of its own, which inherits the wrapped worker and ends by ``os._exit``:
what waits is written before. A work-horse that is lost is told by the worker, a lost worker by the next that cleans up.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from monitoring.integrations.attachment import Detach, Link, attempt, replace_attributes
from monitoring.monitor import current, import_for_children, write_what_waits
from monitoring.tasks import TaskOutcome

from .runs import Ending, Run, Work, begin, end, ending_of, held_run, put_run, report_sent, report_unrun, take_run
from .stamps import KEY, new_stamp

_SYSTEM: Final = "rq"
_ATTEMPT: Final = "attempt"
_AGAIN: Final = frozenset({"queued", "scheduled", "deferred"})
"""States of a job that is to be tried again."""


class WorkHorseLost(Exception):
    """What a job is counted with whose work-horse ended before it: it was killed, or ran out of memory."""


def carrier(client: Any) -> Any:
    """Return the queue or worker itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """See what a queue sends, or what a worker makes of its jobs."""
    return _attach_worker(client, link) if hasattr(client, "perform_job") else _attach_queue(client, link)


def _attach_queue(queue: Any, link: Link) -> Detach:
    return replace_attributes(
        queue,
        {
            "create_job": partial(_create_job, link, queue.create_job),
            "enqueue_job": partial(_send_one, link, queue.enqueue_job),
            "enqueue_many": partial(_send_many, link, queue.enqueue_many),
            "schedule_job": partial(_send_one, link, queue.schedule_job),
            "run_job": partial(_run_in_place, link, queue.run_job),
        },
    )


def _create_job(link: Link, create: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    job = create(*args, **kwargs)
    if link.recorder() is not None:
        attempt(link, _stamp, job)
    return job


def _send_one(link: Link, send: Callable[..., Any], job: Any, *args: Any, **kwargs: Any) -> Any:
    recorder = link.recorder()
    if recorder is not None and KEY not in job.meta:
        attempt(link, _stamp, job)
    sent = send(job, *args, **kwargs)
    if recorder is not None:
        report_sent(recorder, _describe, sent)
    return sent


def _send_many(link: Link, send: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    jobs = send(*args, **kwargs)
    recorder = link.recorder()
    if recorder is not None:
        for job in jobs:
            report_sent(recorder, _describe, job)
    return jobs


def _run_in_place(link: Link, run_job: Callable[..., Any], job: Any) -> Any:
    """Run a job of a queue that is not asynchronous."""
    run = begin(link, _work, job)
    if run is None:
        return run_job(job)
    try:
        result = run_job(job)
    except BaseException as error:
        end(run, _ending_of, error)
        raise
    end(run, ending_of, None)
    return result


def _stamp(job: Any) -> None:
    job.meta = {**job.meta, KEY: new_stamp()}


def _describe(job: Any) -> tuple[str, str, str]:
    return _SYSTEM, str(job.origin), str(job.func_name)


def _attach_worker(worker: Any, link: Link) -> Detach:
    handler = _Handler(link)
    replaced: dict[str, object] = {
        "perform_job": partial(_perform_job, worker, link, worker.perform_job),
        "handle_job_failure": partial(_handle_job_failure, worker, link, worker.handle_job_failure),
    }
    if hasattr(worker, "fork_work_horse"):
        replaced["fork_work_horse"] = partial(_fork_work_horse, link, worker.fork_work_horse)
    worker._exc_handlers.insert(0, handler)
    restore = replace_attributes(worker, replaced)

    def detach() -> None:
        restore()
        if handler in worker._exc_handlers:
            worker._exc_handlers.remove(handler)

    return detach


def _fork_work_horse(link: Link, fork: Callable[..., Any], *args: Any) -> Any:
    attempt(link, import_for_children)
    return fork(*args)


def _perform_job(worker: Any, link: Link, perform: Callable[..., Any], job: Any, *args: Any, **kwargs: Any) -> Any:
    run = begin(link, _work, job)
    attempt(link, put_run, job, run)
    try:
        return perform(job, *args, **kwargs)
    finally:
        attempt(link, _end, job)
        if worker.is_horse:
            attempt(link, write_what_waits)


def _end(job: Any) -> None:
    run = take_run(job)
    if run is not None:
        error, run.error = run.error, None
        end(run, _ending, job, error)


def _ending(job: Any, error: BaseException | None) -> Ending:
    state = _state(job)
    if state in _AGAIN:
        return Ending("retry", error)
    if error is not None:
        return _ending_of(error)
    return Ending("ok" if state == "finished" else "error")


def _ending_of(error: BaseException) -> Ending:
    return Ending("time_limit", error) if type(error).__name__ == "JobTimeoutException" else ending_of(error)


class _Handler:
    """An exception handler of a worker: it hears of the jobs that raise, and of those of lost workers."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def __call__(self, job: Any, kind: Any, error: Any, traceback: Any = None) -> bool:
        attempt(self._link, self._hear, job, error)
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to a spawned work-horse as one of the Monitoring there: the worker that it makes gets its handlers."""
        return _handler_there, ()

    def _hear(self, job: Any, error: Any) -> None:
        run = held_run(job)
        if run is not None:
            run.error = error
            _count_attempt(job, run)
        elif type(error).__name__ == "AbandonedJobError":
            outcome: TaskOutcome = "retry" if job.retries_left else "error"
            report_unrun(self._link, outcome, _work, job, error=error, ran_since=_unix_time(job.started_at))


def _handler_there() -> _Handler:
    return _Handler(Link(lambda: current().recorder))


def _count_attempt(job: Any, run: Run) -> None:
    """Let a job that is tried again know how often it was: RQ itself only counts down."""
    if job.retries_left:
        job.meta = {**job.meta, KEY: {**(job.meta.get(KEY) or {}), _ATTEMPT: run.record.attempt + 1}}


def _handle_job_failure(
    worker: Any, link: Link, handle: Callable[..., Any], job: Any, *args: Any, **kwargs: Any
) -> Any:
    """Tell of a job whose work-horse was lost or stopped: what a work-horse handles itself, it also tells."""
    is_lost = held_run(job) is None and not worker.is_horse
    is_stopped = getattr(worker, "_stopped_job_id", None) == job.id
    result = handle(job, *args, **kwargs)
    if is_lost:
        attempt(link, _report_lost, link, job, is_stopped)
        attempt(link, write_what_waits)  # now: the leases of a thread that lived on would hold up the next work-horse
    return result


def _report_lost(link: Link, job: Any, is_stopped: bool) -> None:
    outcome: TaskOutcome = "cancelled" if is_stopped else "retry" if _state(job) in _AGAIN else "error"
    error = None if is_stopped else WorkHorseLost("The work-horse ended before its job.")
    report_unrun(link, outcome, _work, job, error=error, ran_since=_unix_time(job.started_at))


def _state(job: Any) -> str:
    state = job.get_status(refresh=False)
    return str(getattr(state, "value", state))


def _work(job: Any) -> Work:
    stamp = job.meta.get(KEY) if isinstance(job.meta, dict) else None
    number = stamp.get(_ATTEMPT) if isinstance(stamp, dict) else None
    attempt_number = number if isinstance(number, int) else 1
    return Work(_SYSTEM, str(job.origin), _name(job), attempt_number, stamp, _unix_time(job.enqueued_at))


def _name(job: Any) -> str:
    try:
        return str(job.func_name)
    except Exception:  # it cannot be read, which is what the job fails with
        return "(unreadable)"


def _unix_time(moment: object) -> float | None:
    """Return the unix time of what RQ notes in UTC, with or without saying so."""
    if not isinstance(moment, datetime):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
