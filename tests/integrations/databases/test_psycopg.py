"""psycopg 3 connections and pools, sync and async, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import create_engine, text

import monitoring
from monitoring import integrations
from monitoring.observation import Kind
from tests.integrations.contract import SECRET, CancellableContract, Contract, Subject
from tests.integrations.databases.drivers import libpq, names, observed, observed_async, refused

psycopg = pytest.importorskip("psycopg")
psycopg_pool = pytest.importorskip("psycopg_pool")

FOUND = "SELECT name FROM funders WHERE name <> %s ORDER BY id"
BROKEN = "SELECT nothing FROM nowhere WHERE secret = %s"


class SyncConnection(Subject):
    """``psycopg.connect``."""

    client = "psycopg `Connection`"
    library = "psycopg"
    kind: Kind = "db"
    error = psycopg.errors.UndefinedTable

    def __init__(self, url: str) -> None:
        self._url = url

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        with psycopg.connect(self._url, autocommit=True) as connection:
            yield connection

    def unused(self) -> None:
        return None

    async def succeed(self, client: Any) -> object:
        return client.execute(FOUND, [SECRET]).fetchall()

    async def fail(self, client: Any) -> object:
        return client.execute(BROKEN, [SECRET])


class AsynchronousConnection(Subject):
    """``psycopg.AsyncConnection.connect``."""

    client = "psycopg `AsyncConnection`"
    library = "psycopg"
    kind: Kind = "db"
    error = psycopg.errors.UndefinedTable

    def __init__(self, url: str) -> None:
        self._url = url

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as connection:
            yield connection

    def unused(self) -> None:
        return None

    async def succeed(self, client: Any) -> object:
        return await (await client.execute(FOUND, [SECRET])).fetchall()

    async def fail(self, client: Any) -> object:
        return await client.execute(BROKEN, [SECRET])

    async def hang(self, client: Any) -> object:
        return await client.execute("SELECT pg_sleep(30), %s", [SECRET])


class SyncPool(Subject):
    """``psycopg_pool.ConnectionPool``."""

    client = "psycopg_pool `ConnectionPool`"
    library = "psycopg-pool"
    kind: Kind = "db"
    error = psycopg.errors.UndefinedTable

    def __init__(self, url: str) -> None:
        self._url = url

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        with psycopg_pool.ConnectionPool(self._url, min_size=1, open=False) as pool:
            yield pool

    def unused(self) -> Any:
        return psycopg_pool.ConnectionPool(self._url, min_size=1, open=False)

    async def succeed(self, client: Any) -> object:
        client.open()
        with client.connection() as connection:
            return connection.execute(FOUND, [SECRET]).fetchall()

    async def fail(self, client: Any) -> object:
        with client.connection() as connection:
            return connection.execute(BROKEN, [SECRET])


class AsynchronousPool(Subject):
    """``psycopg_pool.AsyncConnectionPool``."""

    client = "psycopg_pool `AsyncConnectionPool`"
    library = "psycopg-pool"
    kind: Kind = "db"
    error = psycopg.errors.UndefinedTable

    def __init__(self, url: str) -> None:
        self._url = url

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        async with psycopg_pool.AsyncConnectionPool(self._url, min_size=1, open=False) as pool:
            yield pool

    def unused(self) -> Any:
        return psycopg_pool.AsyncConnectionPool(self._url, min_size=1, open=False)

    async def succeed(self, client: Any) -> object:
        await client.open()
        async with client.connection() as connection:
            return await (await connection.execute(FOUND, [SECRET])).fetchall()

    async def fail(self, client: Any) -> object:
        async with client.connection() as connection:
            return await connection.execute(BROKEN, [SECRET])

    async def hang(self, client: Any) -> object:
        async with client.connection() as connection:
            return await connection.execute("SELECT pg_sleep(30), %s", [SECRET])


@pytest.fixture(scope="module")
def url(postgresql_url: str) -> Iterator[str]:
    """A database with one table."""
    address = libpq(postgresql_url)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("CREATE TABLE funders (id serial PRIMARY KEY, name text UNIQUE)")
        connection.execute("INSERT INTO funders (name) VALUES ('ERC'), ('SNF')")
        yield address
        connection.execute("DROP TABLE funders")


class TestConnection(Contract):
    """The contract, for a connection."""

    @pytest.fixture
    def subject(self, url: str) -> Subject:
        return SyncConnection(url)


class TestAsyncConnection(CancellableContract):
    """The contract, for an async connection."""

    @pytest.fixture
    def subject(self, url: str) -> Subject:
        return AsynchronousConnection(url)


class TestPool(Contract):
    """The contract, for a pool."""

    @pytest.fixture
    def subject(self, url: str) -> Subject:
        return SyncPool(url)


class TestAsyncPool(CancellableContract):
    """The contract, for an async pool."""

    @pytest.fixture
    def subject(self, url: str) -> Subject:
        return AsynchronousPool(url)


@pytest.fixture
def connection(url: str) -> Iterator[Any]:
    with psycopg.connect(url) as connection:
        yield monitoring.wrap(connection)
        connection.rollback()


def test_a_select_is_named_after_its_table(connection: Any) -> None:
    """System, operation, table, text and rows are those of the statement."""
    (call,) = observed(lambda: connection.execute(FOUND, [SECRET]))
    assert (call.system, call.operation, call.name, call.rows) == ("postgresql", "SELECT", "SELECT funders", 2)
    assert call.statement == "SELECT name FROM funders WHERE name <> %s ORDER BY id"


def test_every_form_of_a_query_is_described(connection: Any) -> None:
    """Bytes and composed queries are statements like any other."""
    sql = psycopg.sql

    def work() -> None:
        connection.execute(b"SELECT id FROM funders")
        table, name = sql.Identifier("funders"), sql.Literal(SECRET)
        connection.execute(sql.SQL("SELECT id FROM {} WHERE name = {}").format(table, name))

    calls = observed(work)
    assert names(calls) == ["SELECT funders", "SELECT funders"]
    assert SECRET not in repr([vars(call) for call in calls])


def test_a_template_string_has_a_placeholder_for_each_value(connection: Any) -> None:
    """Python 3.14 has them; none of their values is read."""

    class Template:
        strings = ("SELECT id FROM funders WHERE name = ", "")

    (call,) = observed(lambda: refused(TypeError, connection.execute, Template()))
    assert (call.statement, call.outcome) == ("SELECT id FROM funders WHERE name = ?", "error")


@pytest.mark.parametrize("nonsense", [None, 5, ["SELECT 1"]])
def test_what_is_no_statement_is_refused_as_without_us(connection: Any, nonsense: object) -> None:
    """The error is psycopg's."""
    (call,) = observed(lambda: refused(TypeError, connection.execute, nonsense))
    assert (call.name, call.outcome) == ("OTHER", "error")


def test_cursors_keep_their_type(connection: Any) -> None:
    """They are instances of the driver's classes, named like these, and the class is made once."""
    cursor, on_server = connection.cursor(), connection.cursor("portal")
    assert isinstance(cursor, psycopg.Cursor)
    assert isinstance(on_server, psycopg.ServerCursor)
    assert repr(type(cursor)) == repr(psycopg.Cursor)
    assert not hasattr(cursor, "__dict__")
    assert type(connection.cursor()) is type(cursor)
    on_server.close()


def test_c_level_checks_of_the_driver_hold(connection: Any) -> None:
    """Adapters register on a connection and on its cursor: neither is a proxy, so the C code takes them (bug 17)."""
    info = psycopg.types.TypeInfo.fetch(connection, "text")
    info.register(connection)
    cursor = connection.cursor()
    psycopg.types.json.set_json_loads(lambda _: "read", cursor)
    assert cursor.execute("SELECT '{}'::json").fetchone() == ("read",)
    assert psycopg.adapt.Transformer(cursor).connection is connection
    assert psycopg.sql.Identifier("a").as_string(cursor) == '"a"'


def test_a_cursor_class_of_the_users_goes_on_working(url: str) -> None:
    """The subclass is one of whatever class the connection had."""

    class Shouting(psycopg.ClientCursor):  # type: ignore[misc, name-defined, unused-ignore]
        def shout(self) -> str:
            return "!"

    with psycopg.connect(url, cursor_factory=Shouting) as connection:
        monitoring.wrap(connection)
        with connection.cursor() as cursor:
            assert cursor.shout() == "!"
            assert names(observed(lambda: cursor.execute(FOUND, [SECRET]))) == ["SELECT funders"]
            monitoring.unwrap(connection)
            assert connection.cursor_factory is Shouting
            assert observed(lambda: cursor.execute(FOUND, [SECRET])) == []


def test_a_batch_is_one_observation_and_its_generator_is_not_read_ahead(connection: Any) -> None:
    """``executemany`` takes any iterable, and gets it as it is."""
    numbers = (f"f{number}" for number in range(3))
    (call,) = observed(
        lambda: connection.cursor().executemany("INSERT INTO funders (name) VALUES (%s)", ((name,) for name in numbers))
    )
    assert (call.name, call.rows) == ("INSERT funders", 3)


def test_a_server_cursor_is_one_observation_however_much_is_fetched(connection: Any) -> None:
    """Its fetches are part of the statement, which is named as the user wrote it."""

    def work() -> None:
        with connection.cursor("portal") as cursor:
            cursor.itersize = 1
            assert len(list(cursor.execute("SELECT name FROM funders"))) == 2
            assert cursor.rownumber == 2

    assert names(observed(work)) == ["SELECT funders"]


def test_a_stream_is_one_observation_at_its_end(connection: Any) -> None:
    """It stays a generator, and ends early where its reader does."""

    def work() -> None:
        rows = connection.cursor().stream("SELECT generate_series(1, 3)")
        assert list(rows) == [(1,), (2,), (3,)]
        rows = connection.cursor().stream("SELECT generate_series(1, 3)")
        next(rows)
        rows.close()

    assert [call.outcome for call in observed(work)] == ["ok", "closed_early"]


def test_an_async_stream_is_one_observation(url: str) -> None:
    """So does the async one."""

    async def work() -> None:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            monitoring.wrap(connection)
            assert [row async for row in connection.cursor().stream("SELECT generate_series(1, 3)")] == [
                (1,),
                (2,),
                (3,),
            ]

    assert [call.outcome for call in observed_async(work)] == ["ok"]


def test_copy_is_one_observation_until_its_end(connection: Any) -> None:
    """An error at the end of COPY is the statement's."""

    def copied(*rows: str) -> None:
        with connection.transaction(), connection.cursor().copy("COPY funders (name) FROM STDIN") as copy:
            for row in rows:
                copy.write_row([row])

    def work() -> None:
        copied("a", "b")
        with pytest.raises(psycopg.errors.UniqueViolation):
            copied("c", "c")

    calls = observed(work)
    assert [(call.name, call.outcome, call.rows) for call in calls] == [
        ("COPY funders", "ok", 2),
        ("COPY funders", "error", -1),
    ]


def test_an_async_copy_is_one_observation(url: str) -> None:
    """It reads what COPY sends."""

    async def work() -> None:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            monitoring.wrap(connection)
            async with connection.cursor().copy("COPY (SELECT 1) TO STDOUT") as copy:
                assert [bytes(block) async for block in copy] == [b"1\n"]

    assert [call.outcome for call in observed_async(work)] == ["ok"]


def test_statements_of_a_pipeline_count_once_each(connection: Any) -> None:
    """They are seen when they are sent."""

    def work() -> None:
        with connection.pipeline(), connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            connection.execute("SELECT name FROM funders")
            cursor.executemany("UPDATE funders SET name = %s WHERE id = %s", [("x", -1), ("y", -2)])

    assert names(observed(work)) == ["SELECT", "SELECT funders", "UPDATE funders"]


def test_transactions_are_not_statements(connection: Any) -> None:
    """What the driver sends to begin, end and mark transactions is not the user's; what the user executes is."""

    def work() -> None:
        with connection.transaction(), connection.transaction():
            connection.execute("SELECT 1")
        connection.commit()
        connection.rollback()
        connection.execute("SAVEPOINT mine")

    assert names(observed(work)) == ["SELECT", "SAVEPOINT"]


def test_time_is_that_of_the_server(url: str) -> None:
    """A statement of an async connection takes as long as it takes, and not as long as to make a coroutine (bug 16)."""

    async def work() -> None:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            await monitoring.wrap(connection).execute("SELECT pg_sleep(0.05)")

    (call,) = observed_async(work)
    assert call.duration_seconds >= 0.05


def test_a_dropped_connection_closes_at_once(url: str) -> None:
    """Nothing of ours ties it into a cycle."""
    gc.disable()
    try:
        connection = monitoring.wrap(psycopg.connect(url))
        connection.execute("SELECT 1")
        gone = weakref.ref(connection)
        with pytest.warns(ResourceWarning):
            del connection
        assert gone() is None
    finally:
        gc.enable()


def test_every_connection_of_a_pool_counts_and_is_given_back_as_it_was(url: str) -> None:
    """Also one that was there before the pool was wrapped; what the pool asks for itself does not count."""

    def work() -> None:
        with pool.connection() as first, pool.connection() as second:
            first.execute(FOUND, [SECRET])
            second.execute(FOUND, [SECRET])
            assert isinstance(first, psycopg.Connection)
        connection = pool.getconn()
        connection.execute("SELECT 1")
        pool.putconn(connection)
        assert connection.cursor_factory is psycopg.Cursor

    check = psycopg_pool.ConnectionPool.check_connection
    with psycopg_pool.ConnectionPool(url, min_size=1, max_size=2, open=False, check=check) as pool:
        pool.wait()
        monitoring.wrap(pool)
        assert names(observed(work)) == ["SELECT funders", "SELECT funders", "SELECT"]
        assert pool.get_stats()["requests_num"] == 3


def test_a_pool_that_keeps_nothing_counts_too(url: str) -> None:
    """It hands out a new connection each time."""

    def work() -> None:
        for _ in range(2):
            with pool.connection() as connection:
                connection.execute(FOUND, [SECRET])

    with psycopg_pool.NullConnectionPool(url, open=False) as pool:
        monitoring.wrap(pool)
        assert names(observed(work)) == ["SELECT funders", "SELECT funders"]


def test_threads_that_share_a_pool_count_each_statement(url: str) -> None:
    """Connections go from one to the other, and are wrapped and unwrapped on the way."""

    def query() -> None:
        for _ in range(20):
            with pool.connection() as connection:
                connection.execute("SELECT 1")

    def work() -> None:
        with ThreadPoolExecutor(6) as threads:
            for done in [threads.submit(query) for _ in range(6)]:
                done.result()

    with psycopg_pool.ConnectionPool(url, min_size=1, max_size=3, open=False) as pool:
        monitoring.wrap(pool)
        assert len(observed(work)) == 120


def test_unwrap_of_a_pool_restores_the_connections_that_are_out(url: str) -> None:
    """Those of the pool only: what a user has wrapped stays wrapped."""
    with psycopg_pool.ConnectionPool(url, min_size=2, open=False) as pool:
        mine = pool.getconn()
        monitoring.wrap(mine)
        pool.putconn(mine)
        monitoring.wrap(pool)
        out = [pool.getconn(), pool.getconn()]
        monitoring.unwrap(pool)
        assert sorted(integrations.mark_of(connection) is not None for connection in out) == [False, True]
        assert [connection.cursor_factory is psycopg.Cursor for connection in out].count(True) == 1
        for connection in out:
            pool.putconn(connection)


@pytest.mark.parametrize("both", [True, False])
def test_nothing_counts_twice_under_sqlalchemy(url: str, both: bool) -> None:
    """Statements, batches and streamed results of an engine over wrapped connections are one observation each."""

    def work() -> None:
        with engine.connect() as connected:
            connected.execute(text("SELECT name FROM funders"))
            connected.execute(text("UPDATE funders SET name = name WHERE id = :id"), [{"id": 1}, {"id": 2}])
            assert len(connected.execution_options(stream_results=True).execute(text("SELECT id FROM funders")).all())

    engine = create_engine("postgresql+psycopg://", creator=lambda: monitoring.wrap(psycopg.connect(url)))
    if both:
        monitoring.wrap(engine)
    assert [name for name in names(observed(work)) if "funders" in name] == [
        "SELECT funders",
        "UPDATE funders",
        "SELECT funders",
    ]
    engine.dispose()


def test_a_cancelled_statement_of_an_async_pool_is_counted_once(url: str) -> None:
    """And the pool goes on with the next."""

    async def work() -> None:
        async with psycopg_pool.AsyncConnectionPool(url, min_size=1, open=False) as pool:
            monitoring.wrap(pool)
            with pytest.raises(asyncio.TimeoutError):
                async with pool.connection() as connection:
                    await asyncio.wait_for(connection.execute("SELECT pg_sleep(30)"), 0.05)
            async with pool.connection() as connection:
                await connection.execute("SELECT 1")

    assert [call.outcome for call in observed_async(work)] == ["cancelled", "ok"]
