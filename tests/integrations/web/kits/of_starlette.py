"""Starlette's kit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

import monitoring
from monitoring import request_id
from tests.integrations.web.kits.kit import BRACES, Client, note_ids, serving_asgi


async def item(request: Request) -> Response:
    """Answer with the request's ID."""
    return PlainTextResponse(request_id() or "nothing")


async def fail(request: Request) -> Response:
    """Fail."""
    raise RuntimeError("boom")


async def handled(request: Request) -> Response:
    """Fail as the app expects it."""
    raise LookupError


async def later(request: Request, error: Exception) -> Response:
    """Answer a LookupError."""
    return PlainTextResponse("later", 503)


async def teapot(request: Request) -> Response:
    """Refuse."""
    raise HTTPException(418)


async def empty(request: Request) -> Response:
    """Answer with nothing."""
    return Response(status_code=204)


async def redirect(request: Request) -> Response:
    """Send elsewhere."""
    return RedirectResponse("/elsewhere", 302)


async def own_header(request: Request) -> Response:
    """Answer with headers of the app."""
    response = PlainTextResponse("hello", headers={"X-Request-ID": "from-the-app"})
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response


async def log(request: Request) -> Response:
    """Write lines and name a user."""
    with monitoring.bind(funder="NSF"):
        monitoring.get_logger("app").info("by structlog")
        logging.getLogger("app").warning("by stdlib")
    await asyncio.to_thread(monitoring.set_user, "u1")
    return PlainTextResponse("logged")


async def stream(request: Request) -> Response:
    """Answer in pieces."""

    async def pieces() -> AsyncIterator[str]:
        for _ in range(2):
            logging.getLogger("app").warning("in the stream")
            yield f"{request_id()} "

    return StreamingResponse(pieces())


async def broken(request: Request) -> Response:
    """Fail after the first piece."""

    async def pieces() -> AsyncIterator[str]:
        yield "first"
        raise RuntimeError("boom")

    return StreamingResponse(pieces())


async def room(websocket: WebSocket) -> None:
    """Say the request's ID."""
    await websocket.accept()
    if await websocket.receive_text() == "fail":
        raise RuntimeError("boom")
    await websocket.send_text(request_id() or "nothing")


class Own(Starlette):
    """The user's own."""


class StarletteKit:
    """Starlette."""

    name = "starlette"
    names = BRACES
    names_405 = True

    def app(self) -> Any:
        """Return the standard app."""
        return Starlette(
            routes=[
                Route("/items/{item:int}", item),
                Route("/fail/{name}", fail),
                Route("/handled", handled),
                Route("/teapot", teapot),
                Route("/empty", empty),
                Route("/redirect", redirect),
                Route("/own-header", own_header),
                Route("/log", log),
                Route("/stream/{name}", stream),
                Route("/broken", broken),
                Mount("/api", routes=[Mount("/v1/{tenant}", routes=[Route("/items/{item:int}", item)])]),
                WebSocketRoute("/room/{name}", room),
            ],
            exception_handlers={LookupError: later},
            middleware=[Middleware(note_ids)],
        )

    def bare(self) -> Any:
        """Return an app without routes."""
        return Starlette()

    def subclass(self) -> Any:
        """Return one of a class of the user's."""
        return Own()

    def add(self, app: Any, path: str) -> None:
        """Add a route."""
        app.router.routes.append(Route(path.replace("{rest}", "{rest:path}"), item))

    def hooked(self, hooks: list[str]) -> Any:
        """Return an app with a lifespan."""

        @contextlib.asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            hooks.append("startup")
            yield
            hooks.append("shutdown")

        return Starlette(lifespan=lifespan)

    def serving(self, app: Any) -> AbstractContextManager[Client]:
        """Serve the app."""
        return serving_asgi(app)
