"""How requests end on real servers: clients that leave, streams that break, work after the response, and SIGTERM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.load import Target
from tests.support.processes import poll
from tests.support.raw import RawClient
from tests.support.service import (
    Command,
    Line,
    Service,
    granian,
    gunicorn_asgi,
    gunicorn_wsgi,
    hypercorn,
    serve,
    uvicorn,
)


@pytest.fixture(scope="module")
def asgi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The ASGI app behind uvicorn."""
    with serve(uvicorn(), tmp_path_factory.mktemp("asgi")) as service:
        yield service


@pytest.fixture(scope="module")
def wsgi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The WSGI app behind gunicorn with threads."""
    with serve(gunicorn_wsgi("-w", "1"), tmp_path_factory.mktemp("wsgi")) as service:
        yield service


@pytest.fixture(params=["asgi", "wsgi"])
def either(request: pytest.FixtureRequest) -> Service:
    """The ASGI app and then the WSGI app."""
    service = request.getfixturevalue(request.param)
    assert isinstance(service, Service)
    return service


def test_a_client_that_leaves_an_asgi_stream_is_client_disconnected(asgi: Service) -> None:
    """The request line of a stream whose client went away says so, with the status that was sent."""
    request_id = _leave_mid_stream(asgi)

    line = _request_line(asgi, request_id)

    assert (line["outcome"], line["status"], line["route"]) == ("client_disconnected", 200, "/stream")


def test_a_client_that_leaves_a_wsgi_stream_is_aborted(wsgi: Service) -> None:
    """The server closes the iterator before its end, and the request line says so."""
    request_id = _leave_mid_stream(wsgi)

    line = _request_line(wsgi, request_id)

    assert (line["outcome"], line["status"], line["route"]) == ("aborted", 200, "/stream")


def test_an_exception_in_a_stream_is_an_error_after_start(either: Service) -> None:
    """The status stays what the client saw, 200, and the outcome tells what it could not see."""
    with RawClient(either.port) as client:
        client.get("/stream/failure")
        status, headers = client.read_head()
        client.read_to_end()

    line = _request_line(either, headers["x-request-id"])

    assert status == 200
    assert (line["outcome"], line["status"], line["route"]) == ("error_after_start", 200, "/stream/failure")


def test_a_background_task_that_fails_leaves_the_request_ok(asgi: Service) -> None:
    """What the client got was complete: the request line is ok, and the failure has a line of its own."""
    status, headers, body = asgi.get("/background/failure")
    request_id = headers["x-request-id"]

    line = _request_line(asgi, request_id)
    failure = asgi.wait_for_line(request_id=request_id, outcome="background_error")

    assert (status, body) == (200, b"accepted")
    assert (line["outcome"], line["status"]) == ("ok", 200)
    assert "the background task failed" in str(failure)


def test_an_unhandled_error_carries_the_request_id_everywhere(either: Service) -> None:
    """The 500 page, its request line and the line with the exception have one id."""
    status, headers, _ = either.get("/fail")
    request_id = headers["x-request-id"]

    line = _request_line(either, request_id)
    poll(lambda: _lines_about(either, request_id, "the handler failed"), "a line with the exception")

    assert (status, line["status"], line["outcome"]) == (500, 500, "server_error")


def test_the_record_of_the_server_about_an_unhandled_error_has_the_request_id(asgi: Service) -> None:
    """uvicorn's own "Exception in ASGI application" comes out as JSON with the id of the request that failed."""
    _, headers, _ = asgi.get("/fail")

    record = poll(
        lambda: _lines_about(asgi, headers["x-request-id"], "Exception in ASGI application"), "uvicorn's own record"
    )

    assert [line["logger"] for line in record] == ["uvicorn.error"]


def test_a_client_that_leaves_before_a_plain_answer_does_not_change_its_outcome(asgi: Service) -> None:
    """A handler that never looks at its client ends well when the client is gone: the outcome is ok."""
    client = RawClient(asgi.port)
    client.get("/gated")
    poll(lambda: asgi.get("/gate/waiting")[2] == b"1", "the handler to wait at the gate")

    client.hang_up()
    asgi.get("/gate/open")

    line = asgi.wait_for_line(event="request", route="/gated")
    assert (line["outcome"], line["status"]) == ("ok", 200)


@pytest.mark.parametrize(
    ("command", "exit_code"),
    [
        pytest.param(uvicorn(), -15, id="uvicorn"),
        pytest.param(uvicorn("--workers", "2"), 0, id="uvicorn-workers"),
        pytest.param(gunicorn_asgi("-w", "2"), 0, id="gunicorn-uvicorn-worker"),
        pytest.param(gunicorn_wsgi("-w", "2"), 0, id="gunicorn-gthread"),
        pytest.param(granian("--workers", "2"), 0, id="granian"),
        # hypercorn terminates its other workers as soon as the first has ended, in the middle of their shutdown.
        pytest.param(hypercorn("-w", "1"), 0, id="hypercorn"),
    ],
)
def test_sigterm_right_after_a_load_leaves_every_line_on_disk(command: Command, exit_code: int, tmp_path: Path) -> None:
    """The service ends as it does without monitoring, and no line that still waits for its timer is lost."""
    with serve(command, tmp_path, env={"MONITORING_LOG_FLUSH_SECONDS": "60"}) as service:
        ledger = service.load((Target("/items/{n}", "items"),), 1_000)
        ended_with = service.process.stop()

    written = [line["request_id"] for line in service.lines(event="request")]
    assert ended_with == exit_code, service.process.log_tail()
    assert sorted(written) == sorted(ledger.request_ids)


def _leave_mid_stream(service: Service) -> str:
    """Read the start of the stream, go away, and return the id of the request."""
    client = RawClient(service.port)
    client.get("/stream")
    _, headers = client.read_head()
    client.read_until(b"chunk\n")
    client.hang_up()
    return str(headers["x-request-id"])


def _request_line(service: Service, request_id: str) -> Line:
    """Return the one canonical line of a request."""
    line = service.wait_for_line(event="request", request_id=request_id)
    assert len(service.lines(event="request", request_id=request_id)) == 1
    return line


def _lines_about(service: Service, request_id: str, text: str) -> list[Line]:
    return [line for line in service.lines(request_id=request_id) if text in str(line)]
