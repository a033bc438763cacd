"""psycopg 3 connections, sync and async, and with them the cursors that they make.

The seam is the pair of factories that each connection has for its cursors. A statement is observed when its first
result is there, COPY and ``stream()`` when they are through. In a pipeline it is observed when it is sent.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import cache
from typing import Any

from monitoring.calls import DatabaseCall
from monitoring.integrations.attachment import Detach, Link
from monitoring.integrations.layers import lies_below
from monitoring.integrations.weak import replace_weakly

from .cursors import cursor_call, executing, executing_async, subclass, timed


def carrier(client: Any) -> Any:
    """Return the connection itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Let the connection make cursors that report."""
    lies_below("db")
    factories = (client.cursor_factory, client.server_cursor_factory)
    own, on_server = map(_observed_class, factories)
    return replace_weakly(client, {"cursor_factory": own, "server_cursor_factory": on_server})


@cache
def _observed_class(kind: Any) -> Any:
    """Return a subclass of a cursor class whose cursors report what they execute."""
    return subclass(kind, _async_members(kind) if inspect.iscoroutinefunction(kind.execute) else _members(kind))


def _members(kind: Any) -> dict[str, object]:
    def stream(self: Any, query: Any, *args: Any, **kwargs: Any) -> Generator[Any, Any, None]:
        with timed(_call, self, query):
            yield from kind.stream(self, query, *args, **kwargs)

    @contextmanager
    def copy(self: Any, statement: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        with timed(_call, self, statement), kind.copy(self, statement, *args, **kwargs) as copying:
            yield copying

    return {
        "execute": executing(_call, kind.execute),
        "executemany": executing(_call, kind.executemany),
        "stream": stream,
        "copy": copy,
    }


def _async_members(kind: Any) -> dict[str, object]:
    async def stream(self: Any, query: Any, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        with timed(_call, self, query):
            async with aclosing(kind.stream(self, query, *args, **kwargs)) as rows:
                async for row in rows:
                    yield row

    @asynccontextmanager
    async def copy(self: Any, statement: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        with timed(_call, self, statement):
            async with kind.copy(self, statement, *args, **kwargs) as copying:
                yield copying

    return {
        "execute": executing_async(_call, kind.execute),
        "executemany": executing_async(_call, kind.executemany),
        "stream": stream,
        "copy": copy,
    }


def _call(cursor: Any, query: Any, started: float, error: BaseException | None) -> DatabaseCall:
    if not isinstance(query, str | bytes):
        query = _composed(query, cursor)
    return cursor_call("postgresql", cursor, query, started, error)


def _composed(query: Any, cursor: Any) -> str:
    """Return the text of a query of ``psycopg.sql``, or of a template string with a placeholder for each value."""
    as_string: Callable[[Any], str] | None = getattr(query, "as_string", None)
    return as_string(cursor) if as_string is not None else "?".join(getattr(query, "strings", ()))
