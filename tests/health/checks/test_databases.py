"""The check of a database, on a real PostgreSQL that hangs and dies, by sync and async engines."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from monitoring.health.checks import database, databases
from tests.health.checks.support import outcome, status_of, stopped
from tests.support.postgresql import postgresql
from tests.support.processes import poll


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with postgresql() as url:
        yield url


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """Return an engine of one connection: one that is not given back is missed at once."""
    engine = create_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.2, connect_args={"connect_timeout": 2})
    yield engine
    engine.dispose()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a connection up at once instead of after three seconds."""
    cut_off = databases.cut_off
    monkeypatch.setattr(databases, "cut_off", lambda connection: cut_off(connection, 0.2))


def backend(engine: Engine) -> int:
    """Return the pid of the server's process behind the pool's connection."""
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def test_a_database_that_answers_passes_on_the_apps_own_connection(engine: Engine) -> None:
    """Again and again by the one connection of the pool, which is there for the app afterwards."""
    before = backend(engine)
    check = database(engine)
    assert [status_of(check) for _ in range(5)] == ["pass"] * 5
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    assert backend(engine) == before


def test_a_pool_without_a_free_connection_fails(engine: Engine) -> None:
    """That is what the app would see, too."""
    check = database(engine)
    with engine.connect():
        assert outcome(check).output.startswith("TimeoutError: QueuePool limit")
    assert status_of(check) == "pass"


def test_a_server_that_is_killed_fails_until_it_has_recovered(engine: Engine) -> None:
    """The pool throws the connection away, and makes another once the server takes one."""
    check = database(engine)
    os.kill(backend(engine), signal.SIGKILL)  # all the server's processes start anew then
    found = outcome(check)
    assert (found.status, found.output.partition(":")[0]) == ("fail", "OperationalError")
    assert "SELECT" not in found.output
    poll(lambda: status_of(check) == "pass", "the server to recover")
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


@pytest.mark.usefixtures("impatient")
def test_a_server_that_hangs_is_given_up_and_its_connection_thrown_away(engine: Engine) -> None:
    """The thread comes back, nothing is left checked out, and all is well when the server goes on."""
    pid = backend(engine)
    check = database(engine)
    with stopped(pid):
        assert outcome(check).output == "TimeoutError: no answer in 0.2 s"
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        assert status_of(check) == "pass"  # by another connection: only this one's process stood still
    assert backend(engine) != pid


def test_a_server_that_is_not_there_fails_without_telling_the_password() -> None:
    """What the driver says, in one sentence."""
    engine = create_engine("postgresql+psycopg://app:hunter2@127.0.0.1:1/app", connect_args={"connect_timeout": 2})
    found = outcome(database(engine))
    assert found.status == "fail"
    assert found.output.startswith("OperationalError: ")
    assert "hunter2" not in found.output
    assert len(found.output) <= 200


def test_an_async_engine_is_asked_in_its_loop(url: str) -> None:
    """It passes, and the connection is back."""

    async def look() -> tuple[object, int]:
        engine = create_async_engine(url, pool_size=1, max_overflow=0)
        check = database(engine)
        answers = [await check() for _ in range(3)]  # type: ignore[misc]
        out = engine.sync_engine.pool.checkedout()  # type: ignore[attr-defined]
        await engine.dispose()
        return answers, out

    assert asyncio.run(look()) == ([None, None, None], 0)


@pytest.mark.usefixtures("impatient")
def test_a_cancelled_look_by_an_async_engine_leaks_nothing_and_is_not_joined_by_another(url: str) -> None:
    """A driver goes on waiting after it was cancelled; until that is cut off, further looks fail at once."""

    async def look() -> tuple[str, int, object]:
        engine = create_async_engine(url, pool_size=1, max_overflow=0)
        check = database(engine)
        async with engine.connect() as connection:
            pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        with stopped(pid):
            first = asyncio.ensure_future(check())  # type: ignore[arg-type]
            await asyncio.sleep(0.05)
            first.cancel()
            second = await check()  # type: ignore[misc]
            await asyncio.wait([first], timeout=20)
        out = engine.sync_engine.pool.checkedout()  # type: ignore[attr-defined]
        last = await check()  # type: ignore[misc]
        await engine.dispose()
        return second.output, out, last  # type: ignore[attr-defined]

    assert asyncio.run(look()) == ("TimeoutError: an earlier SELECT 1 still waits for its answer", 0, None)


def test_sqlite_needs_no_socket() -> None:
    """A driver without one is asked all the same."""
    assert status_of(database(create_engine("sqlite://"))) == "pass"
