"""Quart: what it has beyond the claims of all, which are its test client, its own tasks and its timeouts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from quart import Quart, Response, request, stream_with_context, websocket
from starlette.testclient import TestClient

from monitoring import request_id
from tests.integrations.web.installer import Installer
from tests.integrations.web.kits.kit import serving_asgi
from tests.integrations.web.kits.of_quart import QuartKit, show


def in_its_client(app: Quart, work: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
    """Do something with the test client that Quart brings."""

    async def run() -> Any:
        async with app.test_app() as served:
            return await work(served.test_client())

    return asyncio.run(run())


def test_quart_s_own_test_client_goes_through_the_edge(install: Installer) -> None:
    """``asgi_app`` is what it calls."""
    app = QuartKit().app()
    install(app)
    response = in_its_client(app, lambda client: client.get("/items/7"))
    assert response.headers.getlist("x-request-id") == [asyncio.run(response.get_data(as_text=True))]
    assert install.routes == ["/items/<int:item>"]


def test_an_exception_that_quart_lets_through_is_a_server_error(install: Installer) -> None:
    """With PROPAGATE_EXCEPTIONS it goes past Quart's own 500 page, and is observed once."""
    app = QuartKit().app()
    app.config["PROPAGATE_EXCEPTIONS"] = True
    install(app)
    TestClient(app, raise_server_exceptions=False).get("/fail/now")
    assert install.requests == [("/fail/<name>", 500, "server_error")]
    assert len(install.lines("unhandled exception")) == 1


def test_an_app_that_was_not_installed_is_left_alone(install: Installer) -> None:
    """Its signals are those of one app."""
    app, other = QuartKit().app(), QuartKit().app()
    install(app)
    client = TestClient(other, raise_server_exceptions=False)
    assert "x-request-id" not in client.get("/items/7").headers
    client.get("/fail/now")
    assert (install.requests, install.sink.observations) == ([], [])


def test_a_sync_view_sees_the_request(install: Installer) -> None:
    """It runs in a thread."""
    app = Quart("tests")
    app.add_url_rule("/", "show", lambda: request_id() or "nothing")
    install(app)
    response = TestClient(app).get("/")
    assert response.text == response.headers["x-request-id"]


def test_a_stream_with_quart_s_context_works(install: Installer) -> None:
    """``stream_with_context`` keeps Quart's request, too."""
    app = Quart("tests")

    @app.get("/stream")
    async def stream() -> Response:
        @stream_with_context
        async def pieces() -> AsyncIterator[str]:
            yield f"{request.path} {request_id()}"

        return Response(pieces())

    install(app)
    response = TestClient(app).get("/stream")
    assert response.text == f"/stream {response.headers['x-request-id']}"


def test_a_response_that_takes_too_long_is_aborted(install: Installer) -> None:
    """Quart cuts it off at its RESPONSE_TIMEOUT."""
    app = Quart("tests")
    app.config["RESPONSE_TIMEOUT"] = 0.05

    @app.get("/stream")
    async def stream() -> Response:
        async def pieces() -> AsyncIterator[str]:
            yield "first"
            await asyncio.Event().wait()

        return Response(pieces())

    install(app)
    TestClient(app, raise_server_exceptions=False).get("/stream")
    assert install.requests == [("/stream", 200, "aborted")]


def test_background_work_that_fails_leaves_the_request_as_it_was(install: Installer) -> None:
    """The request's line says ok; a line of its own has the failure, with the same ID."""
    app = Quart("tests")

    async def fail() -> None:
        raise RuntimeError("boom")

    @app.get("/")
    async def accept() -> str:
        app.add_background_task(fail)
        return "accepted"

    install(app)
    with TestClient(app) as client:
        client.get("/")
    (request_line,), (background,) = install.lines("request"), install.lines("background")
    assert (request_line["outcome"], background["outcome"]) == ("ok", "background_error")
    assert (background["request_id"], background["route"]) == (request_line["request_id"], "/")


def test_a_websocket_that_its_app_refuses_is_a_client_error(install: Installer) -> None:
    """With the route that refused it."""
    app = Quart("tests")

    @app.websocket("/room")
    async def room() -> tuple[str, int]:
        return f"not you, {websocket.path}", 403

    install(app)
    with serving_asgi(app) as client:
        assert client.converse("/room", "hello").status == 403
    (one,) = install.sink.of_kind("websocket")
    assert (one.name, one.outcome) == ("/room", "client_error")


def test_a_request_whose_hook_fails_keeps_its_rule(install: Installer) -> None:
    """What is matched is known before any hook of the app runs."""
    app = Quart("tests")
    app.add_url_rule("/items/<int:item>", "show", show)

    @app.before_request
    async def fail() -> None:
        raise RuntimeError("boom")

    install(app)
    TestClient(app, raise_server_exceptions=False).get("/items/7")
    assert install.requests == [("/items/<int:item>", 500, "server_error")]
