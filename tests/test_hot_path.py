"""The cost of a request, counted without a clock: a regression fails on any machine."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import monitoring
from monitoring import MonitoringMiddleware, WSGIMonitoringMiddleware

PYTHON_CALLS_ASGI = 18
PYTHON_CALLS_WSGI = 18
"""Python functions entered by the pack for one plain request with a log line. Lower them when you can."""


class Route:
    path_format = "/"


async def _app(scope: Any, receive: Any, send: Any) -> None:
    scope["route"] = Route
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def _wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
    environ["monitoring.request"].route = "/"
    start_response("200 OK", [("content-length", "2")])
    return [b"ok"]


def _asgi_request(app: Any) -> None:
    async def send(message: Any) -> None: ...

    async def receive() -> Any: ...

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"test")], "client": ("127.0.0.1", 1)}
    coroutine = app(scope, receive, send)
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("the request waited for something")


def _wsgi_request(app: Any) -> None:
    list(app({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda status, headers: lambda data: None))


def _count_calls(run: Callable[[], None]) -> list[str]:
    """Return the Python functions of the pack that ``run`` entered, in order."""
    entered: list[str] = []
    package = str(Path(monitoring.__file__).parent.parent)

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(package) and frame.f_code.co_filename != __file__:
            entered.append(frame.f_code.co_qualname)

    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(None)
    return entered


def _fewest_calls(run: Callable[[], None]) -> list[str]:
    """Return the calls of the cheapest of a few runs: now and then one makes a new bucket."""
    return min((_count_calls(run) for _ in range(20)), key=len)


class CountingLock:
    """Stands for a lock and counts how often it is taken."""

    taken = 0

    def __init__(self, lock: Any) -> None:
        self._lock = lock

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        type(self).taken += 1
        taken: bool = self._lock.acquire(blocking, timeout)
        return taken

    def release(self) -> None:
        self._lock.release()

    def locked(self) -> bool:
        held: bool = self._lock.locked()
        return held

    __enter__ = acquire

    def __exit__(self, *_: object) -> None:
        self.release()


def test_an_asgi_request_enters_a_bounded_number_of_python_functions(tmp_path: Path) -> None:
    """With everything on, a plain request stays within its number of calls."""
    app = MonitoringMiddleware(_app, monitoring.configure(log_destination=str(tmp_path / "log")))
    entered = _fewest_calls(lambda: _asgi_request(app))
    assert len(entered) <= PYTHON_CALLS_ASGI, entered


def test_a_wsgi_request_enters_a_bounded_number_of_python_functions(tmp_path: Path) -> None:
    """The WSGI twin stays within its number, too."""
    app = WSGIMonitoringMiddleware(_wsgi_app, monitoring.configure(log_destination=str(tmp_path / "log")))
    entered = _fewest_calls(lambda: _wsgi_request(app))
    assert len(entered) <= PYTHON_CALLS_WSGI, entered


def test_a_request_takes_no_lock(tmp_path: Path) -> None:
    """Once its series exist, a request takes neither the registry's nor the writer's lock, and starts no thread."""
    active = monitoring.configure(log_destination=str(tmp_path / "log"), log_flush_seconds=60)
    app = MonitoringMiddleware(_app, active)
    _asgi_request(app)
    active.registry._lock = CountingLock(active.registry._lock)  # type: ignore[assignment]
    active.log_lines.writer._lock = CountingLock(active.log_lines.writer._lock)  # type: ignore[assignment]
    threads = threading.active_count()
    for _ in range(10):
        _asgi_request(app)
    assert CountingLock.taken == 0
    assert threading.active_count() <= threads


def test_before_configure_a_request_is_passed_through() -> None:
    """The no-op default costs one call."""
    assert _count_calls(lambda: _asgi_request(MonitoringMiddleware(_app)))[-2:] == [
        "MonitoringMiddleware.__call__",
        "current_edge",
    ]


def test_requests_run_in_an_event_loop_too(tmp_path: Path) -> None:
    """The counts above are of the same app that a loop runs."""
    app = MonitoringMiddleware(_app, monitoring.configure(log_destination=str(tmp_path / "log")))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": None}
    asyncio.run(app(scope, send, send))  # type: ignore[arg-type]
    assert [name for name, _ in sent[0]["headers"]] == [b"x-request-id"]
