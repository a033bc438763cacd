"""Leases: one holder at a time, over processes and their deaths."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from monitoring.store.database import Database
from monitoring.store.leases import SECONDS, Lease, LeaseLost, holder
from monitoring.testing import FakeClock
from tests.cells.support import Forked
from tests.support.processes import poll


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still."""
    return FakeClock()


def acquire(database: Database, lease: Lease, now: float) -> bool:
    """Try to take or renew a lease in a transaction of its own."""
    with database.writing() as connection:
        return lease.acquire(connection, now)


def is_free(database: Database, lease: Lease, now: float) -> bool:
    """Say whether a lease could be taken."""
    with database.reading() as connection:
        return lease.is_free(connection, now)


def require(database: Database, lease: Lease) -> None:
    """Do something that only the holder may."""
    with database.writing() as connection:
        lease.require(connection)


def release(database: Database, lease: Lease) -> None:
    """Give a lease up."""
    with database.writing() as connection:
        lease.release(connection)


def held_by(database: Database, now: float) -> str:
    """Return who holds the lease ``work``."""
    with database.reading() as connection:
        return holder(connection, "work", now)


def test_one_of_two_holds(database: Database, clock: FakeClock) -> None:
    """The first that asks; the other may look, but not have it."""
    first, second = Lease("work", "a:1"), Lease("work", "b:2")
    assert acquire(database, first, clock())
    assert not is_free(database, second, clock())
    assert not acquire(database, second, clock())
    assert held_by(database, clock()) == "a:1"


def test_leases_of_different_names_are_independent(database: Database, clock: FakeClock) -> None:
    """The host's and the store's may have different holders."""
    assert acquire(database, Lease("work", "a:1"), clock())
    assert acquire(database, Lease("other", "b:2"), clock())


def test_a_holder_that_renews_keeps_it_and_its_epoch(database: Database, clock: FakeClock) -> None:
    """For as long as it likes."""
    lease, other = Lease("work", "a:1"), Lease("work", "b:2")
    for _ in range(10):
        assert acquire(database, lease, clock())
        assert not acquire(database, other, clock())
        clock.advance(SECONDS)
    assert lease.epoch == 1


def test_a_lease_that_is_not_renewed_is_taken_over(database: Database, clock: FakeClock) -> None:
    """Three seconds later, and not before; the epoch grows."""
    gone, next_one = Lease("work", "a:1"), Lease("work", "b:2")
    acquire(database, gone, clock())
    clock.advance(SECONDS)
    assert not acquire(database, next_one, clock())
    clock.advance(0.01)
    assert held_by(database, clock()) == ""
    assert is_free(database, next_one, clock())
    assert acquire(database, next_one, clock())
    assert (gone.epoch, next_one.epoch) == (1, 2)


def test_the_epoch_grows_at_each_change_of_holder(database: Database, clock: FakeClock) -> None:
    """Also back to a former holder, and also where one comes late to renew its own."""
    first, second = Lease("work", "a:1"), Lease("work", "b:2")
    epochs = []
    for lease in (first, second, first, first):
        assert acquire(database, lease, clock())
        epochs.append(lease.epoch)
        clock.advance(SECONDS + 1)
    assert epochs == [1, 2, 3, 4]


def test_a_stale_holder_is_refused(database: Database, clock: FakeClock) -> None:
    """A process that slept through its lease writes nothing over its successor, and knows it from then on."""
    stale, successor = Lease("work", "a:1"), Lease("work", "b:2")
    acquire(database, stale, clock())
    clock.advance(SECONDS + 1)
    acquire(database, successor, clock())
    with pytest.raises(LeaseLost, match="work is held by b:2"):
        require(database, stale)
    require(database, successor)
    assert stale.epoch == 0


def test_a_lease_that_never_was_is_refused(database: Database) -> None:
    """Nobody has asked for it."""
    with pytest.raises(LeaseLost, match="work is held by nobody"):
        require(database, Lease("work", "a:1"))


def test_releasing_frees_at_once(database: Database, clock: FakeClock) -> None:
    """The next process need not wait for the end of the lease."""
    lease, other = Lease("work", "a:1"), Lease("work", "b:2")
    acquire(database, lease, clock())
    release(database, lease)
    assert held_by(database, clock()) == ""
    assert acquire(database, other, clock())
    with pytest.raises(LeaseLost):
        require(database, lease)


def test_releasing_what_another_holds_does_nothing(database: Database, clock: FakeClock) -> None:
    """A process that ends gives up its own leases only."""
    mine, other = Lease("work", "a:1"), Lease("work", "b:2")
    acquire(database, other, clock())
    acquire(database, mine, clock())
    release(database, mine)
    assert held_by(database, clock()) == "b:2"


def test_a_namesake_is_not_the_holder(database: Database, clock: FakeClock) -> None:
    """A restarted container has the host's name and the pid of its last life, or two containers have the same."""
    first, namesake = Lease("work", "web:1"), Lease("work", "web:1")
    acquire(database, first, clock())
    assert not is_free(database, namesake, clock())
    assert not acquire(database, namesake, clock())
    release(database, namesake)
    require(database, first)


def test_a_transaction_that_fails_takes_nothing(database: Database, clock: FakeClock) -> None:
    """Who believed to hold the lease is refused, and the other gets it."""
    lease, other = Lease("work", "a:1"), Lease("work", "b:2")
    with database.writing() as connection:
        lease.acquire(connection, clock())
        connection.rollback()
    with pytest.raises(LeaseLost):
        require(database, lease)
    assert acquire(database, other, clock())


def test_a_clock_that_was_set_back_holds_nobody_up(database: Database, clock: FakeClock) -> None:
    """A lease that seems to last an hour is of a holder whose clock was an hour ahead."""
    gone, other = Lease("work", "a:1"), Lease("work", "b:2")
    acquire(database, gone, clock())
    clock.advance(-3600)
    assert held_by(database, clock()) == ""
    assert acquire(database, other, clock())


def test_a_deleted_database_has_no_holder(database: Database, clock: FakeClock) -> None:
    """The former holder asks again like everybody."""
    lease = Lease("work", "a:1")
    acquire(database, lease, clock())
    assert database.path is not None
    database.path.unlink()
    with pytest.raises(LeaseLost):
        require(database, lease)
    assert acquire(database, lease, clock())


def test_four_processes_have_one_holder_each_time_one_is_killed(place: str, tmp_path: Path) -> None:
    """Each writes down the epoch that it held. When the holder is killed, another takes over, and no epoch is two's."""
    database = Database(place)
    turn = tmp_path / "turn"

    def set_turn(moment: int) -> None:
        (tmp_path / "next").write_text(str(moment))
        (tmp_path / "next").rename(turn)  # whole, whoever reads it now

    set_turn(1000)

    def work(number: int) -> None:
        own, lease = Database(place), Lease("work", f"{number}")
        while True:
            now = float(turn.read_text())
            with own.writing() as connection:
                if lease.acquire(connection, now):
                    lease.require(connection)
                    (tmp_path / f"epoch {lease.epoch} of {os.getpid()}").touch()

    workers = {worker.pid: worker for worker in (Forked(lambda n=n: work(n)) for n in range(4))}
    try:
        for epoch in range(1, 5):
            (held,) = poll(lambda: list(tmp_path.glob(f"epoch {epoch} of *")), f"epoch {epoch}")  # noqa: B023
            pid = int(held.name.split()[-1])
            workers.pop(pid).kill()
            set_turn(1000 + epoch * 10)
    finally:
        for worker in workers.values():
            worker.kill()
        database.close()
    epochs = [name.name.split(" of ")[0] for name in tmp_path.glob("epoch *")]
    assert sorted(epochs) == [f"epoch {number}" for number in range(1, 5)]
