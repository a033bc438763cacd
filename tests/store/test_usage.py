"""What is read of usage beside ``tests/test_analytics.py``: overdue operations, and bounds."""

from __future__ import annotations

import datetime

from monitoring.store import usage
from monitoring.store.database import Database
from monitoring.store.facts import ActivityFact, OperationFact
from monitoring.store.writer import FactWriter

NOON = datetime.datetime(2026, 3, 10, 12, tzinfo=datetime.UTC).timestamp()


def write(database: Database, batch: str, *facts: ActivityFact | OperationFact) -> None:
    """Write facts."""
    FactWriter(database, "host:1", hash_users=False).write(batch, facts)


def test_each_overdue_operation_is_returned_once(database: Database) -> None:
    """Those that are over, or not due, are left alone."""
    write(
        database,
        "b",
        OperationFact("due", "generate", NOON, deadline_at=NOON + 10, dimensions={"funder": "NSF"}),
        OperationFact("later", "generate", NOON, deadline_at=NOON + 100),
        OperationFact("over", "generate", NOON, "ok", 2.0, deadline_at=NOON + 10),
        OperationFact("endless", "generate", NOON),
    )
    with database.writing() as connection:
        assert usage.end_overdue(connection, NOON + 10) == []
        assert usage.end_overdue(connection, NOON + 11) == [usage.Overdue("generate", 10.0, {"funder": "NSF"})]
        assert usage.end_overdue(connection, NOON + 11) == []


def test_overdue_operations_are_ended_in_steps(database: Database) -> None:
    """After a long stop there may be many."""
    write(database, "b", *(OperationFact(f"o{n}", "generate", NOON, deadline_at=NOON + 1) for n in range(30)))
    with database.writing() as connection:
        counts = [len(usage.end_overdue(connection, NOON + 2, limit=20)) for _ in range(3)]
    assert counts == [20, 10, 0]


def test_a_late_word_of_an_abandoned_operation_changes_nothing(database: Database) -> None:
    """It was counted as abandoned."""
    write(database, "b1", OperationFact("o", "generate", NOON, deadline_at=NOON + 1))
    with database.writing() as connection:
        usage.end_overdue(connection, NOON + 2)
    write(database, "b2", OperationFact("o", "generate", NOON, "ok", 5.0))
    with database.reading() as connection:
        (row,) = usage.latest_operations(connection, "generate", NOON, NOON + 1, {})
    assert (row["outcome"], row["reason"]) == ("abandoned", "deadline")


def test_days_without_anybody_are_days(database: Database) -> None:
    """A gap is a 0 and not a missing point; users of features alone are not counted twice."""
    write(
        database,
        "b",
        ActivityFact("2026-03-08", "alice"),
        ActivityFact("2026-03-10", "alice"),
        ActivityFact("2026-03-10", "bob"),
        ActivityFact("2026-03-10", "bob", "export"),
    )
    with database.reading() as connection:
        assert usage.active_by_day(connection, NOON, 3) == {"2026-03-08": 1, "2026-03-09": 0, "2026-03-10": 2}
        users = usage.active_users(connection, NOON)
    assert (users.day, users.week, users.month) == (2, 2, 2)


def test_the_edges_of_weeks_and_months_are_days(database: Database) -> None:
    """Seven and thirty of them, today included."""
    for ago in (0, 6, 7, 29, 30):
        day = (datetime.date(2026, 3, 10) - datetime.timedelta(days=ago)).isoformat()
        write(database, f"b{ago}", ActivityFact(day, f"{ago} days ago"))
    with database.reading() as connection:
        users = usage.active_users(connection, NOON)
    assert (users.day, users.week, users.month) == (1, 2, 4)


def test_the_latest_operations_are_bounded(database: Database) -> None:
    """By the number that is asked for."""
    write(database, "b", *(OperationFact(f"o{n}", "generate", NOON + n) for n in range(30)))
    with database.reading() as connection:
        found = usage.latest_operations(connection, "generate", NOON, NOON + 100, {}, limit=3)
    assert [row["id"] for row in found] == ["o29", "o28", "o27"]
