"""redis-py clients and pipelines, sync and async, on a real Redis."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest

import monitoring
from monitoring.calls import CacheCall
from monitoring.integrations.caches import redis as adapter
from monitoring.observation import Kind
from monitoring.testing import MemorySink, use
from tests.integrations.contract import SECRET, CancellableContract, Contract, Subject, run
from tests.support.components import require
from tests.support.processes import running

redis = pytest.importorskip("redis")


class SyncRedis(Subject):
    """``redis.Redis``."""

    client = "redis `Redis`"
    library = "redis"
    kind: Kind = "cache"
    error = redis.ResponseError

    def __init__(self, port: int) -> None:
        self._port = port

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        with redis.Redis(port=self._port) as client:
            client.flushall()
            client.set(SECRET, SECRET)
            yield client

    def unused(self) -> Any:
        return redis.Redis(port=self._port)

    async def succeed(self, client: Any) -> object:
        return client.get(SECRET)

    async def fail(self, client: Any) -> object:
        return client.lpush(SECRET, SECRET)


class AsynchronousRedis(Subject):
    """``redis.asyncio.Redis``."""

    client = "redis.asyncio `Redis`"
    library = "redis"
    kind: Kind = "cache"
    error = redis.ResponseError

    def __init__(self, port: int) -> None:
        self._port = port

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        async with redis.asyncio.Redis(port=self._port) as client:
            await client.flushall()
            await client.set(SECRET, SECRET)
            yield client

    def unused(self) -> Any:
        return redis.asyncio.Redis(port=self._port)

    async def succeed(self, client: Any) -> object:
        return await client.get(SECRET)

    async def fail(self, client: Any) -> object:
        return await client.lpush(SECRET, SECRET)

    async def hang(self, client: Any) -> object:
        return await client.blpop(["nothing", SECRET + "-list"], timeout=30)


class TestRedis(Contract):
    """The contract, for a client."""

    @pytest.fixture
    def subject(self, redis_port: int) -> Subject:
        return SyncRedis(redis_port)


class TestAsyncRedis(CancellableContract):
    """The contract, for an async client."""

    @pytest.fixture
    def subject(self, redis_port: int) -> Subject:
        return AsynchronousRedis(redis_port)


class PipelineOf:
    """A pipeline that is wrapped by itself."""

    kind: Kind = "cache"
    error = redis.ResponseError

    def __init__(self, port: int) -> None:
        self._port = port

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        with redis.Redis(port=self._port) as client, client.pipeline() as pipeline:
            client.flushall()
            yield pipeline

    async def succeed(self, client: Any) -> object:
        return client.set(SECRET, SECRET).get(SECRET).execute()

    async def fail(self, client: Any) -> object:
        return client.set(SECRET, SECRET).lpush(SECRET, SECRET).execute()


@pytest.fixture
def client(redis_port: int) -> Iterator[Any]:
    with redis.Redis(port=redis_port) as client:
        client.flushall()
        client.mset({"a": 1, "b": 2})
        client.hset("h", mapping={"x": 1, "y": 2})
        yield monitoring.wrap(client, name="sessions")


def observed(work: Callable[[], object]) -> list[CacheCall]:
    """Return the commands seen while ``work`` runs."""
    sink = MemorySink()
    with use(sink):
        work()
    return cast("list[CacheCall]", sink.of_kind("cache"))


@pytest.mark.parametrize(
    ("work", "name", "hits", "misses"),
    [
        (lambda client: client.get("a"), "get", 1, 0),
        (lambda client: client.get("none"), "get", 0, 1),
        (lambda client: client.mget("a", "none", "b"), "mget", 2, 1),
        (lambda client: client.hget("h", "x"), "hget", 1, 0),
        (lambda client: client.hget("none", "x"), "hget", 0, 1),
        (lambda client: client.hmget("h", ["x", "z"]), "hmget", 1, 1),
        (lambda client: client.hgetall("none"), "hgetall", 0, 1),
        (lambda client: client.getex("a", ex=60), "getex", 1, 0),
        (lambda client: client.getdel("none"), "getdel", 0, 1),
        (lambda client: client.exists("a", "b", "none"), "exists", 2, 1),
        (lambda client: client.hexists("h", "z"), "hexists", 0, 1),
        (lambda client: client.set("a", ""), "set", 0, 0),
        (lambda client: client.client_setname("x"), "client", 0, 0),
        (lambda client: client.execute_command("GET secret-key"), "get", 0, 0),
        (lambda client: client.execute_command("get", "a"), "get", 1, 0),
        (lambda client: client.set("a", 2, get=True), "set", 1, 0),
        (lambda client: client.set("new", 2, get=True), "set", 0, 1),
        (lambda client: client.getset("new", 2), "getset", 0, 1),
    ],
)
def test_look_ups_count_hits_and_misses(
    client: Any, work: Callable[[Any], object], name: str, hits: int, misses: int
) -> None:
    """A command is named by its first word, and its reply tells what was there."""
    (call,) = observed(lambda: work(client))
    assert (call.cache, call.system, call.name) == ("sessions", "redis", name)
    assert (call.hits, call.misses) == (hits, misses)


@pytest.mark.parametrize(
    ("work", "puts", "removals"),
    [
        (lambda client: client.set("a", 1), 1, 0),
        (lambda client: client.set("a", 1, nx=True), 0, 0),
        (lambda client: client.set("a", 1, get=True), 1, 0),
        (lambda client: client.execute_command("SETEX", "a", 60, 1), 1, 0),
        (lambda client: client.mset({"a": 1, "b": 2, "c": 3}), 3, 0),
        (lambda client: client.msetnx({"a": 1, "c": 3}), 0, 0),
        (lambda client: client.hset("h", mapping={"x": 1, "z": 2}), 2, 0),
        (lambda client: client.delete("a", "b", "none"), 0, 2),
        (lambda client: client.unlink("a"), 0, 1),
        (lambda client: client.hdel("h", "x", "z"), 0, 1),
        (lambda client: client.getdel("a"), 0, 1),
        (lambda client: client.getdel("none"), 0, 0),
    ],
)
def test_what_is_stored_and_removed_is_counted(
    client: Any, work: Callable[[Any], object], puts: int, removals: int
) -> None:
    """As far as the reply tells."""
    (call,) = observed(lambda: work(client))
    assert (call.puts, call.removals) == (puts, removals)


def test_look_ups_are_told_by_kind_of_key(client: Any) -> None:
    """Keys that name no kind are only part of the whole."""
    client.mset({"users:1": 1, "users:2": 1, b"pages:front": 1})
    (mget,) = observed(lambda: client.mget("users:1", "users:2", "users:3", b"pages:front", "none"))
    (same,) = observed(lambda: client.exists("users:1", "users:3"))
    (mixed,) = observed(lambda: client.exists("users:1", "pages:none"))
    assert (mget.hits, mget.misses, mget.by_prefix) == (3, 2, {"users": (2, 1), "pages": (1, 0)})
    assert (same.hits, same.misses, same.by_prefix) == (1, 1, {"users": (1, 1)})
    assert (mixed.hits, mixed.misses, mixed.by_prefix) == (1, 1, {})


def test_json_documents_are_looked_up_by_key() -> None:
    """The last word of JSON.MGET is a path. The server needs a module for it, so the reply is made up."""
    call = adapter._call(None, ("JSON.MGET", "docs:1", "docs:2", "$"), 0.0, ['[{"a":1}]', None], None)
    assert (call.name, call.hits, call.misses, call.by_prefix) == ("json.mget", 1, 1, {"docs": (1, 1)})


def test_a_client_of_one_connection_is_observed_like_the_one_that_made_it(client: Any) -> None:
    """``client()`` makes a client of its own."""
    with client.client() as single:
        (call,) = observed(lambda: single.get("a"))
    assert (call.cache, call.name) == ("sessions", "get")


def test_clients_of_one_pool_are_wrapped_each_by_itself(client: Any) -> None:
    """A pool is nobody's."""
    other = redis.Redis(connection_pool=client.connection_pool)
    assert observed(lambda: other.get("a")) == []
    assert [call.hits for call in observed(lambda: client.get("a"))] == [1]


def test_clients_that_a_sentinel_makes_are_wrapped_like_others(redis_port: int, tmp_path: Path) -> None:
    """They have another pool."""
    program = require("redis-server", "redis")
    settings = tmp_path / "sentinel.conf"

    def command(port: int) -> list[str]:
        settings.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {redis_port} 1\n")
        return [program, str(settings), "--sentinel"]

    def answers(port: int) -> bool:
        with suppress(redis.ConnectionError), redis.Redis(port=port) as client:
            return bool(client.ping())
        return False

    with running(command, answers, tmp_path / "log", cwd=tmp_path) as (_, port):
        sentinel = redis.Sentinel([("127.0.0.1", port)])
        with monitoring.wrap(sentinel.master_for("main"), name="sessions") as client:
            calls = observed(lambda: (client.set("a", 1), client.pipeline().get("a").execute()))
        for aside in sentinel.sentinels:
            aside.close()
    assert [(call.cache, call.name, call.hits) for call in calls] == [
        ("sessions", "set", 0),
        ("sessions", "pipeline", 1),
    ]


def test_a_transaction_that_is_tried_again_is_seen_each_time(client: Any) -> None:
    """Somebody else has changed what it watches."""
    tries = []

    def work(pipeline: Any) -> None:
        tries.append(pipeline.get("a"))
        if len(tries) == 1:
            redis.Redis(connection_pool=client.connection_pool).set("a", 7)
        pipeline.multi()
        pipeline.set("a", 8)

    calls = observed(lambda: client.transaction(work, "a"))
    assert [(call.name, call.error_type) for call in calls] == [
        ("watch", ""),
        ("get", ""),
        ("pipeline", "WatchError"),
        ("watch", ""),
        ("get", ""),
        ("pipeline", ""),
    ]


def test_threads_that_share_a_client_are_all_seen(client: Any) -> None:
    """Nothing of a call is kept on the client."""

    def work() -> None:
        for _ in range(50):
            assert client.get("a") == b"1"

    def all_at_once() -> None:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert [call.hits for call in observed(all_at_once)] == [1] * 200


def test_messages_are_delivered(client: Any) -> None:
    """Publish and subscribe work on; only the sending is a command of the client."""
    with client.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.subscribe("news")
        assert subscription.get_message(timeout=5) is None  # the confirmation

        def work() -> None:
            assert client.publish("news", "hello") == 1
            message = None
            while message is None:
                message = subscription.get_message(timeout=5)
            assert message["data"] == b"hello"

        assert [call.name for call in observed(work)] == ["publish"]


def test_scripts_are_seen_as_they_are_sent(client: Any) -> None:
    """The first run finds that the server does not know the script, and sends it."""
    client.script_flush()
    script = client.register_script("return redis.call('GET', KEYS[1])")
    calls = observed(lambda: script(keys=["a"]))
    assert [(call.name, call.error_type) for call in calls] == [
        ("evalsha", "NoScriptError"),
        ("script", ""),
        ("evalsha", ""),
    ]


def test_an_empty_value_is_a_hit(client: Any) -> None:
    """Only nil is a miss."""
    client.set("empty", "")
    (call,) = observed(lambda: client.get("empty"))
    assert (call.hits, call.misses) == (1, 0)


def test_a_client_without_a_name_is_the_default_cache(redis_port: int) -> None:
    """``name`` is there for those who have several."""
    with redis.Redis(port=redis_port) as client:
        (call,) = observed(monitoring.wrap(client).ping)
    assert (call.cache, call.name) == ("default", "ping")


@pytest.mark.parametrize("transaction", [True, False])
def test_a_pipeline_is_one_observation_with_all_its_look_ups(client: Any, transaction: bool) -> None:
    """What a pipeline's commands found adds up."""

    def work() -> None:
        with client.pipeline(transaction=transaction) as pipeline:
            assert isinstance(pipeline, redis.client.Pipeline)
            replies = pipeline.get("a").get("none").mget("a", "b").set("c", 3).execute()
            assert replies == [b"1", None, [b"1", b"2"], True]

    (call,) = observed(work)
    assert (call.name, call.outcome, call.hits, call.misses) == ("pipeline", "ok", 3, 1)
    assert (call.inner, call.commands, call.puts) == ({"get": 2, "mget": 1, "set": 1}, 4, 1)


def test_a_failed_command_of_a_pipeline_is_no_look_up(client: Any) -> None:
    """Errors among the replies are passed over."""
    (call,) = observed(lambda: client.pipeline().get("a").get("h").execute(raise_on_error=False))
    assert (call.outcome, call.hits, call.misses) == ("ok", 1, 0)


def test_an_empty_pipeline_is_nothing(client: Any) -> None:
    """It sends nothing."""
    assert observed(client.pipeline().execute) == []


def test_commands_that_a_watching_pipeline_sends_at_once_are_seen(client: Any) -> None:
    """Between WATCH and MULTI a pipeline is a client."""

    def work() -> None:
        with client.pipeline() as pipeline:
            pipeline.watch("a")
            pipeline.get("a")
            pipeline.multi()
            pipeline.set("a", 5).execute()

    assert [call.name for call in observed(work)] == ["watch", "get", "pipeline"]


def test_a_dropped_pipeline_is_gone_at_once(client: Any) -> None:
    """Nothing of ours ties it into a cycle: it has a connection to give back."""
    gc.disable()
    try:
        pipeline = client.pipeline()
        reference = weakref.ref(pipeline)
        del pipeline
        assert reference() is None
    finally:
        gc.enable()


def test_a_pipeline_made_before_unwrap_works_on_unseen(client: Any) -> None:
    """What the client handed out is cut off with it."""
    pipeline = client.pipeline()
    monitoring.unwrap(client)
    assert observed(lambda: pipeline.get("a").execute()) == []


def test_async_pipelines_are_seen(redis_port: int) -> None:
    """The asynchronous pipeline is observed like the other."""
    sink = MemorySink()

    async def scenario(client: Any) -> None:
        monitoring.wrap(client)
        async with client.pipeline() as pipeline:
            await pipeline.watch(SECRET)
            await pipeline.get(SECRET)
            pipeline.multi()
            await pipeline.get(SECRET).get("none").execute()

    with use(sink):
        run(AsynchronousRedis(redis_port), scenario)
    calls = cast("list[CacheCall]", sink.of_kind("cache"))
    assert [(call.name, call.hits, call.misses) for call in calls] == [
        ("watch", 0, 0),
        ("get", 1, 0),
        ("pipeline", 1, 1),
    ]


def test_pipelines_can_be_wrapped_by_themselves(redis_port: int) -> None:
    """A pipeline of a client that is not wrapped is observed, and put back by unwrap."""
    sink = MemorySink()

    async def scenario(pipeline: Any) -> None:
        kind = type(pipeline)
        monitoring.wrap(pipeline)
        with use(sink):
            pipeline.set("a", 1).get("a").execute()
        monitoring.unwrap(pipeline)
        assert type(pipeline) is kind

    run(PipelineOf(redis_port), scenario)
    assert [call.name for call in sink.of_kind("cache")] == ["pipeline"]
