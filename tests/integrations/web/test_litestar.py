"""Litestar: what it has beyond the claims of all, which are mounts, its hooks, its background tasks and its logging."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from litestar import Litestar, Request, Response, WebSocket, asgi, get, websocket
from litestar.background_tasks import BackgroundTask
from litestar.exceptions import WebSocketException
from litestar.middleware import DefineMiddleware
from starlette.testclient import TestClient

import monitoring
from monitoring import request_id
from monitoring.testing import MemorySink, use
from tests.integrations.web.installer import Installer
from tests.integrations.web.kits.of_litestar import LitestarKit, show


def client_of(app: Any) -> TestClient:
    """Return a client that gets the 500 page instead of the exception."""
    return TestClient(app, raise_server_exceptions=False)


async def foreign(scope: Any, receive: Any, send: Any) -> None:
    """Answer whatever is asked."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"foreign"})


def test_a_mounted_app_is_one_name(install: Installer) -> None:
    """It has as many paths as it likes; Litestar leaves no template of them."""
    app = Litestar([asgi("/files", is_mount=True, copy_scope=True)(foreign), show])
    install(app)
    for path in ("/files/a.css", "/files/b/c.css", "/items/7"):
        assert client_of(app).get(path).status_code == 200
    assert install.routes == ["/files/{path}", "/files/{path}", "/items/{item}"]


def test_an_app_behind_the_plain_middleware_has_its_names_too() -> None:
    """Without ``install``."""
    sink = MemorySink()
    with use(sink):
        client_of(monitoring.MonitoringMiddleware(LitestarKit().app())).get("/items/7")
    assert [one.name for one in sink.of_kind("request")] == ["/items/{item}"]


def test_a_middleware_that_was_added_by_hand_is_not_a_second_one(install: Installer) -> None:
    """A middleware of the app and ``install`` together act once."""
    app = Litestar([show], middleware=[DefineMiddleware(monitoring.MonitoringMiddleware)])
    install(app)
    assert len(client_of(app).get("/items/7").headers.get_list("x-request-id")) == 1
    assert install.routes == ["/items/{item}"]


def test_hooks_around_the_response_see_the_id(install: Installer) -> None:
    """``before_send`` is called for what goes out, with the header on it."""
    seen: list[tuple[str | None, bool]] = []

    async def look(message: Any, scope: Any) -> None:
        if message["type"] == "http.response.start":
            seen.append((request_id(), any(name == b"x-request-id" for name, _ in message["headers"])))

    app = Litestar([show], before_send=[look])
    install(app)
    the_id = client_of(app).get("/items/7").text
    assert seen == [(the_id, True)]


def test_background_work_that_fails_leaves_the_request_as_it_was(install: Installer) -> None:
    """The request's line says ok; a line of its own has the failure, with the same ID."""

    async def fail() -> None:
        raise RuntimeError("boom")

    @get("/")
    async def accept() -> Response[str]:
        return Response("accepted", background=BackgroundTask(fail))

    app = Litestar([accept])
    install(app)
    client_of(app).get("/")
    (request,), (background,) = install.lines("request"), install.lines("background")
    assert (request["outcome"], background["outcome"]) == ("ok", "background_error")
    assert background["request_id"] == request["request_id"]


def test_the_app_s_own_500_page_carries_the_id(install: Installer) -> None:
    """A handler for all exceptions runs inside the edge."""

    def page(request: Any, error: Exception) -> Response[str]:
        return Response(f"sorry {request_id()}", status_code=500, media_type="text/plain")

    @get("/")
    async def fail() -> None:
        raise RuntimeError("boom")

    app = Litestar([fail], exception_handlers={500: page})
    install(app)
    response = client_of(app).get("/")
    assert response.text == f"sorry {response.headers['x-request-id']}"
    assert len(install.lines("unhandled exception")) == 1


def test_the_id_is_in_the_state_of_the_request(install: Installer) -> None:
    """Where code outside of context variables finds it."""

    @get("/", media_type="text/plain")
    async def tell(request: Request[Any, Any, Any]) -> str:
        return str(request.state.request_id == request_id())

    app = Litestar([tell])
    install(app)
    assert client_of(app).get("/").text == "True"


@pytest.mark.parametrize(
    ("error", "outcome"), [(None, "client_disconnected"), (WebSocketException(detail="no", code=4401), "ok")]
)
def test_a_websocket_that_its_client_or_its_app_ends_is_no_error(
    install: Installer, error: Exception | None, outcome: str
) -> None:
    """Litestar tells both by an exception."""

    @websocket("/")
    async def listen(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        await socket.receive_text()
        if error is not None:
            raise error
        await socket.receive_text()

    app = Litestar([listen])
    install(app)
    with client_of(app) as client, client.websocket_connect("/") as connection:
        connection.send_text("hello")
    (one,) = install.sink.of_kind("websocket")
    assert (one.outcome, one.exception) == (outcome, None)


def test_what_litestar_would_print_beside_the_lines_is_taken_away(
    install: Installer, capfd: pytest.CaptureFixture[str]
) -> None:
    """By default it prints through a queue and a thread; each record comes out once, as a line."""
    app = Litestar([show])
    install(app)
    logging.getLogger("litestar").warning("of litestar")
    logging.getLogger("app").warning("of the app")
    assert len(install.lines("of litestar")) == len(install.lines("of the app")) == 1
    assert capfd.readouterr() == ("", "")
