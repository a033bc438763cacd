"""Caches: clients that answer without a server, and caches in the process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cachetools
import pymemcache
import redis
from django.conf import settings

from .measuring import Case
from .peers import counted_by_django_prometheus, instrumented, traced, traces


class AnsweringRedis(redis.Redis):
    """A Redis client that answers without a server, so that its socket makes no noise."""

    def _execute_command(self, *args: Any, **options: Any) -> bytes:
        return b"value"


class AnsweringAsyncRedis(redis.asyncio.Redis):
    """Its asynchronous twin."""

    async def execute_command(self, *args: Any, **options: Any) -> bytes:
        return b"value"


def get(client: Any) -> None:
    client.get("key")


def get_with_prefix(client: Any) -> None:
    client.get("users:42")


async def get_async(client: Any) -> None:
    await client.get("key")


def traced_redis(client: Any) -> Any:
    from opentelemetry.instrumentation.redis import RedisInstrumentor

    RedisInstrumentor.instrument_client(client, tracer_provider=traces())
    return client


class AnsweringMemcached(pymemcache.Client):
    """A memcached client that answers without a server."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 1))

    def _fetch_cmd(self, name: bytes, keys: Any, expect_cas: bool, key_prefix: bytes = b"") -> Any:
        return dict.fromkeys(keys, b"value")


@contextmanager
def traced_memcached(_client: Any) -> Iterator[None]:
    from opentelemetry.instrumentation.pymemcache import PymemcacheInstrumentor

    with instrumented(PymemcacheInstrumentor()):
        yield


def django_cache() -> Any:
    from django.core.cache.backends.locmem import LocMemCache

    return filled(LocMemCache("bench", {}))


def django_prometheus(_cache: Any) -> Any:
    if not settings.configured:
        settings.configure()
    from django_prometheus.cache.backends.locmem import LocMemCache

    return filled(LocMemCache("bench", {}))


def filled(cache: Any) -> Any:
    cache.set("users:42", "value", None)
    return cache


def cachetools_mapping() -> cachetools.LRUCache[str, str]:
    cache: cachetools.LRUCache[str, str] = cachetools.LRUCache(10)
    cache["users:42"] = "value"
    return cache


CASES = (
    Case("Redis, get", AnsweringRedis, get, traced(traced_redis)),
    Case("Redis, get, async", AnsweringAsyncRedis, get_async, traced(traced_redis)),
    Case("Redis, get, key with a prefix", AnsweringRedis, get_with_prefix, traced(traced_redis)),
    Case("memcached, get", AnsweringMemcached, get_with_prefix, traced(during=traced_memcached)),
    Case(
        "Django cache, get",
        django_cache,
        get_with_prefix,
        counted_by_django_prometheus("django_cache_get_total", django_prometheus),
    ),
    Case("cachetools, get", cachetools_mapping, get_with_prefix),
)
