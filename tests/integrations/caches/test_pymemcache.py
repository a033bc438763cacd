"""pymemcache's three clients on a real memcached."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

import monitoring
from monitoring.calls import CacheCall
from monitoring.observation import Kind
from monitoring.testing import MemorySink, use
from tests.integrations.contract import SECRET, Contract, Subject

pymemcache = pytest.importorskip("pymemcache")
serde = pytest.importorskip("pymemcache.serde")


class OneClient(Subject):
    """``pymemcache.Client``."""

    client = "pymemcache `Client`"
    library = "pymemcache"
    kind: Kind = "cache"
    error = pymemcache.exceptions.MemcacheClientError

    def __init__(self, port: int) -> None:
        self._port = port

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        client = self.unused()
        try:
            client.flush_all()
            client.set(SECRET, SECRET)
            yield client
        finally:
            client.close()

    def unused(self) -> Any:
        return pymemcache.Client(("127.0.0.1", self._port), default_noreply=False)

    async def succeed(self, client: Any) -> object:
        return client.get(SECRET)

    async def fail(self, client: Any) -> object:
        return client.incr(SECRET, 1)


class Pooled(OneClient):
    """``pymemcache.PooledClient``."""

    client = "pymemcache `PooledClient`"

    def unused(self) -> Any:
        return pymemcache.PooledClient(("127.0.0.1", self._port), default_noreply=False)


class Hashed(OneClient):
    """``pymemcache.HashClient``."""

    client = "pymemcache `HashClient`"

    def unused(self) -> Any:
        return pymemcache.HashClient([("127.0.0.1", self._port)], default_noreply=False)


@pytest.fixture(params=[OneClient, Pooled, Hashed], ids=lambda subject: subject.__name__)
def subject(request: pytest.FixtureRequest, memcached_port: int) -> Subject:
    made: Subject = request.param(memcached_port)
    return made


class TestPymemcache(Contract):
    """The contract, for all three."""


def _client(kind: str, port: int) -> Any:
    options = {"default_noreply": False, "serde": serde.pickle_serde}
    server: Any = ("127.0.0.1", port)
    return getattr(pymemcache, kind)([server] if kind == "HashClient" else server, **options)


@pytest.fixture(params=["Client", "PooledClient", "HashClient"])
def client(request: pytest.FixtureRequest, memcached_port: int) -> Iterator[Any]:
    client = _client(request.param, memcached_port)
    client.flush_all()
    client.set_many({"users:1": 1, "users:2": 2, "nothing:1": None})
    yield monitoring.wrap(client, name="sessions")
    client.close()


def observed(work: Callable[[], object]) -> list[CacheCall]:
    """Return the commands seen while ``work`` runs."""
    sink = MemorySink()
    with use(sink):
        work()
    return cast("list[CacheCall]", sink.of_kind("cache"))


@pytest.mark.parametrize(
    ("work", "name", "hits", "misses"),
    [
        (lambda client: client.get("users:1"), "get", 1, 0),
        (lambda client: client.get("users:3"), "get", 0, 1),
        (lambda client: client.get("users:3", default=7), "get", 0, 1),
        (lambda client: client.get(key="users:1"), "get", 1, 0),
        (lambda client: client.get("nothing:1"), "get", 1, 0),
        (lambda client: client.get_many(["users:1", "users:2", "users:3"]), "get_many", 2, 1),
        (lambda client: client.get_multi(["users:1", "nothing:1"]), "get_many", 2, 0),
        (lambda client: client.get_many(keys=["users:1", "users:3"]), "get_many", 1, 1),
        (lambda client: client.get_many(key for key in ("users:1", "users:3")), "get_many", 1, 1),
        (lambda client: client.gets("users:1"), "gets", 1, 0),
        (lambda client: client.gets("users:3"), "gets", 0, 1),
        (lambda client: client.set("users:1", 5), "set", 0, 0),
        (lambda client: client.touch("users:1", 60), "touch", 0, 0),
    ],
)
def test_look_ups_count_hits_and_misses(
    client: Any, work: Callable[[Any], object], name: str, hits: int, misses: int
) -> None:
    """Each method is one observation; a stored None is a hit."""
    (call,) = observed(lambda: work(client))
    assert (call.cache, call.system, call.name) == ("sessions", "memcached", name)
    assert (call.hits, call.misses) == (hits, misses)


def test_gets_many_is_one_observation(client: Any) -> None:
    """A client of several servers asks by another method of its own."""
    (call,) = observed(lambda: client.gets_many(["users:1", "users:3"]))
    assert (call.hits, call.misses, call.by_prefix) == (1, 1, {"users": (1, 1)})


def test_results_are_those_of_the_library(client: Any) -> None:
    """Also where a look-up is asked for more than its caller did."""
    sink = MemorySink()
    fallback = object()
    with use(sink):
        assert client.get("users:3") is None
        assert client.get("users:3", fallback) is fallback
        assert client.get("nothing:1", fallback) is None
        assert client.get_many([]) == {}
    assert len(sink.observations) == 4


def test_a_client_as_a_mapping_is_seen(memcached_port: int) -> None:
    """Its items are commands, too."""
    client = monitoring.wrap(_client("Client", memcached_port))
    calls = observed(lambda: (client.__setitem__("users:1", 1), client["users:1"], client.__delitem__("users:1")))
    client.close()
    assert [(call.name, call.hits) for call in calls] == [("set", 0), ("get", 1), ("delete", 0)]


@pytest.mark.parametrize(
    ("work", "puts", "removals"),
    [
        (lambda client: client.set("a", 1), 1, 0),
        (lambda client: client.add("users:1", 1), 0, 0),
        (lambda client: client.replace("users:1", 1), 1, 0),
        (lambda client: client.set_many({"a": 1, "b": 2}), 2, 0),
        (lambda client: client.set_multi(values={"a": 1}), 1, 0),
        (lambda client: client.delete("users:1"), 0, 1),
        (lambda client: client.delete("users:3"), 0, 0),
        (lambda client: client.delete_many(["users:1", "users:2"]), 0, 2),
    ],
)
def test_what_is_stored_and_removed_is_counted(
    client: Any, work: Callable[[Any], object], puts: int, removals: int
) -> None:
    """As far as the result tells."""
    (call,) = observed(lambda: work(client))
    assert (call.puts, call.removals) == (puts, removals)


def test_several_servers_are_one_cache(memcached_port: int) -> None:
    """``get_many`` asks each server for its part, and is one observation."""
    servers = [("127.0.0.1", memcached_port), ("localhost", memcached_port)]
    client = monitoring.wrap(pymemcache.HashClient(servers, default_noreply=False))
    keys = [f"users:{number}" for number in range(20)]
    client.set_many(dict.fromkeys(keys[:12], "x"))
    try:
        (call,) = observed(lambda: client.get_many(keys))
    finally:
        client.flush_all()
        client.close()
    assert (call.name, call.hits, call.misses) == ("get_many", 12, 8)
