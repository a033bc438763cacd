"""Quart's kit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from typing import Any

from quart import Blueprint, Quart, Response, abort, g, make_response, redirect, websocket

import monitoring
from monitoring import request_id
from tests.integrations.web.kits.kit import ANGLES, Client, serving_asgi


async def show(**_: Any) -> str:
    """Answer with the request's ID."""
    return request_id() or "nothing"


async def fail(name: str) -> str:
    """Fail."""
    raise RuntimeError("boom")


async def handled() -> str:
    """Fail as the app expects it."""
    raise LookupError


async def later(error: Exception) -> tuple[str, int]:
    """Answer a LookupError."""
    return "later", 503


async def teapot() -> str:
    """Refuse."""
    abort(418)


async def empty() -> tuple[str, int]:
    """Answer with nothing."""
    return "", 204


async def elsewhere() -> Any:
    """Send elsewhere."""
    return redirect("/elsewhere")


async def own_header() -> Any:
    """Answer with headers of the app."""
    response = await make_response("hello")
    response.headers["X-Request-ID"] = "from-the-app"
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response


async def log() -> str:
    """Write lines and name a user."""
    with monitoring.bind(funder="NSF"):
        monitoring.get_logger("app").info("by structlog")
        logging.getLogger("app").warning("by stdlib")
    await asyncio.to_thread(monitoring.set_user, "u1")
    return "logged"


async def stream(name: str) -> Response:
    """Answer in pieces."""

    async def pieces() -> AsyncIterator[str]:
        for _ in range(2):
            logging.getLogger("app").warning("in the stream")
            yield f"{request_id()} "

    return Response(pieces(), mimetype="text/plain")


async def broken() -> Response:
    """Fail after the first piece."""

    async def pieces() -> AsyncIterator[str]:
        yield "first"
        raise RuntimeError("boom")

    return Response(pieces())


async def room(name: str) -> None:
    """Say the request's ID."""
    if await websocket.receive() == "fail":
        raise RuntimeError("boom")
    await websocket.send(request_id() or "nothing")


async def note_before() -> None:
    """Keep the ID that the hook saw."""
    g.before = request_id()


async def note_after(response: Any) -> Any:
    """Say which IDs the hooks saw."""
    response.headers["x-seen"] = f"{g.before} {request_id()}"
    return response


class Own(Quart):
    """The user's own."""


class QuartKit:
    """Quart."""

    name = "quart"
    names = ANGLES
    names_405 = False

    def app(self) -> Any:
        """Return the standard app."""
        app = Quart("tests")
        inner, outer = Blueprint("inner", "tests"), Blueprint("outer", "tests")
        inner.add_url_rule("/items/<int:item>", "show", show)
        outer.register_blueprint(inner, url_prefix="/v1/<tenant>")
        app.register_blueprint(outer, url_prefix="/api")
        app.add_url_rule("/items/<int:item>", "show", show)
        app.add_url_rule("/fail/<name>", "fail", fail)
        app.add_url_rule("/stream/<name>", "stream", stream)
        views = {
            "handled": handled,
            "teapot": teapot,
            "empty": empty,
            "redirect": elsewhere,
            "own-header": own_header,
            "log": log,
            "broken": broken,
        }
        for path, view in views.items():
            app.add_url_rule(f"/{path}", path, view)
        app.add_websocket("/room/<name>", "room", room)
        app.register_error_handler(LookupError, later)
        app.before_request(note_before)
        app.after_request(note_after)
        return app

    def bare(self) -> Any:
        """Return an app without routes."""
        return Quart("tests")

    def subclass(self) -> Any:
        """Return one of a class of the user's."""
        return Own("tests")

    def add(self, app: Any, path: str) -> None:
        """Add a route."""
        app.add_url_rule(path.replace("{rest}", "<path:rest>"), path, show)

    def hooked(self, hooks: list[str]) -> Any:
        """Return an app with hooks."""
        app = Quart("tests")

        @app.before_serving
        async def start() -> None:
            hooks.append("startup")

        @app.after_serving
        async def end() -> None:
            hooks.append("shutdown")

        return app

    def serving(self, app: Any) -> AbstractContextManager[Client]:
        """Serve the app."""
        return serving_asgi(app)
