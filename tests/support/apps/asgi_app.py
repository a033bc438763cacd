"""A Starlette app with one route for each way that a request can go."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

import monitoring
from tests.support.apps import business

gate = asyncio.Event()
waiting_at_gate = 0


async def item(request: Request) -> Response:
    """Answer at once, naming the worker."""
    return JSONResponse({"id": request.path_params["id"]}, headers={"x-worker": str(os.getpid())})


async def slow(request: Request) -> Response:
    """Answer after the given milliseconds."""
    await asyncio.sleep(request.path_params["milliseconds"] / 1_000)
    return PlainTextResponse("slow")


async def block(request: Request) -> Response:
    """Hold the event loop up for the given milliseconds."""
    time.sleep(request.path_params["milliseconds"] / 1_000)
    return PlainTextResponse("blocked")


async def hold(request: Request) -> Response:
    """Answer when nobody listens any more."""
    while not await request.is_disconnected():
        await asyncio.sleep(0.02)
    return PlainTextResponse("held")


async def gated(request: Request) -> Response:
    """Answer once somebody opens the gate, without a look at the client."""
    global waiting_at_gate
    waiting_at_gate += 1
    await gate.wait()
    return PlainTextResponse("through")


async def gate_waiting(request: Request) -> Response:
    """Say how many wait at the gate."""
    return JSONResponse(waiting_at_gate)


async def open_gate(request: Request) -> Response:
    """Let everybody through."""
    gate.set()
    return PlainTextResponse("open")


async def busy(request: Request) -> Response:
    """Answer with an error of the server's own choice."""
    return PlainTextResponse("busy", status_code=503)


async def fail(request: Request) -> Response:
    """Raise what nobody handles."""
    raise RuntimeError("the handler failed")


async def stream(request: Request) -> Response:
    """Send a chunk now and then until the client leaves."""

    async def chunks() -> AsyncIterator[bytes]:
        while True:
            yield b"chunk\n"
            await asyncio.sleep(0.02)

    return StreamingResponse(chunks(), media_type="text/plain")


async def stream_failure(request: Request) -> Response:
    """Send one chunk and fail."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b"chunk\n"
        raise RuntimeError("the stream failed")

    return StreamingResponse(chunks(), media_type="text/plain")


async def background_failure(request: Request) -> Response:
    """Answer well and fail afterwards."""

    async def work() -> None:
        raise RuntimeError("the background task failed")

    return PlainTextResponse("accepted", background=BackgroundTask(work))


async def leaf(request: Request) -> Response:
    """Answer from inside two mounts."""
    return PlainTextResponse(request.path_params["name"])


async def custom(request: Request) -> Response:
    """Change every kind of custom metric."""
    business.record(request.path_params["funder"])
    return PlainTextResponse("recorded")


async def percentiles(request: Request) -> Response:
    """Answer this process's own percentiles of one route, in seconds."""
    return JSONResponse(business.percentiles(f"/{request.path_params['route']}"))


app = Starlette(
    routes=[
        Route("/items/{id:int}", item),
        Route("/slow/{milliseconds:int}", slow),
        Route("/block/{milliseconds:int}", block),
        Route("/hold", hold),
        Route("/gated", gated),
        Route("/gate/waiting", gate_waiting),
        Route("/gate/open", open_gate),
        Route("/busy", busy),
        Route("/fail", fail),
        Route("/stream", stream),
        Route("/stream/failure", stream_failure),
        Route("/background/failure", background_failure),
        Route("/custom/{funder}", custom),
        Route("/percentiles/{route:path}", percentiles),
        Mount("/outer", routes=[Mount("/inner", routes=[Route("/leaf/{name}", leaf)])]),
    ]
)
monitoring.install(app)
