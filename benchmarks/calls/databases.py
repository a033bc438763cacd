"""Databases: drivers that answer without a server, SQLite in memory, and what lies above them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import asyncpg
import django
import psycopg
import pymysql
from django.conf import settings
from django.db.utils import ConnectionHandler
from sqlalchemy import create_engine, text
from sqlalchemy.pool import QueuePool

from .measuring import Case
from .peers import counted_by_django_prometheus, instrumented, traced, traces

SELECT = "SELECT 1 AS one"
STATEMENT = text(SELECT)


def sqlalchemy_statement(connection: Any) -> None:
    connection.execute(STATEMENT).all()


def sqlalchemy_connection(engine: Any) -> None:
    engine.connect().close()


@contextmanager
def traced_sqlalchemy(engine: Any) -> Iterator[None]:
    """Trace the statements of an engine; to connect is patched in all of them."""
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor

    with instrumented(SQLAlchemyInstrumentor(), engine=engine):
        yield


class SQLiteConnection(sqlite3.Connection):
    """A connection that can be wrapped: it is no C object."""


def statement(connection: Any) -> None:
    connection.cursor().execute(SELECT)


def traced_sqlite(connection: Any) -> Any:
    from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor

    return SQLite3Instrumentor.instrument_connection(connection, tracer_provider=traces())


class AnsweringPostgreSQL(psycopg.Connection[Any]):
    """A connection to nothing, which has every answer at once."""

    def __init__(self) -> None:
        super().__init__(psycopg.pq.PGconn.connect(b"host=127.0.0.1 port=1"))

    def wait(self, *_: Any, **__: Any) -> None:
        pass


def psycopg_statement(connection: Any) -> None:
    connection.cursor_factory(connection).execute(SELECT)  # as cursor() does, which finds that it is not connected


def traced_psycopg(connection: Any) -> Any:
    from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor

    return PsycopgInstrumentor.instrument_connection(connection, tracer_provider=traces())


class AnsweringMySQL(pymysql.Connection):
    """A connection to nothing, which has every answer at once."""

    def __init__(self) -> None:
        super().__init__(defer_connect=True)
        self.server_version = "11.4.2-MariaDB"
        self._result = SimpleNamespace(
            affected_rows=1, warning_count=0, description=None, insert_id=0, rows=((1,),), has_next=False
        )

    def query(self, sql: Any, unbuffered: bool = False) -> int:
        return 1


def traced_pymysql(connection: Any) -> Any:
    from opentelemetry.instrumentation.pymysql import PyMySQLInstrumentor

    return PyMySQLInstrumentor.instrument_connection(connection, tracer_provider=traces())


class AnsweringProtocol:
    """The protocol of an asyncpg connection, which has every answer at once."""

    queries_count = 0

    def get_settings(self) -> Any:
        return SimpleNamespace(server_version="17.0")

    def is_connected(self) -> bool:
        return True

    def abort(self) -> None:
        pass

    def is_in_transaction(self) -> bool:
        return False

    async def query(self, query: str, timeout: float | None) -> str:
        return "SELECT 1"

    prepare = bind = execute = bind_execute = bind_execute_many = copy_in = copy_out = query


async def asyncpg_connection() -> asyncpg.Connection[Any]:
    config = SimpleNamespace(statement_cache_size=0, max_cached_statement_lifetime=0)
    params = SimpleNamespace(database="grants", user="app")
    protocol, loop, address = AnsweringProtocol(), asyncio.get_running_loop(), ("127.0.0.1", 5432)
    return asyncpg.Connection(protocol, None, loop, address, config, params)


async def asyncpg_statement(connection: Any) -> None:
    await connection.execute(SELECT)


@contextmanager
def traced_asyncpg(_connection: Any) -> Iterator[None]:
    from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor

    with instrumented(AsyncPGInstrumentor()):
        yield


def django_connection(backend: str = "django.db.backends.sqlite3") -> Any:
    if not settings.configured:
        settings.configure()
        django.setup()
    return ConnectionHandler({"default": {"ENGINE": backend, "NAME": ":memory:"}})["default"]


def django_statement(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(SELECT).fetchall()


def django_prometheus(_connection: Any) -> Any:
    return django_connection("django_prometheus.db.backends.sqlite3")


CASES = (
    Case(
        "SQLAlchemy, a statement",
        lambda: create_engine("sqlite://"),
        sqlalchemy_statement,
        traced(during=traced_sqlalchemy),
        opens=lambda engine: engine.connect(),
    ),
    Case(
        "SQLAlchemy, a connection",
        lambda: create_engine("sqlite://", poolclass=QueuePool),
        sqlalchemy_connection,
        traced(during=traced_sqlalchemy),
    ),
    Case(
        "sqlite3, a statement",
        lambda: sqlite3.connect(":memory:", factory=SQLiteConnection),
        statement,
        traced(traced_sqlite),
    ),
    Case("psycopg, a statement", AnsweringPostgreSQL, psycopg_statement, traced(traced_psycopg)),
    Case(
        "asyncpg, a statement",
        asyncpg_connection,
        asyncpg_statement,
        traced(during=traced_asyncpg),
        close=asyncpg.Connection.terminate,
    ),
    Case("PyMySQL, a statement", AnsweringMySQL, statement, traced(traced_pymysql)),
    Case(
        "Django, a statement",
        django_connection,
        django_statement,
        counted_by_django_prometheus("django_db_execute_total", django_prometheus),
    ),
)
