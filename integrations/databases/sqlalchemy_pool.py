"""The pool of a SQLAlchemy engine, whichever class it is of, and the one that ``dispose`` puts in its place.

The seams are attributes of the pool object itself: ``connect``, ``_do_return_conn``, ``_invoke_creator`` and
``_close_connection``, which every pool has. In use are the connections that were taken since the pool was wrapped. How
many are idle a ``QueuePool`` tells itself; of other pools those are counted that were opened since.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any, Final

from monitoring.integrations.attachment import Link, attempt, replace_attributes

from .pool_numbers import PoolNumbers

_TIMED_OUT: Final = "3o7r"
"""SQLAlchemy's code of the error that a pool is exhausted."""
_TELL_AUTOCOMMIT: Final = frozenset({"pysqlite", "aiosqlite", "psycopg", "psycopg2", "asyncpg", "pymysql"})
"""Drivers that know by themselves whether they are in autocommit mode; others may ask the server."""


class Pools:
    """The pool that an engine has, and after each ``dispose`` the next one. Thread-safe under the GIL."""

    def __init__(self, link: Link, name: str, system: str) -> None:
        self.link = link
        self.name = name
        self.system = system
        self.began: dict[int, float] = {}
        """When the transactions that go on began, by the identity of their connection's record."""
        self.last: _Watch | None = None

    def observe(self, pool: Any) -> None:
        """Observe this pool, and no longer the one before."""
        last, self.last = self.last, _Watch(pool, self)
        if last is not None:
            last.retire()

    def leave(self) -> None:
        """Put back what was replaced in the pool that the engine has now."""
        if self.last is not None:
            self.last.leave()

    def begin(self, do_begin: Callable[[Any], None], is_autocommit: Callable[[Any], bool], connection: Any) -> None:
        """Begin a transaction; under autocommit it is none."""
        do_begin(connection)
        if self.link.recorder() is not None:
            attempt(self.link, self._note_begin, is_autocommit, connection)

    def _note_begin(self, is_autocommit: Callable[[Any], bool], connection: Any) -> None:
        record = getattr(connection, "_connection_record", None)
        if record is not None and not is_autocommit(connection):
            self.began[id(record)] = perf_counter()

    def end(self, outcome: str, do_end: Callable[[Any], None], connection: Any) -> None:
        """End a transaction. One whose commit fails goes on until it is rolled back."""
        do_end(connection)
        record = getattr(connection, "_connection_record", None)
        if record is not None:
            self.count_end(record, outcome)

    def count_end(self, record: Any, outcome: str) -> None:
        """Count the transaction that a connection was in, if it was in one."""
        began = self.began.pop(id(record), None)
        recorder = self.link.recorder() if began is not None else None
        if began is not None and recorder is not None and self.last is not None:
            self.last.numbers.transaction(recorder, self.system, outcome, perf_counter() - began)


class _Watch:
    """One pool that is observed."""

    def __init__(self, pool: Any, pools: Pools) -> None:
        self._pools = pools
        self._link = pools.link
        self._taken: dict[int, float] = {}
        """Since when connections are in use, by the identity of their record."""
        self._open: set[int] = set()
        """The identities of connections that were opened and not closed."""
        self._is_retired = False
        self.numbers = PoolNumbers(pools.name)
        self._tells_idle = hasattr(pool, "checkedin")
        self._restore = replace_attributes(pool, self._replacements(pool))
        self._at_end = weakref.finalize(pool, self.numbers.forget)
        self._at_end.atexit = False

    def _replacements(self, pool: Any) -> dict[str, object]:
        return {
            "connect": partial(self._connect, pool, pool.connect),
            "recreate": partial(self._recreate, pool.recreate),
            "dispose": partial(self._dispose, pool, pool.dispose),
            "_do_return_conn": partial(self._give_back, pool, pool._do_return_conn),
            "_invoke_creator": partial(self._create, pool._invoke_creator),
            "_close_connection": partial(self._close, pool._close_connection),
        }

    def retire(self) -> None:
        """Go on only for the connections that are in use: the engine has another pool."""
        self._is_retired = True
        recorder = self._link.recorder()
        if recorder is not None:
            self.numbers.look(recorder, self._open_now, None)

    def leave(self) -> None:
        """Put back what was there."""
        self._restore()
        self._at_end.detach()
        self.numbers.forget()

    def _connect(self, pool: Any, connect: Callable[[], Any]) -> Any:
        started = perf_counter()
        try:
            connection = connect()
        except Exception as error:
            recorder = self._link.recorder() if getattr(error, "code", None) == _TIMED_OUT else None
            if recorder is not None:
                self.numbers.timed_out(recorder)
            raise
        obtained = perf_counter()
        record = getattr(connection, "_connection_record", None)
        if record is not None and id(record) not in self._taken:  # else it is the same again, as of a StaticPool
            self._taken[id(record)] = obtained
            recorder = self._link.recorder()
            if recorder is not None:
                self.numbers.obtained(recorder, obtained - started, self._open_now, pool)
        return connection

    def _give_back(self, pool: Any, give_back: Callable[[Any], None], record: Any) -> None:
        began, ended = self._taken.pop(id(record), None), perf_counter()
        if self._pools.began:
            self._pools.count_end(record, "rollback")  # it was lost in the middle of one
        try:
            give_back(record)
        finally:
            recorder = self._link.recorder()
            if recorder is not None:
                seconds = None if began is None else ended - began
                self.numbers.given_back(recorder, seconds, self._open_now, pool)

    def _create(self, create: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        started = perf_counter()
        connection = create(*args, **kwargs)
        self._open.add(id(connection))
        recorder = self._link.recorder()
        if recorder is not None:
            self.numbers.opened(recorder, perf_counter() - started)
        return connection

    def _close(self, close: Callable[..., None], connection: Any, *args: Any, **kwargs: Any) -> None:
        self._open.discard(id(connection))
        close(connection, *args, **kwargs)

    def _dispose(self, pool: Any, dispose: Callable[[], None]) -> None:
        dispose()
        recorder = self._link.recorder()
        if recorder is not None:
            self.numbers.look(recorder, self._open_now, pool)

    def _recreate(self, recreate: Callable[[], Any]) -> Any:
        pool = recreate()
        attempt(self._link, self._pools.observe, pool)
        return pool

    def _open_now(self, pool: Any) -> tuple[int, int]:
        taken = len(self._taken)
        if self._is_retired:
            return taken, 0
        return taken, pool.checkedin() if self._tells_idle else max(0, len(self._open) - taken)


def pool_name(link: Link, url: Any, dialect: Any) -> str:
    """Return what a pool is called: as the user says, else as its database, a file without its folder."""
    database = str(getattr(url, "database", None) or "")
    return link.name or database.replace("\\", "/").rsplit("/", 1)[-1] or str(dialect.name)


def is_autocommit(dialect: Any) -> Callable[[Any], bool]:
    """Return the function that says whether a connection is in autocommit mode, as far as the driver can tell."""
    detect: Callable[[Any], bool] | None = getattr(dialect, "detect_autocommit_setting", None)
    return detect if detect is not None and dialect.driver in _TELL_AUTOCOMMIT else lambda connection: False


def observe_transactions(dialect: Any, pools: Pools) -> dict[str, object]:
    """Return what is replaced in a dialect, so that its transactions are counted."""
    return {
        "do_begin": partial(pools.begin, dialect.do_begin, is_autocommit(dialect)),
        "do_commit": partial(pools.end, "commit", dialect.do_commit),
        "do_rollback": partial(pools.end, "rollback", dialect.do_rollback),
    }
