"""Tables and numbers as text."""

from __future__ import annotations

import pytest

from monitoring.cli import text


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    """And no line ends in spaces."""
    assert text.table(("a", "long head"), [["wide cell", "b"], ["c", ""]]) == "a          long head\nwide cell  b\nc"


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "-"), (0.0, "0.00 ms"), (0.00123, "1.23 ms"), (0.0123, "12 ms"), (0.9, "900 ms"), (1.5, "1.50 s")],
)
def test_durations_have_a_unit(value: float | None, said: str) -> None:
    """What is not known is a dash."""
    assert text.seconds(value) == said


@pytest.mark.parametrize(("value", "said"), [(None, "-"), (0.0, "0.0%"), (0.125, "12.5%"), (1.0, "100.0%")])
def test_shares_are_per_cent(value: float | None, said: str) -> None:
    """What is not known is a dash."""
    assert text.share(value) == said


def test_times_are_utc() -> None:
    """To the second."""
    assert (text.moment(0.5), text.moment(None)) == ("1970-01-01 00:00:00Z", "-")
