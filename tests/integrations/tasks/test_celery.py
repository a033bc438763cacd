"""Celery in this process: messages of a broker in memory, run by the worker's own code."""

from __future__ import annotations

import gc
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import monitoring
from monitoring.tasks import TaskRecord
from monitoring.testing import MemorySink, use
from tests.integrations.contract import SECRET
from tests.integrations.tasks.contract import (
    REQUEST_ID,
    SPAN_ID,
    TaskContract,
    TaskSubject,
    double,
    fail,
    in_request,
    tasks_of,
)

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
    app.task(double, shared=False, name="work.double")
    app.task(fail, shared=False, name="work.fail")
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


def run(app: Any, *names: str, **options: Any) -> list[TaskRecord]:
    """Send tasks in a request, run them and what comes of them outside of it, and return how they ended."""
    sink = MemorySink()
    with use(sink):
        with in_request():
            for name in names:
                app.send_task(f"work.{name}", **options)
        work(app)
    return tasks_of(sink)


def test_a_retry_is_counted_as_one() -> None:
    """With the type of its cause; it is no error of the app, and the next attempt has the next number."""

    def flaky(self: Any) -> None:
        if self.request.retries == 0:
            raise self.retry(exc=ConnectionError("not yet"), countdown=0)

    with open_app() as app:
        monitoring.wrap(app)
        app.task(flaky, shared=False, name="work.flaky", bind=True)
        tasks = run(app, "flaky")
    assert [(one.outcome, one.error_type, one.attempt) for one in tasks] == [
        ("retry", "ConnectionError", 1),
        ("ok", "", 2),
    ]
    assert {one.request_id for one in tasks} == {REQUEST_ID}
    assert tasks[0].error_group == ""


@pytest.mark.parametrize("name", ["Reject", "Ignore"])
def test_tasks_without_a_result_are_no_errors(name: str) -> None:
    """They end by their own word."""

    def leave() -> None:
        raise getattr(celery.exceptions, name)()

    with open_app() as app:
        monitoring.wrap(app)
        app.task(leave, shared=False, name="work.leave")
        (task,) = run(app, "leave")
    assert (task.outcome, task.error_type) == ({"Reject": "rejected", "Ignore": "ignored"}[name], "")


def test_an_exception_that_a_task_declares_is_counted_without_a_group() -> None:
    """``throws`` says that it is expected."""

    def expected() -> None:
        raise LookupError("none")

    with open_app() as app:
        monitoring.wrap(app)
        app.task(expected, shared=False, name="work.expected", throws=(LookupError,))
        (task,) = run(app, "expected")
    assert (task.outcome, task.error_type, task.error_group) == ("error", "LookupError", "")


def test_a_soft_time_limit_is_one() -> None:
    """It is an error as well."""

    def slow() -> None:
        raise celery.exceptions.SoftTimeLimitExceeded()

    with open_app() as app:
        monitoring.wrap(app)
        app.task(slow, shared=False, name="work.slow")
        (task,) = run(app, "slow")
    assert (task.outcome, task.error_group != "") == ("time_limit", True)


def test_an_expired_task_is_revoked() -> None:
    """It did not run."""
    with open_app() as app:
        monitoring.wrap(app)
        (task,) = run(app, "double", expires=datetime(2020, 1, 1, tzinfo=UTC))
    assert (task.outcome, task.duration_seconds, task.has_run) == ("revoked", 0.0, False)


def test_a_wait_begins_when_the_task_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """A countdown is no wait; a clock that runs ahead of the worker's makes none, and no negative one."""
    with open_app() as app:
        monitoring.wrap(app)
        (task,) = run(app, "double", args=["x"], eta=datetime.now(UTC) + timedelta(seconds=60))
    assert task.wait_seconds == 0.0


def test_an_eager_task_is_part_of_the_request_that_calls_it() -> None:
    """It is not sent, and runs in the request's context."""
    sink = MemorySink()
    with open_app(task_always_eager=True) as app, use(sink), in_request():
        monitoring.wrap(app)
        assert app.tasks["work.double"].delay("x").get() == "xx"
        assert monitoring.request_id() == REQUEST_ID
    (task,) = tasks_of(sink)
    assert (task.queue, task.request_id, task.parent_span_id) == ("(eager)", REQUEST_ID, SPAN_ID)
    assert sink.of_kind("task_sent") == []


def test_tasks_of_another_app_are_not_seen() -> None:
    """Signals are of the process; the wrapped app's tasks are told, and nobody else's."""
    with open_app() as app, open_app() as other:
        monitoring.wrap(app)
        assert run(other, "double", args=["x"]) == []
        assert len(run(app, "double", args=["x"])) == 1


def test_nothing_is_kept_of_a_task_that_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its run hangs on the library's own object of this attempt, and goes with it."""
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)  # or pytest keeps the exception

    def records() -> int:
        gc.collect()
        return sum(type(one) is TaskRecord for one in gc.get_objects())

    before = records()
    with open_app() as app, use():
        monitoring.wrap(app)
        for name in ("double", "fail", "double"):
            app.send_task(f"work.{name}", args=["x"])
        work(app)
        assert records() == before


def test_headers_of_the_users_own_are_sent_as_well() -> None:
    """Ours stand beside them."""
    told: list[Any] = []

    def headers(self: Any) -> None:
        told.append(self.request.headers)

    with open_app() as app:
        monitoring.wrap(app)
        app.task(headers, shared=False, name="work.headers", bind=True)
        run(app, "headers", headers={"mine": 1})
    assert told[0]["mine"] == 1
    assert set(told[0]) - {"mine", "monitoring"} == set()
