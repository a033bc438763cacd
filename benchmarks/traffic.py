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
            return {"type": "http.disconnect"}
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
