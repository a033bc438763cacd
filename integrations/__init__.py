"""What the pack knows of other libraries: one file per library, imported only when an object of it shows up.

``wrap`` instruments a client in place and gives it back. README.md is the contract that an adapter keeps.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import entry_points
from typing import Any, Final, Protocol, TypeVar, cast

from monitoring.monitor import current
from monitoring.recorder import Recorder

from .attachment import Detach, Link
from .marks import mark_of, set_mark, take_mark

T = TypeVar("T")

ENTRY_POINTS: Final = "monitoring.adapters"
"""Group in which an installed package names its adapters: the full name of a class, and the object that adapts it."""


class Adapter(Protocol):
    """What the module of a client library provides; any object with these two functions will do."""

    def carrier(self, client: Any) -> Any:
        """Return the object whose attributes are replaced: the client, or what several clients share.

        It carries the mark of being wrapped, so it needs a ``__dict__`` or room for weak references. It is asked for
        again when the client is attached, and may then be what ``attach`` has put in.
        """
        ...

    def attach(self, client: Any, link: Link) -> Detach:
        """Instrument ``client`` in place, and return the function that puts back what was there."""
        ...


_ADAPTERS: Final[dict[str, str | Adapter]] = {
    "sqlalchemy.engine.base.Engine": "databases.sqlalchemy",
    "sqlalchemy.ext.asyncio.engine.AsyncEngine": "databases.sqlalchemy",
    "asyncpg.connection.Connection": "databases.asyncpg",
    "asyncpg.pool.PoolConnectionProxy": "databases.asyncpg",
    "asyncpg.pool.Pool": "databases.asyncpg",
    "psycopg.Connection": "databases.psycopg",
    "psycopg.AsyncConnection": "databases.psycopg",
    "psycopg_pool.pool.ConnectionPool": "databases.psycopg_pool",
    "psycopg_pool.pool_async.AsyncConnectionPool": "databases.psycopg_pool",
    "pymysql.connections.Connection": "databases.mysql",
    "asyncmy.connection.Connection": "databases.mysql",
    "sqlite3.Connection": "databases.sqlite3",
    "aiosqlite.core.Connection": "databases.aiosqlite",
    "pymongo.synchronous.mongo_client.MongoClient": "databases.pymongo",
    "pymongo.asynchronous.mongo_client.AsyncMongoClient": "databases.pymongo",
    "django.db.backends.base.base.BaseDatabaseWrapper": "databases.django",
    "django.db.utils.ConnectionHandler": "databases.django",
    "django.utils.connection.ConnectionProxy": "databases.django",
    "redis.client.Redis": "caches.redis",
    "redis.asyncio.client.Redis": "caches.redis",
    "redis.cluster.RedisCluster": "caches.redis",
    "redis.asyncio.cluster.RedisCluster": "caches.redis",
    "redis.asyncio.cluster.ClusterPipeline": "caches.redis",
    "pymemcache.client.base.Client": "caches.pymemcache",
    "pymemcache.client.base.PooledClient": "caches.pymemcache",
    "pymemcache.client.hash.HashClient": "caches.pymemcache",
    "aiomcache.client.FlagClient": "caches.aiomcache",
    "django.core.cache.backends.base.BaseCache": "caches.django",
    "django.core.cache.CacheHandler": "caches.django",
    "aiocache.base.BaseCache": "caches.aiocache",
    "cachetools.Cache": "caches.cachetools",
    "cachetools._cached._WrapperBase": "caches.memoized",
    "functools._lru_cache_wrapper": "caches.memoized",
    "builtins.function": "caches.memoized",
    "httpx.Client": "http.httpx",
    "httpx.AsyncClient": "http.httpx",
    "httpx2.Client": "http.httpx",
    "httpx2.AsyncClient": "http.httpx",
    "requests.sessions.Session": "http.requests",
    "urllib3.poolmanager.PoolManager": "http.urllib3",
    "urllib3.connectionpool.HTTPConnectionPool": "http.urllib3",
    "aiohttp.client.ClientSession": "http.aiohttp",
    "openai.OpenAI": "llm.openai",
    "openai.AsyncOpenAI": "llm.openai",
    "anthropic.Anthropic": "llm.anthropic",
    "anthropic.AsyncAnthropic": "llm.anthropic",
    "celery.app.base.Celery": "tasks.celery",
    "rq.queue.Queue": "tasks.rq",
    "rq.worker.base.BaseWorker": "tasks.rq",
    "rq.worker.BaseWorker": "tasks.rq",
    "rq.worker.Worker": "tasks.rq",
    "dramatiq.broker.Broker": "tasks.dramatiq",
    "apscheduler.schedulers.base.BaseScheduler": "tasks.apscheduler",
    "google.genai.client.Client": "llm.google",
    "google.genai.client.AsyncClient": "llm.google",
    "botocore.client.BedrockRuntime": "llm.bedrock",
    "ollama._client.Client": "llm.ollama",
    "ollama._client.AsyncClient": "llm.ollama",
    "mistralai.client.sdk.Mistral": "llm.mistral",
    "mistralai.sdk.Mistral": "llm.mistral",
    "cohere.client.Client": "llm.cohere",
    "cohere.client.AsyncClient": "llm.cohere",
    "cohere.v2.client.V2Client": "llm.cohere",
    "cohere.v2.client.AsyncV2Client": "llm.cohere",
    "builtins.module": "llm.litellm",
    "litellm.router.Router": "llm.litellm",
    "mcp.client.session.ClientSession": "agents.mcp",
    "mcp.client.client.Client": "agents.mcp",
    "pydantic_ai.agent.Agent": "agents.pydantic_ai",
    "agents.agent.Agent": "agents.openai_agents",
    "langchain_core.runnables.base.Runnable": "agents.langchain",
}
"""Classes by their full name, so that no library is imported to recognise one; subclasses are found by their bases."""


def register_adapter(kind: type | str, adapter: Adapter) -> None:
    """Let ``wrap`` accept clients of ``kind``, a class or the full name of one, and of its subclasses.

    A later registration wins. What is wrapped already keeps the adapter that it has.
    """
    _ADAPTERS[kind if isinstance(kind, str) else _full_name(kind)] = adapter


def wrap(client: T, *, name: str | None = None, recorder_of: Callable[[], Recorder] | None = None) -> T:
    """Instrument ``client`` in place and return it: the same object, of the same type. Twice is once.

    ``name`` tells caches apart. The recorder is asked for at each call, so wrapping before ``configure`` works.
    Raise TypeError for a client of another kind, or one of a version that cannot be instrumented.
    """
    adapter = _adapter_for(client, "wrap")
    carrier = adapter.carrier(client)
    if mark_of(carrier) is None:
        link = Link(recorder_of or _current_recorder, name)
        try:
            detach = adapter.attach(client, link)
        except AttributeError as error:
            raise TypeError(
                f"wrap() cannot instrument this {_full_name(type(client))}: {error}; use a version of its library that "
                "the adapter knows, or register_adapter() one of your own."
            ) from error
        set_mark(adapter.carrier(client), (link, detach))
    return client


def unwrap(client: T) -> T:
    """Put back what ``wrap`` replaced in ``client``, and return it. A client that is not wrapped stays as it is.

    What it has handed out before goes on working: an open stream is still reported at its end, a pipeline is not, and
    clients that ``with_options`` made are wrapped clients of their own.
    """
    carrier = _adapter_for(client, "unwrap").carrier(client)
    mark = take_mark(carrier)
    if mark is not None:
        link, detach = mark
        link.cut()
        detach()
    return client


def _current_recorder() -> Recorder:
    return current().recorder


def _adapter_for(client: object, verb: str) -> Adapter:
    names = [_full_name(kind) for kind in type(client).__mro__]
    adapter = _known(names) or _installed(names)
    if adapter is not None:
        return adapter
    raise TypeError(
        f"{verb}() got a {_full_name(type(client))}; it knows {', '.join(sorted(_ADAPTERS))}. "
        "Teach it another with monitoring.integrations.register_adapter()."
    )


def _known(names: Iterable[str]) -> Adapter | None:
    for name in names:
        adapter = _ADAPTERS.get(name)
        if isinstance(adapter, str):
            return cast(Adapter, importlib.import_module(f"{__name__}.{adapter}"))
        if adapter is not None:
            return adapter
    return None


def _installed(names: Sequence[str]) -> Adapter | None:
    """Return the adapter that another installed package provides for one of these classes, and remember it."""
    provided = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    for name in names:
        if name in provided:
            register_adapter(name, provided[name].load())
            return _known([name])
    return None


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
