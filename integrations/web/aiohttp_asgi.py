"""ASGI apps behind aiohttp: for the pack's own, which are ASGI. Bodies stream both ways."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any, Final

from aiohttp import web

from monitoring.middleware.edge import ASGIApp

_LOOK_SECONDS: Final = 0.5
"""Between two looks at whether the client of a stream is still there, which aiohttp tells nobody who waits."""


class AsgiBridge:
    """Answers requests of aiohttp with ASGI apps, until the app ends."""

    def __init__(self) -> None:
        self._has_ended = asyncio.Event()

    async def answer(self, app: ASGIApp, prefix: str, request: web.Request) -> web.StreamResponse:
        """Return what ``app``, mounted at ``prefix``, answers; it is sent by then."""
        exchange = _Exchange(request, self._has_ended)
        await app(_scope(request, prefix), exchange.receive, exchange.send)
        return exchange.response

    async def end(self, app: web.Application) -> None:
        """Tell the streams that are open that nobody listens any more: the server waits for them."""
        self._has_ended.set()


class _Exchange:
    """One request and its response as an ASGI app sees them."""

    def __init__(self, request: web.Request, has_ended: asyncio.Event) -> None:
        self._request = request
        self._has_ended = has_ended
        self._is_read = False
        self.response = web.StreamResponse(status=500)

    async def receive(self) -> dict[str, Any]:
        """Return the next piece of the body, or wait until the client is gone."""
        if self._is_read:
            await self._wait_for_end()
            return {"type": "http.disconnect"}
        content = self._request.content
        body = await content.readany()
        self._is_read = content.at_eof()
        return {"type": "http.request", "body": body, "more_body": not self._is_read}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Send the head, or a piece of the body; nothing any more when the client is gone."""
        if message["type"] == "http.response.start":
            self.response = web.StreamResponse(status=message["status"])
            for name, value in message.get("headers", ()):
                self.response.headers.add(name.decode("latin-1"), value.decode("latin-1"))
            return
        if not self._is_gone():
            try:
                await self._send_piece(message.get("body", b""), bool(message.get("more_body")))
            except ConnectionError:  # it left meanwhile
                pass

    async def _send_piece(self, body: bytes, more: bool) -> None:
        await self.response.prepare(self._request)
        if body and self._request.method != "HEAD":
            await self.response.write(body)
        if not more:
            await self.response.write_eof()

    def _is_gone(self) -> bool:
        transport = self._request.transport
        return transport is None or transport.is_closing()

    async def _wait_for_end(self) -> None:
        while not self._is_gone() and not self._has_ended.is_set():
            try:
                await asyncio.wait_for(self._has_ended.wait(), _LOOK_SECONDS)
            except TimeoutError:
                pass


def _scope(request: web.Request, prefix: str) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": f"{request.version.major}.{request.version.minor}",
        "method": request.method,
        "scheme": request.scheme,
        "path": request.path,
        "raw_path": request.rel_url.raw_path.encode(),
        "root_path": prefix,
        "query_string": request.rel_url.raw_query_string.encode(),
        "headers": [(name.lower(), value) for name, value in request.raw_headers],
        "client": _address(request, "peername"),
        "server": _address(request, "sockname"),
    }


def _address(request: web.Request, end: str) -> tuple[str, int] | None:
    address = request.transport.get_extra_info(end) if request.transport is not None else None
    return (address[0], address[1]) if isinstance(address, (tuple, list)) else None
