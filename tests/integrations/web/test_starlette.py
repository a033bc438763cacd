"""Starlette: the seam, route templates through mounts, and own paths beside the app's."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

import monitoring
from monitoring import request_id
from tests.integrations.web.installer import STEPS_ASIDE, Installer


async def hello(request: Request) -> Response:
    """Answer with the request's ID."""
    return PlainTextResponse(request_id() or "nothing")


async def fail(request: Request) -> Response:
    """Fail."""
    raise RuntimeError("boom")


def client_of(app: Any) -> TestClient:
    """Return a client that gets the 500 page instead of the exception."""
    return TestClient(app, raise_server_exceptions=False)


# The seam


def test_the_app_keeps_its_type_and_answers_with_the_id(install: Installer) -> None:
    """``install`` works in place."""
    app = Starlette(routes=[Route("/", hello)])
    install(app)
    assert type(app) is Starlette
    response = client_of(app).get("/")
    assert response.headers.get_list("x-request-id") == [response.text]
    assert install.requests == [("/", 200, "ok")]


def test_installed_twice_is_once(install: Installer) -> None:
    """The second call returns the same Monitoring, and a request is observed once."""
    app = Starlette(routes=[Route("/", hello)])
    first = install(app)
    assert monitoring.install(app, service="another") is first
    assert monitoring.current() is first
    assert len(client_of(app).get("/").headers.get_list("x-request-id")) == 1
    assert len(install.requests) == 1


def test_a_middleware_that_was_added_by_hand_is_not_a_second_one(install: Installer) -> None:
    """``add_middleware`` and ``install`` together act once."""
    app = Starlette(routes=[Route("/", hello)], middleware=[Middleware(monitoring.MonitoringMiddleware)])
    install(app)
    assert len(client_of(app).get("/").headers.get_list("x-request-id")) == 1
    assert install.routes == ["/"]


def test_an_app_that_served_already_is_wired_too(install: Installer) -> None:
    """Its middleware stack is built by then."""
    app = Starlette(routes=[Route("/", hello)])
    client_of(app).get("/")
    install(app)
    client_of(app).get("/")
    assert install.routes == ["/"]


def test_a_subclass_is_wired(install: Installer) -> None:
    """An app is recognised by its base classes."""

    class Own(Starlette):
        """The user's own."""

    app = Own(routes=[Route("/", hello)])
    install(app)
    client_of(app).get("/")
    assert (type(app), install.routes) == (Own, ["/"])


def test_an_app_of_an_unknown_type_is_refused_with_the_remedy() -> None:
    """The sentence names the type, what is supported, and what to wrap anything else in; nothing is configured."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        """Do nothing."""

    with pytest.raises(
        TypeError, match=r"install\(\) got an app of type builtins\.function; it wires FastAPI, "
    ) as raised:
        monitoring.install(app)
    assert "it wires FastAPI, Starlette, Litestar, Quart, aiohttp.web, Flask and Django apps." in str(raised.value)
    assert "Wrap any other ASGI app in MonitoringMiddleware(app)" in str(raised.value)
    assert monitoring.current().edge is None


def test_a_setting_that_cannot_be_used_leaves_the_app_alone() -> None:
    """The error comes before anything is wired."""
    app = Starlette(routes=[Route("/", hello)])
    with pytest.raises(monitoring.ConfigError, match="log_level must be"):
        monitoring.install(app, log_level="loud")
    assert "x-request-id" not in client_of(app).get("/").headers


def test_lifespan_runs_as_before(install: Installer) -> None:
    """Its state reaches the requests beside the ID."""

    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
        yield {"pool": "of the app"}

    async def show(request: Request) -> Response:
        return PlainTextResponse(f"{request.state.pool} {request.state.request_id == request_id()}")

    app = Starlette(routes=[Route("/", show)], lifespan=contextlib.asynccontextmanager(lifespan))
    install(app)
    with TestClient(app) as client:
        assert client.get("/").text == "of the app True"
        assert client.get("/").text == "of the app True"
    assert install.routes == ["/", "/"]


# Errors


def test_an_unhandled_500_carries_the_id_and_its_line_has_the_same_one(install: Installer) -> None:
    """The page, the error's line and the request's line name one ID, and the exception reaches the server."""
    app = Starlette(routes=[Route("/fail/{name}", fail)])
    install(app)
    response = client_of(app).get("/fail/now")
    assert response.status_code == 500
    (error,), (request,) = install.lines("unhandled exception"), install.lines("request")
    assert error["request_id"] == request["request_id"] == response.headers["x-request-id"]
    assert error["exception"][0]["type"] == "RuntimeError"
    assert (request["route"], request["error_type"]) == ("/fail/{name}", "RuntimeError")
    assert install.requests == [("/fail/{name}", 500, "server_error")]
    with pytest.raises(RuntimeError):
        TestClient(app).get("/fail/now")


def test_the_app_s_own_500_page_carries_the_id(install: Installer) -> None:
    """A handler for Exception runs outside the app's middlewares, and still inside the edge."""

    async def page(request: Request, error: Exception) -> Response:
        return PlainTextResponse(f"sorry {request_id()}", 500)

    app = Starlette(routes=[Route("/", fail)], exception_handlers={Exception: page})
    install(app)
    response = client_of(app).get("/")
    assert response.text == f"sorry {response.headers['x-request-id']}"
    assert len(install.lines("unhandled exception")) == 1


def test_what_the_server_logs_about_the_exception_has_the_id(install: Installer) -> None:
    """Servers log it after the request is over; the exception remembers where it happened."""
    app = Starlette(routes=[Route("/", fail)])
    install(app)
    try:
        TestClient(app).get("/")
    except RuntimeError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
    (server,), (request,) = install.lines("Exception in ASGI application"), install.lines("request")
    assert server["request_id"] == request["request_id"]


def test_an_error_that_the_app_handles_is_its_status(install: Installer) -> None:
    """HTTPException and handlers of the app make responses, not failures of the server."""

    async def teapot(request: Request) -> Response:
        raise HTTPException(418)

    async def unavailable(request: Request, error: Exception) -> Response:
        return PlainTextResponse("later", 503)

    app = Starlette(
        routes=[Route("/teapot", teapot), Route("/fail", fail)], exception_handlers={RuntimeError: unavailable}
    )
    install(app)
    client_of(app).get("/teapot")
    client_of(app).get("/fail")
    assert install.requests == [("/teapot", 418, "client_error"), ("/fail", 503, "server_error")]


def test_lines_of_the_view_and_of_its_stream_have_the_request_s_id(install: Installer) -> None:
    """structlog and stdlib alike, with the fields that were bound."""

    async def pieces() -> AsyncIterator[str]:
        monitoring.get_logger("app").info("in the stream")
        yield "a"

    async def view(request: Request) -> Response:
        with monitoring.bind(funder="NSF"):
            monitoring.get_logger("app").info("in the view", step=1)
            logging.getLogger("app").warning("by stdlib")
        return StreamingResponse(pieces())

    app = Starlette(routes=[Route("/", view)])
    install(app)
    the_id = client_of(app).get("/").headers["x-request-id"]
    (view_line,), (stdlib_line,), (stream_line,) = map(install.lines, ("in the view", "by stdlib", "in the stream"))
    assert {line["request_id"] for line in (view_line, stdlib_line, stream_line)} == {the_id}
    assert (view_line["funder"], view_line["step"], stdlib_line["funder"]) == ("NSF", 1, "NSF")
    assert "funder" not in stream_line


def test_the_line_of_a_request_tells_what_happened(install: Installer) -> None:
    """One line, with the names of the contract; a late user is on it."""

    async def view(request: Request) -> Response:
        await asyncio.to_thread(monitoring.set_user, "u1")
        return PlainTextResponse("hello")

    app = Starlette(routes=[Route("/items/{item}", view)])
    install(app, service="proposals")
    response = client_of(app).get("/items/7")
    (line,) = install.lines("request")
    expected = {
        "level": "info",
        "logger": "monitoring.request",
        "service": "proposals",
        "request_id": response.headers["x-request-id"],
        "method": "GET",
        "route": "/items/{item}",
        "status": 200,
        "outcome": "ok",
        "user_id": "u1",
        "bytes": 5,
        "db_calls": 0,
    }
    assert {key: line.get(key) for key in expected} == expected
    assert line["duration_ms"] > 0


def test_the_level_of_a_request_s_line_is_that_of_its_outcome(install: Installer) -> None:
    """Success is info, what the client did wrong a warning, what the server did an error."""
    app = Starlette(routes=[Route("/", hello), Route("/fail", fail)])
    install(app)
    for path in ("/", "/nowhere", "/fail"):
        client_of(app).get(path)
    assert [line["level"] for line in install.lines("request")] == ["info", "warning", "error"]


# Routes


def test_a_route_s_template_is_its_name(install: Installer) -> None:
    """Two paths, one name; parameters keep their names and lose their types."""
    app = Starlette(routes=[Route("/users/{user:int}/files/{name:path}", hello)])
    install(app)
    client_of(app).get("/users/1/files/a")
    client_of(app).get("/users/2/files/b/c")
    assert install.routes == ["/users/{user}/files/{name}"] * 2


def test_nested_mounts_are_part_of_the_name(install: Installer) -> None:
    """Also those with parameters."""
    api = Router(routes=[Mount("/v1/{tenant}", routes=[Route("/items/{item}", hello)])])
    app = Starlette(routes=[Mount("/api", app=api)])
    install(app)
    assert client_of(app).get("/api/v1/acme/items/7").status_code == 200
    assert install.routes == ["/api/v1/{tenant}/items/{item}"]


def test_an_app_in_an_app_has_its_mount_in_the_name(install: Installer) -> None:
    """A mounted Starlette with middlewares of its own is walked through."""
    inner = Starlette(
        routes=[Route("/items/{item}", hello)], middleware=[Middleware(BaseHTTPMiddleware, dispatch=_pass)]
    )
    app = Starlette(routes=[Mount("/shop", app=inner)])
    install(app)
    client_of(app).get("/shop/items/7")
    assert install.routes == ["/shop/items/{item}"]


def test_one_router_at_two_places_has_two_names(install: Installer) -> None:
    """The route objects are the same; the path tells which mount it was."""
    shared = [Route("/items/{item}", hello)]
    app = Starlette(routes=[Mount("/old", routes=shared), Mount("/new/{tenant}", routes=shared)])
    install(app)
    client = client_of(app)
    for path in ("/old/items/1", "/new/acme/items/1", "/old/items/2"):
        assert client.get(path).status_code == 200
    assert install.routes == ["/old/items/{item}", "/new/{tenant}/items/{item}", "/old/items/{item}"]


def test_a_mount_without_routes_is_one_name(install: Installer, tmp_path: Path) -> None:
    """Static files and foreign apps have as many paths as there are files: they are one route."""
    (tmp_path / "a.css").write_text("a{}")
    app = Starlette(routes=[Mount("/static", app=StaticFiles(directory=tmp_path))])
    install(app)
    client_of(app).get("/static/a.css")
    client_of(app).get("/static/missing.css")
    assert install.requests == [("/static/{path}", 200, "ok"), ("/static/{path}", 404, "client_error")]


def test_a_host_is_transparent(install: Installer) -> None:
    """Routes below a ``Host`` have their own path as a name."""
    app = Starlette(routes=[Host("testserver", app=Router(routes=[Route("/items/{item}", hello)]))])
    install(app)
    client_of(app).get("/items/7")
    assert install.routes == ["/items/{item}"]


def test_what_no_route_matches_is_unmatched(install: Installer) -> None:
    """At the top and inside a mount; the path is on the line and no label."""
    app = Starlette(routes=[Mount("/api", routes=[Route("/items/{item}", hello)])])
    install(app)
    client_of(app).get("/nowhere")
    client_of(app).get("/api/nowhere")
    assert install.requests == [("(unmatched)", 404, "client_error")] * 2
    assert [line["path"] for line in install.lines("request")] == ["/nowhere", "/api/nowhere"]


def test_a_method_that_a_route_does_not_take_keeps_its_name(install: Installer) -> None:
    """405 is an answer of the route."""
    app = Starlette(routes=[Mount("/api", routes=[Route("/items/{item}", hello)])])
    install(app)
    client_of(app).post("/api/items/7")
    assert install.requests == [("/api/items/{item}", 405, "client_error")]


def test_a_redirect_to_the_path_with_a_slash_is_no_new_route(install: Installer) -> None:
    """Starlette answers it itself."""
    app = Starlette(routes=[Route("/items/", hello)])
    install(app)
    client_of(app).get("/items", follow_redirects=False)
    assert install.requests == [("(unmatched)", 307, "ok")]


def test_middlewares_of_any_make_do_not_hide_the_mounts(install: Installer) -> None:
    """A middleware need not keep its app in an attribute ``app``; many are plain functions."""

    def plain(app: Any) -> Any:
        async def middleware(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, send)

        return middleware

    app = Starlette(routes=[Mount("/api", routes=[Route("/items/{item}", hello)])], middleware=[Middleware(plain)])
    install(app)
    client_of(app).get("/api/items/7")
    assert install.routes == ["/api/items/{item}"]


def test_a_route_that_is_added_later_is_known(install: Installer) -> None:
    """Routes may come after ``install`` and after the first request."""
    app = Starlette()
    install(app)
    client_of(app).get("/")
    app.router.routes.append(Mount("/late", routes=[Route("/{item}", hello)]))
    client_of(app).get("/late/7")
    assert install.routes == ["(unmatched)", "/late/{item}"]


def test_below_a_root_path_names_stay(install: Installer) -> None:
    """What a proxy cuts off is no part of the app's templates."""
    app = Starlette(routes=[Mount("/api", routes=[Route("/items/{item}", hello)])])
    install(app)
    client = TestClient(app, root_path="/proxied")
    assert client.get("/proxied/api/items/7").status_code == 200
    assert client.get("/proxied/health").json() == {"status": "pass"}
    assert install.routes == ["/api/items/{item}"]


def test_a_websocket_has_its_route(install: Installer) -> None:
    """Below a mount, too."""

    async def chat(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    app = Starlette(routes=[Mount("/api", routes=[WebSocketRoute("/chat/{room}", chat)])])
    install(app)
    with client_of(app).websocket_connect("/api/chat/7"):
        pass
    assert [(one.kind, one.name) for one in install.sink.observations] == [("websocket", "/api/chat/{room}")]


async def _pass(request: Request, call_next: Any) -> Response:
    response: Response = await call_next(request)
    return response


# Own paths


def test_own_paths_are_answered_even_with_a_catch_all_route(install: Installer) -> None:
    """A mount at the end of the routes would never be reached."""
    app = Starlette(routes=[Route("/{path:path}", hello)])
    install(app, metrics_public=True)
    client = client_of(app)
    assert client.get("/health").json() == {"status": "pass"}
    assert client.get("/health/ready").json() == {"status": "pass"}
    assert "monitoring_series" in client.get("/metrics").text
    assert install.requests == []
    assert client.get("/anything").headers["x-request-id"]
    assert install.routes == ["/{path}"]


OWN_HEALTH = [
    pytest.param(Route("/health", hello), "/health", id="a route"),
    pytest.param(Route("/health/{probe}", hello), "/health/live", id="a route with a parameter"),
    pytest.param(Mount("/health", routes=[Route("/live", hello)]), "/health/live", id="a mount"),
    pytest.param(Mount("", routes=[Route("/health", hello)]), "/health", id="a route below a mount without a path"),
    pytest.param(Host("testserver", Router([Route("/health", hello)])), "/health", id="a route below a host"),
]


@pytest.mark.parametrize(("route", "path"), OWN_HEALTH)
def test_the_app_s_own_health_stays_the_app_s(install: Installer, route: Any, path: str) -> None:
    """The edge steps aside for it, says so in one line, and observes it like any other route."""
    app = Starlette(routes=[route])
    install(app)
    response = client_of(app).get(path)
    assert response.text == response.headers.get("x-request-id")
    assert len(install.requests) == 1
    (line,) = [line for line in install.lines(STEPS_ASIDE) if line["level"] == "warning"]
    assert line["logger"] == "monitoring"
    assert client_of(app).get("/metrics").status_code == 401


def test_a_health_that_the_app_declares_after_install_stays_the_app_s(install: Installer) -> None:
    """``install`` may come first in a file, before the routes; what the app declares then is not shadowed."""
    app = Starlette()
    install(app)
    app.router.routes.append(Route("/health", hello))
    response = client_of(app).get("/health")
    assert response.text == response.headers.get("x-request-id")


def test_a_path_that_only_looks_like_an_own_one_is_not_one(install: Installer) -> None:
    """``/healthy`` and ``/api/health`` do not make the edge step aside."""
    app = Starlette(routes=[Route("/healthy", hello), Mount("/api", routes=[Route("/health", hello)])])
    install(app)
    assert client_of(app).get("/health").json() == {"status": "pass"}
    assert install.lines(STEPS_ASIDE) == []


def test_metrics_count_the_requests_of_the_app(install: Installer) -> None:
    """What ``/metrics`` says is what was served."""
    app = Starlette(routes=[Route("/items/{item}", hello)])
    install(app, token="secret-of-the-test")
    client = client_of(app)
    for item in range(3):
        client.get(f"/items/{item}")
    text = client.get("/metrics", headers={"authorization": "Bearer secret-of-the-test"}).text
    labels = 'http_request_method="GET",http_route="/items/{item}",http_response_status_code="200",error_type=""'
    assert f"http_server_request_duration_seconds_count{{{labels}}} 3.0" in text.splitlines()
