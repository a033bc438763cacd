"""The tables: the same on both databases, and few indexes on those that are written often."""

from __future__ import annotations

import pytest
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateTable

from monitoring.store import schema
from monitoring.store.database import Database
from monitoring.store.facts import EventFact
from monitoring.store.writer import FactWriter

HOT = ("request", "span", "line", "event", "error_event", "operation", "rollup", "activity")


@pytest.mark.parametrize("table", schema.metadata.tables.values(), ids=str)
def test_a_table_can_be_made_on_either_database(table: schema.Table) -> None:
    """Its types are those of both."""
    for dialect in (sqlite.dialect(), postgresql.dialect()):
        assert f"CREATE TABLE {table.name}" in str(CreateTable(table).compile(dialect=dialect))


@pytest.mark.parametrize("name", HOT)
def test_a_hot_table_has_two_indexes_at_most(name: str) -> None:
    """Each more costs every write."""
    assert len(schema.metadata.tables[name].indexes) <= 2


def test_sizes_tell_rows_and_the_oldest(database: Database) -> None:
    """For the page about the store itself."""
    FactWriter(database, "host:1").write("b1", [EventFact(5.0, "new"), EventFact(3.0, "old")])
    with database.reading() as connection:
        sizes = {size["name"]: size for size in schema.sizes(connection)}
    assert (sizes["event"]["rows"], sizes["event"]["oldest"]) == (2, 3.0)
    assert (sizes["request"]["rows"], sizes["request"]["oldest"]) == (0, None)
    assert sizes["rollup"]["rows"] == 0
