"""aiosqlite connections. The seam is the ``_execute`` by which a connection and its cursors reach its thread.

A statement's time is that of its caller, with what waits for the thread before it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from monitoring.calls import DatabaseCall
from monitoring.integrations.attachment import Detach, Link, observing_async
from monitoring.integrations.layers import lies_below
from monitoring.integrations.weak import replace_weakly

from .cursors import cursor_call, method_of, statement_call

_STATEMENTS: Final = frozenset(("execute", "executemany", "executescript", "_execute_insert", "_execute_fetchall"))
"""Functions that execute their first argument; the others fetch, commit and the like."""


def carrier(client: Any) -> Any:
    """Return the connection itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Time the statements that the connection hands to its thread."""
    lies_below("db")
    return replace_weakly(client, {"_execute": partial(_observed, link, method_of(client, "_execute"))})


async def _observed(
    link: Link, execute: Callable[..., Awaitable[Any]], fn: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    if getattr(fn, "__name__", "") not in _STATEMENTS:
        return await execute(fn, *args, **kwargs)
    return await observing_async(link, _call, execute)(fn, *args, **kwargs)


def _call(args: tuple[Any, ...], started: float, result: Any, error: BaseException | None) -> DatabaseCall:
    statement = args[1]
    if isinstance(result, sqlite3.Cursor):
        return cursor_call("sqlite", result, statement, started, error)
    return statement_call("sqlite", statement, started, error)
