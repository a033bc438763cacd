"""The database under the store: opened by each process for itself, written in short transactions, never waited for by
a request.

SQLite is the embedded default: WAL, and every write begins as one (``BEGIN IMMEDIATE``), because a transaction that
read first cannot wait for a lock. Any other database of SQLAlchemy's may be named by its URL; PostgreSQL is tested.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import sqlalchemy
from sqlalchemy import Connection, Engine, event, make_url, select
from sqlalchemy.exc import DatabaseError, OperationalError

from ..context import muted
from . import schema

FILE_NAME: Final = "monitoring.db"
BUSY_SECONDS: Final = 5.0
READ_SECONDS: Final = 5.0
"""Longest time a read may take; then it is interrupted."""

_WRITES: Final = "monitoring_writes"


class StoreUnusable(Exception):
    """The store cannot be used now; the message says why, and what to do where something can be done."""


class Database:
    """One database, from one process. Thread-safe, and safe over forks: a child opens connections of its own."""

    def __init__(self, place: str) -> None:
        """``place`` is a folder for the embedded database, or the URL of another one."""
        self.is_embedded = "://" not in place
        self.path = Path(place).absolute() / FILE_NAME if self.is_embedded else None
        self.url = make_url(f"sqlite:///{self.path}" if self.is_embedded else place)
        self._start_anew()

    def __repr__(self) -> str:
        return f"<Database {self.url.render_as_string(hide_password=True)}>"

    def _start_anew(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._inode = 0

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Run a block as one write transaction. Raise StoreUnusable when the database is locked, full or broken."""
        with self._connected() as connection:
            connection.execution_options(**{_WRITES: True})
            with connection.begin():
                yield connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Run a block of short reads on one snapshot. Raise StoreUnusable; a read of over 5 s is interrupted."""
        with self._connected() as connection:
            driver: Any = connection.connection.driver_connection
            if isinstance(driver, sqlite3.Connection):
                deadline = time.monotonic() + READ_SECONDS
                driver.set_progress_handler(lambda: time.monotonic() > deadline, 100_000)
            try:
                with connection.begin():
                    yield connection
            finally:
                if isinstance(driver, sqlite3.Connection):
                    driver.set_progress_handler(None, 0)

    @contextlib.contextmanager
    def maintaining(self) -> Iterator[sqlite3.Connection]:
        """Give the embedded database's own connection, outside of a transaction. Raise StoreUnusable."""
        with self._connected() as connection:
            driver: Any = connection.connection.driver_connection
            yield driver

    @property
    def identity(self) -> int:
        """Return a number that changes when another file took the place of the embedded database's."""
        return self._inode

    def close(self) -> None:
        """Close all connections; the next use opens new ones."""
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    def size_bytes(self) -> int:
        """Return what the embedded database takes on the disk, its log included; 0 for another one."""
        if self.path is None:
            return 0
        files = (self.path, self.path.with_name(f"{FILE_NAME}-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Connection]:
        with muted():
            try:
                with self._opened().connect() as connection:
                    yield connection
            except (DatabaseError, OSError) as error:
                if _is_broken(error):
                    self._set_aside()
                raise StoreUnusable(_reason(error)) from error

    def _opened(self) -> Engine:
        if self._pid != os.getpid():
            self._forget_parents()
        with self._lock:
            if self._engine is not None and self._was_replaced():
                self._engine.dispose()
                self._engine = None
            if self._engine is None:
                self._engine = self._open()
            return self._engine

    def _open(self) -> Engine:
        if self.path is None:
            engine = sqlalchemy.create_engine(self.url, pool_pre_ping=True)
            _create_tables(engine)
            return engine
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.path.exists():
            for suffix in ("-wal", "-shm"):  # leftovers of a file that somebody deleted
                self.path.with_name(FILE_NAME + suffix).unlink(missing_ok=True)
        engine = sqlalchemy.create_engine(self.url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        _create_tables(engine)
        self.path.chmod(0o600)
        self._inode = self.path.stat().st_ino
        return engine

    def _was_replaced(self) -> bool:
        if self.path is None:
            return False
        try:
            return self.path.stat().st_ino != self._inode
        except FileNotFoundError:
            return True

    def _set_aside(self) -> None:
        """Rename a file that is no database any more: its remains are kept for a look, and a new one begins."""
        if self.path is None:
            return
        self.close()
        with contextlib.suppress(OSError):
            self.path.rename(self.path.with_name(f"{FILE_NAME}.broken-{int(time.time())}"))

    def _forget_parents(self) -> None:
        inherited = self._engine
        self._start_anew()
        if inherited is not None:
            inherited.dispose(close=False)


def _prepare_sqlite(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_sqlite
    connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # without effect once the journal is a WAL
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _create_tables(engine: Engine) -> None:
    """Make what is missing; eight workers may try at once. Raise StoreUnusable for a store of another version."""
    with engine.connect() as connection:
        connection.execution_options(**{_WRITES: True})
        with connection.begin():
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7236104)")
            schema.metadata.create_all(connection)
            version = connection.scalar(select(schema.meta.c.value).where(schema.meta.c.key == "version"))
            if version is None:
                connection.execute(schema.meta.insert().values(key="version", value=str(schema.VERSION)))
                connection.execute(schema.meta.insert().values(key="user_key", value=os.urandom(32).hex()))
            elif int(version) != schema.VERSION:
                raise StoreUnusable(
                    f"The store has version {version} and this release writes version {schema.VERSION}; "
                    "move it away, or name another place in the setting 'store'."
                )


def _is_broken(error: Exception) -> bool:
    cause = getattr(error, "orig", error)
    return (
        isinstance(cause, sqlite3.DatabaseError)
        and not isinstance(cause, sqlite3.OperationalError)
        and any(hint in str(cause) for hint in ("not a database", "malformed"))
    )


def _reason(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    text = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
    if isinstance(error, OperationalError) and "locked" in text:
        return f"the database stayed locked for {BUSY_SECONDS:.0f} s"
    return f"{type(cause).__name__}: {text}"
