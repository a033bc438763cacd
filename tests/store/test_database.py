"""The database: how it is opened, what waits and what does not, and what becomes of it when something happens to it."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, inspect, select
from sqlalchemy.exc import IntegrityError, OperationalError

from monitoring.context import is_muted
from monitoring.store import database as module
from monitoring.store import schema
from monitoring.store.database import Database, FactRefused, StoreUnusable
from monitoring.utils import forks
from tests.cells.support import Forked, forks_beside_threads, in_child
from tests.support.forks import telling_gate
from tests.support.processes import poll


def note(connection: Connection, key: str) -> None:
    """Write something."""
    connection.execute(schema.meta.insert().values(key=key, value="noted"))


def write(database: Database, key: str) -> None:
    """Write something in a transaction of its own."""
    with database.writing() as connection:
        note(connection, key)


def noted(database: Database) -> set[str]:
    """Return the keys of what was written."""
    with database.reading() as connection:
        return set(connection.scalars(select(schema.meta.c.key).where(schema.meta.c.value == "noted")))


def file_of(place: str) -> Path:
    """Return the embedded database's file."""
    return Path(place) / module.FILE_NAME


def pragma(database: Database, name: str) -> Any:
    """Return a setting of the connections."""
    with database.maintaining() as driver:
        return driver.execute(f"PRAGMA {name}").fetchone()[0]


@contextmanager
def locking(place: str) -> Iterator[None]:
    """Hold the write lock of the embedded database, as another program might."""
    with closing(sqlite3.connect(file_of(place), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


# How it is opened


def test_the_embedded_database_has_a_log_of_its_own(database: Database) -> None:
    """WAL: who reads does not wait for who writes."""
    assert pragma(database, "journal_mode") == "wal"


def test_space_can_be_given_back(database: Database) -> None:
    """Incremental vacuum is set before the first table is made; later it would have no effect."""
    assert pragma(database, "auto_vacuum") == 2


def test_the_log_does_not_stay_large(database: Database) -> None:
    """After a time in which nobody could clear it, it is cut."""
    assert pragma(database, "journal_size_limit") == 16 * 1024 * 1024


def test_only_its_owner_may_read_it(database: Database, place: str) -> None:
    """The folder is 0700; the file and its companions are 0600 whatever the umask says."""
    former = os.umask(0)
    try:
        write(database, "secret")
    finally:
        os.umask(former)
    assert stat.S_IMODE(os.stat(place).st_mode) == 0o700
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in os.scandir(place)}
    assert modes == {f"monitoring.db{suffix}": 0o600 for suffix in ("", "-shm", "-wal")}


def test_a_url_of_sqlite_is_the_embedded_database(tmp_path: Path) -> None:
    """Whoever names its file gets the same care as whoever names its folder."""
    database = Database(f"sqlite:///{tmp_path / 'own.db'}")
    assert pragma(database, "journal_mode") == "wal"
    assert database.size_bytes() > 0
    database.close()


def test_opening_twice_makes_one_schema(database: Database, place: str) -> None:
    """The key that users are hashed with is made once."""
    second = Database(place)
    with database.reading() as one, second.reading() as other:
        key = select(schema.meta.c.value).where(schema.meta.c.key == "user_key")
        assert one.scalar(key) == other.scalar(key)
    second.close()


def test_eight_processes_that_start_at_once_leave_one_schema(place: str, tmp_path: Path) -> None:
    """None fails, each writes, and there is one version and one key."""
    start = tmp_path / "start"

    def work(number: int) -> str:
        poll(start.exists, "the start")
        return _open_and_write(place, f"worker {number}")

    workers = [Forked(lambda number=number: work(number)) for number in range(8)]
    start.touch()
    try:
        keys = {worker.answer() for worker in workers}
    finally:
        for worker in workers:
            worker.kill()
    database = Database(place)
    assert len(keys) == 1
    assert noted(database) == {f"worker {number}" for number in range(8)}
    with database.reading() as connection:
        assert set(inspect(connection).get_table_names()) == set(schema.metadata.tables)
    database.close()


def _open_and_write(place: str, key: str) -> str:
    database = Database(place)
    write(database, key)
    with database.reading() as connection:
        return str(connection.scalar(select(schema.meta.c.value).where(schema.meta.c.key == "user_key")))


def test_another_version_is_refused_in_one_sentence(database: Database, place: str) -> None:
    """It says which versions meet, and what to do."""
    with database.writing() as connection:
        connection.execute(schema.meta.update().where(schema.meta.c.key == "version").values(value="7"))
    database.close()
    with pytest.raises(StoreUnusable) as caught, database.reading():
        pass
    assert str(caught.value) == (
        "The store has version 7 and this release writes version 1; "
        "move it away, or name another place in the setting 'store'."
    )


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL of PostgreSQL without psycopg says what to install."""

    def no_driver(*args: Any, **options: Any) -> None:
        raise ModuleNotFoundError("No module named 'psycopg'", name="psycopg")

    monkeypatch.setattr("sqlalchemy.create_engine", no_driver)
    database = Database("postgresql+psycopg://localhost/none")
    with pytest.raises(StoreUnusable, match=r"no module 'psycopg'.*pip install 'monitoring-kit\[postgres\]'"):
        noted(database)


def test_a_password_is_not_shown() -> None:
    """The representation of a database goes into logs."""
    assert "secret" not in repr(Database("postgresql+psycopg://user:secret@localhost/monitoring"))


# Writing and reading


def test_a_write_is_one_transaction(database: Database) -> None:
    """What raises in the middle leaves nothing behind."""

    def fail_half_way() -> None:
        with database.writing() as connection:
            note(connection, "half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert noted(database) == set()


def test_a_write_begins_as_one(database: Database, place: str) -> None:
    """It has the lock before it reads, so it cannot lose the race that a reader who turns writer loses."""
    write(database, "before")
    other = sqlite3.connect(file_of(place), timeout=0, isolation_level=None)
    with closing(other), database.writing(), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")


def test_a_read_sees_one_moment(database: Database, place: str) -> None:
    """What another connection writes meanwhile is not in it, and the reader holds nobody up."""
    second = Database(place)
    with database.reading() as connection:
        before = connection.scalar(select(func.count()).select_from(schema.meta))
        write(second, "meanwhile")
        assert connection.scalar(select(func.count()).select_from(schema.meta)) == before
    assert noted(database) == {"meanwhile"}
    second.close()


def test_a_read_that_takes_too_long_is_interrupted(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page over a year of numbers must not hold the app's processor."""
    monkeypatch.setattr(module, "READ_SECONDS", 0.0)
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(StoreUnusable, match=r"a read took over 0 s"), database.reading() as connection:
        connection.exec_driver_sql(endless)


def test_a_write_is_not_interrupted_by_the_limit_of_reads(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit goes with the read, although both use the same connection."""
    monkeypatch.setattr(module, "READ_SECONDS", 0.0)
    assert noted(database) == set()
    counting = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 100000) SELECT count(*) FROM n"
    with database.writing() as connection:
        assert connection.exec_driver_sql(counting).scalar() == 100_000


def test_a_locked_database_is_waited_for_and_then_given_up(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says for how long it was locked."""
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.05)
    database = Database(place)
    write(database, "before")
    with locking(place), pytest.raises(StoreUnusable, match=r"^the database stayed locked for 0\.05 s$"):
        write(database, "locked out")
    write(database, "after")
    assert noted(database) == {"before", "after"}
    database.close()


def test_a_locked_database_can_be_read(database: Database, place: str) -> None:
    """The dashboard does not wait for who writes."""
    write(database, "before")
    with locking(place):
        assert noted(database) == {"before"}


def test_threads_write_in_turn(place: str) -> None:
    """Many threads over one database lose nothing."""
    database = Database(place)
    threads = [threading.Thread(target=lambda n=n: [write(database, f"{n}-{m}") for m in range(20)]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(noted(database)) == 160
    database.close()


@pytest.mark.parametrize("access", ["writing", "reading", "maintaining"])
def test_everything_in_it_is_muted(database: Database, access: str) -> None:
    """The store's own statements are in no number, also where the app's engine is wrapped; the app's go on counting."""
    with getattr(database, access)():
        assert is_muted()
    assert not is_muted()


def test_a_value_that_no_column_takes_is_told_from_a_broken_store(database: Database) -> None:
    """Trying again would not help."""
    write(database, "once")
    with pytest.raises(FactRefused) as caught:
        write(database, "once")
    assert isinstance(caught.value.__cause__, IntegrityError)


def test_an_error_does_not_show_the_values_of_a_statement(database: Database) -> None:
    """It is logged with its traceback, and the values are those of the app's users."""
    with pytest.raises(StoreUnusable) as caught, database.writing() as connection:
        connection.exec_driver_sql("INSERT INTO no_table VALUES (?)", ("alice@example.org",))
    assert isinstance(caught.value.__cause__, OperationalError)
    assert "alice" not in f"{caught.value} {caught.value.__cause__}"


# What happens to the file


def test_a_deleted_file_is_made_anew_at_the_next_use(database: Database, place: str) -> None:
    """Whoever empties the folder of a running app gets a new store, with nothing of the old one's log in it."""
    write(database, "old")
    file_of(place).unlink()
    write(database, "new")
    assert noted(database) == {"new"}


def test_a_deleted_folder_is_made_anew(database: Database, place: str) -> None:
    """Also where it was the folder that went."""
    write(database, "old")
    for entry in list(Path(place).iterdir()):
        entry.unlink()
    Path(place).rmdir()
    write(database, "new")
    assert noted(database) == {"new"}


def test_eight_processes_agree_on_the_new_file_after_a_deletion(place: str, tmp_path: Path) -> None:
    """None removes the log of the file that another has just made."""
    gone = tmp_path / "gone"

    def work(number: int) -> None:
        database = Database(place)
        write(database, f"old {number}")
        (tmp_path / f"ready {number}").touch()
        poll(gone.exists, "the deletion")
        for count in range(5):
            write(database, f"new {number}-{count}")

    workers = [Forked(lambda number=number: work(number)) for number in range(8)]
    try:
        poll(lambda: len(list(tmp_path.glob("ready *"))) == 8, "eight processes that have written")
        file_of(place).unlink()
        gone.touch()
        for worker in workers:
            worker.answer()
        database = Database(place)
        assert noted(database) == {f"new {number}-{count}" for number in range(8) for count in range(5)}
        database.close()
    finally:
        for worker in workers:
            worker.kill()


def test_a_file_of_garbage_is_set_aside_and_a_new_one_begins(place: str) -> None:
    """The first use fails, its remains are kept for a look, and the next use works."""
    Path(place).mkdir()
    file_of(place).write_bytes(b"this is no database, and it is long enough to be looked at" * 100)
    database = Database(place)
    with pytest.raises(StoreUnusable, match="not a database"):
        write(database, "first")
    write(database, "second")
    assert noted(database) == {"second"}
    assert file_of(place).with_name("monitoring.db.broken").read_bytes().startswith(b"this is no database")
    database.close()


def test_a_file_that_breaks_while_it_is_open_is_set_aside(place: str) -> None:
    """Somebody wrote over it."""
    database = Database(place)
    write(database, "lost")
    database.close()
    file_of(place).write_bytes(b"overwritten" * 1000)
    with pytest.raises(StoreUnusable):
        noted(database)
    assert noted(database) == set()
    database.close()


def test_the_new_file_is_not_set_aside_by_who_still_sees_the_old_one(place: str) -> None:
    """Of two processes that met the broken file only one renames it."""
    Path(place).mkdir()
    file_of(place).write_bytes(b"this is no database" * 100)
    slow, quick = Database(place), Database(place)
    slow._inode = file_of(place).stat().st_ino
    with pytest.raises(StoreUnusable):
        write(quick, "first")
    write(quick, "second")
    slow._set_aside()
    assert noted(quick) == {"second"}
    quick.close()


def test_a_place_that_cannot_be_written_is_unusable(tmp_path: Path) -> None:
    """A file where the folder should be; the message is of the system."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(StoreUnusable, match="exists"):
        write(Database(str(tmp_path / "taken")), "never")


def test_size_counts_the_log(database: Database, place: str) -> None:
    """What is not in the file yet takes its place on the disk already."""
    write(database, "x" * 100_000)
    assert database.size_bytes() == sum(
        (Path(place) / name).stat().st_size for name in ("monitoring.db", "monitoring.db-wal")
    )


# Forks


def test_a_forked_child_opens_connections_of_its_own(database: Database) -> None:
    """Parent and child write in turn, and both see both."""
    write(database, "parent before")

    def work() -> set[str]:
        write(database, "child")
        return noted(database)

    assert in_child(work) == {"parent before", "child"}
    write(database, "parent after")
    assert noted(database) == {"parent before", "child", "parent after"}


def test_a_child_never_closes_what_its_parent_opened(database: Database) -> None:
    """SQLite asks for that: the engine is kept, unused, when the child drops the database."""
    write(database, "parent")
    engine = database._engine

    def work() -> bool:
        return any(kept is engine for kept in module._inherited)

    assert in_child(work)


@pytest.mark.parametrize("use", ["writing", "reading", "maintaining"])
@forks_beside_threads
def test_a_fork_waits_for_whoever_uses_the_database(
    database: Database, use: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that is forked while SQLite is at work, if only to read, would wait for its locks for ever."""
    gate = telling_gate(monkeypatch)
    write(database, "before")
    begun, ended = threading.Event(), threading.Event()

    def use_slowly() -> None:
        with getattr(database, use)():
            begun.set()
            gate.fork_is_near.wait(10)
            ended.set()

    user = threading.Thread(target=use_slowly)
    user.start()
    begun.wait(10)

    def work() -> tuple[bool, set[str]]:
        write(database, "child")
        return ended.is_set(), noted(database)

    assert in_child(work) == (True, {"before", "child"})
    user.join()


@forks_beside_threads
def test_a_fork_does_not_wait_for_ever(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that does not end holds a fork up for some time and no longer; the parent goes on."""
    monkeypatch.setattr(forks, "PATIENCE_SECONDS", 0.01)
    with database.writing() as connection:
        assert in_child(lambda: "forked") == "forked"
        note(connection, "slow")
    assert noted(database) == {"slow"}


def test_no_lock_is_left_behind_by_a_fork(database: Database) -> None:
    """After it the parent writes as before."""
    assert in_child(lambda: "forked") == "forked"
    write(database, "after")
    assert noted(database) == {"after"}
