"""PyMySQL and asyncmy connections on a real MariaDB."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest

import monitoring
from monitoring.observation import Kind
from tests.integrations.contract import SECRET, CancellableContract, Contract, Subject
from tests.integrations.databases.drivers import names, observed, observed_async

pymysql = pytest.importorskip("pymysql")
asyncmy = pytest.importorskip("asyncmy")

FOUND = "SELECT name FROM funders WHERE name <> %s ORDER BY id"
BROKEN = "SELECT nothing FROM nowhere WHERE secret = %s"


class PyMySQL(Subject):
    """``pymysql.connect``."""

    client = "PyMySQL `Connection`"
    library = "PyMySQL"
    kind: Kind = "db"
    error = pymysql.err.ProgrammingError

    def __init__(self, port: int) -> None:
        self._port = port

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        with closing(connect(self._port)) as connection:
            yield connection

    def unused(self) -> None:
        return None

    async def succeed(self, client: Any) -> object:
        with client.cursor() as cursor:
            cursor.execute(FOUND, [SECRET])
            return cursor.fetchall()

    async def fail(self, client: Any) -> object:
        with client.cursor() as cursor:
            return cursor.execute(BROKEN, [SECRET])


class Asyncmy(Subject):
    """``asyncmy.connect``."""

    client = "asyncmy `Connection`"
    library = "asyncmy"
    kind: Kind = "db"
    error = asyncmy.errors.ProgrammingError

    def __init__(self, port: int) -> None:
        self._port = port

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        async with asyncmy.connect(host="127.0.0.1", port=self._port, user="root", db="drivers") as connection:
            yield connection

    def unused(self) -> None:
        return None

    async def succeed(self, client: Any) -> object:
        async with client.cursor() as cursor:
            await cursor.execute(FOUND, [SECRET])
            return await cursor.fetchall()

    async def fail(self, client: Any) -> object:
        async with client.cursor() as cursor:
            return await cursor.execute(BROKEN, [SECRET])

    async def hang(self, client: Any) -> object:
        async with client.cursor() as cursor:
            return await cursor.execute("SELECT sleep(5), %s", [SECRET])


def connect(port: int, database: str | None = "drivers", **options: Any) -> Any:
    return pymysql.connect(host="127.0.0.1", port=port, user="root", database=database, **options)


@pytest.fixture(scope="module")
def port(mariadb_port: int) -> Iterator[int]:
    """The port of a server that has a database with one table."""
    with closing(connect(mariadb_port, None, autocommit=True)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE drivers")
        cursor.execute("CREATE TABLE drivers.funders (id int AUTO_INCREMENT PRIMARY KEY, name varchar(50) UNIQUE)")
        cursor.execute("INSERT INTO drivers.funders (name) VALUES ('ERC'), ('SNF')")
        cursor.execute("CREATE PROCEDURE drivers.funders_above (given int) SELECT id FROM funders WHERE id > given")
        yield mariadb_port
        cursor.execute("DROP DATABASE drivers")


class TestPyMySQL(Contract):
    """The contract, for PyMySQL's."""

    @pytest.fixture
    def subject(self, port: int) -> Subject:
        return PyMySQL(port)


class TestAsyncmy(CancellableContract):
    """The contract, for asyncmy's."""

    @pytest.fixture
    def subject(self, port: int) -> Subject:
        return Asyncmy(port)


@pytest.fixture
def connection(port: int) -> Iterator[Any]:
    with closing(connect(port)) as connection:
        yield monitoring.wrap(connection)


@pytest.mark.parametrize(
    ("work", "name", "rows"),
    [
        (lambda cursor: cursor.execute(FOUND, [SECRET]), "SELECT funders", 2),
        (lambda cursor: cursor.execute("UPDATE funders SET name = concat(name, '!')"), "UPDATE funders", 2),
        (
            lambda cursor: cursor.executemany("INSERT INTO funders (name) VALUES (%s)", ([n] for n in "abc")),
            "INSERT funders",
            3,
        ),
        (
            lambda cursor: cursor.executemany("DELETE FROM funders WHERE id = %s", ([n] for n in (1, 2))),
            "DELETE funders",
            2,
        ),
        (lambda cursor: cursor.callproc("funders_above", (1,)), "CALL", 1),
    ],
)
def test_each_way_to_execute_is_one_observation(
    connection: Any, work: Callable[[Any], object], name: str, rows: int
) -> None:
    """A batch is one, whether the driver sends it as one statement or as many, and it may be a generator."""
    (call,) = observed(lambda: work(connection.cursor()))
    assert (call.system, call.name, call.rows) == ("mariadb", name, rows)


def test_cursors_of_every_class_are_seen_and_keep_it(connection: Any) -> None:
    """Also one that is asked for by its class, and one that does not know its rows yet."""

    def work() -> None:
        for kind in (None, pymysql.cursors.DictCursor, pymysql.cursors.SSCursor):
            with connection.cursor(kind) as cursor:
                assert isinstance(cursor, kind or pymysql.cursors.Cursor)
                cursor.execute(FOUND, [SECRET])
                assert len(cursor.fetchall()) == 2

    assert [(call.name, call.rows) for call in observed(work)] == [
        ("SELECT funders", 2),
        ("SELECT funders", 2),
        ("SELECT funders", -1),
    ]


def test_a_batch_that_fails_is_one_error_and_the_cursor_goes_on(connection: Any) -> None:
    """The mark of a batch does not outlive it."""

    def work() -> None:
        with connection.cursor() as cursor:
            with pytest.raises(pymysql.err.IntegrityError):
                cursor.executemany("UPDATE funders SET name = %s", [["same"], ["same"]])
            cursor.execute(FOUND, [SECRET])

    assert [call.outcome for call in observed(work)] == ["error", "ok"]


def test_a_batch_inside_of_a_batch_is_part_of_it(connection: Any) -> None:
    """A generator of parameters may use the cursor."""

    def rows() -> Iterator[list[str]]:
        cursor.executemany("UPDATE funders SET name = %s WHERE id = %s", [["x", -1]])
        yield ["y"]

    cursor = connection.cursor()
    calls = observed(lambda: cursor.executemany("INSERT INTO funders (name) VALUES (%s)", rows()))
    assert names(calls) == ["INSERT funders"]


def test_transactions_are_not_statements(connection: Any) -> None:
    """What the driver sends to begin and end them is not the user's."""

    def work() -> None:
        connection.begin()
        connection.commit()
        connection.rollback()
        connection.ping()

    assert observed(work) == []


def test_a_dropped_connection_closes_at_once(port: int) -> None:
    """Nothing of ours ties it into a cycle."""
    gc.disable()
    try:
        connection = monitoring.wrap(connect(port))
        connection.cursor().execute("SELECT 1")
        gone = weakref.ref(connection)
        del connection
        assert gone() is None
    finally:
        gc.enable()


def test_each_way_of_asyncmy_is_one_observation(port: int) -> None:
    """Batches, procedures and cursors of another class are like PyMySQL's; the time is that of the server (bug 16)."""

    async def work() -> None:
        async with asyncmy.connect(host="127.0.0.1", port=port, user="root", db="drivers") as connection:
            monitoring.wrap(connection)
            async with connection.cursor(asyncmy.cursors.DictCursor) as cursor:
                assert isinstance(cursor, asyncmy.cursors.DictCursor)
                await cursor.execute("SELECT sleep(0.05) FROM funders LIMIT 1")
                await cursor.executemany("UPDATE funders SET name = %s WHERE id = %s", [["x", -1], ["y", -2]])
                await cursor.callproc("funders_above", (1,))
            await connection.rollback()

    calls = observed_async(work)
    assert names(calls) == ["SELECT funders", "UPDATE funders", "CALL"]
    assert calls[0].duration_seconds >= 0.05
    assert {call.system for call in calls} == {"mariadb"}
