"""RQ in this process: a real Redis, and a worker that does not fork."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.integrations.contract import SECRET
from tests.integrations.tasks.contract import TaskContract, TaskSubject

redis = pytest.importorskip("redis")
rq = pytest.importorskip("rq")


class RQ(TaskSubject):
    """``rq.Queue`` and ``rq.SimpleWorker``."""

    client = "rq `Queue`, `Worker`"
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
