"""The dashboard: one page, the JSON API that it reads, and the rule who may see them.

The page is built once and comes with the package; it asks no other server for anything. Answers are made in threads,
so a slow store never stops the app's event loop.
"""

from __future__ import annotations

import hashlib
import mimetypes
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from .access import COOKIE, login_cookie, may_see
from .api import ENDPOINTS, BadQuery, Endpoint, Query
from .api.encoding import encode
from .api.openapi import document
from .api.readers import Readers
from .api.state import unreadable
from .api.views import NotFound
from .config import Config, ConfigError
from .context import muted
from .store.database import StoreUnusable

STATIC: Final = Path(__file__).parent / "static"
API: Final = "/api/v1"
GUARD_HEADER: Final = "x-monitoring"
"""Sent by the page with everything that changes something: no form of another site can send it."""

_SECURITY: Final[Mapping[str, str]] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
_IMMUTABLE: Final = "public, max-age=31536000, immutable"
_LOGIN_SECONDS: Final = 30 * 86_400
_BODY_LIMIT: Final = 64 * 1024

_UNGUARDED: Final = "A change needs the header 'X-Monitoring: 1', which no other site's form can send."
CLOSED: Final = (
    "The dashboard needs the token: send 'Authorization: Bearer <token>', or log in with it. It is the setting "
    "MONITORING_TOKEN of the app."
)


def dashboard_app(readers: Readers) -> ASGIApp:
    """Return an ASGI app with the page at ``/``, its files, and the API below ``/api/v1``, relative to its mount."""
    api = [
        Route(endpoint.path, _api(readers, endpoint), methods=[endpoint.method], name=endpoint.answer.__name__)
        for endpoint in ENDPOINTS
    ]
    app = Starlette(
        routes=[
            Route("/", _page),
            Route("/static/{name}", _file),
            Mount(
                API,
                routes=[
                    Route("/openapi.json", _guarded(readers, _openapi)),
                    Route("/login", _login(readers.config), methods=["POST"]),
                    Route("/logout", _logout, methods=["POST"]),
                    *api,
                ],
            ),
        ],
        exception_handlers={HTTPException: _unrouted},
    )

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, unseen by the numbers that it shows."""
        if scope["type"] == "http" and scope["path"] == scope.get("root_path", ""):
            return await _to_page(scope)(scope, receive, send)
        with muted():
            await app(scope, receive, send)

    return serve


def _to_page(scope: Scope) -> Response:
    """Send on to the same path with a slash: the page's own URLs are relative."""
    return RedirectResponse(f"{Request(scope).url.path}/", 307, headers=_SECURITY)


def _page(request: Request) -> Response:
    """Answer with the page. It is the same for everybody; what it shows needs the token."""
    return _static("index.html")


def _file(request: Request) -> Response:
    return _static(request.path_params["name"])


def _static(name: str) -> Response:
    path = STATIC / name
    if Path(name).name != name or not path.is_file():
        return _refusal(f"There is no file {name} here.", 404)
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    caching = "no-store" if name == "index.html" else _IMMUTABLE  # other names change with what is in them
    return Response(path.read_bytes(), media_type=kind, headers={**_SECURITY, "cache-control": caching})


async def _unrouted(request: Request, error: Exception) -> Response:
    """Answer in the API's form what no route answers."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        reason = f"{request.method} is not possible here; openapi.json says what is."
    else:
        reason = "There is nothing at this path; openapi.json lists what there is."
    return _refusal(reason, error.status_code, error.headers)


Handler = Callable[[Request], Awaitable[Response]]


def _guarded(readers: Readers, handler: Handler) -> Handler:
    """Let only those in who may see it; what changes something needs the guard's header, too. Never raises."""

    async def guarded(request: Request) -> Response:
        try:
            if not await may_see(request.scope, readers.config):
                return _refusal(CLOSED, 401, {"www-authenticate": "Bearer"})
            if request.method not in ("GET", "HEAD") and GUARD_HEADER not in request.headers:
                return _refusal(_UNGUARDED, 403)
            return await handler(request)
        except Exception as error:
            readers.background_failed("dashboard", error)
            return _refusal(f"The answer failed with {type(error).__name__}; the log of the app says where.", 500)

    return guarded


def _api(readers: Readers, endpoint: Endpoint) -> Handler:
    async def handle(request: Request) -> Response:
        try:
            body = await _body(request)
            actor = request.headers.get("x-monitoring-actor", "").strip()[:100] or "dashboard"

            def answer() -> bytes:
                query = Query(time.time(), request.query_params, request.path_params, body, actor)
                return encode(endpoint.answer(readers, query))

            return _answered(request, await run_in_threadpool(answer))
        except BadQuery as error:
            return _refusal(str(error), 400)
        except NotFound as error:
            return _refusal(str(error), 404)
        except StoreUnusable as error:
            return _refusal(unreadable(error), 503, {"retry-after": "1"})
        except ConfigError as error:
            return _refusal(str(error), 503)

    return _guarded(readers, handle)


def _answered(request: Request, content: bytes) -> Response:
    tag = f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
    headers = {"etag": tag, "cache-control": "no-cache, private", **_SECURITY}
    if tag in request.headers.get("if-none-match", "") and request.method in ("GET", "HEAD"):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type="application/json", headers=headers)


async def _openapi(request: Request) -> Response:
    from . import __version__

    return _answered(request, orjson.dumps(document(__version__)))


def _login(config: Config) -> Handler:
    async def login(request: Request) -> Response:
        """Give a browser that knows the token a cookie that stands for it."""
        if config.token is None:
            return _refusal("No token is set, so nobody can log in; set MONITORING_TOKEN in the app.", 401)
        try:
            given = await _body(request)
        except BadQuery as error:
            return _refusal(str(error), 400)
        cookie = login_cookie(config.token, str(given.get("token", "")), time.time() + _LOGIN_SECONDS)
        if cookie is None:
            return _refusal("This is not the token; it is the setting MONITORING_TOKEN of the app.", 401)
        return _with_cookie(request, cookie, _LOGIN_SECONDS)

    return login


async def _logout(request: Request) -> Response:
    """Take the cookie back. It needs the guard's header: no other site logs anybody out."""
    if GUARD_HEADER not in request.headers:
        return _refusal(_UNGUARDED, 403)
    return _with_cookie(request, "", 0)


def _with_cookie(request: Request, value: str, seconds: int) -> Response:
    """Answer with a cookie for the API alone: without a path it is for the folder that the browser sees, and so right
    behind a proxy that cuts a prefix off.
    """
    response = Response(status_code=204, headers={"cache-control": "no-store", **_SECURITY})
    schemes = (request.url.scheme, request.headers.get("x-forwarded-proto"))
    response.set_cookie(COOKIE, value, seconds, path=None, secure="https" in schemes, httponly=True, samesite="strict")
    return response


async def _body(request: Request) -> dict[str, Any]:
    """Return the JSON object or form that was sent, {} for none. Raise BadQuery."""
    if request.method in ("GET", "HEAD"):
        return {}
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > _BODY_LIMIT:
            raise BadQuery(f"The body must have at most {_BODY_LIMIT} bytes, got more.")
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return dict(parse_qsl(raw.decode("utf-8", "replace")))
    try:
        given = orjson.loads(raw or b"{}")
    except ValueError:
        raise BadQuery("The body must be a JSON object, got something else.") from None
    if not isinstance(given, dict):
        raise BadQuery(f"The body must be a JSON object, got a {type(given).__name__}.")
    return given


def _refusal(reason: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    always = {"cache-control": "no-store", **_SECURITY}
    return JSONResponse({"error": reason}, status, headers={**always, **(headers or {})})
