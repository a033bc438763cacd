"""The WSGI form of a sub-app: the ASGI app runs once per request through asgiref, so both forms are one code.

What needs no event loop answers from ``scope_of(environ)`` by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from http import HTTPStatus
from typing import Any, Final

from asgiref.sync import async_to_sync

from .middleware.edge import ASGIApp, WSGIApp

Environ = MutableMapping[str, Any]

_CHUNK_BYTES: Final = 64 * 1024
"""Of a request's body that are read at once: the app may refuse to read on."""


def to_wsgi(app: ASGIApp) -> WSGIApp:
    """Return a WSGI app that answers with what the ASGI ``app`` sends. For small responses: the whole body is held."""

    def answer(environ: Environ, start_response: Any) -> Iterable[bytes]:
        status, headers, body = async_to_sync(_run)(app, scope_of(environ), environ)
        start_response(f"{status} {phrase(status)}", headers)
        return [] if environ.get("REQUEST_METHOD") == "HEAD" else [body]

    return answer


async def _run(app: ASGIApp, scope: dict[str, Any], environ: Environ) -> tuple[int, list[tuple[str, str]], bytes]:
    status, headers, body = 500, [], bytearray()
    length = environ.get("CONTENT_LENGTH") or ""
    unread = int(length) if length.isdecimal() else 0

    async def receive() -> dict[str, Any]:
        nonlocal unread
        chunk = environ["wsgi.input"].read(min(unread, _CHUNK_BYTES)) if unread else b""
        unread = unread - len(chunk) if chunk else 0
        return {"type": "http.request", "body": chunk, "more_body": unread > 0}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status = message["status"]
            headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
        else:
            body.extend(message.get("body", b""))

    await app(scope, receive, send)
    return status, headers, bytes(body)


def scope_of(environ: Environ) -> dict[str, Any]:
    """Return the scope that an ASGI server would have made of a WSGI request."""
    root_path = environ.get("SCRIPT_NAME", "")
    path = root_path + environ.get("PATH_INFO", "")
    headers = [
        (key.removeprefix("HTTP_").replace("_", "-").lower().encode("latin-1"), str(value).encode("latin-1"))
        for key, value in environ.items()
        if key.startswith("HTTP_") or key == "CONTENT_TYPE"
    ]
    peer = environ.get("REMOTE_ADDR")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": environ.get("REQUEST_METHOD", "GET"),
        "scheme": environ.get("wsgi.url_scheme", "http"),
        "path": _decoded(path),
        "raw_path": path.encode("latin-1"),
        "root_path": _decoded(root_path),
        "query_string": environ.get("QUERY_STRING", "").encode("latin-1"),
        "headers": headers,
        "client": (peer, 0) if peer else None,
        "server": (environ.get("SERVER_NAME", ""), int(environ.get("SERVER_PORT") or 0)),
    }


def _decoded(path: str) -> str:
    return path.encode("latin-1").decode("utf-8", "replace")


def phrase(status: int) -> str:
    """Return the words that go with a status, as WSGI wants them."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
