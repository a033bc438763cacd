"""Background tasks of Starlette and FastAPI: tasks of their own, after the response."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask, BackgroundTasks
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import monitoring
from monitoring.calls import DatabaseCall
from monitoring.context import request_id
from monitoring.monitor import current
from monitoring.observation import RequestRecord
from monitoring.tasks import TaskRecord
from monitoring.testing import MemorySink

Answer = Callable[["BackgroundTask | None"], list[Any]]

seen: list[str | None] = []


async def remember(value: str) -> None:
    """Note the request, and ask a database."""
    seen.append(request_id())
    current().recorder.record(DatabaseCall(0.0))


def remember_in_thread(value: str) -> None:
    """Do so outside of the event loop."""
    seen.append(request_id())


async def fail(value: str) -> None:
    """Raise."""
    raise LookupError("failed on purpose")


@pytest.fixture
def answer(tmp_path: Path) -> Answer:
    """Answer one request to an app that has a background task to do, and return what was observed."""
    seen.clear()

    def answer(background: BackgroundTask | None) -> list[Any]:
        sink = MemorySink()

        async def endpoint(request: Any) -> PlainTextResponse:
            return PlainTextResponse("done", background=background)

        app = Starlette(routes=[Route("/answer", endpoint)])
        monitoring.install(app, log_destination=str(tmp_path / "log"), cells_folder=str(tmp_path / "cells"), store=None)
        current().recorder.add(sink)
        with TestClient(app, raise_server_exceptions=False) as client:
            assert client.get("/answer").text == "done"
        return sink.observations

    return answer


@pytest.mark.parametrize("function", [remember, remember_in_thread])
def test_a_background_task_is_a_task_of_its_request(answer: Answer, function: Any) -> None:
    """It has a name, a duration and an outcome, and the request's ID."""
    observations = answer(BackgroundTask(function, "a value"))
    (request,) = [one for one in observations if one.kind == "request"]
    (task,) = [one for one in observations if isinstance(one, TaskRecord)]
    assert (task.system, task.queue, task.outcome) == ("starlette", "background", "ok")
    assert task.name == f"{__name__}.{function.__qualname__}"
    assert seen == [task.request_id] == [request.request_id]
    assert (task.trace_id, task.parent_span_id) == (request.trace_id, request.span_id)


def test_its_queries_are_its_own(answer: Answer) -> None:
    """They are summed up with the task, and no more with the request, which is over."""
    observations = answer(BackgroundTask(remember, "a value"))
    (request,) = [one for one in observations if one.kind == "request"]
    (task,) = [one for one in observations if isinstance(one, TaskRecord)]
    assert (task.db_calls, cast(RequestRecord, request).db_calls) == (1, 0)


def test_each_of_several_is_a_task_until_one_fails(answer: Answer) -> None:
    """The failure is an error of the task, and of the work after the response as before."""
    tasks = BackgroundTasks([BackgroundTask(remember, 1), BackgroundTask(fail, 2), BackgroundTask(remember, 3)])
    observations = answer(tasks)
    ended = [(one.outcome, one.error_type) for one in observations if isinstance(one, TaskRecord)]
    assert ended == [("ok", ""), ("error", "LookupError")]
    assert [one.outcome for one in observations if one.kind == "background"] == ["background_error"]


def test_a_failure_is_one_error(answer: Answer) -> None:
    """Its group counts it once, though two lines tell of it."""
    answer(BackgroundTask(fail, 1))
    errors = current().metrics.snapshot()["monitoring_errors_total"].series
    assert sum(one.value for one in errors) == 1


def test_a_request_without_background_tasks_has_none(answer: Answer) -> None:
    """It does not meet them."""
    assert [one.kind for one in answer(None)] == ["request"]


def test_outside_of_monitoring_they_are_what_they_were() -> None:
    """The class is patched for the process, and does nothing where nobody listens."""
    import asyncio

    seen.clear()
    asyncio.run(BackgroundTask(remember, 1)())
    assert seen == [None]
