"""The requests, and the two clients that make them: each calls the app object as a server would."""

from __future__ import annotations

import asyncio
import io
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, NamedTuple, Protocol

from .apps import ROUTES

IDS = 1_000
COMMON_HEADERS = (
    ("host", "127.0.0.1:8000"),
    ("connection", "keep-alive"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0 Safari/537.36"),
    ("accept", "application/json, text/plain, */*"),
    ("accept-encoding", "gzip, deflate, br"),
    ("accept-language", "en-GB,en;q=0.9"),
    ("referer", "https://proposals.example.com/grants/42"),
    ("cookie", "session=4f1c9b9e0c7d4f0f8f5e; theme=dark"),
    ("x-forwarded-for", "203.0.113.9"),
    ("x-forwarded-proto", "https"),
    ("cache-control", "no-cache"),
)
ASGI_HEADERS = tuple((name.encode(), value.encode()) for name, value in COMMON_HEADERS)
WSGI_HEADERS = {"HTTP_" + name.upper().replace("-", "_"): value for name, value in COMMON_HEADERS}


class Request(NamedTuple):
    """One request: its path and, for half of them, the ID that came with it."""

    path: str
    request_id: str | None


def mix(seed: int, count: int) -> list[Request]:
    """Return `count` requests, the same for the same seed: 97 % answered, 2 % not found, 1 % that raise."""
    chance = random.Random(seed)
    paths = [_path(place % 100, chance) for place in range(count)]
    chance.shuffle(paths)
    return [Request(path, f"{chance.getrandbits(128):032x}" if i % 2 else None) for i, path in enumerate(paths)]


def _path(place: int, chance: random.Random) -> str:
    if place == 0:
        return f"/boom/{chance.randrange(IDS)}"
    if place <= 2:
        return f"/nowhere/{chance.randrange(IDS)}"
    return f"/r{chance.randrange(ROUTES)}/items/{chance.randrange(IDS)}"


class Client(Protocol):
    """What a worker drives."""

    replies: Counter[str]
    """What was seen of the answers: statuses, and `with id` for those that carry an X-Request-ID."""

    def send(self, requests: Iterable[Request]) -> None: ...

    def close(self) -> None: ...


class AsgiClient:
    """Calls an ASGI app: one task, one scope and one header list per request, exceptions swallowed."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app
        self.replies: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._lifespan_events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._lifespan = self._loop.create_task(self._run_lifespan())
        self._announce("lifespan.startup")

    def send(self, requests: Iterable[Request]) -> None:
        self._loop.run_until_complete(self._send(requests))

    def close(self) -> None:
        self._announce("lifespan.shutdown")
        self._loop.run_until_complete(self._lifespan)
        self._loop.close()

    async def _send(self, requests: Iterable[Request]) -> None:
        for request in requests:
            await self._loop.create_task(self._exchange(request))

    async def _exchange(self, request: Request) -> None:
        exchange = _Exchange(self.replies)
        try:
            await self.app(_scope(request), exchange.receive, exchange.send)
        except Exception:  # as a server: it logs and goes on
            pass

    async def _run_lifespan(self) -> None:
        async def send(message: MutableMapping[str, Any]) -> None:
            self._lifespan_events.task_done()

        await self.app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, self._lifespan_events.get, send)

    def _announce(self, event: str) -> None:
        self._lifespan_events.put_nowait({"type": event})
        self._loop.run_until_complete(self._lifespan_events.join())


class _Exchange:
    """The `receive` and `send` of one request."""

    __slots__ = ("received", "replies")

    def __init__(self, replies: Counter[str]) -> None:
        self.replies = replies
        self.received = False

    async def receive(self) -> dict[str, Any]:
        if self.received:
            await asyncio.Event().wait()  # the client stays; Quart listens for that in a task of its own
        self.received = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.replies[str(message["status"])] += 1
            for name, _ in message["headers"]:
                if name.lower() == b"x-request-id":
                    self.replies["with id"] += 1


def _scope(request: Request) -> dict[str, Any]:
    twelfth = (b"x-request-id", request.request_id.encode()) if request.request_id else (b"dnt", b"1")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": request.path,
        "raw_path": request.path.encode("ascii"),
        "query_string": b"",
        "root_path": "",
        "headers": [*ASGI_HEADERS, twelfth],
        "client": ("127.0.0.1", 40_000),
        "server": ("127.0.0.1", 8_000),
        "state": {},
    }


class AiohttpClient:
    """Feeds an aiohttp app's own protocol, as a connection does, one request after another."""

    def __init__(self, app: Any) -> None:
        from aiohttp import web

        self.replies: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._runner = web.AppRunner(app)
        self._loop.run_until_complete(self._runner.setup())
        self._connection = _Connection(self.replies)

    def send(self, requests: Iterable[Request]) -> None:
        self._loop.run_until_complete(self._send(requests))

    def close(self) -> None:
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.close()

    async def _send(self, requests: Iterable[Request]) -> None:
        for request in requests:
            if self._connection.is_closing():
                self._connection = _Connection(self.replies)
            await self._connection.exchange(self._runner, _bytes_of(request))


class _Connection(asyncio.Transport):
    """A connection that keeps nothing of what is written to it but the status and whether it carries an ID."""

    def __init__(self, replies: Counter[str]) -> None:
        super().__init__({"peername": ("127.0.0.1", 40_000), "sockname": ("127.0.0.1", 8_000)})
        self._replies = replies
        self._protocol: Any = None
        self._answered: asyncio.Future[None] | None = None
        self._closing = True

    async def exchange(self, runner: Any, request: bytes) -> None:
        if self._protocol is None:
            self._protocol = runner.server()
            self._closing = False
            self._protocol.connection_made(self)
        self._answered = asyncio.get_running_loop().create_future()
        self._protocol.data_received(request)
        await self._answered

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if data[:5] != b"HTTP/" or self._answered is None:
            return
        head = bytes(data).lower()
        self._replies[head[9:12].decode()] += 1
        if b"x-request-id: " in head:
            self._replies["with id"] += 1
        if b"connection: close" in head:
            self._closing = True
        self._answered.set_result(None)

    def is_closing(self) -> bool:
        return self._protocol is not None and self._closing

    def close(self) -> None:
        self._closing = True
        asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)


def _bytes_of(request: Request) -> bytes:
    twelfth = ("x-request-id", request.request_id) if request.request_id else ("dnt", "1")
    head = "".join(f"{name}: {value}\r\n" for name, value in (*COMMON_HEADERS, twelfth))
    return f"GET {request.path} HTTP/1.1\r\n{head}\r\n".encode()


def client_of(app: Any, *, wsgi: bool) -> Client:
    """Return what calls this app as its server would."""
    if wsgi:
        return WsgiClient(app)
    return AiohttpClient(app) if type(app).__module__ == "aiohttp.web_app" else AsgiClient(app)


class WsgiClient:
    """Calls a WSGI app: one environ per request, its iterable read to the end and closed, exceptions swallowed."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self.app = app
        self.replies: Counter[str] = Counter()

    def send(self, requests: Iterable[Request]) -> None:
        for request in requests:
            try:
                self._exchange(request)
            except Exception:  # as a server: it logs and goes on
                pass

    def close(self) -> None:
        """A WSGI app is not told of its end."""

    def _exchange(self, request: Request) -> None:
        body = self.app(_environ(request), self._start_response)
        try:
            for _ in body:
                pass
        finally:
            if close := getattr(body, "close", None):
                close()

    def _start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        self.replies[status[:3]] += 1
        for name, _ in headers:
            if name.lower() == "x-request-id":
                self.replies["with id"] += 1


def _environ(request: Request) -> dict[str, Any]:
    twelfth = {"HTTP_X_REQUEST_ID": request.request_id} if request.request_id else {"HTTP_DNT": "1"}
    return {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": request.path,
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        **WSGI_HEADERS,
        **twelfth,
    }
