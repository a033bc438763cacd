"""The ASGI edge: it gives a request its IDs and context, watches what is sent, and reports once how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import Any

from asgiref.compatibility import guarantee_single_callable

from ..context import current_record
from ..observation import RequestRecord
from .edge import (
    CLIENT_CLOSED,
    RECORD_KEY,
    ASGIApp,
    Edge,
    HasEdge,
    OwnApp,
    attach,
    current_edge,
    is_client_gone,
    is_marked,
    mark,
)
from .inbound import InvalidRequestId, add_repeated
from .routes import RouteTemplates

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class MonitoringMiddleware:
    """Observe an ASGI app: request IDs, context, and one observation per request. Pure ASGI; bodies are never read.

    ``monitoring`` is by default the process's current one at the time of each request. Inside another
    MonitoringMiddleware this one passes everything through; so it does for lifespan and unknown scopes. ASGI 2
    double callables are accepted. ``routes_of`` is the app whose routes are named, where middlewares hide it.
    """

    def __init__(self, app: ASGIApp, monitoring: HasEdge | None = None, *, routes_of: Any = None) -> None:
        self.app: ASGIApp = guarantee_single_callable(app)  # type: ignore[no-untyped-call]
        self._edge = None if monitoring is None else monitoring.edge
        self._routes = RouteTemplates(app if routes_of is None else routes_of)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        edge = self._edge or current_edge()
        if edge is None:
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http" or RECORD_KEY in scope:
            return await self._serve_other(edge, scope, receive, send)
        path = scope["path"]
        if scope.get("root_path") or path.startswith(edge.prefixes):
            own = _own_app(edge, scope)
            if own is not None:
                await own[1].asgi(_below(scope, own[0]), receive, send)
                return
        try:
            record = _begin(edge, scope, path, True)
        except InvalidRequestId as refusal:
            return await _refuse(edge, scope, receive, send, str(refusal))
        except Exception as error:
            edge.recorder.failed("MonitoringMiddleware", error)
            await self.app(scope, receive, send)
            return

        async def observed_receive(record: RequestRecord = record, receive: Receive = receive) -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                record.disconnected = True
            return message

        observed_send = _observe_send(edge, record, self._routes.of, scope, send)
        token = current_record.set(record)
        try:
            await self.app(scope, observed_receive, observed_send)
            if not record.finished:
                outcome = "client_disconnected" if record.disconnected else "aborted"
                self._end_early(edge, record, scope, outcome)
        except BaseException as error:
            await self._end_with(error, edge, record, scope, observed_send)
            raise
        finally:
            current_record.reset(token)

    async def _serve_other(self, edge: Edge, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and RECORD_KEY not in scope:
            await self._begin_websocket(edge, scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._serve_lifespan(edge, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _serve_lifespan(self, edge: Edge, scope: Scope, receive: Receive, send: Send) -> None:
        edge.life.startup_begins()
        try:
            await self.app(scope, receive, _observe_lifespan(edge, send))
        finally:
            edge.life.startup_ends()  # for an app that knows no lifespan

    async def _begin_websocket(self, edge: Edge, scope: Scope, receive: Receive, send: Send) -> None:
        own = _own_app(edge, scope)
        if own is not None:
            await own[1].asgi(_below(scope, own[0]), receive, send)
            return
        try:
            record = _begin(edge, scope, scope["path"], False)
        except InvalidRequestId as refusal:
            return await _refuse(edge, scope, receive, send, str(refusal))
        except Exception as error:
            edge.recorder.failed("MonitoringMiddleware", error)
            await self.app(scope, receive, send)
            return
        await self._serve_websocket(edge, record, scope, receive, send)

    async def _end_with(
        self, error: BaseException, edge: Edge, record: RequestRecord, scope: Scope, send: Send
    ) -> None:
        if record.finished:
            if isinstance(error, Exception) and not is_marked(error, record):
                mark(error, record)
                edge.report_background(record, error)
        elif not isinstance(error, Exception):
            self._end_early(edge, record, scope, "cancelled" if _is_cancellation(error) else "aborted")
        elif is_client_gone(error):
            self._end_early(edge, record, scope, "client_disconnected")
        else:
            attach(error, record)
            if record.status:
                edge.finish(record, self._route(edge, record, scope), "error_after_start")
                return
            try:
                await _send_plain(send, 500, "Internal Server Error")
            except Exception:  # nobody is there to get it; the error itself is raised on
                record.status = 500
            edge.finish(record, self._route(edge, record, scope))

    def _end_early(self, edge: Edge, record: RequestRecord, scope: Scope, outcome: str) -> None:
        record.status = record.status or CLIENT_CLOSED
        edge.finish(record, self._route(edge, record, scope), outcome)

    def _route(self, edge: Edge, record: RequestRecord, scope: Scope) -> str:
        try:
            return self._routes.of(scope)
        except Exception as error:
            edge.recorder.failed("RouteTemplates", error)
            return ""

    async def _serve_websocket(
        self, edge: Edge, record: RequestRecord, scope: Scope, receive: Receive, send: Send
    ) -> None:
        def observed_send(message: Message) -> Awaitable[None]:
            kind = message["type"]
            if kind == "websocket.accept":
                record.status = 101
                message = _with_request_id(message, edge, record)
            elif kind == "websocket.http.response.start":
                record.status = message["status"]
                message = _with_request_id(message, edge, record)
            elif kind == "websocket.close" and not record.status:
                record.status = 403
            return send(message)

        token = current_record.set(record)
        outcome = ""
        try:
            await self.app(scope, receive, observed_send)
        except BaseException as error:
            if type(error).__name__ == "WebSocketDisconnect":
                outcome = "client_disconnected"
            elif isinstance(error, Exception):
                outcome = "server_error"
                attach(error, record)
            else:
                outcome = "cancelled"
            raise
        finally:
            current_record.reset(token)
            if record.disconnected:
                outcome = "client_disconnected"
            edge.finish_websocket(record, self._route(edge, record, scope), outcome)


def _observe_lifespan(edge: Edge, send: Send) -> Send:
    """Tell when the app has started, and write what waits once it has shut down: uvicorn then leaves by a signal, past
    ``atexit``.
    """

    async def observed_send(message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            edge.life.startup_ends()
        await send(message)
        if message["type"].startswith("lifespan.shutdown."):
            edge.at_end()

    return observed_send


def _own_app(edge: Edge, scope: Scope) -> tuple[str, OwnApp] | None:
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return edge.own_app(path) if path.startswith(edge.prefixes) else None


def _begin(edge: Edge, scope: Scope, path: str, in_flight: bool) -> RequestRecord:
    wanted = edge.policy.asgi_names
    headers: dict[str, str] | None = None
    for name, value in scope["headers"]:
        if name in wanted:
            headers = _add_header(headers, wanted[name], value)
    peer = None
    if headers is not None:
        client = scope.get("client")
        peer = client[0] if client else None
    record = edge.begin(scope.get("method"), path, headers, peer, in_flight)
    if edge.consumers is not None:
        edge.name_consumer(edge.consumers.name_asgi, record, scope)
    scope[RECORD_KEY] = record
    try:
        scope["state"]["request_id"] = record.request_id
    except (KeyError, TypeError):  # a server without state
        scope["state"] = {"request_id": record.request_id}
    return record


def _add_header(headers: dict[str, str] | None, name: str, value: bytes) -> dict[str, str]:
    if headers is None:
        return {name: value.decode("latin-1")}
    if name in headers:
        add_repeated(headers, name, value.decode("latin-1"))
    else:
        headers[name] = value.decode("latin-1")
    return headers


def _observe_send(
    edge: Edge, record: RequestRecord, routes_of: Callable[[Scope], str], scope: Scope, send: Send
) -> Send:
    """Return ``send``, which notes on ``record`` what is sent, and reports the request before its last byte goes out.

    What it needs are defaults, not a closure: six cells to make and free cost as much as the rest of it. It is no
    coroutine either, and returns the server's own.
    """

    def observed_send(
        message: Message,
        edge: Edge = edge,
        record: RequestRecord = record,
        routes_of: Callable[[Scope], str] = routes_of,
        scope: Scope = scope,
        send: Send = send,
    ) -> Awaitable[None]:
        try:
            kind = message["type"]
            if kind == "http.response.start":
                record.status = message["status"]
                if "extensions" in scope:  # the server may send a file by itself
                    record.declared_bytes = _content_length(message)
                message = _with_request_id(message, edge, record)
            elif kind == "http.response.body":
                record.bytes_sent += len(message.get("body", b""))
                if message.get("more_body"):
                    if not record.streamed:
                        record.streamed = record.noted = True
                        record.first_byte_seconds = perf_counter() - record.started
                elif record.status:
                    edge.finish(record, routes_of(scope))
            elif kind in ("http.response.pathsend", "http.response.zerocopysend"):
                record.bytes_sent += record.declared_bytes
                if not message.get("more_body"):
                    edge.finish(record, routes_of(scope))
        except Exception as error:
            edge.recorder.failed("MonitoringMiddleware.send", error)
            if _is_last(message):
                edge.finish(record, "")
        return send(message)

    return observed_send


def _with_request_id(message: Message, edge: Edge, record: RequestRecord) -> Message:
    name = edge.request_id_header_bytes
    headers = [*message.get("headers", ())]
    for pair in headers:
        if pair[0].lower() == name:  # the app's own is replaced, not joined
            headers = [pair for pair in headers if pair[0].lower() != name]
            break
    headers.append((name, record.request_id.encode()))
    message = dict(message)
    message["headers"] = headers
    return message


def _below(scope: Scope, prefix: str) -> Scope:
    """Return the scope of a sub-app mounted at ``prefix``."""
    return {**scope, "root_path": scope.get("root_path", "") + prefix}


async def _refuse(edge: Edge, scope: Scope, receive: Receive, send: Send, reason: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        return await send({"type": "websocket.close", "code": 1008, "reason": reason})
    record = edge.begin(scope.get("method"), scope["path"])
    record.status = 400
    edge.finish(record, "")
    pair = (edge.request_id_header_bytes, record.request_id.encode())
    await _send_plain(send, 400, reason, pair)


async def _send_plain(send: Send, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
    body = text.encode()
    plain = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": plain})
    await send({"type": "http.response.body", "body": body})


def _content_length(message: Message) -> int:
    for name, value in message.get("headers", ()):
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def _is_last(message: Message) -> bool:
    return message.get("type") != "http.response.start" and not message.get("more_body")


def _is_cancellation(error: BaseException) -> bool:
    return isinstance(error, asyncio.CancelledError) or type(error).__name__ == "Cancelled"  # trio's
