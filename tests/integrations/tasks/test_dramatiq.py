"""Dramatiq in this process: a broker in memory, and a worker with a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import monitoring
from monitoring.tasks import TaskRecord
from monitoring.testing import MemorySink, use
from tests.integrations.contract import SECRET
from tests.integrations.tasks.contract import (
    REQUEST_ID,
    TaskContract,
    TaskError,
    TaskSubject,
    double,
    fail,
    in_request,
    tasks_of,
)

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


def run(define: Callable[[Any], None], send: Callable[[Any], object]) -> tuple[list[TaskRecord], MemorySink]:
    """Let ``send`` queue messages in a request, run them outside of it, and return how they ended."""
    sink = MemorySink()
    with open_broker() as broker, use(sink):
        monitoring.wrap(broker)
        define(broker)
        with in_request():
            send(broker)
        work(broker)
    return tasks_of(sink), sink


def test_attempts_are_numbered_and_of_one_request() -> None:
    """Dramatiq delays a retry and moves it back: that is sent once, and is no wait."""
    attempts: list[int] = []

    def flaky() -> None:
        attempts.append(1)
        if len(attempts) < 3:
            raise ConnectionError("not yet")

    def define(broker: Any) -> None:
        dramatiq.actor(flaky, broker=broker, max_retries=2, min_backoff=1, max_backoff=2)

    tasks, sink = run(define, lambda broker: broker.get_actor("flaky").send())
    assert [(one.outcome, one.error_type, one.attempt) for one in tasks] == [
        ("retry", "ConnectionError", 1),
        ("retry", "ConnectionError", 2),
        ("ok", "", 3),
    ]
    assert {one.request_id for one in tasks} == {REQUEST_ID}
    assert len(sink.of_kind("task_sent")) == 3


def test_an_actor_that_asks_to_be_tried_again_is_no_error() -> None:
    """``Retry`` is its own word."""
    asked: list[int] = []

    def patient() -> None:
        asked.append(1)
        if len(asked) == 1:
            raise dramatiq.errors.Retry(delay=1)

    def define(broker: Any) -> None:
        dramatiq.actor(patient, broker=broker)

    tasks, _ = run(define, lambda broker: broker.get_actor("patient").send())
    assert [(one.outcome, one.error_group) for one in tasks] == [("retry", ""), ("ok", "")]


def test_a_message_that_is_too_old_is_rejected() -> None:
    """Another middleware has it skipped, after ours has begun."""

    def define(broker: Any) -> None:
        dramatiq.actor(double, broker=broker, actor_name="old", max_age=1)

    def send(broker: Any) -> None:
        message = broker.get_actor("old").message("x")
        broker.enqueue(message.copy(message_timestamp=message.message_timestamp - 1000))

    tasks, _ = run(define, send)
    assert [(one.outcome, one.error_type) for one in tasks] == [("rejected", "")]


def test_what_an_actor_may_throw_is_counted_without_a_group() -> None:
    """``throws`` says that it is expected."""

    def define(broker: Any) -> None:
        dramatiq.actor(fail, broker=broker, actor_name="expected", throws=TaskError)

    tasks, _ = run(define, lambda broker: broker.get_actor("expected").send("x"))
    assert [(one.outcome, one.error_type, one.error_group) for one in tasks] == [("error", "TaskError", "")]


def test_a_delay_is_no_wait() -> None:
    """The wait begins when the message is due, and it is sent once."""

    def send(broker: Any) -> None:
        broker.get_actor("double").send_with_options(args=("x",), delay=20)

    tasks, sink = run(lambda _: None, send)
    (task,) = tasks
    assert task.wait_seconds is not None
    assert len(sink.of_kind("task_sent")) == 1


def test_an_asynchronous_actor_runs_in_the_context_of_its_task() -> None:
    """Its coroutine is run by another thread."""
    ids: list[str | None] = []

    async def asynchronous() -> None:
        ids.append(monitoring.request_id())

    def define(broker: Any) -> None:
        from dramatiq.middleware import AsyncIO

        broker.add_middleware(AsyncIO())
        dramatiq.actor(asynchronous, broker=broker, max_retries=0)

    tasks, _ = run(define, lambda broker: broker.get_actor("asynchronous").send())
    assert [one.outcome for one in tasks] == ["ok"]
    assert ids == [REQUEST_ID]
