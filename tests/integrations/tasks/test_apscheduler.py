"""APScheduler's schedulers."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import pytest

import monitoring
from monitoring.integrations.attachment import Link
from monitoring.integrations.tasks.apscheduler import ObservedJob
from monitoring.monitor import current
from monitoring.testing import MemorySink, use
from tests.integrations.contract import SECRET
from tests.integrations.tasks.contract import TaskContract, TaskSubject, double, tasks_of
from tests.support.processes import poll

pytest.importorskip("apscheduler")


class Scheduler(TaskSubject):
    """``BackgroundScheduler``."""

    client = "apscheduler `BaseScheduler`"
    library = "apscheduler"
    system = "apscheduler"
    exceptions = MappingProxyType(
        {
            "test_the_request_travels_with_a_task": "a scheduled job is of no request",
            "test_an_uninstrumented_worker_runs_the_tasks_of_an_instrumented_publisher": "it is sent when it is due",
        }
    )

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


def test_a_run_that_came_too_late_is_missed() -> None:
    """It did not run, and is told of by the job's name."""
    sink = MemorySink()
    with open_scheduler() as scheduler, use(sink):
        monitoring.wrap(scheduler)
        long_ago = datetime.now(UTC) - timedelta(seconds=60)
        scheduler.add_job(double, "date", args=["x"], run_date=long_ago, misfire_grace_time=None)
        scheduler.add_job(double, "date", args=["x"], run_date=long_ago, misfire_grace_time=30, name="late")
        Scheduler().work(scheduler)
    ended = {one.task: (one.outcome, one.has_run) for one in tasks_of(sink)}
    assert ended == {"double": ("ok", True), "late": ("missed", False)}


def test_a_run_too_many_is_rejected() -> None:
    """The executor refuses it while others of the job go on."""
    released = threading.Event()
    sink = MemorySink()
    with open_scheduler() as scheduler, use(sink):
        monitoring.wrap(scheduler)
        scheduler.add_job(released.wait, "interval", seconds=0.05, args=[10], name="slow", max_instances=1)
        scheduler.resume()
        poll(lambda: "rejected" in [one.outcome for one in tasks_of(sink)], "a run that is refused")
        scheduler.remove_all_jobs()
        released.set()
        poll(lambda: "ok" in [one.outcome for one in tasks_of(sink)], "the end of the run")


def test_a_coroutine_is_observed_until_its_end() -> None:
    """By the scheduler of an event loop."""
    from apscheduler.schedulers.asyncio import AsyncIOScheduler

    ids: list[str | None] = []

    async def job() -> None:
        await asyncio.sleep(0)
        ids.append(monitoring.request_id())

    async def scenario() -> None:
        scheduler = monitoring.wrap(AsyncIOScheduler())
        scheduler.start()
        scheduler.add_job(job, name="job")
        while not tasks_of(sink):
            await asyncio.sleep(0.005)
        scheduler.shutdown()

    sink = MemorySink()
    with use(sink):
        asyncio.run(asyncio.wait_for(scenario(), 10))
    (task,) = tasks_of(sink)
    assert (task.outcome, ids) == ("ok", [task.request_id])


def test_a_job_goes_to_a_process_of_a_pool() -> None:
    """It is the job that runs there, and reports to the Monitoring that is set up there, if one is."""
    with open_scheduler() as scheduler:
        job = scheduler.add_job(double, "date", args=["x"], run_date=datetime(2090, 1, 1, tzinfo=UTC))
        job._jobstore_alias = "default"
        there = pickle.loads(pickle.dumps(ObservedJob(job, Link(lambda: current().recorder), "default", None)))
    sink = MemorySink()
    with use(sink):
        assert there.func(*there.args) == "xx"
    assert [one.outcome for one in tasks_of(sink)] == ["ok"]
