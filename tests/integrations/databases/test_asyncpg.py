"""asyncpg connections and pools on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

import monitoring
from monitoring.calls import DatabaseCall
from monitoring.observation import Kind
from monitoring.testing import MemorySink, use
from tests.integrations.contract import SECRET, CancellableContract, Subject, run
from tests.integrations.databases.drivers import libpq, names, observed_async

asyncpg = pytest.importorskip("asyncpg")
psycopg = pytest.importorskip("psycopg")

FOUND = "SELECT name FROM donors WHERE name <> $1 ORDER BY id"
BROKEN = "SELECT nothing FROM nowhere WHERE secret = $1"


class Connection(Subject):
    """``asyncpg.connect``."""

    client = "asyncpg `Connection`"
    library = "asyncpg"
    kind: Kind = "db"
    error = asyncpg.UndefinedTableError

    def __init__(self, url: str) -> None:
        self._url = url

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        connection = await asyncpg.connect(self._url)
        yield connection
        await connection.close()

    def unused(self) -> None:
        return None

    async def succeed(self, client: Any) -> object:
        return await client.fetch(FOUND, SECRET)

    async def fail(self, client: Any) -> object:
        return await client.fetch(BROKEN, SECRET)

    async def hang(self, client: Any) -> object:
        return await client.fetch("SELECT pg_sleep(30), $1::text", SECRET)


class Pool(Connection):
    """``asyncpg.create_pool``."""

    client = "asyncpg `Pool`"

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        async with asyncpg.create_pool(self._url, min_size=1, max_size=2) as pool:
            yield pool


@pytest.fixture(scope="module")
def url(postgresql_url: str) -> Iterator[str]:
    """A database with one table."""
    address = libpq(postgresql_url)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("CREATE TABLE donors (id serial PRIMARY KEY, name text UNIQUE)")
        connection.execute("INSERT INTO donors (name) VALUES ('ERC'), ('SNF')")
        yield address
        connection.execute("DROP TABLE donors")


class TestConnection(CancellableContract):
    """The contract, for a connection."""

    @pytest.fixture
    def subject(self, url: str) -> Subject:
        return Connection(url)


class TestPool(CancellableContract):
    """The contract, for a pool."""

    @pytest.fixture
    def subject(self, url: str) -> Subject:
        return Pool(url)

    def test_unwrap_restores_what_was_there(self, subject: Subject, sink: MemorySink) -> None:
        """The pool's slots and its connections are as before, and nothing is observed any more."""

        def state(pool: Any) -> object:
            return [getattr(pool, name) for name in type(pool).__slots__], [
                dict(vars(holder._con._protocol)) for holder in pool._holders if holder.is_connected()
            ]

        async def scenario(pool: Any) -> None:
            before = state(pool)
            monitoring.wrap(pool)
            assert state(pool) != before
            assert monitoring.unwrap(pool) is pool
            assert state(pool) == before
            with use(sink):
                await subject.succeed(pool)

        run(subject, scenario)
        assert sink.observations == []


def observed(url: str, work: Callable[[Any], Awaitable[object]]) -> list[DatabaseCall]:
    """Return the statements seen while ``work`` uses a wrapped connection."""

    async def connected() -> None:
        connection = await asyncpg.connect(url)
        try:
            await work(monitoring.wrap(connection))
        finally:
            await connection.close()

    return observed_async(connected)


@pytest.mark.parametrize(
    ("work", "name", "rows"),
    [
        (lambda c: c.fetch(FOUND, SECRET), "SELECT donors", 2),
        (lambda c: c.fetchrow(FOUND, SECRET), "SELECT donors", 1),
        (lambda c: c.fetchval("SELECT name FROM donors WHERE id = -1"), "SELECT donors", 0),
        (lambda c: c.execute("SELECT name FROM donors"), "SELECT donors", 2),
        (lambda c: c.execute("UPDATE donors SET name = name"), "UPDATE donors", 2),
        (lambda c: c.execute("UPDATE donors SET name = name WHERE name <> $1", SECRET), "UPDATE donors", 2),
        (lambda c: c.fetch("UPDATE donors SET name = name RETURNING id"), "UPDATE donors", 2),
        (lambda c: c.fetch("UPDATE donors SET name = name"), "UPDATE donors", -1),
        (lambda c: c.executemany("DELETE FROM donors WHERE name = $1", ([n] for n in "x")), "DELETE donors", -1),
        (lambda c: c.execute("CREATE TEMPORARY TABLE t (a int)"), "CREATE", -1),
        (lambda c: c.copy_to_table("donors", source=BytesIO(b"")), "COPY donors", 0),
        (lambda c: c.copy_records_to_table("donors", records=[], columns=["name"]), "COPY donors", 0),
        (lambda c: c.copy_from_table("donors", output=BytesIO()), "COPY donors", 2),
        (lambda c: c.copy_from_query("SELECT $1::text", SECRET, output=BytesIO()), "COPY", 1),
    ],
)  # fmt: skip
def test_each_way_to_execute_is_one_observation(
    url: str, work: Callable[[Any], Awaitable[object]], name: str, rows: int
) -> None:
    """Whatever rows it brings, it is named, and the rows are known where the driver is told them."""
    (call,) = observed(url, work)
    assert (call.system, call.name, call.outcome, call.rows) == ("postgresql", name, "ok", rows)
    assert SECRET not in repr(vars(call))


def test_a_prepared_statement_is_one_observation_per_execution(url: str) -> None:
    """Query loggers do not see these (bug 18); preparing it is no execution."""

    async def work(connection: Any) -> None:
        statement = await connection.prepare(FOUND)
        assert len(await statement.fetch(SECRET)) == 2
        assert await statement.fetchval(SECRET) == "ERC"
        await statement.executemany([[SECRET], [SECRET]])

    calls = observed(url, work)
    assert [(call.name, call.rows) for call in calls] == [
        ("SELECT donors", 2),
        ("SELECT donors", 1),
        ("SELECT donors", -1),
    ]


def test_a_cursor_is_one_observation_however_many_rows_are_read(url: str) -> None:
    """Iterated or read by hand, from the connection or a prepared statement (bug 18)."""

    async def work(connection: Any) -> None:
        statement = await connection.prepare("SELECT generate_series(1, 300)")
        async with connection.transaction():
            assert len([row async for row in connection.cursor("SELECT generate_series(1, 200)")]) == 200
            assert len([row async for row in statement.cursor(prefetch=10)]) == 300
            cursor = await connection.cursor("SELECT generate_series(1, 10)")
            assert await cursor.forward(2) == 2
            assert len(await cursor.fetch(3)) == 3
            assert len(await cursor.fetch(100)) == 5

    assert [call.name for call in observed(url, work)] == ["SELECT", "SELECT", "SELECT"]


@pytest.mark.parametrize("prefetch", [None, 1])
@pytest.mark.parametrize("statement", ["SELECT 1 / 0 FROM donors", "SELECT 1 / (id - id) FROM donors"])
def test_a_cursor_that_fails_has_failed_once(url: str, statement: str, prefetch: int | None) -> None:
    """Whether it fails when it is opened or at the first fetch, which is when one of one's own is executed."""

    async def work(connection: Any) -> None:
        transaction = connection.transaction()
        await transaction.start()
        with pytest.raises(asyncpg.DivisionByZeroError):
            await read(connection)
        await transaction.rollback()

    async def read(connection: Any) -> None:
        if not prefetch:
            await (await connection.cursor(statement)).fetch(1)
        async for _ in connection.cursor(statement, prefetch=prefetch):
            pass

    calls = observed(url, work)
    assert [(call.name, call.outcome) for call in calls] == [("SELECT donors", "error")]


def test_failures_are_counted_once(url: str) -> None:
    """Whether preparing fails or executing, by an error or a timeout."""

    async def work(connection: Any) -> None:
        with pytest.raises(asyncpg.PostgresSyntaxError):
            await connection.fetch("SELEC 1")
        with pytest.raises(asyncpg.PostgresSyntaxError):
            await connection.execute("SELEC 1")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await connection.fetch("SELECT 1 / $1::int", 0)
        with pytest.raises(asyncpg.DataError):
            await connection.fetch(FOUND, 5)
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.executemany("INSERT INTO donors (name) VALUES ($1)", [["same"], ["same"]])
        with pytest.raises(asyncio.TimeoutError):
            await connection.fetch("SELECT pg_sleep(30)", timeout=0.05)

    calls = observed(url, work)
    assert [call.outcome for call in calls] == ["error"] * 6


def test_a_statement_that_asyncpg_sends_again_is_one(url: str) -> None:
    """It does where a table has been altered since the statement was prepared."""

    async def work(connection: Any) -> None:
        await connection.execute("CREATE TEMPORARY TABLE t (a int)")
        await connection.fetch("SELECT * FROM t")
        await connection.execute("ALTER TABLE t ADD COLUMN b int")
        await connection.fetch("SELECT * FROM t")

    assert [(call.name, call.outcome) for call in observed(url, work)] == [
        ("CREATE", "ok"),
        ("SELECT t", "ok"),
        ("ALTER", "ok"),
        ("SELECT t", "ok"),
    ]


@pytest.mark.parametrize("nonsense", [None, 5, b"SELECT 1", ["SELECT 1"]])
def test_what_is_no_statement_is_refused_as_without_us(url: str, nonsense: object) -> None:
    """The error is asyncpg's."""

    async def said(by: Callable[[Any], Any], method: str) -> str:
        connection = by(await asyncpg.connect(url))
        try:
            return str(await getattr(connection, method)(nonsense))
        except Exception as error:
            return repr(error)
        finally:
            connection.terminate()

    async def work() -> None:
        for method in ("execute", "fetch"):
            assert await said(monitoring.wrap, method) == await said(monitoring.unwrap, method)

    observed_async(work)


def test_what_asyncpg_asks_for_itself_is_not_the_apps(url: str) -> None:
    """Introspection of a type that it meets for the first time, and codecs, are its own."""

    async def work(connection: Any) -> None:
        await connection.execute("CREATE TYPE pg_temp.mood AS ENUM ('sad', 'ok')")
        await connection.fetchval("SELECT '{ok}'::pg_temp.mood[]")
        await connection.set_type_codec("json", encoder=str, decoder=str, schema="pg_catalog")

    assert names(observed(url, work)) == ["CREATE", "SELECT"]


def test_transactions_are_not_statements(url: str) -> None:
    """What ``transaction()`` sends is not the user's; what the user executes is."""

    async def work(connection: Any) -> None:
        outer = connection.transaction(isolation="serializable", readonly=True)
        async with outer, connection.transaction(isolation="serializable"):
            await connection.fetch("SELECT 1")
        await connection.execute("BEGIN")
        await connection.execute("ROLLBACK")

    assert names(observed(url, work)) == ["SELECT", "BEGIN", "ROLLBACK"]


def test_time_is_that_of_the_server_with_that_of_preparing(url: str) -> None:
    """A statement takes as long as it takes, and not as long as to make a coroutine (bug 16)."""
    (call,) = observed(url, lambda connection: connection.fetch("SELECT pg_sleep(0.05)"))
    assert call.duration_seconds >= 0.05


def test_a_dropped_connection_closes_at_once(url: str) -> None:
    """Nothing of ours ties it into a cycle."""

    async def work() -> None:
        connection = monitoring.wrap(await asyncpg.connect(url))
        await connection.fetch("SELECT 1")
        gone = weakref.ref(connection)
        gc.disable()
        try:
            with pytest.warns(ResourceWarning):
                del connection
            assert gone() is None
        finally:
            gc.enable()

    observed_async(work)


def test_every_connection_of_a_pool_counts(url: str) -> None:
    """Those that it had, and those that it opens; what it sends when one goes back to it does not."""
    set_up: list[Any] = []

    async def init(connection: Any) -> None:
        set_up.append(connection)

    async def work() -> None:
        async with asyncpg.create_pool(url, min_size=1, max_size=2, init=init) as pool:
            monitoring.wrap(pool)
            async with pool.acquire() as first, pool.acquire() as second:
                assert isinstance(first, asyncpg.Connection)
                await first.fetch(FOUND, SECRET)
                await (await second.prepare(FOUND)).fetch(SECRET)
            await pool.execute("SELECT 1")
            await pool.expire_connections()
            await pool.fetch("SELECT 2")
            assert monitoring.wrap(pool)._init is not init
            assert monitoring.unwrap(pool)._init is init
            await pool.fetch("SELECT 3")

    assert names(observed_async(work)) == ["SELECT donors", "SELECT donors", "SELECT", "SELECT"]
    assert len(set_up) == 3


def test_tasks_that_share_a_pool_count_each_statement(url: str) -> None:
    """Whichever connection they get."""

    async def work() -> None:
        async with asyncpg.create_pool(url, min_size=1, max_size=3) as pool:
            monitoring.wrap(pool)
            await asyncio.gather(*(pool.fetch(FOUND, str(number)) for number in range(60)))

    assert names(observed_async(work)) == ["SELECT donors"] * 60


def test_a_pool_can_be_wrapped_before_it_is_open(url: str) -> None:
    """Its first connection counts, too."""

    async def work() -> None:
        async with monitoring.wrap(asyncpg.create_pool(url, min_size=1, max_size=1)) as pool:
            await pool.fetch("SELECT 1")

    assert len(observed_async(work)) == 1


def test_a_connection_out_of_a_pool_can_be_wrapped_alone(url: str) -> None:
    """What the pool hands out stands for the connection."""

    async def work() -> None:
        async with asyncpg.create_pool(url, min_size=1, max_size=2) as pool, pool.acquire() as lent:
            await monitoring.wrap(lent).fetch("SELECT 1")
            await pool.fetch("SELECT 2")
            await monitoring.unwrap(lent).fetch("SELECT 3")

    assert [call.statement for call in observed_async(work)] == ["SELECT ?"]


@pytest.mark.parametrize("both", [True, False])
def test_nothing_counts_twice_under_sqlalchemy(url: str, both: bool) -> None:
    """Statements, batches and streamed results of an engine over a wrapped connection are one observation each."""

    async def connect() -> Any:
        return monitoring.wrap(await asyncpg.connect(url))

    async def work() -> None:
        engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, pool_pre_ping=True)
        if both:
            monitoring.wrap(engine)
        async with engine.connect() as connection:
            await connection.execute(text("SELECT name FROM donors"))
            await connection.execute(text("UPDATE donors SET name = name WHERE id = :id"), [{"id": 1}, {"id": 2}])
            rows = await connection.stream(text("SELECT id FROM donors"))
            assert len(await rows.all()) == 2
            with pytest.raises(Exception, match="nowhere"):
                await connection.execute(text("SELECT 1 FROM nowhere"))
        async with engine.connect() as connection:
            await connection.execute(text("SELECT name FROM donors"))
        await engine.dispose()

    calls = [call for call in observed_async(work) if "donors" in call.name or call.outcome != "ok"]
    assert [(call.operation, call.outcome) for call in calls] == [
        ("SELECT", "ok"),
        ("UPDATE", "ok"),
        ("SELECT", "ok"),
        ("SELECT", "error"),
        ("SELECT", "ok"),
    ]
