"""Pools of psycopg 3: a connection is a wrapped one from when the pool hands it out until it is given back.

So what the pool asks a connection for itself, to see whether it is alive, does not count.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from monitoring.integrations.attachment import Detach, Link, attempt
from monitoring.integrations.marks import mark_of, set_mark, take_mark

from . import psycopg
from .cursors import method_of, replace_loosely

Lent = weakref.WeakSet[Any]
"""Connections that the pool has handed out and that it wrapped."""


def carrier(client: Any) -> Any:
    """Return the pool itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Wrap the connections that the pool hands out."""
    lent: Lent = weakref.WeakSet()
    get, put = method_of(client, "getconn"), method_of(client, "putconn")
    is_async = inspect.iscoroutinefunction(type(client).getconn)
    getting: Callable[..., Any] = _get_async if is_async else _get
    putting: Callable[..., Any] = _put_async if is_async else _put
    restore = replace_loosely(
        client, {"getconn": partial(getting, link, lent, get), "putconn": partial(putting, link, lent, put)}
    )

    def detach() -> None:
        restore()
        for connection in list(lent):
            _unwrap(connection, lent)

    return detach


def _get(link: Link, lent: Lent, get: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    connection = get(*args, **kwargs)
    attempt(link, _wrap, connection, link, lent)
    return connection


async def _get_async(link: Link, lent: Lent, get: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    connection = await get(*args, **kwargs)
    attempt(link, _wrap, connection, link, lent)
    return connection


def _put(link: Link, lent: Lent, put: Callable[..., Any], conn: Any) -> None:
    attempt(link, _unwrap, conn, lent)
    put(conn)


async def _put_async(link: Link, lent: Lent, put: Callable[..., Any], conn: Any) -> None:
    attempt(link, _unwrap, conn, lent)
    await put(conn)


def _wrap(connection: Any, link: Link, lent: Lent) -> None:
    if mark_of(connection) is None:
        own = Link(link.recorder_of, link.name)
        set_mark(connection, (own, psycopg.attach(connection, own)))
        lent.add(connection)


def _unwrap(connection: Any, lent: Lent) -> None:
    """Undo what this pool did, and leave alone a connection that its user has wrapped."""
    if connection in lent:
        lent.discard(connection)
        mark = take_mark(connection)
        if mark is not None:
            own, detach = mark
            own.cut()
            detach()
