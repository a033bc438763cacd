"""RQ in this process: a real Redis, and a worker that does not fork."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import monitoring
from monitoring.tasks import TaskRecord
from monitoring.testing import MemorySink, use
from tests.integrations.contract import SECRET
from tests.integrations.tasks.contract import REQUEST_ID, TaskContract, TaskSubject, double, fail, in_request, tasks_of

redis = pytest.importorskip("redis")
rq = pytest.importorskip("rq")


class RQ(TaskSubject):
    """``rq.Queue`` and ``rq.SimpleWorker``."""

    client = "rq `Queue` and `Worker`"
    library = "rq"
    system = "rq"

    def __init__(self, port: int) -> None:
        self._port = port

    @contextmanager
    def opened(self) -> Iterator[Any]:
        with open_queue(self._port) as ends:
            yield ends

    def ends(self, client: Any) -> tuple[Any, Any]:
        queue, worker = client
        return queue, worker

    def send(self, client: Any, task: Any) -> Any:
        return client[0].enqueue(task, SECRET)

    def work(self, client: Any) -> None:
        client[1].work(burst=True)

    def result(self, client: Any, handle: Any) -> object:
        latest = handle.latest_result()
        return latest.return_value if latest.exc_string is None else latest.exc_string.strip().splitlines()[-1]

    def seams(self, client: Any) -> object:
        names = ("create_job", "enqueue_job", "enqueue_many", "schedule_job", "run_job", "perform_job")
        own = [{name for name in names if name in vars(end)} for end in client]
        return own, list(client[1]._exc_handlers)


@contextmanager
def open_queue(port: int) -> Iterator[tuple[Any, Any]]:
    """Open a queue of its own, and a worker for it that does not fork."""
    with redis.Redis(port=port) as connection:
        queue = rq.Queue(f"queue-{uuid.uuid4().hex}", connection=connection)
        worker = rq.SimpleWorker([queue], connection=connection)
        worker.push_exc_handler(lambda *_: True)
        yield queue, worker


class TestRQ(TaskContract):
    """The contract."""

    @pytest.fixture
    def subject(self, redis_port: int) -> TaskSubject:
        return RQ(redis_port)


def run(port: int, send: Callable[[Any], object]) -> list[TaskRecord]:
    """Let ``send`` queue jobs in a request, run them outside of it, and return how they ended."""
    sink = MemorySink()
    with open_queue(port) as (queue, worker), use(sink):
        monitoring.wrap(queue)
        monitoring.wrap(worker)
        with in_request():
            send(queue)
        worker.work(burst=True)
    return tasks_of(sink)


def try_again() -> Any:
    """Ask to be tried again."""
    return rq.Retry(max=1)


def test_jobs_sent_together_are_of_the_request(redis_port: int) -> None:
    """``enqueue_many`` makes its jobs by itself."""
    tasks = run(redis_port, lambda queue: queue.enqueue_many([rq.Queue.prepare_data(double, ["x"]) for _ in range(3)]))
    assert [(one.outcome, one.request_id) for one in tasks] == [("ok", REQUEST_ID)] * 3


def test_a_job_that_was_made_beforehand_is_of_the_request_that_queues_it(redis_port: int) -> None:
    """It gets its stamp when it is sent."""

    def send(queue: Any) -> None:
        queue.enqueue_job(rq.job.Job.create(double, ["x"], connection=queue.connection))

    (task,) = run(redis_port, send)
    assert task.request_id == REQUEST_ID


def test_the_users_meta_stays_theirs(redis_port: int) -> None:
    """Their dict is not written to; the job's has one item more."""
    meta = {"mine": 1}
    with open_queue(redis_port) as (queue, _), use():
        job = monitoring.wrap(queue).enqueue(double, "x", meta=meta)
        job.refresh()
    assert meta == {"mine": 1}
    assert job.meta["mine"] == 1
    assert set(job.meta) == {"mine", "monitoring"}


def test_attempts_are_numbered(redis_port: int) -> None:
    """A job that raises is an error at each attempt, and a retry at all but the last."""
    tasks = run(redis_port, lambda queue: queue.enqueue(fail, "x", retry=rq.Retry(max=2)))
    assert [(one.outcome, one.error_type, one.attempt) for one in tasks] == [
        ("retry", "TaskError", 1),
        ("retry", "TaskError", 2),
        ("error", "TaskError", 3),
    ]
    assert {one.error_group for one in tasks} != {""}


@pytest.mark.skipif(not hasattr(rq.SimpleWorker, "handle_job_retry"), reason="this RQ has no such result")
def test_a_job_that_asks_to_be_tried_again_is_a_retry(redis_port: int) -> None:
    """Without an exception; RQ fails it in the end."""
    tasks = run(redis_port, lambda queue: queue.enqueue(try_again))
    assert [(one.outcome, one.error_type) for one in tasks] == [("retry", ""), ("error", "")]


def test_a_queue_that_is_not_asynchronous_runs_its_jobs_in_the_request(redis_port: int) -> None:
    """There is no worker."""
    sink = MemorySink()
    with redis.Redis(port=redis_port) as connection, use(sink), in_request():
        queue = monitoring.wrap(rq.Queue("in-place", is_async=False, connection=connection))
        assert queue.enqueue(double, "x").return_value() == "xx"
    (task,) = tasks_of(sink)
    assert (task.outcome, task.request_id) == ("ok", REQUEST_ID)


def test_a_job_of_a_lost_worker_is_told_when_it_is_found(redis_port: int) -> None:
    """RQ calls the exception handlers of the worker that cleans up."""
    sink = MemorySink()
    with open_queue(redis_port) as (queue, worker), use(sink):
        job = monitoring.wrap(queue).enqueue(double, "x")
        monitoring.wrap(worker)
        worker._exc_handlers[0](job, rq.exceptions.AbandonedJobError, rq.exceptions.AbandonedJobError(), None)
    (task,) = tasks_of(sink)
    assert (task.outcome, task.error_type, task.has_run) == ("error", "AbandonedJobError", False)
