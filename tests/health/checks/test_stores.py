"""The checks of Redis, memcached and MongoDB: real servers that hang and die, and MongoDB's client on a silent one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymemcache
import pymongo
import pytest
import redis as redis_py

from monitoring.health.checks import memcached, mongo, redis, stores
from tests.health.checks.support import outcome, silent_server, status_of, stopped
from tests.support.components import require
from tests.support.processes import Process, free_port


@contextlib.contextmanager
def running(command: list[str], port: int, folder: Path) -> Iterator[Process]:
    """Run a server for a block, from when it takes connections."""
    process = Process(command, folder / "log", cwd=folder)
    try:
        process.wait_until(lambda: socket.create_connection(("127.0.0.1", port), timeout=1).close() or True)
        yield process
    finally:
        process.kill()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[tuple[Process, int]]:
    port = free_port()
    command = [require("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with running(command, port, tmp_path) as process:
        yield process, port


@pytest.fixture
def memcached_server(tmp_path: Path) -> Iterator[tuple[Process, int]]:
    port = free_port()
    command = [require("memcached"), "-p", str(port), "-l", "127.0.0.1", "-U", "0", "-m", "8", "-u", "nobody"]
    with running(command, port, tmp_path) as process:
        yield process, port


def short(port: int) -> dict[str, Any]:
    """Return settings of a client that waits for little."""
    retry = redis_py.retry.Retry(redis_py.backoff.NoBackoff(), 0)
    return {"port": port, "socket_timeout": 0.3, "socket_connect_timeout": 0.3, "retry": retry}


def test_redis_answers_hangs_and_dies(redis_server: tuple[Process, int]) -> None:
    """Pass, fail while it stands still, pass again, fail when it is gone."""
    process, port = redis_server
    with redis_py.Redis(**short(port)) as client:
        check = redis(client)
        found = [status_of(check)]
        with stopped(process.pid):
            found.append(outcome(check).output.partition(":")[0])
        found.append(status_of(check))
        process.kill()
        found.append(outcome(check).output.partition(":")[0])
    assert found == ["pass", "TimeoutError", "pass", "ConnectionError"]


def test_an_async_redis_answers_hangs_and_dies(redis_server: tuple[Process, int]) -> None:
    """The same, awaited in one loop."""
    process, port = redis_server

    async def look() -> list[object]:
        retry = redis_py.asyncio.retry.Retry(redis_py.backoff.NoBackoff(), 0)
        async with redis_py.asyncio.Redis(**{**short(port), "retry": retry}) as client:
            check: Any = redis(client)
            found = [await check()]
            with stopped(process.pid):
                found.append((await check()).status)
            found.append(await check())
            process.kill()
            found.append((await check()).status)
            return found

    assert asyncio.run(look()) == [None, "fail", None, "fail"]


def test_memcached_answers_hangs_and_dies(memcached_server: tuple[Process, int]) -> None:
    """By its version, with pymemcache's plain and pooled clients."""
    process, port = memcached_server
    for kind in (pymemcache.Client, pymemcache.PooledClient):
        client = kind(("127.0.0.1", port), timeout=0.3, connect_timeout=0.3)
        check = memcached(client)
        assert status_of(check) == "pass"
        with stopped(process.pid):
            assert status_of(check) == "fail"
        assert status_of(check) == "pass"
        client.close()
    process.kill()
    assert status_of(check) == "fail"


def test_a_client_without_a_version_is_asked_for_statistics() -> None:
    """As clients over several servers have it."""

    class Client:
        asked = 0

        def stats(self) -> dict[str, int]:
            self.asked += 1
            return {}

    client = Client()
    assert (status_of(memcached(client)), client.asked) == ("pass", 1)


class Admin:
    """What the check asks of a MongoDB client."""

    def __init__(self, error: Exception | None = None) -> None:
        self.admin = self
        self.asked: list[str] = []
        self.limits: list[float | None] = []
        self._error = error

    def command(self, name: str) -> dict[str, float]:
        self.asked.append(name)
        self.limits.append(pymongo._csot.get_timeout())
        if self._error is not None:
            raise self._error
        return {"ok": 1.0}


def test_a_mongo_is_pinged_with_a_limit_of_three_seconds() -> None:
    """By a client that is none, as no server is at hand."""
    client = Admin()
    assert status_of(mongo(client)) == "pass"
    assert (client.asked, client.limits) == (["ping"], [3.0])


def test_a_mongo_client_that_is_async_is_awaited_within_the_limit() -> None:
    """The limit holds where it is awaited."""
    limits = []

    class AsyncAdmin:
        async def command(self, name: str) -> dict[str, float]:
            limits.append(pymongo._csot.get_timeout())
            return {"ok": 1.0}

    client: Any = type("Client", (), {"admin": AsyncAdmin()})()
    assert (status_of(mongo(client)), limits) == ("pass", [3.0])


def test_pymongos_own_client_gives_up_on_a_server_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Much sooner than after its own thirty seconds."""
    monkeypatch.setattr(stores, "PATIENCE_SECONDS", 0.3)
    with silent_server() as port, pymongo.MongoClient("127.0.0.1", port) as client:
        started = time.monotonic()
        assert outcome(mongo(client)).status == "fail"
        assert time.monotonic() - started < 20


def test_what_a_client_raises_is_told_without_secrets_in_one_line() -> None:
    """Clipped, and of several lines the first."""
    error = ConnectionError("mongodb://app:hunter2secret@db/ is gone " + "x" * 300 + "\nand more")
    output = outcome(mongo(Admin(error))).output
    assert output.startswith("ConnectionError: ")
    assert "hunter2secret" not in output
    assert "\n" not in output
    assert len(output) <= 200
