"""What we count of a table is what PostgreSQL counts of it, by each driver."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

import monitoring
from tests.integrations.databases.drivers import libpq, observed

psycopg = pytest.importorskip("psycopg")
asyncpg = pytest.importorskip("asyncpg")

TIMES = 25
"""Of each statement, so that drivers prepare them on the way."""


async def by_psycopg(url: str, table: str) -> None:
    with psycopg.connect(url) as connection:
        monitoring.wrap(connection)
        with connection.transaction():
            for number in range(TIMES):
                connection.execute(f"INSERT INTO {table} (a) VALUES (%s)", [number])
        with connection.cursor() as cursor:
            for number in range(TIMES):
                cursor.execute(f"SELECT a FROM {table} WHERE a = %s", [number])
            cursor.execute(f"DELETE FROM {table}")
        with pytest.raises(psycopg.errors.UndefinedColumn):
            connection.execute(f"SELECT b FROM {table}")


async def by_async_psycopg(url: str, table: str) -> None:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        monitoring.wrap(connection)
        async with connection.transaction():
            for number in range(TIMES):
                await connection.execute(f"INSERT INTO {table} (a) VALUES (%s)", [number])
        async with connection.cursor() as cursor:
            async with connection.pipeline():
                for number in range(TIMES):
                    await cursor.execute(f"SELECT a FROM {table} WHERE a = %s", [number])
            await cursor.execute(f"DELETE FROM {table}")
        with pytest.raises(psycopg.errors.UndefinedColumn):
            await connection.execute(f"SELECT b FROM {table}")


async def by_asyncpg(url: str, table: str) -> None:
    connection = monitoring.wrap(await asyncpg.connect(url))
    async with connection.transaction():
        for number in range(TIMES):
            await connection.execute(f"INSERT INTO {table} (a) VALUES ($1)", number)
    statement = await connection.prepare(f"SELECT a FROM {table} WHERE a = $1")
    for number in range(TIMES - 1):
        await statement.fetch(number)
    async with connection.transaction():
        cursor = await statement.cursor(0)
        await cursor.fetch(1)
        await cursor.fetch(1)
    await connection.execute(f"DELETE FROM {table}")
    with pytest.raises(asyncpg.UndefinedColumnError):
        await connection.fetch(f"SELECT b FROM {table}")
    await connection.close()


@pytest.fixture
def server(postgresql_url: str) -> Iterator[Any]:
    """A connection of the test's own to a server that keeps statistics of its statements."""
    with psycopg.connect(libpq(postgresql_url), autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        yield connection


@pytest.mark.parametrize("drive", [by_psycopg, by_async_psycopg, by_asyncpg])
def test_we_count_what_the_server_counts(
    server: Any, postgresql_url: str, drive: Callable[[str, str], Awaitable[None]]
) -> None:
    """Of the statements that succeed: the server does not count those that fail, and we count them as errors."""
    table = f"ledger_{drive.__name__}"

    async def driven() -> None:
        await drive(libpq(postgresql_url), table)

    server.execute(f"CREATE TABLE {table} (a int)")
    server.execute("SELECT pg_stat_statements_reset()")
    calls = observed(lambda: asyncio.run(driven()))
    rows = server.execute(
        "SELECT split_part(query, ' ', 1), sum(calls) FROM pg_stat_statements WHERE query LIKE %s GROUP BY 1",
        [f"%{table}%"],
    ).fetchall()
    ours = Counter(call.operation for call in calls if call.outcome == "ok" and table in call.statement)
    assert ours == dict(rows) == {"INSERT": TIMES, "SELECT": TIMES, "DELETE": 1}
    assert [call.operation for call in calls if call.outcome == "error"] == ["SELECT"]
    assert len(calls) == 2 * TIMES + 2
    server.execute(f"DROP TABLE {table}")
