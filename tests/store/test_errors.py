"""Error groups in the store: keys and aliases, regressions, events, and how often a group is seen."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, delete, func, select

from monitoring.store import schema
from monitoring.store.database import Database
from monitoring.store.errors import (
    DAY,
    EVENTS_READ,
    HOUR,
    MINUTE,
    event_of_request,
    frequency,
    list_groups,
    read_group,
    set_status,
    write_errors,
)
from monitoring.store.facts import ErrorFact

MIDNIGHT = 1_800_057_600.0
"""A full day of UTC, and so a full hour."""

FACT = ErrorFact(
    at=MIDNIGHT,
    keys=("v1:line", "v1:code"),
    category="database",
    level="error",
    type="sqlalchemy.exc.OperationalError",
    title="OperationalError: no such table",
    culprit="shop.orders.load",
    why=("OperationalError", "shop.orders.load"),
    message="no such table: orders",
    stack=({"type": "OperationalError", "message": "no such table: orders", "is": "", "frames": []},),
    request_id="r1",
    route="/orders",
    user="u1",
    context={"order": 7},
)
COUNTED = replace(FACT, message="", stack=(), request_id="", route="", user="", context={})


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An empty store."""
    database = Database(str(tmp_path / "store"))
    yield database
    database.close()


def write(database: Database, *facts: ErrorFact) -> None:
    """Write facts in a transaction of their own."""
    with database.writing() as connection:
        write_errors(connection, facts)


def read(database: Database, query: Any, *args: Any, **options: Any) -> Any:
    """Return what a query finds."""
    with database.reading() as connection:
        return query(connection, *args, **options)


def ids(
    database: Database, status: Any = "all", since: float = MIDNIGHT - HOUR, until: float = MIDNIGHT + DAY
) -> list[str]:
    """Return the IDs of the listed groups."""
    return [group.id for group in read(database, list_groups, status, since, until)]


def rows(connection: Connection, name: str) -> int:
    """Return how many rows a table has."""
    return int(connection.scalar(select(func.count()).select_from(schema.metadata.tables[name])) or 0)


# Groups and keys


def test_a_new_error_makes_a_group(database: Database) -> None:
    """Its ID is the first key, and it is open."""
    write(database, FACT)
    (group,) = read(database, list_groups, "open", MIDNIGHT - HOUR, MIDNIGHT + HOUR)
    assert (group.id, group.status, group.count, group.recent_count) == ("v1:line", "open", 1, 1)
    assert (group.title, group.type) == (FACT.title, FACT.type)
    assert (group.category, group.level, group.culprit) == ("database", "error", "shop.orders.load")
    assert (group.first_seen, group.last_seen) == (MIDNIGHT, MIDNIGHT)


def test_counts_add_up(database: Database) -> None:
    """A fact stands for as many occurrences as it says, in one batch or in several."""
    write(database, FACT, replace(COUNTED, at=MIDNIGHT + 2, count=40))
    write(database, replace(COUNTED, at=MIDNIGHT + 5, count=2))
    (group,) = read(database, list_groups, "all", MIDNIGHT, MIDNIGHT + MINUTE)
    assert (group.count, group.recent_count) == (43, 43)
    assert (group.first_seen, group.last_seen) == (MIDNIGHT, MIDNIGHT + 5)


@pytest.mark.parametrize("keys", [("v1:line", "v1:other"), ("v1:other", "v1:code"), ("v1:code",)])
def test_an_error_joins_the_group_that_knows_any_of_its_keys(database: Database, keys: tuple[str, ...]) -> None:
    """And its other keys become aliases, under which the next one is found."""
    write(database, FACT)
    write(database, replace(FACT, keys=keys))
    write(database, replace(FACT, keys=(keys[-1], "v1:third")))
    write(database, replace(FACT, keys=("v1:third",)))
    assert ids(database) == ["v1:line"]
    assert read(database, read_group, "v1:third").group.count == 4


def test_aliases_are_found_within_a_batch(database: Database) -> None:
    """The second error of a batch may bind the third to the first."""
    write(
        database,
        FACT,
        replace(FACT, keys=("v1:new line", "v1:code")),
        replace(FACT, keys=("v1:new line", "v1:new code")),
    )
    assert ids(database) == ["v1:line"]


def test_errors_without_a_common_key_are_two_groups(database: Database) -> None:
    """The one seen last is listed first."""
    write(database, FACT, replace(FACT, keys=("v1:b",), at=MIDNIGHT + 1))
    assert ids(database) == ["v1:b", "v1:line"]


def test_a_group_that_retention_removed_is_made_again(database: Database) -> None:
    """Its keys may be known still."""
    write(database, FACT)
    with database.writing() as connection:
        connection.execute(delete(schema.error_group))
    write(database, replace(FACT, keys=("v1:x", "v1:code")))
    assert ids(database) == ["v1:line"]


def test_writers_of_the_same_new_group_do_not_collide(database: Database, tmp_path: Path) -> None:
    """Four processes meet a new error at once: one group, with all of the counts."""
    others = [Database(str(tmp_path / "store")) for _ in range(4)]
    threads = [
        threading.Thread(target=write, args=(other, replace(FACT, keys=(f"v1:{number}", "v1:code"))))
        for number, other in enumerate(others)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        other.close()
    (group,) = read(database, list_groups, "all", MIDNIGHT, MIDNIGHT + 1)
    assert group.count == 4


def test_nothing_is_written_for_no_facts(database: Database) -> None:
    """An empty batch is none."""
    write(database)
    assert ids(database) == []


def test_what_a_database_cannot_hold_is_replaced(database: Database) -> None:
    """Half characters, NUL, and numbers without end: a batch that cannot be written would be tried for ever."""
    write(database, replace(FACT, title="a\0b\ud800", message="\0", context={"n": 2**80, "s": "\udfff"}))
    detail = read(database, read_group, "v1:line")
    assert detail.group.title == "a\N{REPLACEMENT CHARACTER}b?"
    assert detail.events[0].context["n"] == str(2**80)


# Status


def test_a_resolved_group_that_is_seen_again_regresses(database: Database) -> None:
    """And is listed among the open ones."""
    write(database, FACT)
    with database.writing() as connection:
        resolved = set_status(connection, "v1:line", "resolved", MIDNIGHT + 10)
    assert resolved is not None
    assert resolved.status == "resolved"
    assert ids(database, "open") == []
    assert ids(database, "resolved") == ["v1:line"]
    write(database, replace(COUNTED, at=MIDNIGHT + 11))
    (group,) = read(database, list_groups, "open", MIDNIGHT, MIDNIGHT + HOUR)
    assert group.status == "regressed"


def test_what_happened_before_the_resolving_is_no_regression(database: Database) -> None:
    """It only arrived late."""
    write(database, FACT)
    with database.writing() as connection:
        set_status(connection, "v1:line", "resolved", MIDNIGHT + 10)
    write(database, replace(COUNTED, at=MIDNIGHT + 9))
    assert ids(database, "resolved") == ["v1:line"]


def test_a_group_can_be_opened_again_and_found_by_an_alias(database: Database) -> None:
    """Then its next error is no regression."""
    write(database, FACT)
    with database.writing() as connection:
        resolved = set_status(connection, "v1:code", "resolved", MIDNIGHT + 10)
        opened = set_status(connection, "v1:code", "open", MIDNIGHT + 20)
    assert resolved is not None
    assert opened is not None
    assert resolved.status == "resolved"
    assert (opened.id, opened.status) == ("v1:line", "open")
    write(database, replace(COUNTED, at=MIDNIGHT + 30))
    assert read(database, read_group, "v1:line").group.status == "open"


def test_a_status_has_two_values_that_can_be_set(database: Database) -> None:
    """And a group that is not known has none."""
    with database.writing() as connection:
        assert set_status(connection, "v1:none", "resolved", MIDNIGHT) is None
        with pytest.raises(ValueError, match="can be set to 'open' or 'resolved', got 'closed'"):
            set_status(connection, "v1:none", "closed", MIDNIGHT)  # type: ignore[arg-type]


# Events


def test_a_group_is_read_with_its_newest_events(database: Database) -> None:
    """Newest first, twenty of them, with all that was kept."""
    write(database, *(replace(FACT, at=MIDNIGHT + number, request_id=f"r{number}") for number in range(25)))
    detail = read(database, read_group, "v1:code")
    assert detail.why == FACT.why
    assert [event.request_id for event in detail.events] == [f"r{24 - number}" for number in range(EVENTS_READ)]
    event = detail.events[0]
    assert (event.at, event.level, event.message) == (MIDNIGHT + 24, "error", FACT.message)
    assert (event.route, event.user, event.context) == ("/orders", "u1", {"order": 7})
    assert event.stack == list(FACT.stack)


def test_what_is_only_counted_leaves_no_event(database: Database) -> None:
    """A message has no stack but is one."""
    write(database, replace(COUNTED, count=3), replace(COUNTED, message="quota used up"))
    assert [event.message for event in read(database, read_group, "v1:line").events] == ["quota used up"]


def test_the_event_of_a_request_is_found(database: Database) -> None:
    """By the group that the request names, or an alias of it."""
    write(database, FACT, replace(FACT, request_id="r2", message="second"))
    assert read(database, event_of_request, "v1:code", "r2").message == "second"
    assert read(database, event_of_request, "v1:code", "r3") is None


def test_an_unknown_group_is_none(database: Database) -> None:
    """Of whatever ID."""
    assert read(database, read_group, "v1:none") is None


# Frequency


def test_only_groups_of_the_range_are_listed(database: Database) -> None:
    """By when they were first and last seen, and no more than asked for."""
    write(database, FACT, replace(FACT, keys=("v1:b",), at=MIDNIGHT + HOUR))
    assert ids(database, since=MIDNIGHT + 1) == ["v1:b"]
    assert ids(database, until=MIDNIGHT + 1) == ["v1:line"]
    assert len(read(database, list_groups, "all", MIDNIGHT, MIDNIGHT + DAY, limit=1)) == 1


def test_an_hour_is_shown_by_the_minute(database: Database) -> None:
    """Without gaps, and for one group or for all."""
    write(
        database, FACT, replace(COUNTED, at=MIDNIGHT + 125, count=5), replace(FACT, keys=("v1:b",), at=MIDNIGHT + 130)
    )
    one = read(database, frequency, "v1:code", MIDNIGHT, MIDNIGHT + 300)
    assert (one.step_seconds, one.t) == (MINUTE, tuple(int(MIDNIGHT) + MINUTE * step for step in range(5)))
    assert one.count == (1, 0, 5, 0, 0)
    assert read(database, frequency, None, MIDNIGHT, MIDNIGHT + 300).count == (1, 0, 6, 0, 0)


@pytest.mark.parametrize(
    ("length", "step"), [(2 * HOUR, MINUTE), (6 * HOUR, 300), (DAY, 900), (7 * DAY, HOUR), (30 * DAY, DAY)]
)
def test_steps_grow_with_the_range(database: Database, length: int, step: int) -> None:
    """So that a chart never has more than some 170 points, and never loses a count."""
    write(database, replace(FACT, at=MIDNIGHT - 1))
    found = read(database, frequency, None, MIDNIGHT - length, MIDNIGHT)
    assert found.step_seconds == step
    assert len(found.t) == length // step
    assert sum(found.count) == 1


def test_what_is_older_than_a_day_is_known_by_the_hour(database: Database) -> None:
    """Minutes are trimmed by whoever writes; hours stay."""
    write(database, FACT)
    write(database, replace(COUNTED, at=MIDNIGHT + 2 * DAY))
    with database.reading() as connection:
        assert rows(connection, "error_minute") == 1
        assert rows(connection, "error_count") == 2
    old = read(database, frequency, "v1:line", MIDNIGHT, MIDNIGHT + HOUR)
    assert (old.step_seconds, old.count) == (HOUR, (1,))


def test_recent_counts_are_of_the_range(database: Database) -> None:
    """While ``count`` is of all time."""
    write(database, FACT, replace(COUNTED, at=MIDNIGHT + 10 * MINUTE, count=7))
    (group,) = read(database, list_groups, "all", MIDNIGHT + 5 * MINUTE, MIDNIGHT + HOUR)
    assert (group.count, group.recent_count) == (8, 7)
