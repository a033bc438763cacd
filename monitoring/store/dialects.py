"""What SQLite and PostgreSQL do not say alike."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from sqlalchemy import Connection, Table, func, select
from sqlalchemy.dialects import postgresql, sqlite


class Lock(IntEnum):
    """What only one transaction at a time may do: numbers of PostgreSQL's advisory locks."""

    TABLES = 7_236_104
    ERRORS = 7_236_105
    REQUESTS = 7_236_106


def insert(connection: Connection, table: Table) -> Any:
    """Return an insert that knows ``on_conflict_do_update`` and ``on_conflict_do_nothing``."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def be_alone(connection: Connection, lock: Lock) -> None:
    """Wait until no other transaction has ``lock``, and hold it until this one ends. On SQLite a writer is alone."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(lock.value)))
