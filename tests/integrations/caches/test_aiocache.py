"""aiocache's caches: in memory, Redis and memcached."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

import monitoring
from monitoring.calls import CacheCall
from monitoring.observation import Kind
from monitoring.testing import MemorySink, use
from tests.integrations.contract import SECRET, CancellableContract, Subject, run

aiocache = pytest.importorskip("aiocache")

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")  # aiocache's own

KINDS = ["SimpleMemoryCache", "RedisCache", "MemcachedCache"]


class Aiocache(Subject):
    """One of aiocache's classes."""

    client = "aiocache `BaseCache`"
    library = "aiocache"
    kind: Kind = "cache"
    error = ValueError

    def __init__(self, kind: str, ports: dict[str, int]) -> None:
        self._kind = kind
        self._options = {"port": ports[kind]} if kind in ports else {}

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        async with self.unused() as cache:
            await cache.clear()
            await cache.set(SECRET, SECRET)
            yield cache

    def unused(self) -> Any:
        return getattr(aiocache, self._kind)(serializer=aiocache.serializers.JsonSerializer(), **self._options)

    async def succeed(self, client: Any) -> object:
        return await client.get(SECRET)

    async def fail(self, client: Any) -> object:
        return await client.add(SECRET, SECRET) and await client.add(SECRET, SECRET)

    async def hang(self, client: Any) -> object:
        async def wait(*_: Any, **__: Any) -> None:
            await asyncio.sleep(30)

        client._get = wait
        return await client.get(SECRET)


@pytest.fixture(params=KINDS)
def subject(request: pytest.FixtureRequest, redis_port: int, memcached_port: int) -> Aiocache:
    return Aiocache(request.param, {"RedisCache": redis_port, "MemcachedCache": memcached_port})


class TestAiocache(CancellableContract):
    """The contract, for each class."""


def observed(subject: Aiocache, work: Callable[[Any], Awaitable[object]]) -> list[CacheCall]:
    """Return the calls seen while ``work`` runs with a wrapped cache that has something in it."""
    sink = MemorySink()

    async def scenario(cache: Any) -> None:
        await cache.multi_set([("users:1", 1), ("users:2", 2)])
        await cache.delete("users:3")
        monitoring.wrap(cache, name="sessions")
        with use(sink):
            await work(cache)

    run(subject, scenario)
    return cast("list[CacheCall]", sink.of_kind("cache"))


@pytest.mark.parametrize(
    ("work", "name", "hits", "misses"),
    [
        (lambda cache: cache.get("users:1"), "get", 1, 0),
        (lambda cache: cache.get("users:3"), "get", 0, 1),
        (lambda cache: cache.get("users:3", default=7), "get", 0, 1),
        (lambda cache: cache.multi_get(["users:1", "users:3"]), "multi_get", 1, 1),
        (lambda cache: cache.exists("users:1"), "exists", 1, 0),
        (lambda cache: cache.expire("users:1", 60), "expire", 0, 0),
    ],
)
def test_look_ups_count_hits_and_misses(
    subject: Aiocache, work: Callable[[Any], Awaitable[object]], name: str, hits: int, misses: int
) -> None:
    """A key at a time, and several."""
    (call,) = observed(subject, work)
    assert (call.cache, call.name, call.hits, call.misses) == ("sessions", name, hits, misses)
    assert call.system in ("memory", "redis", "memcached")
    assert set(call.by_prefix) <= {"users"}


@pytest.mark.parametrize(
    ("work", "puts", "removals"),
    [
        (lambda cache: cache.set("users:1", 1), 1, 0),
        (lambda cache: cache.add("users:3", 1), 1, 0),
        (lambda cache: cache.multi_set([("a", 1), ("b", 2)]), 2, 0),
        (lambda cache: cache.delete("users:1"), 0, 1),
    ],
)
def test_what_is_stored_and_removed_is_counted(
    subject: Aiocache, work: Callable[[Any], Awaitable[object]], puts: int, removals: int
) -> None:
    """As the cache tells."""
    (call,) = observed(subject, work)
    assert (call.puts, call.removals) == (puts, removals)


def test_results_are_those_of_the_cache(subject: Aiocache) -> None:
    """A default is returned where nothing was found."""
    fallback = object()

    async def work(cache: Any) -> None:
        assert await cache.get("users:3") is None
        assert await cache.get("users:3", fallback) is fallback
        async with cache.get_connection() as connection:
            assert await connection.get("users:1") == 1

    assert [call.hits for call in observed(subject, work)] == [0, 0, 1]


def test_a_cached_function_is_seen(subject: Aiocache) -> None:
    """The decorator asks the cache by its methods."""

    async def work(cache: Any) -> None:
        async def load() -> int:
            return 9

        decorator = aiocache.cached(key="users:9")
        decorated = decorator(load)
        decorator.cache = cache
        await cache.delete("users:9")
        assert [await decorated(), await decorated()] == [9, 9]

    calls = observed(subject, work)
    assert [(call.name, call.hits, call.misses) for call in calls] == [
        ("delete", 0, 0),
        ("get", 0, 1),
        ("set", 0, 0),
        ("get", 1, 0),
    ]


def test_the_innermost_wrapped_client_counts(redis_port: int) -> None:
    """By the name of the outer one, and without its namespace."""
    sink = MemorySink()

    async def scenario() -> None:
        async with aiocache.RedisCache(port=redis_port, namespace="site:") as cache:
            monitoring.wrap(cache.client)
            monitoring.wrap(cache, name="sessions")
            await cache.set("users:1", "1")
            with use(sink):
                await cache.get("users:1")
                await cache.multi_get(["users:1", "users:3"])
                await cache.get("site", namespace="other:")

    asyncio.run(scenario())
    calls = cast("list[CacheCall]", sink.of_kind("cache"))
    assert [(call.cache, call.name, call.hits, call.misses, call.by_prefix) for call in calls] == [
        ("sessions", "get", 1, 0, {"users": (1, 0)}),
        ("sessions", "mget", 1, 1, {"users": (1, 1)}),
        ("sessions", "get", 0, 1, {}),
    ]
