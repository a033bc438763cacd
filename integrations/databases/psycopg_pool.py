"""Pools of psycopg 3: a connection is a wrapped one from when the pool hands it out until it is given back.

So what the pool asks a connection for itself, to see whether it is alive, does not count.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from monitoring.integrations.attachment import Detach, Link, attempt
from monitoring.integrations.layers import lies_below
from monitoring.integrations.weak import replace_weakly

from . import psycopg
from .cursors import method_of
from .pools import Members


def carrier(client: Any) -> Any:
    """Return the pool itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Wrap the connections that the pool hands out."""
    lies_below("db")
    lent = Members(link, psycopg.attach)
    get, put = method_of(client, "getconn"), method_of(client, "putconn")
    is_async = inspect.iscoroutinefunction(type(client).getconn)
    getting: Callable[..., Any] = _get_async if is_async else _get
    putting: Callable[..., Any] = _put_async if is_async else _put
    restore = replace_weakly(
        client, {"getconn": partial(getting, link, lent, get), "putconn": partial(putting, link, lent, put)}
    )

    def detach() -> None:
        restore()
        lent.unwrap_all()

    return detach


def _get(link: Link, lent: Members, get: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    connection = get(*args, **kwargs)
    attempt(link, lent.wrap, connection)
    return connection


async def _get_async(link: Link, lent: Members, get: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    connection = await get(*args, **kwargs)
    attempt(link, lent.wrap, connection)
    return connection


def _put(link: Link, lent: Members, put: Callable[..., Any], conn: Any) -> None:
    attempt(link, lent.unwrap, conn)
    put(conn)


async def _put_async(link: Link, lent: Members, put: Callable[..., Any], conn: Any) -> None:
    attempt(link, lent.unwrap, conn)
    await put(conn)
