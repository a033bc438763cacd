"""Celery in this process: messages of a broker in memory, run by the worker's own code."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.integrations.contract import SECRET
from tests.integrations.tasks.contract import TaskContract, TaskSubject, double, fail

celery = pytest.importorskip("celery")


class CeleryApp(TaskSubject):
    """``celery.Celery``."""

    client = "celery `Celery`"
    library = "celery"
    system = "celery"

    @contextmanager
    def opened(self) -> Iterator[Any]:
        with open_app() as app:
            yield app

    def ends(self, client: Any) -> tuple[Any, Any]:
        return client, client

    def send(self, client: Any, task: Any) -> Any:
        return client.tasks[f"work.{task.__name__}"].delay(SECRET)

    def work(self, client: Any) -> None:
        work(client)

    def result(self, client: Any, handle: Any) -> object:
        result = handle.result
        return (type(result), str(result)) if isinstance(result, BaseException) else result

    def seams(self, client: Any) -> object:
        from celery import signals

        heard = [signals.task_prerun, signals.task_postrun, signals.task_failure, signals.worker_process_shutdown]
        return (
            {name: value for name, value in vars(client).items() if name == "send_task"},
            client.amqp.send_task_message,
            [len(signal.receivers or ()) for signal in heard],
        )


@contextmanager
def open_app(**settings: Any) -> Iterator[Any]:
    """Open an app with a queue of its own."""
    name = f"queue-{uuid.uuid4().hex}"
    app = celery.Celery("work", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.update(task_default_queue=name, broker_connection_retry_on_startup=True, **settings)
    app.task(double, name="work.double")
    app.task(fail, name="work.fail")
    try:
        yield app
    finally:
        app.close()


def work(app: Any) -> None:
    """Run the messages that are queued now as a worker with the solo pool does."""
    from celery.worker.request import Request

    with app.connection_for_read() as connection, connection.channel() as channel:
        queue = app.amqp.default_queue.bind(channel)
        while (message := queue.get(no_ack=True)) is not None:
            Request(message, app=app, decoded=False, task=app.tasks[message.headers["task"]]).execute()


class TestCelery(TaskContract):
    """The contract."""

    @pytest.fixture
    def subject(self) -> TaskSubject:
        return CeleryApp()
