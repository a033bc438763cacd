"""The history of checks: how each stood, from when until when."""

from __future__ import annotations

import pytest

from monitoring.store import health
from monitoring.store.database import Database
from monitoring.store.health import STALE_SECONDS, CheckState, Times

NOW = 1_800_000_000.0


def look(database: Database, *found: tuple[float, str], name: str = "database") -> None:
    """Note what was found at these moments."""
    for at, status in found:
        with database.writing() as connection:
            health.note(connection, [CheckState(name, NOW + at, NOW + at, status, True, 0.1, f"at {at:g}")])


def history(database: Database, since: float = 0.0, name: str = "database") -> list[tuple[float, float, str]]:
    """Return from when until when a check stood how."""
    with database.reading() as connection:
        states = health.history(connection, name, NOW + since)
    return [(state.since - NOW, state.until - NOW, state.status) for state in states]


def test_a_state_is_one_row_however_often_it_is_seen(database: Database) -> None:
    """With what was found last."""
    look(database, (0, "pass"), (10, "pass"), (20, "pass"))
    assert history(database) == [(0, 20, "pass")]
    with database.reading() as connection:
        assert health.latest(connection, NOW + 20)[0].output == "at 20"


def test_a_change_ends_the_state_before_it(database: Database) -> None:
    """A failure that one look saw lasted until the next look."""
    look(database, (0, "pass"), (10, "fail"), (20, "pass"), (30, "pass"))
    assert history(database) == [(0, 10, "pass"), (10, 20, "fail"), (20, 30, "pass")]


def test_where_nobody_looked_nothing_is_known(database: Database) -> None:
    """The app was down: its checks neither passed nor failed."""
    look(database, (0, "pass"), (10, "pass"), (10 + STALE_SECONDS, "pass"), (200, "fail"))
    assert history(database) == [(0, 10, "pass"), (10 + STALE_SECONDS,) * 2 + ("pass",), (200, 200, "fail")]


def test_checks_have_histories_of_their_own(database: Database) -> None:
    """By name."""
    look(database, (0, "pass"))
    look(database, (5, "fail"), name="redis")
    look(database, (10, "pass"))
    assert (history(database), history(database, name="redis")) == ([(0, 10, "pass")], [(5, 5, "fail")])


def test_the_latest_states_are_those_of_the_last_minute(database: Database) -> None:
    """One per check, by name; a check that was removed is in none."""
    look(database, (0, "pass"), name="removed")
    look(database, (90, "pass"), (100, "fail"), name="redis")
    look(database, (100, "warn"))
    with database.reading() as connection:
        states = health.latest(connection, NOW + 100)
    assert [(state.name, state.status) for state in states] == [("database", "warn"), ("redis", "fail")]


def test_a_history_is_of_a_time_and_bounded(database: Database) -> None:
    """The newest 200, oldest first, beginning with the state that reaches into the time."""
    look(database, *((number * 10, "fail" if number % 2 else "pass") for number in range(300)))
    whole = history(database)
    assert (len(whole), whole[-1][0], whole == sorted(whole)) == (200, 2990, True)
    assert history(database, since=2975) == [(2970, 2980, "fail"), (2980, 2990, "pass"), (2990, 2990, "fail")]


def times(database: Database, since: float, until: float, name: str = "database") -> Times:
    """Return how long a check stood in each way."""
    with database.reading() as connection:
        return health.times(connection, name, NOW + since, NOW + until)


def test_times_are_counted_apart(database: Database) -> None:
    """Up, warned of, down, and what nobody looked at."""
    look(database, (0, "pass"), (10, "warn"), (15, "fail"), (20, "pass"), (40, "pass"))
    look(database, (140, "pass"), (150, "pass"))
    assert times(database, 0, 160) == Times(up=40.0, warn=5.0, down=5.0, unknown=110.0)


@pytest.mark.parametrize(("since", "share"), [(0, 0.875), (-100, 0.875), (10, 5 / 6), (20, 1.0)])
def test_uptime_is_the_share_of_the_known_time(database: Database, since: float, share: float) -> None:
    """Of what lies in the time; a warning is up."""
    look(database, (0, "pass"), (10, "warn"), (15, "fail"), (20, "pass"), (40, "pass"))
    assert times(database, since, 40).uptime == pytest.approx(share)


def test_before_it_was_first_looked_at_nothing_counts(database: Database) -> None:
    """A check that is new was not unknown for a year."""
    look(database, (0, "pass"), (10, "pass"))
    assert times(database, -86_400, 10) == Times(up=10.0)


def test_uptime_is_unknown_where_nobody_looked(database: Database) -> None:
    """None, and not 100 %."""
    assert times(database, 0, 10).uptime is None


def test_a_timeline_adds_up_to_the_whole(database: Database) -> None:
    """Each minute's times, those at the ends cut to the time."""
    look(database, *((second, "fail" if second % 70 < 20 else "pass") for second in range(0, 600, 10)))
    with database.reading() as connection:
        line = health.timeline(connection, "database", NOW + 25, NOW + 555, 60)
    whole = times(database, 25, 555)
    assert [begin for begin, _ in line] == [int(NOW) + number * 60 for number in range(10)]
    for way in ("up", "warn", "down", "unknown"):
        assert sum(getattr(one, way) for _, one in line) == pytest.approx(getattr(whole, way))
    assert whole.down > 0
