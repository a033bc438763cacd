"""An app with dependencies that can be taken away: a database, a cache, a server. ``wsgi_app`` is its WSGI twin."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import redis
from sqlalchemy import create_engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import monitoring
from monitoring.health import checks


async def hello(request: Request) -> PlainTextResponse:
    """Need nobody."""
    return PlainTextResponse("hello")


app = Starlette(routes=[Route("/hello", hello)])
made = monitoring.install(app)


def hello_wsgi(environ: Any, start_response: Any) -> Iterable[bytes]:
    """Need nobody."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


wsgi_app = monitoring.WSGIMonitoringMiddleware(hello_wsgi, made)

EVERY = {"interval_seconds": 1.0, "timeout_seconds": 0.5, "failures_allowed": 2}
engine = create_engine(os.environ["DATABASE_URL"], connect_args={"connect_timeout": 2})
cache = redis.Redis(port=int(os.environ["REDIS_PORT"]), socket_timeout=2, socket_connect_timeout=2)
made.health.add("database", checks.database(engine), critical=True, **EVERY)
made.health.add("cache", checks.redis(cache), **EVERY)
made.health.add("server", checks.http(f"http://127.0.0.1:{os.environ['HTTP_PORT']}/"), **EVERY)
