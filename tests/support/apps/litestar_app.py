"""A small Litestar app."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from litestar import Litestar, Response, get
from litestar.response import Stream

import monitoring


@get("/items/{id:int}")
async def item() -> Response[dict[str, Any]]:
    """Answer at once, naming the worker."""
    return Response({"worker": os.getpid()}, headers={"x-worker": str(os.getpid())})


@get("/fail")
async def fail() -> None:
    """Raise what nobody handles."""
    raise RuntimeError("the handler failed")


@get("/stream")
async def stream() -> Stream:
    """Send a chunk now and then until the client leaves."""

    async def chunks() -> AsyncIterator[bytes]:
        while True:
            yield b"chunk\n"
            await asyncio.sleep(0.02)

    return Stream(chunks(), media_type="text/plain")


app = Litestar([item, fail, stream])
monitoring.install(app)
