"""aiomcache's client on a real memcached."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

import monitoring
from monitoring.calls import CacheCall
from monitoring.observation import Kind
from monitoring.testing import MemorySink, use
from tests.integrations.contract import SECRET, CancellableContract, Subject, run

aiomcache = pytest.importorskip("aiomcache")
KEY = SECRET.encode()


class Aiomcache(Subject):
    """``aiomcache.Client``."""

    client = "aiomcache `Client`"
    library = "aiomcache"
    kind: Kind = "cache"
    error = aiomcache.ClientException

    def __init__(self, port: int) -> None:
        self._port = port

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        client = self.unused()
        await client.flush_all()
        await client.set(KEY, KEY)
        yield client
        await client.close()

    def unused(self) -> Any:
        return aiomcache.Client("127.0.0.1", self._port, pool_size=1)

    async def succeed(self, client: Any) -> object:
        return await client.get(KEY)

    async def fail(self, client: Any) -> object:
        return await client.incr(KEY, 1)

    async def hang(self, client: Any) -> object:
        connection = await client._pool.acquire()  # the only one
        try:
            return await client.get(KEY)
        finally:
            client._pool.release(connection)


class TestAiomcache(CancellableContract):
    """The contract."""

    @pytest.fixture
    def subject(self, memcached_port: int) -> Subject:
        return Aiomcache(memcached_port)


def test_look_ups_count_each_key(memcached_port: int) -> None:
    """What is there is told per key."""
    sink = MemorySink()

    async def scenario(client: Any) -> None:
        await client.set(b"users:1", b"1")
        monitoring.wrap(client, name="sessions")
        with use(sink):
            assert await client.get(b"users:2", b"default") == b"default"
            assert await client.get(b"users:1") == b"1"
            assert await client.multi_get(b"users:1", b"users:2") == (b"1", None)
            assert (await client.gets(b"users:2"))[1] is None
            assert await client.delete(b"users:1")

    run(Aiomcache(memcached_port), scenario)
    calls = cast("list[CacheCall]", sink.of_kind("cache"))
    assert [(call.cache, call.name, call.hits, call.misses, call.removals) for call in calls] == [
        ("sessions", "get", 0, 1, 0),
        ("sessions", "get", 1, 0, 0),
        ("sessions", "multi_get", 1, 1, 0),
        ("sessions", "gets", 0, 1, 0),
        ("sessions", "delete", 0, 0, 1),
    ]
