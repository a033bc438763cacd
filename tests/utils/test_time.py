"""Time as text: the second is kept, and follows the wall clock."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from time import perf_counter

import pytest

from monitoring.utils import time as times
from monitoring.utils.time import second_of, unix_time_of, utc_now


def test_the_present_time_is_utc_with_microseconds() -> None:
    """RFC 3339, as log lines have it."""
    before = datetime.now(UTC)
    text = utc_now()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text)
    assert abs((datetime.fromisoformat(text) - before).total_seconds()) < 5


def test_a_second_begins_at_most_a_second_before_its_moments() -> None:
    """Whatever was asked for before: earlier, later, the same again."""
    now = perf_counter()
    for moment in (now, now + 10.4, now + 10.5, now - 3.2, now):
        began, text = second_of(moment)
        assert -1e-6 <= moment - began < 1
        assert text == datetime.fromtimestamp(unix_time_of(moment), UTC).strftime("%Y-%m-%dT%H:%M:%S")


def test_a_wall_clock_that_is_set_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the next second on."""
    now = perf_counter()
    second_of(now)
    monkeypatch.setattr(times.time, "time", lambda: 1_800_000_000.25)
    _, text = second_of(now + 2.0)
    assert text == datetime.fromtimestamp(unix_time_of(now + 2.0), UTC).strftime("%Y-%m-%dT%H:%M:%S")
    assert text.startswith("2027-01-15T08:00:0")
