"""Leases: which process does what only one may do. A holder renews; when it is gone, another takes over in seconds.

What a holder writes names the lease's epoch in the same transaction, so a process that was stopped and woke up late
cannot write over its successor.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, Row, select, update

from .dialects import insert
from .schema import lease as table

SECONDS: Final = 3.0
"""How long a lease lasts without being renewed."""

_CLOCKS_DIFFER_SECONDS: Final = 60.0
"""A lease that lasts longer than this is of a clock that was set back since: it counts for nothing."""


class LeaseLost(Exception):
    """The lease is another's now: what was about to be written is not."""


class Lease:
    """One lease as one process sees it. Not thread-safe: it belongs to the flusher's thread.

    Who holds it is told by owner and epoch together: a restarted container may have the name and pid of its last life.
    """

    def __init__(self, name: str, owner: str) -> None:
        self.name = name
        self.owner = owner
        self.epoch = 0
        """Of the time that this process holds; 0 while it does not."""

    def acquire(self, connection: Connection, now: float) -> bool:
        """Take or renew the lease in a write transaction. Return whether this process holds it."""
        free = insert(connection, table).values(name=self.name, owner="", epoch=0, until=0.0).on_conflict_do_nothing()
        connection.execute(free)
        found = connection.execute(self._row().with_for_update()).one()
        runs = _runs(found, now)
        if runs and not self._is_mine(found):
            self.epoch = 0
            return False
        self.epoch = found.epoch if runs else found.epoch + 1
        connection.execute(
            update(table)
            .where(table.c.name == self.name)
            .values(owner=self.owner, epoch=self.epoch, until=now + SECONDS)
        )
        return True

    def is_free(self, connection: Connection, now: float) -> bool:
        """Say, without writing, whether ``acquire`` would take or renew the lease."""
        found = connection.execute(self._row()).one_or_none()
        return found is None or self._is_mine(found) or not _runs(found, now)

    def until(self, connection: Connection) -> float:
        """Return the unix second at which the lease runs out unless its holder renews it, 0 for one given up."""
        found = connection.execute(self._row()).one_or_none()
        return float(found.until) if found else 0.0

    def require(self, connection: Connection) -> None:
        """Raise LeaseLost unless this process still holds the lease; nobody takes it over in this transaction."""
        found = connection.execute(self._row().with_for_update()).one_or_none()
        if found is None or not self._is_mine(found):
            self.epoch = 0
            raise LeaseLost(f"{self.name} is held by {found.owner if found else 'nobody'}")

    def release(self, connection: Connection) -> None:
        """Give the lease up, so that the next process need not wait."""
        mine = (table.c.name == self.name) & (table.c.owner == self.owner) & (table.c.epoch == self.epoch)
        connection.execute(update(table).where(mine).values(until=0.0))
        self.epoch = 0

    def _row(self) -> Any:
        return select(table).where(table.c.name == self.name)

    def _is_mine(self, found: Row[Any]) -> bool:
        return bool((found.owner, found.epoch) == (self.owner, self.epoch))


def holder(connection: Connection, name: str, now: float) -> str:
    """Return who holds a lease now, "" for nobody."""
    found = connection.execute(select(table).where(table.c.name == name)).one_or_none()
    return str(found.owner) if found and _runs(found, now) else ""


def _runs(found: Row[Any], now: float) -> bool:
    return bool(now <= found.until <= now + _CLOCKS_DIFFER_SECONDS)
