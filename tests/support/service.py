"""The test apps behind real application servers, with one folder each for cells, log lines and output."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.support.components import require
from tests.support.load import Ledger, Target, run_load
from tests.support.processes import Process, poll, running
from tests.support.scrape import Scrape, Watcher, scrape

ROOT = Path(__file__).resolve().parents[2]
ASGI_APP = "tests.support.apps.asgi_app:app"
WSGI_APP = "tests.support.apps.wsgi_app:app"
LITESTAR_APP = "tests.support.apps.litestar_app:app"
QUART_APP = "tests.support.apps.quart_app:app"
AIOHTTP_APP = "tests.support.apps.aiohttp_app"
TOKEN = "token-of-the-server-tests"

Command = Callable[[int], Sequence[str]]
Line = dict[str, Any]


def uvicorn(*options: str, app: str = ASGI_APP) -> Command:
    """Return the command of uvicorn serving the ASGI app, or another one."""
    return lambda port: [require("uvicorn"), app, "--port", str(port), "--no-access-log", *options]


def gunicorn_asgi(*options: str, app: str = ASGI_APP) -> Command:
    """Return the command of gunicorn with uvicorn's worker serving the ASGI app, or another one."""
    return _gunicorn(app, "-k", "uvicorn_worker.UvicornWorker", *options, modules=("uvicorn_worker",))


def gunicorn_wsgi(*options: str, app: str = WSGI_APP) -> Command:
    """Return the command of gunicorn with threads serving the WSGI app, or another one."""
    return _gunicorn(app, "-k", "gthread", "--threads", "8", *options)


def aiohttp_web() -> Command:
    """Return the command of aiohttp's own runner serving its app."""
    return lambda port: [sys.executable, "-m", "aiohttp.web", "-H", "127.0.0.1", "-P", str(port), f"{AIOHTTP_APP}:make"]


def gunicorn_aiohttp(*options: str) -> Command:
    """Return the command of gunicorn with aiohttp's worker serving its app."""
    return _gunicorn(f"{AIOHTTP_APP}:app", "-k", "aiohttp.GunicornWebWorker", *options)


def granian(*options: str, app: str = ASGI_APP) -> Command:
    """Return the command of granian serving the ASGI app, or another one."""
    asgi = ("--interface", "asgi", "--host", "127.0.0.1")
    return lambda port: [require("granian"), *asgi, "--port", str(port), *options, app]


def hypercorn(*options: str, app: str = ASGI_APP) -> Command:
    """Return the command of hypercorn serving the ASGI app, or another one."""
    return lambda port: [require("hypercorn"), app, "-b", f"127.0.0.1:{port}", *options]


@dataclass(frozen=True, slots=True)
class Service:
    """A served test app."""

    process: Process
    port: int
    folder: Path

    @property
    def cells(self) -> Path:
        """The folder that the app's processes keep their cells in."""
        return cells_folder(self.folder)

    def scrape(self) -> Scrape:
        """Scrape /metrics once, over a new connection."""
        return scrape(self.port, TOKEN)

    def watch(self) -> Watcher:
        """Return a watcher of the number of requests."""
        return Watcher(self.port, TOKEN)

    def load(
        self,
        targets: Sequence[Target],
        count: int,
        *,
        connections: int = 8,
        requests_per_connection: int = 250,
        at_half_way: Callable[[], object] | None = None,
    ) -> Ledger:
        """Run a load client against the service and return its ledger."""
        return run_load(
            self.port,
            targets,
            count,
            connections=connections,
            requests_per_connection=requests_per_connection,
            at_half_way=at_half_way,
        )

    def get(self, path: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Ask once over a new connection; return the status, the headers and the body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def lines(self, **fields: object) -> list[Line]:
        """Return the log lines on disk that carry `fields`, in the order they were written."""
        return [line for line in _json_lines(log_file(self.folder)) if fields.items() <= line.items()]

    def wait_for_line(self, **fields: object) -> Line:
        """Return the first log line that carries `fields`, once it is on disk."""
        return poll(lambda: self.lines(**fields), f"a log line with {fields}")[0]

    def connections_by_worker(self) -> dict[int, int]:
        """Return the number of client connections by the pid of the worker; one that holds none is left out."""
        held = {child.pid: self._connections_of(child) for child in psutil.Process(self.process.pid).children()}
        return {pid: number for pid, number in held.items() if number}

    def busiest_worker(self) -> int:
        """Return the pid of the worker that holds the most client connections."""
        held = poll(self.connections_by_worker, "a worker that holds a connection")
        return max(held, key=lambda pid: held[pid])

    def _connections_of(self, child: psutil.Process) -> int:
        try:
            connections = child.net_connections("tcp")
        except psutil.Error:
            return 0
        return sum(
            connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == self.port
            for connection in connections
        )


@contextmanager
def serve(command: Command, folder: Path, *, env: Mapping[str, str] | None = None) -> Iterator[Service]:
    """Serve a test app for the length of the block. A second service in the same `folder` is a restart of the first."""
    settings = {
        "PYTHONPATH": str(ROOT),
        "MONITORING_SERVICE": "server-tests",
        "MONITORING_TOKEN": TOKEN,
        "MONITORING_CELLS_FOLDER": str(cells_folder(folder)),
        "MONITORING_LOG_DESTINATION": str(log_file(folder)),
        **(env or {}),
    }
    with running(command, answers, folder / "server.log", env=settings, cwd=folder) as (process, port):
        yield Service(process, port, folder)


def answers(port: int) -> bool:
    """Say whether a service is up, without being observed by it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status == 200
    finally:
        connection.close()


def cells_folder(folder: Path) -> Path:
    """Return the cells folder of the service that lives in `folder`."""
    return folder / "cells"


def log_file(folder: Path) -> Path:
    """Return the log file of the service that lives in `folder`."""
    return folder / "lines.log"


def _gunicorn(app: str, *options: str, modules: tuple[str, ...] = ()) -> Command:
    return lambda port: [require("gunicorn", *modules), app, "-b", f"127.0.0.1:{port}", "--no-control-socket", *options]


def _json_lines(path: Path) -> list[Line]:
    """Read the whole lines of a file that is being written."""
    if not path.exists():
        return []
    whole, _, _ = path.read_text().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines() if line]
