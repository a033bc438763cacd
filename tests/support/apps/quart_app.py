"""A small Quart app."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from quart import Quart, Response

import monitoring

app = Quart(__name__)


@app.get("/items/<int:id>")
async def item(id: int) -> Any:
    """Answer at once, naming the worker."""
    return {"id": id}, 200, {"x-worker": str(os.getpid())}


@app.get("/fail")
async def fail() -> str:
    """Raise what nobody handles."""
    raise RuntimeError("the handler failed")


@app.get("/stream")
async def stream() -> Response:
    """Send a chunk now and then until the client leaves."""

    async def chunks() -> AsyncIterator[bytes]:
        while True:
            yield b"chunk\n"
            await asyncio.sleep(0.02)

    return Response(chunks(), mimetype="text/plain")


monitoring.install(app)
