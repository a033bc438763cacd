"""Django's connections, on SQLite files and on PostgreSQL."""

from __future__ import annotations

import gc
import threading
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import OperationalError, ProgrammingError
from django.db.utils import ConnectionHandler

import monitoring
from monitoring.calls import DatabaseCall
from monitoring.integrations.databases.django import observe_all_databases
from monitoring.observation import Kind
from monitoring.testing import MemorySink, use
from tests.integrations.contract import SECRET, Contract, Subject
from tests.support import django_settings

django_settings.set_up()


def on_sqlite(path: Path) -> dict[str, Any]:
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path), "OPTIONS": {"timeout": 1}}


def on_postgresql(url: str) -> dict[str, Any]:
    place = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "USER": "monitoring",
        "HOST": place["host"],
        "PORT": place["port"],
    }


@pytest.fixture(autouse=True)
def from_coroutines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the contract call Django from coroutines, which it refuses otherwise."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")


class _Connection(Subject):
    """One connection of a handler."""

    library = "Django"
    kind: Kind = "db"
    error: Any = OperationalError

    def __init__(self, database: dict[str, Any]) -> None:
        self._database = database

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        connections = ConnectionHandler({"default": self._database})
        connection = connections["default"]
        connection.inc_thread_sharing()
        yield connection
        connection.close()

    def unused(self) -> Any:
        return ConnectionHandler({"default": self._database})["default"]

    async def succeed(self, client: Any) -> object:
        return _rows(client, "SELECT 1, %s", [SECRET])

    async def fail(self, client: Any) -> object:
        return _rows(client, "SELECT nothing FROM nowhere WHERE secret = %s", [SECRET])


class SQLiteConnection(_Connection):
    """``django.db.connections["default"]``, on SQLite."""

    client = "Django `DatabaseWrapper`, SQLite"


class PostgreSQLConnection(_Connection):
    """``django.db.connections["default"]``, on PostgreSQL."""

    client = "Django `DatabaseWrapper`, PostgreSQL"
    error = ProgrammingError


class AllConnections(_Connection):
    """``django.db.connections``."""

    client = "Django `ConnectionHandler`"

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        connections = ConnectionHandler({"default": self._database})
        yield connections
        connections.close_all()

    def unused(self) -> Any:
        return ConnectionHandler({"default": self._database})

    async def succeed(self, client: Any) -> object:
        return _rows(client["default"], "SELECT 1, %s", [SECRET])

    async def fail(self, client: Any) -> object:
        return _rows(client["default"], "SELECT nothing FROM nowhere WHERE secret = %s", [SECRET])


def _rows(connection: Any, statement: str, parameters: list[str]) -> object:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall()


class TestSQLiteConnection(Contract):
    """The contract, for a connection to SQLite."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        return SQLiteConnection(on_sqlite(tmp_path / "app.db"))


class TestPostgreSQLConnection(Contract):
    """The contract, for a connection to PostgreSQL."""

    @pytest.fixture
    def subject(self, postgresql_url: str) -> Subject:
        return PostgreSQLConnection(on_postgresql(postgresql_url))


class TestAllConnections(Contract):
    """The contract, for all connections of a handler."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        return AllConnections(on_sqlite(tmp_path / "app.db"))


@pytest.fixture
def connections(tmp_path: Path) -> Iterator[Any]:
    handler = ConnectionHandler({"default": on_sqlite(tmp_path / "one.db"), "other": on_sqlite(tmp_path / "other.db")})
    yield handler
    monitoring.unwrap(handler)
    handler.close_all()


def observed(work: Callable[[], object]) -> list[DatabaseCall]:
    """Return the statements seen while ``work`` runs."""
    sink = MemorySink()
    with use(sink):
        work()
    return cast("list[DatabaseCall]", sink.of_kind("db"))


def in_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def ask(connection: Any, statement: str = "SELECT 1") -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def test_a_statement_is_described(connections: Any) -> None:
    """System, operation, table, rows and text are those of the statement, without its values."""

    def work() -> None:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO funders VALUES (1, 'NSF'), (%s, %s)", [2, "DFG"])

    connection = connections["default"]
    ask(connection, "CREATE TABLE funders (id int, name text)")
    monitoring.wrap(connection)
    (call,) = observed(work)
    assert (call.system, call.operation, call.name, call.rows) == ("sqlite", "INSERT", "INSERT funders", 2)
    assert "NSF" not in call.statement


def test_many_parameter_sets_may_be_a_generator(connections: Any) -> None:
    """The parameters are the driver's alone: nobody counts or copies them."""

    def work() -> None:
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO funders VALUES (%s)", ((number,) for number in range(3)))

    connection = monitoring.wrap(connections)["default"]
    ask(connection, "CREATE TABLE funders (id int)")
    (call,) = observed(work)
    assert (call.name, call.rows) == ("INSERT funders", 3)


def test_all_aliases_and_threads_are_seen(connections: Any) -> None:
    """A thread's connections are its own, and are made when it first asks."""

    def work() -> None:
        for alias in connections:
            ask(connections[alias], f"SELECT '{alias}'")
        connections.close_all()

    monitoring.wrap(connections)
    assert len(observed(lambda: (work(), in_thread(work)))) == 4


def test_a_connection_that_a_thread_had_before_is_seen_when_it_connects_anew(connections: Any) -> None:
    """Handlers know only the connections of the thread that asks."""
    wrapped, asked = threading.Event(), threading.Event()

    def in_other_thread() -> None:
        ask(connections["default"])
        asked.set()
        wrapped.wait(10)
        connections["default"].close()
        calls.extend(observed(lambda: ask(connections["default"])))
        connections.close_all()

    calls: list[DatabaseCall] = []
    thread = threading.Thread(target=in_other_thread)
    thread.start()
    asked.wait(10)
    monitoring.wrap(connections)
    wrapped.set()
    thread.join()
    assert len(calls) == 1


def test_unwrap_restores_every_connection(connections: Any) -> None:
    """Present connections have no wrapper of ours any more, and new ones get none."""
    present = connections["default"]
    monitoring.wrap(connections)
    assert len(present.execute_wrappers) == 1
    monitoring.unwrap(connections)
    assert (present.execute_wrappers, connections["other"].execute_wrappers) == ([], [])


def test_a_connection_and_all_of_them_count_a_call_once(connections: Any) -> None:
    """Whatever is wrapped besides, a statement is one call."""
    monitoring.wrap(connections)
    connection = monitoring.wrap(connections["default"])
    assert len(observed(lambda: ask(connection))) == 1
    monitoring.unwrap(connection)
    assert len(observed(lambda: ask(connection))) == 1


def test_a_wrapper_of_the_apps_stays_the_innermost(connections: Any) -> None:
    """Blocks of ``execute_wrapper`` take the last wrapper off at their end: ours must not be that."""

    def blocked(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        raise PermissionError("no queries here")

    connection = connections["default"]
    with connection.execute_wrapper(blocked):
        monitoring.wrap(connection)
        with pytest.raises(PermissionError):
            ask(connection)
    (call,) = observed(lambda: ask(connection))
    assert call.outcome == "ok"


def test_a_threads_connections_die_with_it(connections: Any) -> None:
    """Nothing of ours holds them."""
    found: list[Any] = []

    def work() -> None:
        ask(connections["default"])
        found.append(weakref.ref(connections["default"]))
        connections.close_all()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()  # what other tests left is not told of here
    monitoring.wrap(connections)
    in_thread(work)
    gc.collect()
    assert found[0]() is None


def test_the_database_of_the_thread_can_be_wrapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``django.db.connection`` is a proxy for the connection of the running thread."""
    from django import db

    monkeypatch.setitem(db.connections.settings, "default", {**_defaults(), **on_sqlite(tmp_path / "app.db")})
    monkeypatch.delattr(db.connections._connections, "default", raising=False)
    assert monitoring.wrap(db.connection) is db.connection
    assert len(observed(lambda: ask(db.connection))) == 1
    monitoring.unwrap(db.connection)
    db.connection.close()
    monkeypatch.delattr(db.connections._connections, "default")


def _defaults() -> dict[str, Any]:
    return ConnectionHandler({"default": {}}).settings["default"]


def test_the_web_integration_can_observe_all_databases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One function, which may be called twice."""
    from django import db

    monkeypatch.setitem(db.connections.settings, "default", {**_defaults(), **on_sqlite(tmp_path / "app.db")})
    monkeypatch.delattr(db.connections._connections, "default", raising=False)
    observe_all_databases()
    observe_all_databases()
    assert len(observed(lambda: ask(db.connections["default"]))) == 1
    monitoring.unwrap(db.connections)
    assert db.connections["default"].execute_wrappers == []
    db.connection.close()
    monkeypatch.delattr(db.connections._connections, "default")
