"""Dependencies that stop in every way, seen through the probes of a real service: each change is told in time, and a
probe answers meanwhile within the second that Kubernetes gives it.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.components import require
from tests.support.neighbours import redis_server
from tests.support.postgresql import postgresql
from tests.support.processes import poll
from tests.support.service import TOKEN, Service, serve

APP = "tests.support.apps.dependent:app"
PROBE_SECONDS = 1.0
"""What Kubernetes waits for a probe, by default."""


class HTTPDependency:
    """A server that answers, waits before it answers, or is not there."""

    def __init__(self) -> None:
        self.is_slow = threading.Event()
        self.stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def refuse(self) -> None:
        """Close the listener: connections are refused."""
        self.stop.set()
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join()
        self._listener.close()

    def come_back(self) -> None:
        """Listen again, on the same port."""
        self.stop.clear()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self.stop.is_set():
            connection, _ = self._listener.accept()
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            if connection.recv(65536) and not (self.is_slow.is_set() and self.stop.wait(3)):
                connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")


class World:
    """A service with its dependencies."""

    def __init__(
        self, service: Service, database: psutil.Process, cache: psutil.Process, server: HTTPDependency
    ) -> None:
        self.service = service
        self.database = database
        self.cache = cache
        self.server = server

    def probe(self, path: str, *, details: bool = False) -> tuple[int, dict[str, Any]]:
        """Ask a probe as Kubernetes does: no answer within a second is a failure."""
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=PROBE_SECONDS)
        try:
            headers = {"Authorization": f"Bearer {TOKEN}"} if details else {}
            connection.request("GET", f"/health{path}", headers=headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def statuses(self) -> dict[str, str]:
        """Return how each component stands."""
        found = self.probe("?verbose", details=True)[1]["checks"]
        return {name.partition(":")[0]: one[0]["status"] for name, one in found.items() if name != "uptime"}

    def wait_until(self, name: str, status: str) -> None:
        """Wait until a component stands so; meanwhile the probes answer, and the process is alive."""

        def stands() -> bool:
            assert self.probe("/live")[0] == 200
            self.probe("/ready")
            return self.statuses()[name] == status

        poll(stands, f"{name} to be {status}", limit_seconds=10)

    def threads(self) -> int:
        """Return the number of threads of the service."""
        return psutil.Process(self.service.process.pid).num_threads()


@contextmanager
def _stopped(process: psutil.Process) -> Iterator[None]:
    """Stop a process and its children as a whole: its sockets take connections, and nothing answers."""
    family = [process, *process.children(recursive=True)]
    for one in family:
        one.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for one in family:
            one.send_signal(signal.SIGCONT)


def _owner_of(port: int) -> psutil.Process:
    """Return the process that listens on a port."""
    found = [
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid
    ]
    return psutil.Process(min(found))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Serve the app with a real PostgreSQL, a real Redis and a server of our own, all well."""
    server = HTTPDependency()
    with postgresql() as url, redis_server(tmp_path) as redis_port:
        settings = {"DATABASE_URL": url, "REDIS_PORT": str(redis_port), "HTTP_PORT": str(server.port)}
        command = lambda port: [require("uvicorn"), APP, "--port", str(port), "--no-access-log"]  # noqa: E731
        with serve(command, tmp_path, env=settings) as service:
            folder = url.partition("host=")[2].partition("&")[0]
            database = psutil.Process(int((Path(folder) / "data" / "postmaster.pid").read_text().split()[0]))
            made = World(service, database, _owner_of(redis_port), server)
            poll(lambda: set(made.statuses().values()) == {"pass"}, "all components to be well")
            yield made


def test_a_database_that_hangs_takes_the_app_out_of_service_until_it_goes_on(world: World) -> None:
    """It is critical. No probe waits for it, and no thread is started again and again."""
    before = world.threads()
    with _stopped(world.database):
        world.wait_until("database", "fail")
        assert world.probe("/ready")[0] == 503
        assert world.probe("/live")[0] == 200
        assert world.service.get("/hello")[0] == 200
        assert world.threads() <= before + 4  # one for each check, and the database's own
    world.wait_until("database", "pass")
    assert world.probe("/ready") == (200, {"status": "pass"})


def test_a_cache_that_hangs_or_is_killed_is_told_and_takes_nothing_out_of_service(world: World) -> None:
    """It is not critical: the whole is warned of."""
    with _stopped(world.cache):
        world.wait_until("cache", "fail")
        assert (world.probe("")[1], world.probe("/ready")[0]) == ({"status": "warn"}, 200)
    world.wait_until("cache", "pass")
    os.kill(world.cache.pid, signal.SIGKILL)
    world.wait_until("cache", "fail")
    assert world.probe("/ready")[0] == 200


def test_a_server_that_is_slow_or_refuses_is_told_until_it_is_back(world: World) -> None:
    """Within a few seconds either way."""
    world.server.is_slow.set()
    world.wait_until("server", "fail")
    world.server.is_slow.clear()
    world.wait_until("server", "pass")
    world.server.refuse()
    world.wait_until("server", "fail")
    world.server.come_back()
    world.wait_until("server", "pass")


def test_probes_are_in_no_line_and_no_number(world: World) -> None:
    """However often they ask, and whatever the checks do."""
    for _ in range(20):
        world.probe("/ready")
    assert not any("/health" in str(line.get("route")) for line in world.service.lines(event="request"))
    scraped = world.service.scrape()
    assert not any(route.startswith("/health") for route, _ in scraped.requests_by_route())
    assert scraped.total("db_client_operation_duration_seconds_count") == 0
