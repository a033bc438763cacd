"""Dramatiq in this process: a broker in memory, and a worker with a thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.integrations.contract import SECRET
from tests.integrations.tasks.contract import TaskContract, TaskSubject, double, fail

dramatiq = pytest.importorskip("dramatiq")


class Dramatiq(TaskSubject):
    """A broker of Dramatiq's."""

    client = "dramatiq `Broker`"
    library = "dramatiq"
    system = "dramatiq"

    @contextmanager
    def opened(self) -> Iterator[Any]:
        with open_broker() as broker:
            yield broker

    def ends(self, client: Any) -> tuple[Any, Any]:
        return client, client

    def send(self, client: Any, task: Any) -> Any:
        return client.get_actor(task.__name__).send(SECRET)

    def work(self, client: Any) -> None:
        work(client)

    def result(self, client: Any, handle: Any) -> object:
        from dramatiq.results import ResultFailure

        backend = client.get_results_backend()
        try:
            return handle.get_result(backend=backend)
        except ResultFailure as error:
            return str(error)

    def seams(self, client: Any) -> object:
        return [one for one in client.middleware if type(one).__name__ != "_WorkerMiddleware"]  # one of each Worker


@contextmanager
def open_broker() -> Iterator[Any]:
    """Open a broker in memory that keeps results, with two actors that are not tried again."""
    from dramatiq.brokers.stub import StubBroker
    from dramatiq.results import Results
    from dramatiq.results.backends import StubBackend

    broker = StubBroker()
    broker.add_middleware(Results(backend=StubBackend()))
    for function in (double, fail):
        dramatiq.actor(function, broker=broker, max_retries=0, store_results=True)
    yield broker
    broker.close()


def work(broker: Any) -> None:
    """Run what is queued now, and what comes of it."""
    worker = dramatiq.Worker(broker, worker_timeout=10, worker_threads=1)
    worker.start()
    try:
        broker.join("default", fail_fast=False)
        worker.join()
    finally:
        worker.stop()


class TestDramatiq(TaskContract):
    """The contract."""

    @pytest.fixture
    def subject(self) -> TaskSubject:
        return Dramatiq()
