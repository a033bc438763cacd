"""The dashboard: one page, the JSON API that it reads, and the rule who may see them.

The page is built once and comes with the package; it asks no other server for anything. Answers are made in threads,
so a slow store never stops the app's event loop.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from .access import COOKIE, login_cookie, may_see
from .api import ENDPOINTS, BadQuery, Endpoint, Query
from .api.encoding import encode
from .api.openapi import document
from .api.readers import Readers
from .api.views import NotFound
from .config import Config
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

CLOSED: Final = (
    "The dashboard needs the token: send 'Authorization: Bearer <token>', or log in with it. It is the setting "
    "MONITORING_TOKEN of the app."
)


def dashboard_app(readers: Readers) -> ASGIApp:
    """Return an ASGI app with the page at ``/``, its files, and the API below ``/api/v1``, relative to its mount."""
    config = readers.config
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
                    Route("/openapi.json", _guarded(config, _openapi)),
                    Route("/login", _login(config), methods=["POST"]),
                    Route("/logout", _logout(config), methods=["POST"]),
                    *api,
                ],
            ),
        ]
    )

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, unseen by the numbers that it shows."""
        if scope["type"] == "http" and scope["path"] == scope.get("root_path", ""):
            request = Request(scope)
            return await RedirectResponse(f"{request.url.path}/", 307)(scope, receive, send)
        with muted():
            await app(scope, receive, send)

    return serve


async def _page(request: Request) -> Response:
    """Answer with the page. It is the same for everybody; what it shows needs the token."""
    return _static("index.html", "no-store")


async def _file(request: Request) -> Response:
    return _static(request.path_params["name"], _IMMUTABLE)


def _static(name: str, caching: str) -> Response:
    path = STATIC / name
    if Path(name).name != name or not path.is_file():
        return JSONResponse({"error": f"There is no file {name}."}, 404)
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    caching = caching if name != "index.html" else "no-store"
    return Response(path.read_bytes(), media_type=kind, headers={**_SECURITY, "cache-control": caching})


Handler = Callable[[Request], Awaitable[Response]]


def _guarded(config: Config, handler: Handler) -> Handler:
    """Let only those in who may see it; what changes something needs the guard's header, too."""

    async def guarded(request: Request) -> Response:
        if not await may_see(request.scope, config):
            return _refusal(CLOSED, 401, {"www-authenticate": "Bearer"})
        if request.method not in ("GET", "HEAD") and GUARD_HEADER not in request.headers:
            return _refusal("A change needs the header 'X-Monitoring: 1', which no other site's form can send.", 403)
        return await handler(request)

    return guarded


def _api(readers: Readers, endpoint: Endpoint) -> Handler:
    async def handle(request: Request) -> Response:
        body = await _body(request)

        def answer() -> bytes:
            actor = request.headers.get("x-monitoring-actor", "dashboard")[:100]
            query = Query(time.time(), request.query_params, request.path_params, body, actor)
            return encode(endpoint.answer(readers, query))

        try:
            content = await run_in_threadpool(answer)
        except BadQuery as error:
            return _refusal(str(error), 400)
        except NotFound as error:
            return _refusal(str(error), 404)
        except StoreUnusable as error:
            return _refusal(f"The store cannot be read now: {error}.", 503, {"retry-after": "1"})
        return _answered(request, content)

    return _guarded(readers.config, handle)


def _answered(request: Request, content: bytes) -> Response:
    tag = f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
    headers = {"etag": tag, "cache-control": "no-cache, private", **_SECURITY}
    if request.method == "GET" and request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type="application/json", headers=headers)


async def _openapi(request: Request) -> Response:
    from . import __version__

    return _answered(request, orjson.dumps(document(__version__)))


def _login(config: Config) -> Handler:
    async def login(request: Request) -> Response:
        """Give a browser that knows the token a cookie that stands for it."""
        given = await _body(request)
        if config.token is None:
            return _refusal("No token is set, so nobody can log in; set MONITORING_TOKEN in the app.", 401)
        cookie = login_cookie(config.token, str(given.get("token", "")), time.time() + _LOGIN_SECONDS)
        if cookie is None:
            return _refusal("This is not the token; it is the setting MONITORING_TOKEN of the app.", 401)
        response = Response(status_code=204)
        _set_cookie(response, request, cookie, _LOGIN_SECONDS)
        return response

    return login


def _logout(config: Config) -> Handler:
    async def logout(request: Request) -> Response:
        response = Response(status_code=204)
        _set_cookie(response, request, "", 0)
        return response

    return logout


def _set_cookie(response: Response, request: Request, value: str, seconds: int) -> None:
    path = request.scope.get("root_path", "").removesuffix(API) or "/"
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, value, seconds, path=path, secure=secure, httponly=True, samesite="strict")


async def _body(request: Request) -> dict[str, Any]:
    """Return the JSON object or form that was sent, {} for neither."""
    if request.method in ("GET", "HEAD"):
        return {}
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > _BODY_LIMIT:
            return {}
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return dict(parse_qsl(raw.decode("utf-8", "replace")))
    try:
        given = json.loads(raw or b"{}")
    except ValueError:
        return {}
    return given if isinstance(given, dict) else {}


def _refusal(reason: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    always = {"cache-control": "no-store", **_SECURITY}
    return JSONResponse({"error": reason}, status, headers={**always, **(headers or {})})
