"""sqlite3 connections, which are opened to be observed, and aiosqlite's, which are not."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

import monitoring
from monitoring.integrations.databases.sqlite3 import Connection
from monitoring.observation import Kind
from tests.integrations.contract import SECRET, CancellableContract, Contract, Subject
from tests.integrations.databases.drivers import names, observed, observed_async, refused

aiosqlite = pytest.importorskip("aiosqlite")

FOUND = "SELECT name FROM funders WHERE name <> ? ORDER BY id"
BROKEN = "SELECT nothing FROM nowhere WHERE secret = ?"


def prepare(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE funders (id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
        connection.executemany("INSERT INTO funders (name) VALUES (?)", [["ERC"], ["SNF"]])
        connection.commit()


class Sqlite3(Subject):
    """``sqlite3.connect(path, factory=Connection)``: it is wrapped from the start, so the contract unwraps it first."""

    client = "sqlite3 `connect(factory=...)`"
    library = "Python"
    kind: Kind = "db"
    error = sqlite3.OperationalError

    def __init__(self, path: Path) -> None:
        prepare(path)
        self._path = path

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        with closing(sqlite3.connect(self._path, factory=Connection)) as connection:
            yield monitoring.unwrap(connection)

    def unused(self) -> None:
        return None

    async def succeed(self, client: Any) -> object:
        return client.execute(FOUND, [SECRET]).fetchall()

    async def fail(self, client: Any) -> object:
        return client.execute(BROKEN, [SECRET])


class Aiosqlite(Subject):
    """``aiosqlite.connect``."""

    client = "aiosqlite `Connection`"
    library = "aiosqlite"
    kind: Kind = "db"
    error = sqlite3.OperationalError

    def __init__(self, path: Path) -> None:
        prepare(path)
        self._path = path

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        async with aiosqlite.connect(self._path, timeout=1) as connection:
            yield connection

    def unused(self) -> None:
        return None  # it has a thread, which does not outlive a fork

    async def succeed(self, client: Any) -> object:
        return await client.execute_fetchall(FOUND, [SECRET])

    async def fail(self, client: Any) -> object:
        return await client.execute(BROKEN, [SECRET])

    async def hang(self, client: Any) -> object:
        with closing(sqlite3.connect(self._path)) as blocker:
            blocker.execute("BEGIN EXCLUSIVE")
            return await client.execute("INSERT INTO funders (name) VALUES (?)", [SECRET])


class TestSqlite3(Contract):
    """The contract, for a connection that is opened to be observed."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        return Sqlite3(tmp_path / "app.db")


class TestAiosqlite(CancellableContract):
    """The contract, for aiosqlite's."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        return Aiosqlite(tmp_path / "app.db")


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    prepare(tmp_path / "app.db")
    with closing(sqlite3.connect(tmp_path / "app.db", factory=Connection)) as connection:
        yield connection


def test_a_plain_connection_is_refused_with_what_to_do_instead() -> None:
    """It is a C object. The error names the class to open it with."""
    with closing(sqlite3.connect(":memory:")) as plain:
        with pytest.raises(TypeError, match=r"factory=monitoring\.integrations\.databases\.sqlite3\.Connection\)\.$"):
            monitoring.wrap(plain)
        assert monitoring.unwrap(plain) is plain


def test_it_is_observed_from_its_first_statement(tmp_path: Path) -> None:
    """Opening it is enough."""

    def work() -> None:
        with closing(sqlite3.connect(tmp_path / "new.db", factory=Connection)) as connection:
            connection.execute("CREATE TABLE t (a)")

    assert names(observed(work)) == ["CREATE"]


@pytest.mark.parametrize(
    ("work", "name", "rows"),
    [
        (lambda c: c.execute(FOUND, [SECRET]), "SELECT funders", -1),
        (lambda c: c.cursor().execute(FOUND, [SECRET]), "SELECT funders", -1),
        (lambda c: c.execute("UPDATE funders SET name = name"), "UPDATE funders", 2),
        (lambda c: c.executemany("INSERT INTO funders (name) VALUES (?)", ([n] for n in "abc")), "INSERT funders", 3),
        (lambda c: c.cursor().executemany("DELETE FROM funders WHERE id = ?", iter([[1]])), "DELETE funders", 1),
        (lambda c: c.executescript("SELECT 1; SELECT 2"), "SELECT", -1),
        (lambda c: c.cursor().executescript("SELECT 1; SELECT 2"), "SELECT", -1),
    ],
)
def test_each_way_to_execute_is_one_observation(
    connection: sqlite3.Connection, work: Callable[[Any], Any], name: str, rows: int
) -> None:
    """From the connection and from its cursors; a batch may be a generator, a script goes by its first statement."""
    (call,) = observed(lambda: work(connection))
    assert (call.system, call.name, call.rows) == ("sqlite", name, rows)


def test_cursors_keep_their_type(connection: sqlite3.Connection) -> None:
    """They are cursors of sqlite3, or of the class that was asked for, for the driver's C code and for the user's."""

    class Own(sqlite3.Cursor):
        pass

    connection.row_factory = sqlite3.Row
    cursor = connection.execute(FOUND, [SECRET])
    assert isinstance(cursor, sqlite3.Cursor)
    assert (cursor.fetchone()["name"], cursor.connection) == ("ERC", connection)
    assert isinstance(connection.cursor(Own), Own)
    assert isinstance(connection.cursor(factory=lambda of: Own(of)), Own)
    assert [row["name"] for row in connection.cursor().execute(FOUND, [SECRET])] == ["ERC", "SNF"]


def test_a_connection_class_of_the_users_can_be_wrapped(tmp_path: Path) -> None:
    """A Python subclass has room for attributes."""

    class Own(sqlite3.Connection):
        pass

    with closing(sqlite3.connect(tmp_path / "own.db", factory=Own)) as connection:
        assert len(observed(lambda: monitoring.wrap(connection).execute("SELECT 1"))) == 1
        assert observed(lambda: monitoring.unwrap(connection).execute("SELECT 1")) == []


def test_transactions_are_not_statements(connection: sqlite3.Connection) -> None:
    """What the driver sends to begin and end them is not the user's."""

    def work() -> None:
        with connection:
            connection.execute("UPDATE funders SET name = name")
        connection.commit()
        connection.rollback()

    assert names(observed(work)) == ["UPDATE funders"]


@pytest.mark.parametrize("both", [True, False])
def test_nothing_counts_twice_under_sqlalchemy(tmp_path: Path, both: bool) -> None:
    """An engine whose connections are observed may be wrapped as well."""

    def work() -> None:
        with engine.connect() as connected:
            connected.execute(text("SELECT name FROM funders"))

    prepare(tmp_path / "app.db")
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}", connect_args={"factory": Connection})
    if both:
        monitoring.wrap(engine)
    assert [name for name in names(observed(work)) if "funders" in name] == ["SELECT funders"]
    engine.dispose()


@pytest.mark.parametrize("nonsense", [None, 5, b"SELECT 1"])
def test_what_is_no_statement_is_refused_as_without_us(connection: Any, nonsense: object) -> None:
    """The error is sqlite3's."""
    (call,) = observed(lambda: refused(TypeError, connection.execute, nonsense))
    assert call.outcome == "error"


def test_every_way_of_aiosqlite_is_one_observation(tmp_path: Path) -> None:
    """From the connection and from its cursors, in the request of the caller; a batch may be a generator."""

    async def work() -> None:
        async with monitoring.wrap(aiosqlite.connect(tmp_path / "app.db")) as connection:
            await connection.execute(FOUND, [SECRET])
            async with connection.cursor() as cursor:
                await cursor.execute("UPDATE funders SET name = name")
                await cursor.executemany("DELETE FROM funders WHERE id = ?", ([number] for number in (1, 2)))
                assert await cursor.fetchall() == []
            await connection.executescript("SELECT 1; SELECT 2")
            await connection.execute_insert("INSERT INTO funders (name) VALUES (?)", ["a"])
            assert list(await connection.execute_fetchall(FOUND, [SECRET])) == [("a",)]
            await connection.commit()

    prepare(tmp_path / "app.db")
    calls = observed_async(work)
    assert [(call.name, call.rows) for call in calls] == [
        ("SELECT funders", -1),
        ("UPDATE funders", 2),
        ("DELETE funders", 2),
        ("SELECT", -1),
        ("INSERT funders", -1),
        ("SELECT funders", -1),
    ]


def test_aiosqlite_takes_as_long_as_its_thread(tmp_path: Path) -> None:
    """A statement takes as long as it takes, and not as long as to make a coroutine (bug 16)."""

    async def work() -> None:
        async with monitoring.wrap(aiosqlite.connect(tmp_path / "app.db")) as connection:
            await connection.create_function("nap", 0, lambda: waited.wait(0.05))
            await connection.execute("SELECT nap()")

    waited = threading.Event()
    (call,) = observed_async(work)
    assert call.duration_seconds >= 0.05
