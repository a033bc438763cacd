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
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import sqlalchemy
from sqlalchemy import URL, Connection, Engine, event, make_url, select
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, NoSuchModuleError

from ..context import muted
from ..utils.forks import unforked
from . import schema
from .dialects import Lock, be_alone

try:
    import fcntl
except ImportError:  # Windows: whoever opens the store first there is not waited for
    fcntl = None  # type: ignore[assignment]

FILE_NAME: Final = "monitoring.db"
BUSY_SECONDS: Final = 5.0
"""Longest wait for another writer."""
READ_SECONDS: Final = 5.0
"""Longest time a read may take; then it is interrupted."""

_WRITES: Final = "monitoring_writes"
_POLL_SECONDS: Final = 0.01
_WAL_BYTES: Final = 16 * 1024 * 1024


class StoreUnusable(Exception):
    """The store cannot be used now; the message says why, and what to do where something can be done."""


class FactRefused(StoreUnusable):
    """The store can be used, but not for this: what was to be written is no value of its column. Do not try again."""


class Database:
    """One database, from one process. Thread-safe, and safe over forks: a child opens connections of its own."""

    def __init__(self, place: str) -> None:
        """``place`` is a folder for the embedded database, or the URL of another one. Raise ValueError for neither."""
        self.url = url_of(place)
        self.is_embedded = self.url.get_backend_name() == "sqlite"
        self.path = Path(self.url.database or FILE_NAME).absolute() if self.is_embedded else None
        self._start_anew()
        _databases.add(self)

    def __repr__(self) -> str:
        return f"<Database {self.url.render_as_string(hide_password=True)}>"

    def _start_anew(self) -> None:
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._engine: Engine | None = None
        self._inode = 0

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Run a block as one write transaction. Raise StoreUnusable when the database is locked, full or broken."""
        with self._alone(), self._connected() as connection:
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
        with self._alone(), self._connected() as connection:
            driver: Any = connection.connection.driver_connection
            yield driver

    def close(self) -> None:
        """Close all connections; the next use opens new ones."""
        with unforked():
            with self._lock:
                engine, self._engine = self._engine, None
            if engine is not None:
                engine.dispose()

    def size_bytes(self) -> int:
        """Return what the embedded database takes on the disk, its log included; 0 for another one."""
        if self.path is None:
            return 0
        return _size(self.path) + _size(self.path.with_name(f"{self.path.name}-wal"))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one thread of this process write at a time."""
        if self.path is None:
            yield
            return
        lock = self._writing
        if not lock.acquire(timeout=BUSY_SECONDS):
            raise StoreUnusable(_locked_for())
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Connection]:
        with muted(), self._whole():
            try:
                with self._opened().connect() as connection:
                    yield connection
            except (IntegrityError, DataError) as error:
                raise FactRefused(_reason(error)) from error
            except (DBAPIError, sqlalchemy.exc.TimeoutError, sqlite3.Error, OSError) as error:
                if _is_broken(error):
                    self._set_aside()
                raise StoreUnusable(_reason(error)) from error

    def _whole(self) -> contextlib.AbstractContextManager[None]:
        """Let forks wait: a child that has SQLite's locks as they are while it reads would wait for them for ever."""
        return contextlib.nullcontext() if self.path is None else unforked()

    def _opened(self) -> Engine:
        with unforked(), self._lock:
            if self._engine is not None and self._was_replaced():
                self._engine.dispose()
                self._engine = None
            if self._engine is None:
                self._engine = self._open()
            return self._engine

    def _open(self) -> Engine:
        if self.path is None:
            return self._open_server()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(self.path.parent):
            self._inode = _make_file(self.path)
            engine = sqlalchemy.create_engine(
                self.url,
                connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
                pool_timeout=BUSY_SECONDS,
                hide_parameters=True,
            )
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return _with_tables(engine)

    def _open_server(self) -> Engine:
        timeout = {"connect_timeout": int(BUSY_SECONDS)} if self.url.drivername.endswith("psycopg") else {}
        try:
            engine = sqlalchemy.create_engine(
                self.url, pool_pre_ping=True, pool_timeout=BUSY_SECONDS, hide_parameters=True, connect_args=timeout
            )
        except ImportError as error:
            raise StoreUnusable(
                f"The store's URL begins with {self.url.drivername!r}, and there is no module {error.name!r} for it; "
                "install the database's driver, for PostgreSQL with: pip install 'monitoring-kit[postgres]'."
            ) from error
        if engine.dialect.name == "postgresql":
            event.listen(engine, "begin", _begin_postgresql)
        return _with_tables(engine)

    def _was_replaced(self) -> bool:
        if self.path is None:
            return False
        try:
            return self.path.stat().st_ino != self._inode
        except FileNotFoundError:
            return True

    def _set_aside(self) -> None:
        """Rename a file that is no database any more: its remains are kept for a look, and a new one begins.

        Another process may have done it already: then a new file is in its place.
        """
        self.close()
        if self.path is not None:
            with contextlib.suppress(OSError), _locked(self.path.parent):
                if self.path.stat().st_ino == self._inode:
                    self.path.rename(self.path.with_name(f"{self.path.name}.broken"))

    def _leave_to_parent(self) -> None:
        """Begin again in a forked child. What the parent opened stays open and unused: SQLite asks for that."""
        if self._engine is not None:
            _inherited.append(self._engine)
        self._start_anew()


def _make_file(path: Path) -> int:
    """Make an empty file that nobody else may read, unless there is one. Return what tells it from another file."""
    if not path.exists():
        for suffix in ("-wal", "-shm"):  # leftovers of a file that somebody deleted
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    return path.stat().st_ino


def url_of(place: str) -> URL:
    """Return the URL of a folder's embedded database, or of another one. Raise ValueError for neither; the message
    does not repeat a URL: there may be a password in it.
    """
    if "://" not in place:
        return make_url(f"sqlite:///{Path(place).absolute() / FILE_NAME}")
    try:
        url = make_url(place)
        url.get_dialect().import_dbapi()
    except (ArgumentError, NoSuchModuleError):
        raise ValueError(
            "store must be a folder or a database's URL such as 'postgresql+psycopg://user@host/name', "
            f"got one that begins with {place.partition('://')[0]!r}."
        ) from None
    except ImportError as missing:
        raise ValueError(f"The store's database needs the package {missing.name}; install it.") from None
    return url


def _prepare_sqlite(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_sqlite
    connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # without effect once the journal is a WAL
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute(f"PRAGMA journal_size_limit={_WAL_BYTES}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _begin_postgresql(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    limit, seconds = ("lock_timeout", BUSY_SECONDS) if writes else ("statement_timeout", READ_SECONDS)
    connection.exec_driver_sql(f"SET LOCAL {limit} = {int(seconds * 1000)}")


def _with_tables(engine: Engine) -> Engine:
    try:
        _create_tables(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _create_tables(engine: Engine) -> None:
    """Make what is missing; eight workers may try at once. Raise StoreUnusable for a store of another version."""
    with engine.connect() as connection:
        connection.execution_options(**{_WRITES: True})
        with connection.begin():
            be_alone(connection, Lock.TABLES)
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
    if isinstance(cause, sqlite3.OperationalError) and "locked" in text:
        return _locked_for()
    if isinstance(cause, sqlite3.OperationalError) and text == "interrupted":
        return f"a read took over {READ_SECONDS:g} s; ask for a shorter time"
    return f"{type(cause).__name__}: {text}"


def _locked_for() -> str:
    return f"the database stayed locked for {BUSY_SECONDS:g} s"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Be the only process that makes, opens for the first time or renames the database in a folder."""
    if fcntl is None:
        yield
        return
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _wait_for_lock(fd)
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)  # also for a child that was forked meanwhile and has a copy
        os.close(fd)


def _wait_for_lock(fd: int) -> None:
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StoreUnusable(_locked_for()) from None
            time.sleep(_POLL_SECONDS)


_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_inherited: list[Engine] = []


def _after_fork_in_child() -> None:
    for database in list(_databases):
        database._leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
