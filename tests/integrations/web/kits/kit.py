"""What the claims need of a framework, and the client of those that are ASGI."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from monitoring import request_id

BRACES: Final[Mapping[str, str]] = {
    "item": "/items/{item}",
    "fail": "/fail/{name}",
    "stream": "/stream/{name}",
    "nested": "/api/v1/{tenant}/items/{item}",
    "room": "/room/{name}",
}
"""Names of routes, as most frameworks write them."""

ANGLES: Final[Mapping[str, str]] = {
    "item": "/items/<int:item>",
    "fail": "/fail/<name>",
    "stream": "/stream/<name>",
    "nested": "/api/v1/<tenant>/items/<int:item>",
    "room": "/room/<name>",
}
"""As Werkzeug's do."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that a client got. ``status`` is 0 where none came."""

    status: int
    headers: Sequence[tuple[str, str]]
    text: str

    def values(self, name: str) -> list[str]:
        """Return the values of all headers of this name."""
        return [value for key, value in self.headers if key.lower() == name]

    @property
    def request_id(self) -> str:
        """Return the one request ID of the response."""
        (value,) = self.values("x-request-id")
        return value


class Client(Protocol):
    """Asks an app that is served."""

    def ask(
        self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """Send one request and return the whole response; redirects are not followed."""
        ...

    def converse(self, path: str, text: str) -> Answer:
        """Open a websocket, say ``text``, and return the first answer, with the headers of the handshake.

        The status is 101, that of a refusal, or 0 where the websocket was closed instead.
        """
        ...


class Kit(Protocol):
    """One framework.

    ``app()`` has these routes. ``GET /items/{item}``, an int: its request's ID. ``GET /fail/{name}``: a RuntimeError.
    ``GET /handled``: a LookupError that the app answers with 503. ``GET /teapot``: the framework's exception for 418.
    ``GET /empty``: 204. ``GET /redirect``: 302. ``GET /own-header``: the app's own ``x-request-id`` and two cookies.
    ``GET /log``: lines "by structlog" with a bound field and "by stdlib", and a user that is set in a thread.
    ``GET /stream/{name}``: the request's ID and a space, twice, with a line "in the stream" each. ``GET /broken``: a
    stream that fails after its first piece. ``GET /api/v1/{tenant}/items/{item}``: two nested groups of routes.
    ``WS /room/{name}``: says its request's ID, or fails when it is told "fail".
    """

    name: str
    names: Mapping[str, str]
    """Its routes as metrics name them: ``BRACES`` or ``ANGLES``."""
    names_405: bool
    """Whether a route keeps its name where it does not take the method."""

    def app(self) -> Any:
        """Return the app above; a middleware of its own notes the IDs before and after in ``x-seen``."""
        ...

    def bare(self) -> Any:
        """Return an app without routes."""
        ...

    def subclass(self) -> Any:
        """Return an app without routes, of a class of the user's."""
        ...

    def add(self, app: Any, path: str) -> None:
        """Add a route that answers with the ID of its request. ``{rest}`` at the end stands for any path."""
        ...

    def hooked(self, hooks: list[str]) -> Any:
        """Return an app that notes "startup" and "shutdown" when it starts and ends."""
        ...

    def serving(self, app: Any) -> AbstractContextManager[Client]:
        """Serve the app for the length of a block."""
        ...


def note_ids(app: Any) -> Any:
    """Return an ASGI app that says which IDs it saw around ``app``."""

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        before = request_id()

        async def send_and_say(message: Any) -> None:
            if message["type"] == "http.response.start":
                seen = (b"x-seen", f"{before} {request_id()}".encode())
                message = {**message, "headers": [*message["headers"], seen]}
            await send(message)

        await app(scope, receive, send_and_say)

    return middleware


class AsgiClient:
    """A client of an ASGI app; exceptions that reach the server are none of its business."""

    def __init__(self, client: TestClient) -> None:
        self._client = client

    def ask(
        self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """Send one request."""
        response = self._client.request(method, path, headers=headers, content=body, follow_redirects=False)
        return Answer(response.status_code, response.headers.multi_items(), response.text)

    def converse(self, path: str, text: str) -> Answer:
        """Open a websocket and say something."""
        try:
            with self._client.websocket_connect(path) as websocket:
                pairs = [(name.decode(), value.decode()) for name, value in websocket.extra_headers or ()]
                websocket.send_text(text)
                return Answer(101, pairs, websocket.receive_text())
        except WebSocketDenialResponse as denial:
            return Answer(denial.status_code, denial.headers.multi_items(), denial.text)
        except (WebSocketDisconnect, RuntimeError):  # closed, or the app's own failure, which reaches the server
            return Answer(0, (), "")


@contextmanager
def serving_asgi(app: Any) -> Iterator[Client]:
    """Serve an ASGI app with its lifespan."""
    with TestClient(app, raise_server_exceptions=False) as client:
        yield AsgiClient(client)
