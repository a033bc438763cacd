"""APScheduler's schedulers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.integrations.contract import SECRET
from tests.integrations.tasks.contract import TaskContract, TaskSubject
from tests.support.processes import poll

pytest.importorskip("apscheduler")


class Scheduler(TaskSubject):
    """``BackgroundScheduler``."""

    client = "apscheduler `BaseScheduler`"
    library = "apscheduler"
    system = "apscheduler"
    exceptions = {
        "test_the_request_travels_with_a_task": "a scheduled job is of no request, and stores nothing but its arguments",
        "test_an_uninstrumented_worker_runs_the_tasks_of_an_instrumented_publisher": "a job is sent when it is due",
    }

    @contextmanager
    def opened(self) -> Iterator[Any]:
        with open_scheduler() as scheduler:
            yield scheduler

    def ends(self, client: Any) -> tuple[Any, Any]:
        return client, client

    def send(self, client: Any, task: Any) -> Any:
        return client.add_job(task, args=[SECRET]).id

    def work(self, client: Any) -> None:
        client.resume()
        waiting = client.waiting
        poll(lambda: not client.get_jobs() and len(client.ended) >= waiting(), "the jobs' end")
        client.pause()

    def result(self, client: Any, handle: Any) -> object:
        event = client.ended[handle]
        return event.retval if event.exception is None else (type(event.exception), str(event.exception))

    def seams(self, client: Any) -> object:
        return "_lookup_executor" in vars(client), len(client._listeners)


@contextmanager
def open_scheduler() -> Iterator[Any]:
    """Open a scheduler that stands still, and keeps the events of what ended."""
    from apscheduler import events
    from apscheduler.schedulers.background import BackgroundScheduler

    scheduler: Any = BackgroundScheduler()
    scheduler.ended, submitted = {}, []
    scheduler.waiting = lambda: len(submitted)
    scheduler.add_listener(lambda event: submitted.append(event), events.EVENT_JOB_ADDED)
    done = events.EVENT_JOB_EXECUTED | events.EVENT_JOB_ERROR | events.EVENT_JOB_MISSED
    scheduler.add_listener(lambda event: scheduler.ended.update({event.job_id: event}), done)
    scheduler.start(paused=True)
    try:
        yield scheduler
    finally:
        scheduler.shutdown()


class TestScheduler(TaskContract):
    """The contract."""

    @pytest.fixture
    def subject(self) -> TaskSubject:
        return Scheduler()
