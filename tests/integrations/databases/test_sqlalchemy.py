"""SQLAlchemy engines, sync and async, on SQLite files."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Engine, create_engine, event, insert, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import NullPool

import monitoring
from monitoring.calls import DatabaseCall
from monitoring.observation import Kind
from monitoring.testing import MemorySink, use
from tests.integrations.contract import SECRET, CancellableContract, Contract, Subject


class Base(DeclarativeBase):
    pass


class Funder(Base):
    __tablename__ = "funders"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def prepare(path: Path) -> None:
    """Make the file with two funders in it."""
    engine = create_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(Funder), [{"name": "NSF"}, {"name": "DFG"}])
    engine.dispose()


FOUND = select(Funder.name).where(Funder.name != SECRET).order_by(Funder.id)
BROKEN = text("SELECT nothing FROM nowhere WHERE secret = :secret")


class SyncEngine(Subject):
    """``create_engine``."""

    client = "SQLAlchemy `Engine`"
    library = "SQLAlchemy"
    kind: Kind = "db"
    error = OperationalError

    def __init__(self, path: Path) -> None:
        prepare(path)
        self._path = path

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Engine]:
        engine = create_engine(f"sqlite:///{self._path}")
        yield engine
        engine.dispose()

    def unused(self) -> Engine:
        return create_engine(f"sqlite:///{self._path}")

    async def succeed(self, client: Engine) -> object:
        with client.connect() as connection:
            return connection.execute(FOUND).all()

    async def fail(self, client: Engine) -> object:
        with client.connect() as connection:
            return connection.execute(BROKEN, {"secret": SECRET})


class AsynchronousEngine(Subject):
    """``create_async_engine``, on aiosqlite."""

    client = "SQLAlchemy `AsyncEngine`"
    library = "SQLAlchemy"
    kind: Kind = "db"
    error = OperationalError

    def __init__(self, path: Path) -> None:
        prepare(path)
        self._path = path

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[AsyncEngine]:
        engine = create_async_engine(f"sqlite+aiosqlite:///{self._path}", connect_args={"timeout": 1})
        yield engine
        await engine.dispose()

    def unused(self) -> AsyncEngine:
        return create_async_engine(f"sqlite+aiosqlite:///{self._path}")

    async def succeed(self, client: AsyncEngine) -> object:
        async with client.connect() as connection:
            return (await connection.execute(FOUND)).all()

    async def fail(self, client: AsyncEngine) -> object:
        async with client.connect() as connection:
            return await connection.execute(BROKEN, {"secret": SECRET})

    async def hang(self, client: AsyncEngine) -> object:
        blocker = sqlite3.connect(self._path)
        blocker.execute("BEGIN EXCLUSIVE")
        async with client.connect() as connection:
            try:
                return await connection.execute(insert(Funder).values(name=SECRET))
            finally:
                blocker.close()


class TestEngine(Contract):
    """The contract, for an engine."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        return SyncEngine(tmp_path / "app.db")


class TestAsyncEngine(CancellableContract):
    """The contract, for an async engine."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        return AsynchronousEngine(tmp_path / "app.db")


@pytest.fixture
def engine(tmp_path: Path) -> Any:
    prepare(tmp_path / "app.db")
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    yield engine
    engine.dispose()


def observed(work: Callable[[], object]) -> list[DatabaseCall]:
    """Return the statements seen while ``work`` runs."""
    sink = MemorySink()
    with use(sink):
        work()
    return cast("list[DatabaseCall]", sink.of_kind("db"))


def test_a_select_is_named_after_its_table(engine: Engine) -> None:
    """System, operation, table and text are those of the statement, with its placeholders."""

    def work() -> None:
        with engine.connect() as connection:
            connection.execute(FOUND).all()

    monitoring.wrap(engine)
    (call,) = observed(work)
    assert (call.system, call.operation, call.name, call.rows) == ("sqlite", "SELECT", "SELECT funders", -1)
    assert call.statement == ("SELECT funders.name FROM funders WHERE funders.name != ? ORDER BY funders.id")


def test_a_batch_is_one_observation_with_its_rows(engine: Engine) -> None:
    """``executemany`` is one operation, and its affected rows are those of all of it."""

    def work() -> None:
        with engine.begin() as connection:
            connection.execute(insert(Funder), [{"name": "ERC"}, {"name": "SNF"}, {"name": "FWF"}])

    monitoring.wrap(engine)
    (call,) = observed(work)
    assert (call.name, call.rows) == ("INSERT funders", 3)


def test_driver_sql_without_parameters_is_seen(engine: Engine) -> None:
    """The third way to the driver is watched too."""

    def work() -> None:
        with engine.connect() as connection:
            connection.execution_options(no_parameters=True).exec_driver_sql("SELECT name FROM funders WHERE id = 7")

    monitoring.wrap(engine)
    (call,) = observed(work)
    assert call.statement == "SELECT name FROM funders WHERE id = ?"


def test_the_orm_is_seen(engine: Engine) -> None:
    """A session's flush and its queries go the same way."""

    def work() -> None:
        with Session(engine) as session:
            session.add(Funder(name="ERC"))
            session.commit()
            session.get(Funder, 1)

    monitoring.wrap(engine)
    assert [call.name for call in observed(work)] == ["INSERT funders", "SELECT funders"]


def test_engines_with_execution_options_are_the_same_engine(engine: Engine) -> None:
    """They share the dialect: wrapping both counts once, and unwrapping one unwraps both."""
    reader = engine.execution_options(isolation_level="SERIALIZABLE")

    def work() -> None:
        for either in (engine, reader):
            with either.connect() as connection:
                connection.execute(FOUND).all()

    monitoring.wrap(engine)
    monitoring.wrap(reader)
    assert len(observed(work)) == 2
    monitoring.unwrap(reader)
    assert observed(work) == []


def test_another_engine_of_the_same_kind_is_left_alone(engine: Engine, tmp_path: Path) -> None:
    """Each engine has a dialect object of its own."""
    other = create_engine(f"sqlite:///{tmp_path / 'app.db'}", poolclass=NullPool)

    def work() -> None:
        with other.connect() as connection:
            connection.execute(FOUND).all()

    monitoring.wrap(engine)
    assert observed(work) == []


def test_connections_of_a_pool_are_seen_in_every_thread(engine: Engine) -> None:
    """Whichever connection the pool hands out, it goes through the engine's dialect."""

    def query() -> None:
        with engine.connect() as connection:
            connection.execute(FOUND).all()

    def work() -> None:
        threads = [threading.Thread(target=query) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    monitoring.wrap(engine)
    assert len(observed(work)) == 4


def test_engine_events_go_on_working(engine: Engine) -> None:
    """A user's own listeners see the statement as before."""
    seen: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    def work() -> None:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    monitoring.wrap(engine)
    assert [call.statement for call in observed(work)] == ["SELECT ?"]
    assert seen == ["SELECT 1"]


def test_what_sqlalchemy_asks_at_the_first_connection_is_not_the_apps(engine: Engine) -> None:
    """The dialect's own questions to the server do not count."""

    def initialize(connection: Any) -> None:
        asked.append(connection.exec_driver_sql("SELECT sqlite_version()").scalar())

    def work() -> None:
        with engine.connect() as connection:
            connection.execute(FOUND).all()

    asked: list[str] = []
    engine.dialect.initialize = initialize  # type: ignore[method-assign]
    monitoring.wrap(engine)
    assert [call.name for call in observed(work)] == ["SELECT funders"]
    assert len(asked) == 1


def test_a_patch_on_top_of_ours_survives_unwrap(engine: Engine) -> None:
    """Where somebody has replaced the same attribute since, it is theirs, and our part below falls silent."""

    def work() -> None:
        with engine.connect() as connection:
            connection.execute(FOUND).all()

    def theirs(*args: Any) -> None:
        patched(*args)

    monitoring.wrap(engine)
    patched = engine.dialect.do_execute
    engine.dialect.do_execute = theirs  # type: ignore[method-assign]
    monitoring.unwrap(engine)
    assert engine.dialect.do_execute is theirs
    assert observed(work) == []


def test_the_request_reaches_a_statement_in_a_task(tmp_path: Path) -> None:
    """SQLAlchemy's greenlets see the context of the coroutine that they run for."""
    subject = AsynchronousEngine(tmp_path / "app.db")

    async def scenario() -> None:
        async with subject.opened() as engine:
            monitoring.wrap(engine)
            await asyncio.gather(*(asked_in(name, engine) for name in ("first", "second")))

    async def asked_in(name: str, engine: AsyncEngine) -> None:
        with monitoring.observe(name):
            await subject.succeed(engine)

    calls = observed(lambda: asyncio.run(scenario()))
    assert sorted(call.block.name for call in calls if call.block) == ["first", "second"]


def test_wrapping_loads_no_other_library() -> None:
    """The adapter of one library imports no other."""
    program = (
        "import sys, monitoring; from sqlalchemy import create_engine; monitoring.wrap(create_engine('sqlite://'));"
        "print(sorted({'redis', 'httpx', 'httpx2', 'openai', 'anthropic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
