"""redis-py clients of a Redis cluster, and their pipelines, on three real nodes."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

import monitoring
from monitoring.calls import CacheCall
from monitoring.observation import Kind
from monitoring.testing import MemorySink, use
from tests.integrations.contract import SECRET, CancellableContract, Contract, Subject, run

redis = pytest.importorskip("redis")
KEYS = [f"users:{number}" for number in range(6)]
"""They are spread over the nodes."""


class SyncCluster(Subject):
    """``redis.RedisCluster``."""

    client = "redis `RedisCluster`"
    library = "redis"
    kind: Kind = "cache"
    error = redis.ResponseError

    def __init__(self, port: int) -> None:
        self._port = port

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        with redis.RedisCluster(host="127.0.0.1", port=self._port) as client:
            client.flushall()
            client.set(SECRET, SECRET)
            yield client

    def unused(self) -> Any:
        return redis.RedisCluster(host="127.0.0.1", port=self._port)

    async def succeed(self, client: Any) -> object:
        return client.get(SECRET)

    async def fail(self, client: Any) -> object:
        return client.lpush(SECRET, SECRET)


class AsynchronousCluster(Subject):
    """``redis.asyncio.RedisCluster``."""

    client = "redis.asyncio `RedisCluster`"
    library = "redis"
    kind: Kind = "cache"
    error = redis.ResponseError

    def __init__(self, port: int) -> None:
        self._port = port

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        async with redis.asyncio.RedisCluster(host="127.0.0.1", port=self._port) as client:
            await client.flushall()
            await client.set(SECRET, SECRET)
            yield client

    def unused(self) -> Any:
        return redis.asyncio.RedisCluster(host="127.0.0.1", port=self._port)

    async def succeed(self, client: Any) -> object:
        return await client.get(SECRET)

    async def fail(self, client: Any) -> object:
        return await client.lpush(SECRET, SECRET)

    async def hang(self, client: Any) -> object:
        return await client.blpop([SECRET + "-list"], timeout=30)


class TestCluster(Contract):
    """The contract, for a client of a cluster."""

    @pytest.fixture
    def subject(self, cluster_port: int) -> Subject:
        return SyncCluster(cluster_port)


class TestAsyncCluster(CancellableContract):
    """The contract, for an async client of a cluster."""

    @pytest.fixture
    def subject(self, cluster_port: int) -> Subject:
        return AsynchronousCluster(cluster_port)


@pytest.fixture
def client(cluster_port: int) -> Iterator[Any]:
    with redis.RedisCluster(host="127.0.0.1", port=cluster_port) as client:
        client.flushall()
        for key in KEYS[:4]:
            client.set(key, key)
        yield monitoring.wrap(client, name="sessions")


def observed(work: Callable[[], object]) -> list[CacheCall]:
    """Return the commands seen while ``work`` runs."""
    sink = MemorySink()
    with use(sink):
        work()
    return cast("list[CacheCall]", sink.of_kind("cache"))


def test_a_pipeline_over_several_nodes_is_one_observation(client: Any) -> None:
    """Its commands are told by name, and what they found by kind of key."""

    def work() -> None:
        with client.pipeline() as pipeline:
            assert isinstance(pipeline, redis.cluster.ClusterPipeline)
            for key in KEYS:
                pipeline.get(key)
            replies = pipeline.set("a", 1).execute()
        assert replies == [*(key.encode() for key in KEYS[:4]), None, None, True]

    (call,) = observed(work)
    assert (call.cache, call.name, call.outcome) == ("sessions", "pipeline", "ok")
    assert (call.hits, call.misses, call.puts) == (4, 2, 1)
    assert (call.inner, call.commands) == ({"get": 6, "set": 1}, 7)
    assert call.by_prefix == {"users": (4, 2)}


def test_a_pipeline_that_fails_tells_what_it_sent(client: Any) -> None:
    """The replies to the others are lost to the caller, too."""

    def work() -> None:
        with client.pipeline() as pipeline, pytest.raises(redis.ResponseError):
            pipeline.get(KEYS[0]).lpush(KEYS[1], 1).execute()

    (call,) = observed(work)
    assert (call.outcome, call.inner, call.hits) == ("error", {"get": 1, "lpush": 1}, 0)


def test_an_empty_pipeline_is_nothing(client: Any) -> None:
    """It sends nothing."""
    assert observed(client.pipeline().execute) == []


def test_mget_over_several_nodes_counts_each_key(client: Any) -> None:
    """redis-py sends it as one command per slot, or as a pipeline of them."""
    calls = observed(lambda: client.mget_nonatomic(KEYS))
    assert (sum(call.hits for call in calls), sum(call.misses for call in calls)) == (4, 2)


def test_a_dropped_pipeline_is_gone_at_once(client: Any) -> None:
    """It is no more of a cycle than without us."""
    gc.disable()
    try:
        pipeline = client.pipeline()
        is_cycle_of_its_own = _survives(type(pipeline).__mro__[1], client)
        reference = weakref.ref(pipeline)
        del pipeline
        assert (reference() is not None) == is_cycle_of_its_own
    finally:
        gc.enable()


def _survives(kind: Any, client: Any) -> bool:
    """Say whether a pipeline that is not observed outlives its last name."""
    bare = kind(client.nodes_manager, client.commands_parser)
    reference = weakref.ref(bare)
    del bare
    return reference() is not None


@pytest.mark.skipif(not hasattr(redis.cluster, "TransactionStrategy"), reason="clusters have no transactions before 6")
def test_a_transaction_of_a_cluster_is_seen(client: Any) -> None:
    """What it asks between WATCH and MULTI goes out at once."""

    def work() -> None:
        with client.pipeline(transaction=True) as pipeline:
            pipeline.watch(KEYS[0])
            assert pipeline.get(KEYS[0]) == KEYS[0].encode()
            pipeline.multi()
            assert pipeline.set(KEYS[0], 5).get(KEYS[0]).execute()[1] == b"5"

    assert [(call.name, call.hits, dict(call.inner)) for call in observed(work)] == [
        ("watch", 0, {}),
        ("get", 1, {}),
        ("pipeline", 1, {"set": 1, "get": 1}),
    ]


def test_async_pipelines_of_a_cluster_are_seen(cluster_port: int) -> None:
    """They are observed like the others."""
    sink = MemorySink()

    async def scenario(client: Any) -> None:
        monitoring.wrap(client)
        pipeline = client.pipeline()
        assert isinstance(pipeline, redis.asyncio.cluster.ClusterPipeline)
        assert await pipeline.get(SECRET).get("none").execute() == [SECRET.encode(), None]

    with use(sink):
        run(AsynchronousCluster(cluster_port), scenario)
    (call,) = cast("list[CacheCall]", sink.of_kind("cache"))
    assert (call.name, call.hits, call.misses, call.inner) == ("pipeline", 1, 1, {"get": 2})


def test_a_pipeline_made_before_unwrap_works_on_unseen(client: Any) -> None:
    """What the client handed out is cut off with it."""
    pipeline = client.pipeline()
    monitoring.unwrap(client)
    assert observed(lambda: pipeline.get("a").execute()) == []


def test_a_pipeline_wrapped_by_itself_is_put_back(cluster_port: int) -> None:
    """Its class, and that of its strategy, are what they were."""
    with redis.RedisCluster(host="127.0.0.1", port=cluster_port) as bare:
        pipeline = bare.pipeline()
        before = _kinds(pipeline)
        calls = observed(lambda: monitoring.wrap(pipeline).get("a").execute())
        monitoring.unwrap(pipeline)
        assert _kinds(pipeline) == before
    assert [call.name for call in calls] == ["pipeline"]
    assert not any(name.startswith("_monitoring") for name in vars(pipeline))


def _kinds(pipeline: Any) -> tuple[type, type]:
    return type(pipeline), type(getattr(pipeline, "_execution_strategy", None))
