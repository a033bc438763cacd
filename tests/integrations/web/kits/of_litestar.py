"""Litestar's kit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from typing import Any

from litestar import Litestar, Request, Response, Router, WebSocket, get, websocket
from litestar.exceptions import HTTPException
from litestar.response import Redirect, Stream

import monitoring
from monitoring import request_id
from tests.integrations.web.kits.kit import BRACES, Client, note_ids, serving_asgi


@get("/items/{item:int}", media_type="text/plain")
async def show() -> str:
    """Answer with the request's ID."""
    return request_id() or "nothing"


@get("/{tenant:str}/items/{item:int}", media_type="text/plain")
async def show_of_tenant() -> str:
    """Answer with the request's ID."""
    return request_id() or "nothing"


@get("/fail/{name:str}")
async def fail() -> str:
    """Fail."""
    raise RuntimeError("boom")


@get("/handled")
async def handled() -> str:
    """Fail as the app expects it."""
    raise LookupError


def later(request: Request[Any, Any, Any], error: Exception) -> Response[str]:
    """Answer a LookupError."""
    return Response("later", status_code=503, media_type="text/plain")


@get("/teapot")
async def teapot() -> str:
    """Refuse."""
    raise HTTPException(status_code=418)


@get("/empty", status_code=204)
async def empty() -> None:
    """Answer with nothing."""


@get("/redirect", status_code=302)
async def redirect() -> Redirect:
    """Send elsewhere."""
    return Redirect("/elsewhere", status_code=302)


@get("/own-header")
async def own_header() -> Response[str]:
    """Answer with headers of the app."""
    response = Response("hello", headers={"X-Request-ID": "from-the-app"}, media_type="text/plain")
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response


@get("/log", media_type="text/plain")
async def log() -> str:
    """Write lines and name a user."""
    with monitoring.bind(funder="NSF"):
        monitoring.get_logger("app").info("by structlog")
        logging.getLogger("app").warning("by stdlib")
    await asyncio.to_thread(monitoring.set_user, "u1")
    return "logged"


@get("/stream/{name:str}")
async def stream() -> Stream:
    """Answer in pieces."""

    async def pieces() -> AsyncIterator[str]:
        for _ in range(2):
            logging.getLogger("app").warning("in the stream")
            yield f"{request_id()} "

    return Stream(pieces(), media_type="text/plain")


@get("/broken")
async def broken() -> Stream:
    """Fail after the first piece."""

    async def pieces() -> AsyncIterator[str]:
        yield "first"
        raise RuntimeError("boom")

    return Stream(pieces())


@websocket("/room/{name:str}")
async def room(socket: WebSocket[Any, Any, Any]) -> None:
    """Say the request's ID."""
    await socket.accept()
    if await socket.receive_text() == "fail":
        raise RuntimeError("boom")
    await socket.send_text(request_id() or "nothing")
    await socket.close()


class Own(Litestar):
    """The user's own."""


class LitestarKit:
    """Litestar."""

    name = "litestar"
    names = BRACES
    names_405 = False

    def app(self) -> Any:
        """Return the standard app."""
        nested = Router("/api", route_handlers=[Router("/v1", route_handlers=[show_of_tenant])])
        return Litestar(
            [show, fail, handled, teapot, empty, redirect, own_header, log, stream, broken, nested, room],
            exception_handlers={LookupError: later},
            middleware=[note_ids],
        )

    def bare(self) -> Any:
        """Return an app without routes."""
        return Litestar()

    def subclass(self) -> Any:
        """Return one of a class of the user's."""
        return Own()

    def add(self, app: Any, path: str) -> None:
        """Add a route."""

        @get(path.replace("{rest}", "{rest:path}"), media_type="text/plain")
        async def added() -> str:
            return request_id() or "nothing"

        app.register(added)

    def hooked(self, hooks: list[str]) -> Any:
        """Return an app with hooks."""
        return Litestar(
            on_startup=[lambda: hooks.append("startup")],
            on_shutdown=[lambda: hooks.append("shutdown")],
        )

    def serving(self, app: Any) -> AbstractContextManager[Client]:
        """Serve the app."""
        return serving_asgi(app)
