"""aiohttp.web, which is no ASGI. The seams: a middleware outside the app's others, and the writer of each request.

Everything that a client gets goes through the writer: responses that aiohttp sends after the handler has returned, its
own pages for exceptions, streams. What it answers before it looks for a handler is not observed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from aiohttp import web

from monitoring.context import current_record
from monitoring.middleware import Edge, HasEdge
from monitoring.middleware.edge import attach
from monitoring.middleware.inbound import InvalidRequestId, add_repeated
from monitoring.monitor import Monitoring
from monitoring.observation import RequestRecord

from .aiohttp_asgi import AsgiBridge
from .aiohttp_exchange import Exchange, is_observed

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def refuse(app: Any) -> None:
    """Raise TypeError for an app that was started or mounted already: its middlewares cannot be changed any more."""
    if app.pre_frozen:
        raise TypeError(
            "install() got an aiohttp app that is started or part of another one already; "
            "it accepts one that is neither: install into the outermost app, before it is run."
        )


def install(app: Any, monitoring: Monitoring) -> None:
    """Put a middleware outside the app's others."""
    outermost = _Outermost(monitoring)
    app.middlewares.insert(0, outermost)
    app.on_startup.append(outermost.begin)
    app.on_shutdown.append(outermost.bridge.end)
    app.on_cleanup.append(outermost.end)


def owned_paths(app: Any) -> Iterator[str]:
    """Yield the paths of the app's resources and of the apps that it has for domains."""
    for resource in app.router.resources():
        info = resource.get_info()
        if "rule" in info:
            yield from owned_paths(info["app"])
        else:
            yield resource.canonical


class _Outermost:
    """The middleware, and what is done when the app starts and ends."""

    __middleware_version__ = 1  # what aiohttp knows its middlewares by

    def __init__(self, monitoring: HasEdge) -> None:
        self._monitoring = monitoring
        self.bridge = AsgiBridge()

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Serve one request."""
        edge = self._monitoring.edge
        if edge is None or is_observed(request):
            return await handler(request)
        path = request.path
        if path.startswith(edge.prefixes):
            own = edge.own_app(path)
            if own is not None:
                return await self.bridge.answer(own[1].asgi, own[0], request)
        is_websocket = request.headers.get("Upgrade", "").lower() == "websocket"
        try:
            record = _begin(edge, request, not is_websocket)
            exchange = Exchange(edge, record, request)
        except InvalidRequestId as refusal:
            return _refuse(edge, request, str(refusal))
        except Exception as error:
            edge.recorder.failed("aiohttp middleware", error)
            return await handler(request)
        current_record.set(record)  # for good: the request has a task of its own, which sends the response, too
        return await (_serve_websocket if is_websocket else _serve)(exchange, request, handler)

    async def begin(self, app: web.Application) -> None:
        """Note that a server serves: its sockets are open once this and the other hooks are done."""
        if self._monitoring.edge is not None:
            self._monitoring.edge.life.serve()

    async def end(self, app: web.Application) -> None:
        """Write what waits."""
        if self._monitoring.edge is not None:
            self._monitoring.edge.at_end()


async def _serve(exchange: Exchange, request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        response = await handler(request)
    except web.HTTPException:  # a response by another way
        exchange.end_with_task()
        raise
    except BaseException as error:
        exchange.end_with(error)
        raise
    exchange.end_with_task()
    return response


async def _serve_websocket(exchange: Exchange, request: web.Request, handler: Handler) -> web.StreamResponse:
    record, outcome, status = exchange.record, "", 500
    try:
        response = await handler(request)
        status = response.status
    except web.HTTPException as answer:
        status = answer.status
        raise
    except asyncio.CancelledError:
        outcome = "client_disconnected" if exchange.is_client_gone() else "cancelled"
        raise
    except Exception as error:
        attach(error, record)
        raise
    finally:
        record.status = record.status or status
        exchange.edge.finish_websocket(record, exchange.route(), outcome)
        exchange.end_with_task()
    return response


def _begin(edge: Edge, request: web.Request, in_flight: bool) -> RequestRecord:
    headers: dict[str, str] | None = None
    for name in edge.policy.asgi_names.values():
        if name not in request.headers:
            continue
        headers = headers or {}
        for value in request.headers.getall(name):
            if name in headers:
                add_repeated(headers, name, value)
            else:
                headers[name] = value
    peer = request.remote if headers is not None else None
    return edge.begin(request.method, request.path, headers, peer, in_flight)


def _refuse(edge: Edge, request: web.Request, reason: str) -> web.Response:
    record = edge.begin(request.method, request.path)
    record.status = 400
    edge.finish(record, "")
    return web.Response(status=400, text=reason, headers={edge.request_id_header: record.request_id})
