"""Redis keeps a ledger of its commands: what we count is what it has done, whatever the layers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

import monitoring
from monitoring.calls import CacheCall
from monitoring.testing import MemorySink, use

redis = pytest.importorskip("redis")

ASIDE = {"config|resetstat", "info", "client|setinfo", "client|maint_notifications", "hello", "select", "multi", "exec"}
"""What a connection or a transaction says for itself, and what this test says."""
USES = 5


@pytest.fixture
def teller(redis_port: int) -> Iterator[Any]:
    """A client aside, with an empty server and an empty ledger."""
    with redis.Redis(port=redis_port) as client:
        client.flushall()
        client.config_resetstat()
        yield client


def told(teller: Any) -> dict[str, int]:
    """Return how often the server has run each command."""
    stats = teller.info("commandstats")
    counts = {name.removeprefix("cmdstat_"): row["calls"] for name, row in stats.items()}
    return {name: calls for name, calls in counts.items() if name not in ASIDE}


def counted(work: Callable[[], object]) -> tuple[dict[str, int], list[CacheCall]]:
    """Return how often we have seen each command while ``work`` runs, those in pipelines included."""
    sink = MemorySink()
    with use(sink):
        work()
    calls = cast("list[CacheCall]", sink.of_kind("cache"))
    found: Counter[str] = Counter()
    for call in calls:
        found.update(call.inner or {call.name: 1})
    return dict(found), calls


def test_plain_commands_and_pipelines(teller: Any, redis_port: int) -> None:
    """Each command once, alone, in a pipeline or in a transaction."""
    with redis.Redis(port=redis_port) as client:
        monitoring.wrap(client)

        def work() -> None:
            for number in range(USES):
                client.set(f"users:{number}", number)
                client.get(f"users:{number}")
                client.mget("users:0", "users:1", "none")
                client.exists("users:0", "none")
                for transaction in (True, False):
                    with client.pipeline(transaction=transaction) as pipeline:
                        pipeline.set("a", 1).get("a").incr("a").hset("h", "x", 1).execute()
            client.delete("a", "h")

        seen, calls = counted(work)
    assert seen == told(teller)
    keyspace = teller.info("stats")
    assert sum(call.hits for call in calls) == keyspace["keyspace_hits"]
    assert sum(call.misses for call in calls) == keyspace["keyspace_misses"]


def test_django_over_redis(teller: Any, redis_port: int) -> None:
    """Both layers are wrapped."""
    pytest.importorskip("django_redis")
    from django.conf import settings
    from django.core.cache import CacheHandler

    if not settings.configured:
        settings.configure()
    location = f"redis://127.0.0.1:{redis_port}/0"
    cache: Any = CacheHandler({"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": location}})[
        "default"
    ]
    monitoring.wrap(cache.client.get_client())
    monitoring.wrap(cache, name="pages")

    def work() -> None:
        for number in range(USES):
            cache.set(f"users:{number}", number)
            cache.get(f"users:{number}")
            cache.get_many(["users:0", "none"])
            cache.get_or_set(f"pages:{number}", "x")
            cache.set_many({"a": 1, "b": 2})
            cache.touch("a", 60)  # incr is a script, whose commands nobody sends
            asyncio.run(cache.aget("a"))
            cache.delete_many(["a", "b"])

    seen, calls = counted(work)
    cache.close()
    assert seen == told(teller)
    assert {call.cache for call in calls} == {"pages"}


@pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")
def test_aiocache_over_redis(teller: Any, redis_port: int) -> None:
    """Both layers are wrapped."""
    aiocache = pytest.importorskip("aiocache")

    async def work() -> None:
        async with aiocache.RedisCache(port=redis_port) as cache:
            monitoring.wrap(cache.client)
            monitoring.wrap(cache, name="pages")
            for number in range(USES):
                await cache.set(f"users:{number}", number)
                await cache.get(f"users:{number}")
                await cache.multi_get(["users:0", "none"])
                await cache.multi_set([("a", 1), ("b", 2)], ttl=60)
                await cache.increment("counts")
                await cache.exists("a")
                await cache.delete("a")

    seen, calls = counted(lambda: asyncio.run(work()))
    assert seen == told(teller)
    assert {call.cache for call in calls} == {"pages"}
