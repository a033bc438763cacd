"""Django's databases: one connection, or all of them in every thread.

The seam is Django's own, ``execute_wrappers`` of a connection: what the ORM and its cursors send passes there, with
``callproc`` as the exception. Ours is the outermost, because blocks of ``execute_wrapper`` take the last one off. Each
thread has connections of its own; ``django.db.connections`` makes them, and is where new ones are seen.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any, Final
from weakref import WeakSet

from monitoring.calls import DatabaseCall
from monitoring.integrations.attachment import Detach, Link, attempt, observing, replace_attribute
from monitoring.integrations.layers import lies_below
from monitoring.recorder import Recorder

from .statements import describe

_SYSTEMS: Final = {"microsoft": "microsoft.sql_server", "oracle": "oracle.db"}
"""Vendors whose name differs from that in OpenTelemetry's ``db.system.name``."""


def observe_all_databases(recorder_of: Callable[[], Recorder] | None = None) -> None:
    """Observe every database of Django's settings, in all threads, those included that connect later. Twice is once.

    It is ``monitoring.wrap(django.db.connections)``; ``recorder_of`` is by default that of the current Monitoring.
    """
    from django.db import connections

    from monitoring.integrations import wrap

    wrap(connections, recorder_of=recorder_of)


def carrier(client: Any) -> Any:
    """Return the connection or the handler of all; ``django.db.connection`` stands for that of its thread."""
    members = vars(client)
    if "_alias" in members and "_connections" in members:
        return members["_connections"][members["_alias"]]
    return client


def attach(client: Any, link: Link) -> Detach:
    """Time what a connection executes, or what each connection of a handler does."""
    meant = carrier(client)
    if hasattr(meant, "create_connection"):
        return _Databases(meant, link).detach
    wrapper = _wrapper(meant, link)
    _put_on(meant, wrapper)
    return partial(_take_off, meant, wrapper)


class _Databases:
    """All connections that a handler has made and will make."""

    def __init__(self, handler: Any, link: Link) -> None:
        self._handler = handler
        self._link = link
        self._observed: WeakSet[Any] = WeakSet()
        self._wrappers: dict[str, Any] = {}
        """By vendor: a connection must not be held by what is attached to it."""
        self._created = importlib.import_module("django.db.backends.signals").connection_created
        self._restore = replace_attribute(
            handler, "create_connection", partial(self._create, handler.create_connection)
        )
        self._created.connect(self._see)
        attempt(link, self._observe_present)

    def detach(self) -> None:
        """Put back what was there."""
        self._restore()
        self._created.disconnect(self._see)
        for connection in list(self._observed):
            _take_off(connection, self._wrappers[connection.vendor])

    def _create(self, create: Callable[[str], Any], alias: str) -> Any:
        connection = create(alias)
        attempt(self._link, self._observe, connection)
        return connection

    def _see(self, connection: Any, **_: Any) -> None:
        """Observe a connection that another thread made before the handler was wrapped, when it connects anew."""
        attempt(self._link, self._observe_own, connection)

    def _observe_own(self, connection: Any) -> None:
        if connection not in self._observed and connection in self._handler.all(initialized_only=True):
            self._observe(connection)

    def _observe_present(self) -> None:
        if "settings" not in vars(self._handler):
            return  # nobody has asked for a connection yet
        for connection in self._handler.all(initialized_only=True):
            self._observe(connection)

    def _observe(self, connection: Any) -> None:
        wrapper = self._wrappers.get(connection.vendor)
        if wrapper is None:
            wrapper = self._wrappers[connection.vendor] = _wrapper(connection, self._link)
        self._observed.add(connection)
        _put_on(connection, wrapper)


_wrappers: Final[WeakSet[Any]] = WeakSet()


def _wrapper(connection: Any, link: Link) -> Any:
    describe_call = partial(_call, _SYSTEMS.get(connection.vendor, connection.vendor))
    wrapper = observing(link, describe_call, _execute, through="db")
    _wrappers.add(wrapper)
    return wrapper


def _execute(execute: Callable[..., Any], *args: Any) -> Any:
    return execute(*args)


def _put_on(connection: Any, wrapper: object) -> None:
    if any(other in _wrappers for other in connection.execute_wrappers):
        lies_below("db")  # it is wrapped by itself and with all of them: one of the two counts
    connection.execute_wrappers.insert(0, wrapper)


def _take_off(connection: Any, wrapper: object) -> None:
    if wrapper in connection.execute_wrappers:
        connection.execute_wrappers.remove(wrapper)


def _call(system: str, args: tuple[Any, ...], started: float, __: Any, error: BaseException | None) -> DatabaseCall:
    _, statement, _parameters, _many, context = args
    call = DatabaseCall(started, error)
    call.system = system
    text = statement if statement.__class__ is str else _text(statement, context)
    call.name, call.operation, call.statement = describe(text)
    if error is None:
        rows = context["cursor"].cursor.rowcount  # the driver's: a wrapper of Django's is around it
        if rows.__class__ is int and rows >= 0:
            call.rows = rows
    return call


def _text(statement: Any, context: dict[str, Any]) -> str:
    """Return a statement as text; psycopg composes them of objects."""
    if isinstance(statement, str):
        return str(statement)
    if hasattr(statement, "as_string"):
        return str(statement.as_string(context["connection"].connection))
    return statement.decode("utf-8", "replace") if isinstance(statement, bytes) else ""
