"""The ``/metrics`` sub-app."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from .access import may_see
from .config import Config
from .exposition import CLASSIC, OPENMETRICS, Exposition, wants_openmetrics
from .metrics import Metrics

_CLOSED = (
    "Metrics need the token: send 'Authorization: Bearer <token>'. The token is the setting MONITORING_TOKEN; "
    "metrics_public=True opens this path to anybody."
)


def metrics_app(metrics: Metrics, config: Config, before_reading: Callable[[], None] = lambda: None) -> ASGIApp:
    """Return an ASGI app that answers GET with the Prometheus exposition, rendered in a thread.

    ``before_reading`` counts what this process has not counted yet.
    """
    renderer = _Renderer(metrics, before_reading)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        response: Response
        if request.method not in ("GET", "HEAD"):
            response = PlainTextResponse("Use GET.", 405, {"allow": "GET, HEAD"})
        elif config.metrics_public or await may_see(scope, config):
            openmetrics = wants_openmetrics(request.headers.get("accept", ""))
            body = await run_in_threadpool(renderer.render, openmetrics)
            response = Response(body, headers={"content-type": OPENMETRICS if openmetrics else CLASSIC})
        else:
            response = PlainTextResponse(_CLOSED, 401, {"www-authenticate": "Bearer"})
        await response(scope, receive, send)

    return answer


class _Renderer:
    """Renders one exposition at a time. Scrapes that wait share the next rendering, which began after they came:
    never a stale one.
    """

    def __init__(self, metrics: Metrics, before_reading: Callable[[], None]) -> None:
        self._metrics = metrics
        self._before_reading = before_reading
        self._exposition = Exposition()
        self._start_anew()

    def _start_anew(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._rendered: dict[bool, tuple[float, bytes]] = {}

    def render(self, openmetrics: bool) -> bytes:
        """Return the exposition of now."""
        if self._pid != os.getpid():  # forked, perhaps in the middle of a rendering
            self._start_anew()
        came = time.monotonic()
        with self._lock:
            began, body = self._rendered.get(openmetrics, (0.0, b""))
            if began <= came:
                began = time.monotonic()
                self._before_reading()
                body = self._exposition.render(self._metrics.totals_with_state(), openmetrics=openmetrics)
                self._rendered[openmetrics] = (began, body)
            return body
