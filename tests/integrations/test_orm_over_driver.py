"""Three layers around one statement: request, ORM and driver. PostgreSQL's own statistics say how many there were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django import db
from django.db import models
from django.db.backends.signals import connection_created
from django.db.utils import ConnectionHandler
from fastapi import FastAPI
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, func, insert, select, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import ForeignKey
from starlette.testclient import TestClient

import monitoring
from monitoring import MonitoringMiddleware, integrations
from monitoring.context import muted
from monitoring.monitor import Monitoring
from monitoring.observation import RequestRecord
from monitoring.testing import MemorySink, use
from tests.support import django_settings
from tests.support.psycopg_double import Double

psycopg = pytest.importorskip("psycopg")
django_settings.set_up()

TABLE = "layers_funders"
LOANS = "layers_grants"


@pytest.fixture(autouse=True)
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an adapter for psycopg's connections: the pack's own, else the double."""
    if "psycopg.Connection" not in integrations._ADAPTERS:
        monkeypatch.setitem(integrations._ADAPTERS, "psycopg.Connection", Double())


class Ledger:
    """What the server says of the statements that name a table."""

    def __init__(self, url: str) -> None:
        self._url = url.replace("+psycopg", "")

    def _ask(self, statement: str) -> Any:
        with muted(), psycopg.connect(self._url, autocommit=True) as connection:
            return connection.execute(statement).fetchone()

    def start(self) -> None:
        self._ask("SELECT 1 FROM pg_stat_statements_reset()")

    def calls(self) -> int:
        (found,) = self._ask(
            f"SELECT coalesce(sum(calls), 0)::int FROM pg_stat_statements WHERE query ~ '({TABLE}|{LOANS})'"
        )
        return int(found)


@pytest.fixture
def ledger(postgresql_url: str) -> Ledger:
    with psycopg.connect(postgresql_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        connection.execute(f"DROP TABLE IF EXISTS {LOANS}, {TABLE}")
        connection.execute(f"CREATE TABLE {TABLE} (id serial PRIMARY KEY, name text)")
        connection.execute(f"CREATE TABLE {LOANS} (id serial PRIMARY KEY, title text, funder_id int)")
        connection.execute(f"INSERT INTO {TABLE} (name) SELECT 'F' || n FROM generate_series(1, 12) n")
        connection.execute(f"INSERT INTO {LOANS} (title, funder_id) SELECT 'G', n FROM generate_series(1, 12) n")
    ledger = Ledger(postgresql_url)
    ledger.start()
    return ledger


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
def running(sink: MemorySink) -> Iterator[Monitoring]:
    with use(sink, repeated_queries=10, in_app_exclude=("tests.support.psycopg_double",)) as made:
        yield made


# SQLAlchemy


class Base(DeclarativeBase):
    pass


class Funder(Base):
    __tablename__ = TABLE

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    grants: Mapped[list[Grant]] = relationship()


class Grant(Base):
    __tablename__ = LOANS

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    funder_id: Mapped[int] = mapped_column(ForeignKey(f"{TABLE}.id"))


def titles_one_by_one(engine: Any) -> list[str]:
    with Session(engine) as session:
        funders = session.scalars(select(Funder).order_by(Funder.id)).all()
        return [grant.title for funder in funders for grant in funder.grants]


def serve(made: Monitoring, work: Callable[[], object], sink: MemorySink) -> RequestRecord:
    """Serve one request of FastAPI that does this work, and return its record."""
    app = FastAPI()

    @app.get("/funders/{id}")
    def funders(id: int) -> dict[str, bool]:
        work()
        return {"done": True}

    client = TestClient(MonitoringMiddleware(app, made))
    assert client.get("/funders/7").json() == {"done": True}
    (record,) = sink.of_kind("request")
    assert isinstance(record, RequestRecord)
    return record


@pytest.mark.parametrize("is_driver_wrapped", [False, True])
def test_request_sqlalchemy_and_driver_count_each_statement_once(
    running: Monitoring, sink: MemorySink, ledger: Ledger, postgresql_url: str, is_driver_wrapped: bool
) -> None:
    """With the driver's connections wrapped or not: as many calls as the server had, and the N+1 is found."""

    def connect() -> Any:
        connection = psycopg.connect(postgresql_url.replace("+psycopg", ""))
        return monitoring.wrap(connection) if is_driver_wrapped else connection

    with muted():
        engine = create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)
        engine.connect().close()
    monitoring.wrap(engine)
    ledger.start()
    record = serve(running, lambda: titles_one_by_one(engine), sink)
    engine.dispose()
    assert record.db_calls == ledger.calls() == 13
    (finding,) = record.findings or ()
    assert (finding.kind, finding.name, finding.tally[0]) == ("repeated", f"SELECT {LOANS}", 12)
    assert finding.place.startswith(f"{__file__}:")
    assert finding.place.endswith("in titles_one_by_one.<locals>.<listcomp>")


def test_batches_and_streams_are_as_many_calls_as_the_server_has(
    running: Monitoring, sink: MemorySink, ledger: Ledger, postgresql_url: str
) -> None:
    """Inserts of many values go in pages of statements, and streamed rows come by one."""
    engine = create_engine(postgresql_url, insertmanyvalues_page_size=100)
    table = Table(TABLE, MetaData(), Column("id", Integer, primary_key=True), Column("name", String))
    with muted(), engine.connect():
        pass
    monitoring.wrap(engine)
    ledger.start()
    with engine.begin() as connection:
        rows = [{"name": str(number)} for number in range(250)]
        assert len(connection.execute(insert(table).returning(table.c.id), rows).all()) == 250
        connection.execute(insert(table), [{"name": "x"}, {"name": "y"}])
    with engine.connect() as connection:
        streamed = connection.execution_options(yield_per=50).execute(select(table))
        assert sum(1 for _ in streamed) == 264
        assert connection.scalar(select(func.count()).select_from(table)) == 264
    engine.dispose()
    assert [call.name for call in sink.of_kind("db")] == [
        *[f"INSERT {TABLE}"] * 4,
        f"SELECT {TABLE}",
        f"SELECT {TABLE}",
    ]
    # psycopg runs one batch as two executions, and each page of a server's cursor is a FETCH, which names no table
    assert ledger.calls() == 7


async def _read(engine: Any) -> None:
    async with engine.connect() as connection:
        for number in range(10):
            await connection.execute(text(f"SELECT id FROM {TABLE} WHERE id = :id"), {"id": number})


@pytest.mark.parametrize("driver_name", ["psycopg", "asyncpg"])
def test_an_async_engine_counts_as_the_server_does(
    running: Monitoring, sink: MemorySink, ledger: Ledger, postgresql_url: str, driver_name: str
) -> None:
    """Wrapped twice and used from a coroutine of a request; the N+1 has its place there."""
    pytest.importorskip(driver_name)
    place = {name: values[0] for name, values in parse_qs(urlsplit(postgresql_url).query).items()}
    url = f"postgresql+{driver_name}://monitoring@/postgres?host={place['host']}&port={place['port']}"
    app = FastAPI()

    @app.get("/")
    async def read() -> None:
        engine = monitoring.wrap(create_async_engine(url))
        monitoring.wrap(engine)
        await _read(engine)
        await engine.dispose()

    ledger.start()
    assert TestClient(MonitoringMiddleware(app, running)).get("/").status_code == 200
    (record,) = sink.of_kind("request")
    assert isinstance(record, RequestRecord)
    assert record.db_calls == ledger.calls() == 10
    (finding,) = record.findings or ()
    assert finding.place.endswith("in _read")


# Django


class DjangoFunder(models.Model):
    name = models.TextField()

    class Meta:
        app_label = "layers"
        db_table = TABLE


class DjangoGrant(models.Model):
    title = models.TextField()
    funder = models.ForeignKey(DjangoFunder, on_delete=models.DO_NOTHING)

    class Meta:
        app_label = "layers"
        db_table = LOANS


@pytest.fixture
def on_postgresql(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the test's PostgreSQL as Django's database ``layers``."""
    place = {name: values[0] for name, values in parse_qs(urlsplit(postgresql_url).query).items()}
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "USER": "monitoring",
        "HOST": place["host"],
        "PORT": place["port"],
    }
    defaults = ConnectionHandler({"default": {}}).settings["default"]
    monkeypatch.setitem(db.connections.settings, "layers", {**defaults, **database})
    yield
    monitoring.unwrap(db.connections)
    db.connections["layers"].close()
    del db.connections["layers"]


def django_titles() -> list[str]:
    found: Any = DjangoGrant.objects.using("layers").order_by("id")
    titles = [f"{grant.title} of {grant.funder.name}" for grant in found]
    db.connections["layers"].close()
    return titles


@pytest.mark.parametrize("is_driver_wrapped", [False, True])
def test_request_django_and_driver_count_each_statement_once(
    running: Monitoring, sink: MemorySink, ledger: Ledger, on_postgresql: None, is_driver_wrapped: bool
) -> None:
    """The view's thread has a connection of its own, which is seen; the N+1 is found in the app's code."""

    def wrap_driver(connection: Any, **_: Any) -> None:
        monitoring.wrap(connection.connection)

    monitoring.wrap(db.connections)
    if is_driver_wrapped:
        connection_created.connect(wrap_driver)
    try:
        record = serve(running, django_titles, sink)
    finally:
        connection_created.disconnect(wrap_driver)
    assert record.db_calls == ledger.calls() == 13
    (finding,) = record.findings or ()
    assert (finding.name, finding.tally[0]) == (f"SELECT {TABLE}", 12)
    assert finding.place.endswith("in django_titles.<locals>.<listcomp>")


def test_djangos_batches_iterators_and_savepoints(
    running: Monitoring, sink: MemorySink, ledger: Ledger, on_postgresql: None
) -> None:
    """What a bulk insert and an iterator send are statements like others."""
    from django.db import transaction

    monitoring.wrap(db.connections)
    manager: Any = DjangoFunder.objects.using("layers")
    with transaction.atomic(using="layers"):
        manager.bulk_create([DjangoFunder(name=str(number)) for number in range(250)], batch_size=100)
        with transaction.atomic(using="layers"):
            assert sum(1 for _ in manager.iterator(chunk_size=50)) == 262
    names = [call.name for call in sink.of_kind("db")]
    assert names == ["INSERT"] * 3 + ["SAVEPOINT", f"SELECT {TABLE}", "RELEASE"]
    assert ledger.calls() == 4
