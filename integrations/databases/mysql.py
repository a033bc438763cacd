"""Connections of PyMySQL and asyncmy, and with them the cursors that they make.

``executemany`` is one observation, though these drivers run it by way of ``execute``; so is ``callproc``.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Final

from monitoring.calls import DatabaseCall
from monitoring.integrations.attachment import Detach, Link
from monitoring.integrations.layers import lies_below
from monitoring.integrations.weak import replace_weakly

from .cursors import cursor_call, executing, executing_async, method_of, subclass

_IN_BATCH: Final = "_monitoring_in_batch"
"""A slot that is filled while a cursor's ``executemany`` runs."""


def carrier(client: Any) -> Any:
    """Return the connection itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Let the connection make cursors that report."""
    lies_below("db")
    default = "cursorclass" if hasattr(client, "cursorclass") else "_cursor_cls"
    getattr(client, default)  # where neither is there, it is another library by that name
    make = partial(_cursor, weakref.ref(client), default, method_of(client, "cursor"))
    return replace_weakly(client, {"cursor": make})


def _cursor(connection: weakref.ref[Any], default: str, make: Callable[..., Any], cursor: Any = None) -> Any:
    kind = cursor or getattr(connection(), default)
    return make(_observed_class(kind) if isinstance(kind, type) else kind)


@cache
def _observed_class(kind: Any) -> Any:
    """Return a subclass of a cursor class whose cursors report what they execute."""
    members = _async_members(kind) if inspect.iscoroutinefunction(kind.execute) else _members(kind)
    return subclass(kind, members, _IN_BATCH)


def _members(kind: Any) -> dict[str, object]:
    execute_one, execute_many = executing(_call, kind.execute), executing(_call, kind.executemany)

    def execute(self: Any, query: Any, args: Any = None) -> Any:
        return (kind.execute if hasattr(self, _IN_BATCH) else execute_one)(self, query, args)

    def executemany(self: Any, query: Any, args: Any) -> Any:
        if hasattr(self, _IN_BATCH):
            return kind.executemany(self, query, args)
        setattr(self, _IN_BATCH, True)
        try:
            return execute_many(self, query, args)
        finally:
            delattr(self, _IN_BATCH)

    def callproc(self: Any, procname: str, args: Any = ()) -> Any:
        return call_procedure(self, procname, args)

    call_procedure = executing(_procedure_call, kind.callproc)
    return {"execute": execute, "executemany": executemany, "callproc": callproc}


def _async_members(kind: Any) -> dict[str, object]:
    execute_one, execute_many = executing_async(_call, kind.execute), executing_async(_call, kind.executemany)

    async def execute(self: Any, query: Any, args: Any = None) -> Any:
        return await (kind.execute if hasattr(self, _IN_BATCH) else execute_one)(self, query, args)

    async def executemany(self: Any, query: Any, args: Any) -> Any:
        if hasattr(self, _IN_BATCH):
            return await kind.executemany(self, query, args)
        setattr(self, _IN_BATCH, True)
        try:
            return await execute_many(self, query, args)
        finally:
            delattr(self, _IN_BATCH)

    async def callproc(self: Any, procname: str, args: Any = ()) -> Any:
        return await call_procedure(self, procname, args)

    call_procedure = executing_async(_procedure_call, kind.callproc)
    return {"execute": execute, "executemany": executemany, "callproc": callproc}


def _call(cursor: Any, query: Any, started: float, error: BaseException | None) -> DatabaseCall:
    system = "mariadb" if "mariadb" in cursor.connection.get_server_info().lower() else "mysql"
    return cursor_call(system, cursor, query, started, error)


def _procedure_call(cursor: Any, name: str, started: float, error: BaseException | None) -> DatabaseCall:
    return _call(cursor, f"CALL {name}", started, error)
