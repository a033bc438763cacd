"""APScheduler 3. The seam: ``_lookup_executor`` of the scheduler, which leads to what runs a job.

An executor gets the job with a function that is told of; the stored job stays as it is. Executors are left alone.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any, Final

from monitoring.integrations.attachment import Detach, Link, attempt, replace_attribute
from monitoring.monitor import current

from .runs import Work, begin, end, ending_of, report_sent, report_unrun

_SYSTEM: Final = "apscheduler"
_NAMES_KEPT: Final = 1_000
_REFUSED: Final = "MaxInstancesReachedError"


def carrier(scheduler: Any) -> Any:
    """Return the scheduler itself."""
    return scheduler


def attach(scheduler: Any, link: Link) -> Detach:
    """See the jobs that the scheduler submits, and hear of those that it missed."""
    seen = _Scheduled(link)
    add_listener, remove_listener = scheduler.add_listener, scheduler.remove_listener
    restore = replace_attribute(
        scheduler, "_lookup_executor", partial(seen.lookup_executor, scheduler._lookup_executor)
    )
    add_listener(seen.missed, import_module("apscheduler.events").EVENT_JOB_MISSED)

    def detach() -> None:
        restore()
        remove_listener(seen.missed)

    return detach


class _Scheduled:
    """The jobs of a scheduler."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._names: OrderedDict[str, tuple[str, str]] = OrderedDict()
        """Executors and names of the jobs last submitted, by the ID that events tell."""

    def lookup_executor(self, lookup: Callable[[str], Any], alias: str) -> Any:
        return _Executor(lookup(alias), alias, self)

    def submit(self, executor: Any, alias: str, job: Any, run_times: Sequence[Any]) -> Any:
        recorder = self._link.recorder()
        if recorder is None:
            return executor.submit_job(job, run_times)
        attempt(self._link, self._remember, job, alias)
        due_at = run_times[0].timestamp() if len(run_times) == 1 else None
        try:
            result = executor.submit_job(ObservedJob(job, self._link, alias, due_at), run_times)
        except Exception as error:
            if type(error).__name__ == _REFUSED:
                report_unrun(self._link, "rejected", _work, alias, job.name, None)
            raise
        report_sent(recorder, _describe, alias, job.name)
        return result

    def _remember(self, job: Any, alias: str) -> None:
        self._names[job.id] = (alias, job.name)
        self._names.move_to_end(job.id)
        while len(self._names) > _NAMES_KEPT:
            self._names.popitem(last=False)

    def missed(self, event: Any) -> None:
        """Hear of a run that came too late to begin."""
        alias, name = self._names.get(event.job_id, ("", "(unknown)"))
        report_unrun(self._link, "missed", _work, alias, name, None)


class _Executor:
    """An executor whose jobs are told of."""

    def __init__(self, executor: Any, alias: str, scheduled: _Scheduled) -> None:
        self._executor = executor
        self._alias = alias
        self._scheduled = scheduled

    def submit_job(self, job: Any, run_times: Sequence[Any]) -> Any:
        return self._scheduled.submit(self._executor, self._alias, job, run_times)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executor, name)


class ObservedJob:
    """A job with another function. In a process of a pool it reports to the Monitoring that is set up there."""

    def __init__(self, job: Any, link: Link, alias: str, due_at: float | None) -> None:
        self._job = job
        self._alias = alias
        self._due_at = due_at
        run: Callable[..., Any] = _run_async if _is_async(job.func) else _run
        self.func = partial(run, link, alias, job.name, due_at, job.func)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._job, name)

    def __str__(self) -> str:
        return str(self._job)

    def __repr__(self) -> str:
        return repr(self._job)

    def __reduce__(self) -> tuple[Any, ...]:
        return _of_this_process, (self._job, self._alias, self._due_at)


def _of_this_process(job: Any, alias: str, due_at: float | None) -> ObservedJob:
    return ObservedJob(job, Link(lambda: current().recorder), alias, due_at)


def _run(link: Link, alias: str, name: str, due_at: float | None, function: Any, *args: Any, **kwargs: Any) -> Any:
    run = begin(link, _work, alias, name, due_at)
    if run is None:
        return function(*args, **kwargs)
    try:
        result = function(*args, **kwargs)
    except BaseException as error:
        end(run, ending_of, error)
        raise
    end(run, ending_of, None)
    return result


async def _run_async(
    link: Link, alias: str, name: str, due_at: float | None, function: Any, *args: Any, **kwargs: Any
) -> Any:
    run = begin(link, _work, alias, name, due_at)
    if run is None:
        return await function(*args, **kwargs)
    try:
        result = await function(*args, **kwargs)
    except BaseException as error:
        end(run, ending_of, error)
        raise
    end(run, ending_of, None)
    return result


def _is_async(function: Any) -> bool:
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function)


def _work(alias: str, name: str, due_at: float | None) -> Work:
    return Work(_SYSTEM, alias, name, due_at=due_at)


def _describe(alias: str, name: str) -> tuple[str, str, str]:
    return _SYSTEM, alias, name
