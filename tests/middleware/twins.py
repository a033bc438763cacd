"""The two edges behind one small client, so that a claim is written once and holds for both."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from asgiref.testing import ApplicationCommunicator

from monitoring import Monitoring, MonitoringMiddleware, WSGIMonitoringMiddleware
from monitoring.testing import MemorySink, use

Headers = Sequence[tuple[str, str]]
Message = dict[str, Any]

PEER = "192.0.2.7"
_MOST_CHUNKS = 20
"""Pieces that a body of the tests has at most: the ASGI app asks after each whether its client is still there."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a view answers. A body that is no list is sent as a stream."""

    body: Iterable[bytes] = field(default_factory=lambda: [b"hello"])
    status: int = 200
    headers: Headers = ()


View = Callable[[], Reply]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server got: the response so far, and the exception that reached it."""

    status: int
    headers: Headers
    body: bytes
    error: BaseException | None = None

    def values(self, name: str) -> list[str]:
        """Return the values of all headers of this name."""
        return [value for key, value in self.headers if key.lower() == name]

    @property
    def request_id(self) -> str:
        """Return the one request ID of the response."""
        (value,) = self.values("x-request-id")
        return value


class Twin(Protocol):
    """One edge: how to wrap an app in it, and how to ask the app."""

    name: str
    left: str
    """Outcome of a response whose client left in the middle."""

    def app(self, view: View) -> Any:
        """Return an app of this interface that answers with what ``view`` returns."""
        ...

    def wrap(self, app: Any) -> Any:
        """Return ``app`` inside this edge."""
        ...

    def ask(
        self,
        app: Any,
        path: str = "/",
        headers: Headers = (),
        *,
        method: str = "GET",
        peer: str | None = PEER,
        root: str = "",
    ) -> Answer:
        """Send one request to ``app`` as a server does, and return what came back."""
        ...

    def leave(self, app: Any) -> Answer:
        """Send one request and go away after the first piece of the body."""
        ...


class AsgiTwin:
    """The ASGI edge."""

    name = "asgi"
    left = "client_disconnected"

    def app(self, view: View) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            reply = view()
            pairs = [(name.encode(), value.encode("latin-1")) for name, value in reply.headers]
            await send({"type": "http.response.start", "status": reply.status, "headers": pairs})
            for chunk in reply.body:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                if (await receive())["type"] == "http.disconnect":
                    return
            await send({"type": "http.response.body", "body": b""})

        return app

    def wrap(self, app: Any) -> Any:
        return MonitoringMiddleware(app)

    def ask(
        self,
        app: Any,
        path: str = "/",
        headers: Headers = (),
        *,
        method: str = "GET",
        peer: str | None = PEER,
        root: str = "",
    ) -> Answer:
        scope = http_scope(path, headers, method=method, client=None if peer is None else (peer, 5000), root_path=root)
        return answer_of(*exchange(app, scope, *[{"type": "http.request"}] * _MOST_CHUNKS))

    def leave(self, app: Any) -> Answer:
        return answer_of(*exchange(app, http_scope(), {"type": "http.disconnect"}))


class WsgiTwin:
    """The WSGI edge."""

    name = "wsgi"
    left = "aborted"

    def app(self, view: View) -> Any:
        def app(environ: Any, start_response: Any) -> Iterable[bytes]:
            reply = view()
            start_response(f"{reply.status} Said So", list(reply.headers))
            return reply.body

        return app

    def wrap(self, app: Any) -> Any:
        return WSGIMonitoringMiddleware(app)

    def ask(
        self,
        app: Any,
        path: str = "/",
        headers: Headers = (),
        *,
        method: str = "GET",
        peer: str | None = PEER,
        root: str = "",
    ) -> Answer:
        return serve(app, wsgi_environ(path, headers, REQUEST_METHOD=method, REMOTE_ADDR=peer or "", SCRIPT_NAME=root))

    def leave(self, app: Any) -> Answer:
        return serve(app, wsgi_environ(), chunks=1)


def http_scope(path: str = "/", headers: Headers = (), *, root_path: str = "", **more: Any) -> Message:
    """Return the scope of a request as a server makes it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": root_path + path,
        "raw_path": (root_path + path).encode(),
        "root_path": root_path,
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
        "client": (PEER, 5000),
        "server": ("testserver", 80),
        **more,
    }


def exchange(app: Any, scope: Message, *inputs: Message) -> tuple[list[Message], BaseException | None]:
    """Run an ASGI app on these messages; return what it sent and what it raised."""
    return asyncio.run(exchange_in_loop(app, scope, *inputs))


async def exchange_in_loop(app: Any, scope: Message, *inputs: Message) -> tuple[list[Message], BaseException | None]:
    """Do the same inside a running loop."""
    communicator = ApplicationCommunicator(app, scope)
    for message in inputs or ({"type": "http.request"},):
        communicator.input_queue.put_nowait(message)
    error = None
    try:
        await communicator.wait()
    except Exception as raised:
        error = raised
    sent = communicator.output_queue
    return [sent.get_nowait() for _ in range(sent.qsize())], error


def answer_of(messages: Sequence[Message], error: BaseException | None = None) -> Answer:
    """Return the response that these messages make."""
    start = next((message for message in messages if message["type"] == "http.response.start"), None)
    body = b"".join(message.get("body", b"") for message in messages if message["type"] == "http.response.body")
    if start is None:
        return Answer(0, (), body, error)
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]]
    return Answer(start["status"], headers, body, error)


def wsgi_environ(path: str = "/", headers: Headers = (), **more: Any) -> dict[str, Any]:
    """Return the environ of a request as a server makes it."""
    return {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": PEER,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers},
        **more,
    }


def serve(app: Any, environ: Mapping[str, Any], chunks: int | None = None) -> Answer:
    """Call a WSGI app as a server does, closing its body after ``chunks`` pieces (by default all of them)."""
    status, headers, body = "0", [], bytearray()

    def start_response(line: str, pairs: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        nonlocal status, headers
        status, headers = line, pairs
        return body.extend

    error = None
    try:
        with contextlib.ExitStack() as closing:
            result = app(environ, start_response)
            closing.callback(getattr(result, "close", lambda: None))
            for count, chunk in enumerate(result, 1):
                body.extend(chunk)
                if count == chunks:
                    break
    except BaseException as raised:
        error = raised
    return Answer(int(status[:3]), headers, bytes(body), error)


def using(*sinks: MemorySink, **settings: Any) -> AbstractContextManager[Monitoring]:
    """Return ``testing.use`` with these settings, and with no lines in the tests' output."""
    return use(*sinks, log_destination=os.devnull, **settings)


def in_flight(monitoring: Monitoring, method: str = "GET") -> float:
    """Return the number of requests in flight by the gauge."""
    series = monitoring.metrics.snapshot()["http_server_active_requests"].series
    return sum(one.value for one in series if one.labels["http_request_method"] == method)
