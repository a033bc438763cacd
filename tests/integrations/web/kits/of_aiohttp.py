"""aiohttp.web's kit: a real server in a thread, for there is no way to ask an app without one."""

from __future__ import annotations

import asyncio
import logging
import threading
import warnings
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any, TypeVar

import aiohttp
import httpx
from aiohttp import web

import monitoring
from monitoring import request_id
from tests.integrations.web.kits.kit import BRACES, Answer, Client

T = TypeVar("T")


async def show(request: web.Request) -> web.StreamResponse:
    """Answer with the request's ID."""
    return web.Response(text=request_id() or "nothing")


async def fail(request: web.Request) -> web.StreamResponse:
    """Fail."""
    raise RuntimeError("boom")


async def handled(request: web.Request) -> web.StreamResponse:
    """Fail as the app expects it."""
    raise LookupError


async def teapot(request: web.Request) -> web.StreamResponse:
    """Refuse."""

    class Teapot(web.HTTPClientError):
        status_code = 418

    raise Teapot


async def empty(request: web.Request) -> web.StreamResponse:
    """Answer with nothing."""
    return web.Response(status=204)


async def redirect(request: web.Request) -> web.StreamResponse:
    """Send elsewhere."""
    raise web.HTTPFound("/elsewhere")


async def own_header(request: web.Request) -> web.StreamResponse:
    """Answer with headers of the app."""
    response = web.Response(text="hello", headers={"X-Request-ID": "from-the-app"})
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response


async def log(request: web.Request) -> web.StreamResponse:
    """Write lines and name a user."""
    with monitoring.bind(funder="NSF"):
        monitoring.get_logger("app").info("by structlog")
        logging.getLogger("app").warning("by stdlib")
    await asyncio.to_thread(monitoring.set_user, "u1")
    return web.Response(text="logged")


async def stream(request: web.Request) -> web.StreamResponse:
    """Answer in pieces."""
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(2):
        logging.getLogger("app").warning("in the stream")
        await response.write(f"{request_id()} ".encode())
    await response.write_eof()
    return response


async def broken(request: web.Request) -> web.StreamResponse:
    """Fail after the first piece."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"first"
        raise RuntimeError("boom")

    return web.Response(body=pieces())


async def room(request: web.Request) -> web.StreamResponse:
    """Say the request's ID."""
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    if await websocket.receive_str() == "fail":
        raise RuntimeError("boom")
    await websocket.send_str(request_id() or "nothing")
    return websocket


@web.middleware
async def note_ids(request: web.Request, handler: Any) -> web.StreamResponse:
    """Say which IDs the middleware saw."""
    before = request_id()
    try:
        response: web.StreamResponse = await handler(request)
    except LookupError:
        response = web.Response(status=503, text="later")
    if not response.prepared:
        response.headers["x-seen"] = f"{before} {request_id()}"
    return response


class AiohttpKit:
    """aiohttp.web."""

    name = "aiohttp"
    names = BRACES
    names_405 = False

    def app(self) -> Any:
        """Return the standard app."""
        inner, outer, app = web.Application(), web.Application(), web.Application(middlewares=[note_ids])
        inner.router.add_get(r"/{tenant}/items/{item:\d+}", show)
        outer.add_subapp("/v1", inner)
        app.add_subapp("/api", outer)
        app.add_routes(
            [
                web.get(r"/items/{item:\d+}", show),
                web.get("/fail/{name}", fail),
                web.get("/handled", handled),
                web.get("/teapot", teapot),
                web.get("/empty", empty),
                web.get("/redirect", redirect),
                web.get("/own-header", own_header),
                web.get("/log", log),
                web.get("/stream/{name}", stream),
                web.get("/broken", broken),
                web.get("/room/{name}", room),
            ]
        )
        return app

    def bare(self) -> Any:
        """Return an app without routes."""
        return web.Application()

    def subclass(self) -> Any:
        """Return one of a class of the user's, which aiohttp warns of."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)

            class Own(web.Application):
                """The user's own."""

        return Own()

    def add(self, app: Any, path: str) -> None:
        """Add a route."""
        app.router.add_get(path.replace("{rest}", "{rest:.*}"), show)

    def hooked(self, hooks: list[str]) -> Any:
        """Return an app with hooks."""
        app = web.Application()

        async def start(_: Any) -> None:
            hooks.append("startup")

        async def end(_: Any) -> None:
            hooks.append("shutdown")

        app.on_startup.append(start)
        app.on_cleanup.append(end)
        return app

    def serving(self, app: Any) -> AbstractContextManager[Client]:
        """Serve the app."""
        return serving_aiohttp(app)


class AiohttpClient:
    """A client of an aiohttp app that a loop in another thread serves."""

    def __init__(self, loop: asyncio.AbstractEventLoop, port: int) -> None:
        self._loop = loop
        self.port = port
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False)

    def ask(
        self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """Send one request."""
        with self._client.stream(method, path, headers=headers, content=body) as response:
            text = b""
            try:
                for chunk in response.iter_bytes():
                    text += chunk
            except httpx.RemoteProtocolError:  # a response that was cut short
                pass
        return Answer(response.status_code, response.headers.multi_items(), text.decode())

    def converse(self, path: str, text: str) -> Answer:
        """Open a websocket and say something."""
        return self.run(self._converse(path, text))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the loop of the server."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    async def _converse(self, path: str, text: str) -> Answer:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(f"http://127.0.0.1:{self.port}{path}") as websocket,
            ):
                response = websocket._response
                await websocket.send_str(text)
                message = await websocket.receive()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return Answer(0, (), "")
                return Answer(101, list(response.headers.items()), message.data)
        except aiohttp.WSServerHandshakeError as refusal:
            return Answer(refusal.status, list((refusal.headers or {}).items()), "")


@contextmanager
def serving_aiohttp(app: Any, **options: Any) -> Iterator[AiohttpClient]:
    """Serve an aiohttp app in a thread, on a port of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(10)

    async def start() -> tuple[web.AppRunner, int]:
        runner = web.AppRunner(app, shutdown_timeout=1, **options)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner, runner.addresses[0][1]

    try:
        runner, port = run(start())
        with closing(AiohttpClient(loop, port)) as client:
            yield client
        run(runner.cleanup())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
