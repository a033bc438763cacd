"""What an app depends on, taken away and given back: a PostgreSQL, a Redis, and a server of the tests' own."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from tests.support import postgresql
from tests.support.neighbours import redis_answers, redis_command
from tests.support.processes import Process, free_port


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
        """Listen again, on the same port, unless it does."""
        if self.stop.is_set():
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


class Redis:
    """A Redis that can be killed and comes back on the same port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.start()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = Process(redis_command(self._folder, self.port), self._folder / "redis.log", cwd=self._folder)
        self._process.wait_until(lambda: redis_answers(self.port))

    def come_back(self) -> None:
        """Start it again, if it was killed."""
        if self._process.exit_code is not None:
            self.start()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()


class Dependencies:
    """All three. ``settings`` are what the app needs to find them."""

    def __init__(self, database_url: str, folder: Path) -> None:
        self._database_url = database_url
        self.cache = Redis(folder)
        self.server = HTTPDependency()
        self.settings = {
            "DATABASE_URL": database_url,
            "REDIS_PORT": str(self.cache.port),
            "HTTP_PORT": str(self.server.port),
        }

    @contextmanager
    def database_hangs(self) -> Iterator[None]:
        """Stop the database and its children as a whole: its sockets take connections, and nothing answers."""
        with _stopped(_family(postgresql.postmaster(self._database_url))):
            yield

    @contextmanager
    def cache_hangs(self) -> Iterator[None]:
        """Stop the cache."""
        with _stopped(_family(self.cache.pid)):
            yield

    @contextmanager
    def all_hang(self) -> Iterator[None]:
        """Stop the database and the cache, and have the server wait."""
        with ExitStack() as stopped:
            stopped.enter_context(self.database_hangs())
            stopped.enter_context(self.cache_hangs())
            self.server.is_slow.set()
            stopped.callback(self.server.is_slow.clear)
            yield

    @contextmanager
    def all_gone(self) -> Iterator[None]:
        """Kill the database and the cache, and have the server refuse connections; all come back afterwards."""
        family = _family(postgresql.postmaster(self._database_url))
        for one in family:
            os.kill(one.pid, signal.SIGKILL)
        psutil.wait_procs(family, timeout=10)
        self.cache.kill()
        self.server.refuse()
        try:
            yield
        finally:
            postgresql.start_again(self._database_url)
            self.cache.come_back()
            self.server.come_back()


@contextmanager
def dependencies(folder: Path) -> Iterator[Dependencies]:
    """Run all three for the length of the block."""
    with postgresql.postgresql() as url:
        made = Dependencies(url, folder)
        try:
            yield made
        finally:
            made.cache.kill()


@contextmanager
def _stopped(processes: Iterable[psutil.Process]) -> Iterator[None]:
    for one in processes:
        one.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for one in processes:
            one.send_signal(signal.SIGCONT)


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]
