"""Pools and transactions of SQLAlchemy engines: what is counted, of every class of pool, and after ``dispose``."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import create_engine, engine_from_config, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import AssertionPool, AsyncAdaptedQueuePool, NullPool, QueuePool, SingletonThreadPool, StaticPool

import monitoring
from monitoring.context import muted
from monitoring.monitor import Monitoring
from monitoring.testing import MemorySink, use
from tests.integrations.contract import in_child

POOL = "db_client_connection_pool_name"
ONE = text("SELECT 1")


@pytest.fixture
def running() -> Iterator[Monitoring]:
    with use() as made:
        yield made


def series(made: Monitoring, metric: str) -> list[Any]:
    snapshot = made.metrics.snapshot()
    return list(snapshot[metric].series) if metric in snapshot else []


def are_open(made: Monitoring, pool: str = "app.db") -> tuple[float, float]:
    """Return the connections of a pool that are used and idle."""
    found = {
        one.labels["state"]: one.value for one in series(made, "db_client_connections_open") if one.labels[POOL] == pool
    }
    return found.get("used", 0.0), found.get("idle", 0.0)


def times(made: Monitoring, what: str) -> float:
    """Return how often a time was taken: ``wait``, ``use``, ``create``."""
    return float(sum(one.count for one in series(made, f"db_client_connection_{what}_time_seconds")))


def transactions(made: Monitoring) -> dict[str, float]:
    return {one.labels["outcome"]: one.count for one in series(made, "db_client_transaction_duration_seconds")}


@contextmanager
def engine_on(path: Path, **options: Any) -> Iterator[Any]:
    engine = monitoring.wrap(create_engine(f"sqlite:///{path / 'app.db'}", **options))
    yield engine
    engine.dispose()


def test_a_queue_pool_tells_used_and_idle(running: Monitoring, tmp_path: Path) -> None:
    """Two are taken, one is given back: one is used, one waits."""
    with engine_on(tmp_path, poolclass=QueuePool) as engine:
        first, second = engine.connect(), engine.connect()
        assert are_open(running) == (2, 0)
        first.close()
        assert are_open(running) == (1, 1)
        second.close()
        assert are_open(running) == (0, 2)


def test_waits_uses_and_openings_are_timed(running: Monitoring, tmp_path: Path) -> None:
    """A connection is opened once, and taken as often as it is asked for."""
    with engine_on(tmp_path, poolclass=QueuePool) as engine:
        for _ in range(3):
            with engine.connect() as connection:
                connection.execute(ONE)
    assert [times(running, what) for what in ("create", "wait", "use")] == [1, 3, 3]
    assert {one.labels[POOL] for one in series(running, "db_client_connection_use_time_seconds")} == {"app.db"}


@pytest.mark.parametrize(
    ("pool", "during", "after"),
    [
        (QueuePool, (1, 0), (0, 1)),
        (NullPool, (1, 0), (0, 0)),
        (StaticPool, (1, 0), (0, 1)),
        (SingletonThreadPool, (1, 0), (0, 1)),
        (AssertionPool, (1, 0), (0, 1)),
    ],
)
def test_every_class_of_pool_is_counted(
    running: Monitoring, tmp_path: Path, pool: type[Any], during: tuple[int, int], after: tuple[int, int]
) -> None:
    """Pools that keep nothing have nothing idle; others keep their one connection."""
    with engine_on(tmp_path, poolclass=pool) as engine:
        with engine.connect() as connection:
            connection.execute(ONE)
            assert are_open(running) == during
        assert are_open(running) == after
        with engine.connect():
            assert are_open(running) == during
    assert are_open(running) == (0, 0)
    assert times(running, "use") == 2


def test_nothing_is_open_after_dispose_and_the_next_pool_is_counted(running: Monitoring, tmp_path: Path) -> None:
    """``dispose`` puts a new pool in the place of the old one."""
    with engine_on(tmp_path, poolclass=QueuePool) as engine:
        engine.connect().close()
        engine.dispose()
        assert are_open(running) == (0, 0)
        with engine.connect():
            assert are_open(running) == (1, 0)
        assert times(running, "create") == 2


def test_a_connection_taken_before_dispose_is_used_until_it_is_given_back(running: Monitoring, tmp_path: Path) -> None:
    """It belongs to the pool before, and both add up."""
    with engine_on(tmp_path, poolclass=QueuePool) as engine:
        with engine.connect():
            engine.dispose()
            with engine.connect():
                assert are_open(running) == (2, 0)
        assert are_open(running) == (0, 1)


def test_an_exhausted_pool_is_a_timeout(running: Monitoring, tmp_path: Path) -> None:
    """The wait that ended without a connection is counted, and the exception is SQLAlchemy's."""
    exhausted = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.01}
    with (
        engine_on(tmp_path, poolclass=QueuePool, **exhausted) as engine,
        engine.connect(),
        pytest.raises(PoolTimeoutError),
    ):
        engine.connect()
    assert [one.value for one in series(running, "db_client_connection_timeouts_total")] == [1]
    assert times(running, "wait") == 1


def test_an_error_while_connecting_is_no_timeout(running: Monitoring, tmp_path: Path) -> None:
    """A database that cannot be opened is not an exhausted pool, and nothing stays open."""
    with engine_on(tmp_path / "no" / "folder", poolclass=QueuePool) as engine, pytest.raises(OperationalError):
        engine.connect()
    assert series(running, "db_client_connection_timeouts_total") == []
    assert are_open(running) == (0, 0)


def test_a_connection_that_is_invalidated_is_not_idle(running: Monitoring, tmp_path: Path) -> None:
    """It is closed while it is used, and a NullPool has none then."""
    with engine_on(tmp_path, poolclass=NullPool) as engine:
        with engine.connect() as connection:
            connection.invalidate()
        assert are_open(running) == (0, 0)


def test_a_dropped_connection_comes_back(running: Monitoring, tmp_path: Path) -> None:
    """What is not closed but forgotten is given back by the garbage collector."""
    with engine_on(tmp_path, poolclass=QueuePool) as engine:
        connection = engine.connect()
        del connection
        gc.collect()
        assert are_open(running) == (0, 1)


def test_two_engines_are_two_pools(running: Monitoring, tmp_path: Path) -> None:
    """Named by the user, or after their database; of one name they add up."""
    engines = [
        monitoring.wrap(create_engine(f"sqlite:///{tmp_path / 'app.db'}"), name="replica"),
        monitoring.wrap(create_engine(f"sqlite:///{tmp_path / 'other.db'}")),
        monitoring.wrap(create_engine(f"sqlite:///{tmp_path / 'sub' / '..' / 'other.db'}")),
    ]
    (tmp_path / "sub").mkdir()
    connections = [engine.connect() for engine in engines]
    assert are_open(running, "replica") == (1, 0)
    assert are_open(running, "other.db") == (2, 0)
    for connection, engine in zip(connections, engines):
        connection.close()
        engine.dispose()


def test_a_pool_without_a_database_is_named_after_the_dialect(running: Monitoring) -> None:
    """As of ``sqlite://``."""
    engine = monitoring.wrap(create_engine("sqlite://"))
    with engine.connect():
        assert are_open(running, "sqlite") == (1, 0)
    engine.dispose()


def test_an_engine_from_a_config_is_an_engine(running: Monitoring, tmp_path: Path) -> None:
    """``engine_from_config`` makes the same, and its derived engines share pool and dialect."""
    engine = engine_from_config({"db.url": f"sqlite:///{tmp_path / 'app.db'}", "db.pool_size": "3"}, "db.")
    monitoring.wrap(engine.execution_options(isolation_level="AUTOCOMMIT"))
    with engine.connect() as connection:
        connection.execute(ONE)
        assert are_open(running) == (1, 0)
    engine.dispose()


def test_a_garbage_collected_engine_leaves_nothing_open(running: Monitoring, tmp_path: Path) -> None:
    """An engine that is forgotten without ``dispose`` takes its connections along, and itself is not held."""
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}", poolclass=NullPool)
    other = create_engine(f"sqlite:///{tmp_path / 'app.db'}", poolclass=StaticPool)
    monitoring.wrap(engine)
    monitoring.wrap(other).connect().close()
    assert are_open(running) == (0, 1)
    other.pool.connection.dbapi_connection.close()  # else sqlite3 warns of it
    references = [weakref.ref(engine), weakref.ref(other)]
    del engine, other
    gc.collect()
    assert [reference() for reference in references] == [None, None]
    assert are_open(running) == (0, 0)


def test_unwrap_restores_the_pool(running: Monitoring, tmp_path: Path) -> None:
    """Also the one after ``dispose``; connections that are out come back unseen."""
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}", poolclass=QueuePool)
    before = dict(vars(engine.pool))
    monitoring.wrap(engine)
    monitoring.unwrap(engine)
    assert dict(vars(engine.pool)) == before
    monitoring.wrap(engine)
    engine.dispose()
    connection = engine.connect()
    monitoring.unwrap(engine)
    assert not {"connect", "recreate", "dispose", "_do_return_conn", "_close_connection"} & set(vars(engine.pool))
    assert are_open(running) == (0, 0)
    connection.close()
    engine.connect().close()
    engine.dispose()
    assert times(running, "wait") == 1


def test_a_forked_child_counts_its_own(tmp_path: Path) -> None:
    """What its parent counted is not in its numbers; after ``dispose(close=False)`` it has a pool of its own."""

    def in_it() -> None:
        with use() as made:
            engine.dispose(close=False)
            with engine.connect():
                assert are_open(made) == (1, 0)

    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}", poolclass=QueuePool)
    monitoring.wrap(engine)
    with use():
        engine.connect().close()
        assert in_child(in_it) == 0
    engine.dispose()


def test_another_monitoring_counts_from_what_is_open(tmp_path: Path) -> None:
    """Wrapping comes before ``configure``, and the numbers of each are whole."""
    with engine_on(tmp_path, poolclass=QueuePool) as engine:
        connection = engine.connect()
        for _ in range(2):
            with use() as made:
                engine.connect().close()
                assert are_open(made) == (1, 1)
        connection.close()


def test_nothing_is_counted_when_muted(running: Monitoring, tmp_path: Path) -> None:
    """The pack's own work is in no number."""
    with engine_on(tmp_path, poolclass=QueuePool) as engine, muted(), engine.begin() as connection:
        connection.execute(ONE)
    assert (times(running, "wait"), times(running, "use"), transactions(running)) == (0, 0, {})


def test_many_threads_lose_no_connection(running: Monitoring, tmp_path: Path) -> None:
    """However they mix, in the end all are given back."""

    def work() -> None:
        for _ in range(40):
            with engine.connect():
                pass

    with engine_on(tmp_path, poolclass=NullPool) as engine:
        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        engine.connect().close()
        assert are_open(running) == (0, 0)
    assert times(running, "use") == 241


# Async engines


def test_an_async_pool_is_counted(running: Monitoring, tmp_path: Path) -> None:
    """Its pool is a queue, too, and survives ``dispose``."""

    async def scenario() -> None:
        engine = create_async_engine(
            f"sqlite+aiosqlite:///{tmp_path / 'app.db'}",
            poolclass=AsyncAdaptedQueuePool,
            pool_size=1,
            max_overflow=1,
        )
        monitoring.wrap(engine)
        monitoring.wrap(engine)
        monitoring.wrap(engine.sync_engine)
        for _ in range(2):
            async with engine.connect() as connection, engine.connect():
                await connection.execute(ONE)
                assert are_open(running) == (2, 0)
            assert are_open(running) == (0, 1)
            await engine.dispose()
            assert are_open(running) == (0, 0)

    asyncio.run(scenario())
    assert [times(running, what) for what in ("create", "wait", "use")] == [4, 4, 4]
    assert transactions(running) == {"rollback": 2}


def test_a_cancelled_wait_takes_nothing(running: Monitoring, tmp_path: Path) -> None:
    """A task that is cancelled in the queue of a pool leaves the numbers as they were."""

    async def scenario() -> None:
        engine = create_async_engine(
            f"sqlite+aiosqlite:///{tmp_path / 'app.db'}",
            poolclass=AsyncAdaptedQueuePool,
            pool_size=1,
            max_overflow=0,
        )
        monitoring.wrap(engine)
        async with engine.connect():
            waiting = asyncio.create_task(engine.connect().start())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert are_open(running) == (1, 0)
        assert are_open(running) == (0, 1)
        await engine.dispose()

    asyncio.run(scenario())


def test_an_exhausted_async_pool_is_a_timeout(running: Monitoring, tmp_path: Path) -> None:
    """Like one of threads."""

    async def scenario() -> None:
        engine = create_async_engine(
            f"sqlite+aiosqlite:///{tmp_path / 'app.db'}",
            poolclass=AsyncAdaptedQueuePool,
            pool_size=1,
            max_overflow=0,
            pool_timeout=0.01,
        )
        monitoring.wrap(engine, name="small")
        async with engine.connect():
            with pytest.raises(PoolTimeoutError):
                await engine.connect()
        await engine.dispose()

    asyncio.run(scenario())
    (one,) = series(running, "db_client_connection_timeouts_total")
    assert (one.labels[POOL], one.value) == ("small", 1)


# Transactions


def table(engine: Any) -> None:
    with muted(), engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (id INTEGER PRIMARY KEY)"))


def commit(engine: Any) -> None:
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO t VALUES (1)"))


def fail(engine: Any) -> None:
    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.execute(text("INSERT INTO t VALUES (NULL), (1), (1)"))


def read_only(engine: Any) -> None:
    with engine.connect() as connection:
        connection.execute(ONE)


def twice(engine: Any) -> None:
    with engine.connect() as connection:
        connection.execute(ONE)
        connection.commit()
        connection.execute(ONE)
        connection.rollback()


def nested(engine: Any) -> None:
    with engine.begin() as connection, connection.begin_nested():
        connection.execute(ONE)


def in_session(engine: Any) -> None:
    with Session(engine) as session, session.begin():
        session.execute(ONE)


def in_autocommit(engine: Any) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(ONE)
        connection.commit()


def lost(engine: Any) -> None:
    with engine.connect() as connection:
        connection.execute(ONE)
        connection.invalidate()


def unused(engine: Any) -> None:
    engine.connect().close()


@pytest.mark.parametrize(
    ("work", "outcomes"),
    [
        (commit, {"commit": 1}),
        (fail, {"rollback": 1}),
        (read_only, {"rollback": 1}),
        (twice, {"commit": 1, "rollback": 1}),
        (nested, {"commit": 1}),
        (in_session, {"commit": 1}),
        (lost, {"rollback": 1}),
        (unused, {}),
    ],
)
def test_transactions_have_an_outcome(
    running: Monitoring, tmp_path: Path, work: Callable[[Any], None], outcomes: dict[str, int]
) -> None:
    """One that is neither committed nor rolled back by hand is rolled back by SQLAlchemy, or by the server."""
    with engine_on(tmp_path, poolclass=QueuePool) as engine:
        table(engine)
        work(engine)
    assert transactions(running) == outcomes


def test_autocommit_is_no_transaction(running: Monitoring, tmp_path: Path) -> None:
    """Where the dialect can tell: SQLAlchemy says begin and commit all the same."""
    with engine_on(tmp_path, poolclass=QueuePool) as engine:
        if not hasattr(engine.dialect, "detect_autocommit_setting"):
            pytest.skip("this SQLAlchemy cannot tell")
        in_autocommit(engine)
    assert transactions(running) == {}


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_async_drivers_tell_of_autocommit(running: Monitoring, postgresql_url: str, driver: str) -> None:
    """Of two that are said to begin one is a transaction."""
    pytest.importorskip(driver)
    place = {name: values[0] for name, values in parse_qs(urlsplit(postgresql_url).query).items()}

    async def scenario() -> None:
        url = f"postgresql+{driver}://monitoring@/postgres?host={place['host']}&port={place['port']}"
        engine = monitoring.wrap(create_async_engine(url))
        if not hasattr(engine.dialect, "detect_autocommit_setting"):
            pytest.skip("this SQLAlchemy cannot tell")
        async with engine.begin() as connection:
            await connection.execute(ONE)
        async with engine.execution_options(isolation_level="AUTOCOMMIT").begin() as connection:
            await connection.execute(ONE)
        await engine.dispose()

    asyncio.run(scenario())
    assert transactions(running) == {"commit": 1}


def test_a_transaction_has_the_name_of_its_pool(running: Monitoring, tmp_path: Path) -> None:
    """And the system, as statements have."""
    with engine_on(tmp_path) as engine:
        commit_nothing(engine)
    (one,) = series(running, "db_client_transaction_duration_seconds")
    assert one.labels == {"db_system_name": "sqlite", POOL: "app.db", "outcome": "commit"}
    assert one.value > 0


def commit_nothing(engine: Any) -> None:
    with engine.begin() as connection:
        connection.execute(ONE)


def test_the_pools_numbers_are_no_observations(tmp_path: Path) -> None:
    """Who observes calls sees calls."""
    sink = MemorySink()
    with use(sink), engine_on(tmp_path) as engine:
        commit_nothing(engine)
    assert [observation.kind for observation in sink.observations] == ["db"]


# On PostgreSQL


def test_streams_and_batches_on_postgresql(running: Monitoring, postgresql_url: str) -> None:
    """A streamed result is one statement however many rows are fetched; a batch one for each that is sent."""
    pytest.importorskip("psycopg")
    sink = MemorySink()
    running.recorder.add(sink)
    engine = monitoring.wrap(create_engine(postgresql_url))
    with engine.connect() as connection:
        found = connection.execution_options(yield_per=10).execute(text("SELECT * FROM generate_series(1, 100)"))
        assert sum(1 for _ in found) == 100
        streamed = connection.execution_options(stream_results=True).execute(text("SELECT 1"))
        assert streamed.scalar() == 1
    engine.dispose()
    assert [call.name for call in sink.of_kind("db")] == ["SELECT", "SELECT"]
    assert transactions(running) == {"rollback": 1}
    assert are_open(running, "postgres") == (0, 0)
