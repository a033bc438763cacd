"""Whether the stores beside the database answer: Redis, memcached, MongoDB, by the app's own clients."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from .patience import PATIENCE_SECONDS
from .telling import Answer, answered, telling


def redis(client: Any) -> Callable[[], Answer]:
    """Check a Redis or Valkey by ``PING``, with a client that is sync or async.

    A server that hangs is waited for as long as the client says: set ``socket_timeout`` and ``socket_connect_timeout``,
    some seconds each; redis-py's own defaults come to a minute, or to no end, by version.
    """
    return telling(lambda: answered(client.ping))


def memcached(client: Any) -> Callable[[], Answer]:
    """Check a memcached by its version, or by its statistics where the client asks for no version.

    For pymemcache and clients like it, sync or async; set its ``timeout`` and ``connect_timeout``, some seconds each.
    """
    return telling(lambda: answered(client.version if hasattr(client, "version") else client.stats))


def mongo(client: Any) -> Callable[[], Answer]:
    """Check a MongoDB by the command ``ping``, with pymongo's sync or async client. Gives up after three seconds."""
    return telling(lambda: _ping(client))


def _ping(client: Any) -> Answer:
    with _mongo_patience():
        answer = client.admin.command("ping")
    return _in_time(answer) if inspect.isawaitable(answer) else None


async def _in_time(answer: Awaitable[object]) -> None:
    with _mongo_patience():
        await answer


def _mongo_patience() -> contextlib.AbstractContextManager[Any]:
    """Return pymongo's own limit for a block, where there is pymongo."""
    try:
        from pymongo import timeout
    except ImportError:
        return contextlib.nullcontext()
    return timeout(PATIENCE_SECONDS)
