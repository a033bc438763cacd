"""A small aiohttp app: ``app`` for gunicorn, ``make`` for aiohttp's own runner."""

from __future__ import annotations

import asyncio
import os

from aiohttp import web

import monitoring


async def item(request: web.Request) -> web.Response:
    """Answer at once, naming the worker."""
    return web.json_response({"id": request.match_info["id"]}, headers={"x-worker": str(os.getpid())})


async def fail(request: web.Request) -> web.Response:
    """Raise what nobody handles."""
    raise RuntimeError("the handler failed")


async def stream(request: web.Request) -> web.StreamResponse:
    """Send a chunk now and then until the client leaves."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"chunk\n")
        await asyncio.sleep(0.02)


app = web.Application()
app.add_routes([web.get(r"/items/{id:\d+}", item), web.get("/fail", fail), web.get("/stream", stream)])
monitoring.install(app)


def make(arguments: list[str]) -> web.Application:
    """Return the app."""
    return app
