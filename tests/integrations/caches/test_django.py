"""Django's caches: in memory, in files, memcached, Redis by Django and by django-redis."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("django")
from django.conf import settings
from django.core.cache import CacheHandler, caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.locmem import LocMemCache
from django.test.utils import override_settings

import monitoring
from monitoring.calls import CacheCall
from monitoring.context import current_record
from monitoring.integrations.caches.django import observe_caches
from monitoring.observation import Kind, RequestRecord
from monitoring.testing import MemorySink, use
from tests.integrations.contract import SECRET, Contract, Subject

BACKENDS = "django.core.cache.backends."


def backend(name: str, folder: Path, redis_port: int, memcached_port: int) -> dict[str, Any]:
    """Return the settings of one cache."""
    redis = f"redis://127.0.0.1:{redis_port}/1"
    found: dict[str, dict[str, Any]] = {
        "locmem": {"BACKEND": BACKENDS + "locmem.LocMemCache", "LOCATION": "monitoring"},
        "file": {"BACKEND": BACKENDS + "filebased.FileBasedCache", "LOCATION": str(folder)},
        "memcached": {
            "BACKEND": BACKENDS + "memcached.PyMemcacheCache",
            "LOCATION": f"127.0.0.1:{memcached_port}",
        },
        "redis": {"BACKEND": BACKENDS + "redis.RedisCache", "LOCATION": redis},
        "django-redis": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis},
    }
    return found[name]


SYSTEMS = {"locmem": "memory", "file": "file", "memcached": "memcached", "redis": "redis", "django-redis": "redis"}


@pytest.fixture(autouse=True)
def configured() -> None:
    """Settings are configured once per process, by whoever comes first."""
    if not settings.configured:
        settings.configure()


class CacheSubject(Subject):
    """One backend."""

    client = "Django `caches[alias]`"
    library = "Django"
    kind: Kind = "cache"
    error = ValueError

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        cache = self.unused()
        cache.clear()
        cache.set(SECRET, SECRET)
        yield cache
        cache.close()

    def unused(self) -> Any:
        return CacheHandler({"default": self._given})["default"]

    async def succeed(self, client: Any) -> object:
        return client.get_many([SECRET, "none"])

    async def fail(self, client: Any) -> object:
        return client.incr(SECRET + "-none")


@pytest.fixture(params=list(SYSTEMS))
def given(request: pytest.FixtureRequest, tmp_path: Path, redis_port: int, memcached_port: int) -> dict[str, Any]:
    if request.param == "django-redis":
        pytest.importorskip("django_redis")
    return {**backend(request.param, tmp_path, redis_port, memcached_port), "KEY_PREFIX": "site", "VERSION": 3}


class TestDjangoCache(Contract):
    """The contract, for each backend."""

    @pytest.fixture
    def subject(self, given: dict[str, Any]) -> Subject:
        return CacheSubject(given)


@pytest.fixture
def cache(given: dict[str, Any]) -> Iterator[Any]:
    cache = CacheHandler({"default": given})["default"]
    cache.clear()
    cache.set_many({"users:1": 1, "users:2": 2, "nothing:1": None})
    yield monitoring.wrap(cache, name="sessions")
    cache.close()


def observed(work: Callable[[], object]) -> list[CacheCall]:
    """Return the calls seen while ``work`` runs."""
    sink = MemorySink()
    with use(sink):
        work()
    return cast("list[CacheCall]", sink.of_kind("cache"))


@pytest.mark.parametrize(
    ("work", "name", "hits", "misses"),
    [
        (lambda cache: cache.get("users:1"), "get", 1, 0),
        (lambda cache: cache.get("users:3"), "get", 0, 1),
        (lambda cache: cache.get("users:3", default=7), "get", 0, 1),
        (lambda cache: cache.get(key="users:3", default=7), "get", 0, 1),
        (lambda cache: cache.get("nothing:1", 7), "get", 1, 0),
        (lambda cache: cache.get("users:1", version=9), "get", 0, 1),
        (lambda cache: cache.get_many(["users:1", "users:2", "users:3"]), "get_many", 2, 1),
        (lambda cache: cache.has_key("users:1"), "has_key", 1, 0),
        (lambda cache: "users:3" in cache, "has_key", 0, 1),
        (lambda cache: cache.touch("users:1", 60), "touch", 0, 0),
        (lambda cache: cache.incr("users:1"), "incr", 0, 0),
        (lambda cache: cache.set_many({"a": 1, "b": 2}), "set_many", 0, 0),
        (lambda cache: cache.clear(), "clear", 0, 0),
        (lambda cache: asyncio.run(cache.aget("users:1")), "get", 1, 0),
        (lambda cache: asyncio.run(cache.aget("nothing:1")), "get", 1, 0),
        (lambda cache: asyncio.run(cache.aget_many(["users:1", "users:3"])), "get_many", 1, 1),
        (lambda cache: asyncio.run(cache.ahas_key("users:1")), "has_key", 1, 0),
    ],
)
def test_a_method_is_one_observation_with_its_look_ups(
    cache: Any, work: Callable[[Any], object], name: str, hits: int, misses: int
) -> None:
    """However many others of its own it consists of; a stored None is a hit."""
    (call,) = observed(lambda: work(cache))
    assert (call.cache, call.name, call.hits, call.misses) == ("sessions", name, hits, misses)
    assert call.system in SYSTEMS.values()
    assert set(call.by_prefix) <= {"users", "nothing"}


@pytest.mark.parametrize(
    ("work", "puts", "removals"),
    [
        (lambda cache: cache.set("a", 1), 1, 0),
        (lambda cache: cache.add("users:1", 1), 0, 0),
        (lambda cache: cache.add("a", 1), 1, 0),
        (lambda cache: cache.set_many({"a": 1, "b": 2}), 2, 0),
        (lambda cache: cache.delete("users:1"), 0, 1),
        (lambda cache: cache.delete("users:3"), 0, 0),
        (lambda cache: cache.delete_many(["users:1", "users:2"]), 0, 2),
    ],
)
def test_what_is_stored_and_removed_is_counted(
    cache: Any, work: Callable[[Any], object], puts: int, removals: int
) -> None:
    """As far as the backend tells."""
    (call,) = observed(lambda: work(cache))
    assert (call.puts, call.removals) == (puts, removals)


def test_results_are_those_of_the_backend(cache: Any) -> None:
    """Also where a look-up is asked for more than its caller did."""
    fallback = object()
    sink = MemorySink()
    with use(sink):
        assert cache.get("users:3") is None
        assert cache.get("users:3", fallback) is fallback
        assert cache.get("nothing:1", fallback) is None
        assert cache.get_many(key for key in ("users:1", "users:3")) == {"users:1": 1}
        assert asyncio.run(cache.aget("users:3", fallback)) is fallback
    assert sum(call.hits + call.misses for call in cast("list[CacheCall]", sink.of_kind("cache"))) == 6


def test_get_or_set_is_a_miss_once(cache: Any) -> None:
    """It reads what it has stored; that is no look-up of the app's."""
    calls = observed(lambda: cache.get_or_set("users:3", lambda: 7))
    assert [(call.name, call.hits, call.misses) for call in calls] == [("get", 0, 1), ("add", 0, 0), ("get", 0, 0)]
    calls = observed(lambda: cache.get_or_set("users:3", 8))
    assert [(call.name, call.hits, call.misses) for call in calls] == [("get", 1, 0)]
    calls = observed(lambda: asyncio.run(cache.aget_or_set("users:4", 8)))
    assert [(call.name, call.hits, call.misses) for call in calls] == [("get", 0, 1), ("add", 0, 0), ("get", 0, 0)]


def test_what_a_default_looks_up_is_the_apps_own(cache: Any) -> None:
    """The function that makes a value may use the cache itself."""
    calls = observed(lambda: cache.get_or_set("users:3", lambda: cache.get("users:1")))
    assert [(call.name, call.hits) for call in calls] == [("get", 0), ("get", 1), ("add", 0), ("get", 0)]


def test_the_request_is_known_in_the_thread_of_an_async_call(cache: Any) -> None:
    """Django runs the synchronous backend in a thread."""
    record = RequestRecord()
    sink = MemorySink()

    async def work() -> None:
        token = current_record.set(record)
        await cache.aget("users:1")
        current_record.reset(token)

    with use(sink):
        asyncio.run(work())
    (call,) = sink.of_kind("cache")
    assert call.request is record


def test_the_innermost_wrapped_client_counts(tmp_path: Path, redis_port: int) -> None:
    """By the alias of the cache, and by the kind of key that the app gave."""
    pytest.importorskip("django_redis")
    given = {**backend("django-redis", tmp_path, redis_port, 0), "KEY_PREFIX": "site"}
    cache: Any = monitoring.wrap(CacheHandler({"default": given})["default"], name="sessions")
    monitoring.wrap(cache.client.get_client())
    cache.clear()
    cache.set("users:1", 1)
    cache.set("users:2", 1, version=7)
    calls = observed(lambda: (cache.get("users:1"), cache.get("users:2", version=7), cache.get_many(["users:1", "a"])))
    assert [(call.cache, call.name, call.hits, call.by_prefix) for call in calls] == [
        ("sessions", "get", 1, {"users": (1, 0)}),
        ("sessions", "get", 1, {"users": (1, 0)}),
        ("sessions", "mget", 1, {"users": (1, 0)}),
    ]
    assert [(call.name, call.hits, call.misses) for call in observed(lambda: cache.get_or_set("users:3", 3))] == [
        ("get", 0, 1),
        ("set", 0, 0),
        ("get", 0, 0),
    ]
    cache.close()


class Plain(LocMemCache):
    """A backend whose look-up knows no default."""

    def get(self, key: Any) -> Any:  # type: ignore[override]
        return super().get(key, 5)


class Hashing(LocMemCache):
    """A backend whose keys say nothing, and whose key function is particular."""

    def make_key(self, key: Any, version: Any = None) -> Any:
        if key == "key":
            raise RuntimeError("not such a key")
        return str(hash(key))


def test_a_backend_with_a_signature_of_its_own_is_asked_as_ever() -> None:
    """What cannot be asked for more is taken at its word."""
    cache = monitoring.wrap(Plain("plain", {}))
    (call,) = observed(lambda: cache.get("a"))
    assert (call.name, call.hits) == ("get", 1)


def test_a_key_function_of_its_own_is_left_alone() -> None:
    """What it makes of a key is not looked into."""
    cache = monitoring.wrap(Hashing("hashing", {}))
    (call,) = observed(lambda: cache.get("users:1"))
    assert call.by_prefix == {"users": (0, 1)}


ALIASES = {
    "default": {"BACKEND": BACKENDS + "locmem.LocMemCache", "LOCATION": "one"},
    "pages": {"BACKEND": BACKENDS + "locmem.LocMemCache", "LOCATION": "two"},
}


def test_all_caches_are_wrapped_by_their_alias_in_every_thread() -> None:
    """Each thread makes its own."""
    handler = CacheHandler(ALIASES)
    before = handler["default"]
    monitoring.wrap(handler)
    monitoring.wrap(handler)

    def work() -> None:
        handler["default"].get("a")
        handler["pages"].get("a")

    def in_thread() -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    assert handler["default"] is before
    assert [call.cache for call in observed(work)] == ["default", "pages"]
    assert [call.cache for call in observed(in_thread)] == ["default", "pages"]
    monitoring.unwrap(handler)
    assert observed(work) == []
    assert observed(in_thread) == []


def test_a_cache_of_the_settings_is_named_by_its_alias() -> None:
    """``wrap(caches["pages"])`` needs no name."""
    with override_settings(CACHES=ALIASES):
        cache: BaseCache = monitoring.wrap(caches["pages"])
        assert [call.cache for call in observed(lambda: cache.get("a"))] == ["pages"]


def test_a_cache_of_no_settings_can_be_wrapped() -> None:
    """Somebody has made it by hand, in a process that has no settings."""
    program = (
        "import monitoring\n"
        "from django.core.cache.backends.locmem import LocMemCache\n"
        "print(monitoring.wrap(LocMemCache('a', {})).get('a'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"


def test_observe_caches_wraps_what_the_settings_name() -> None:
    """What ``install`` calls."""
    with override_settings(CACHES=ALIASES):
        observe_caches()
        try:
            assert [call.cache for call in observed(lambda: caches["pages"].get("a"))] == ["pages"]
        finally:
            monitoring.unwrap(caches)
