"""Repeats: the first few lines that say the same are admitted, the others are counted."""

from __future__ import annotations

from monitoring.logs.repeats import WINDOW_SECONDS, Repeats, Said
from monitoring.testing import FakeClock

SAID = Said("info", "app", "again", "")


def test_past_the_limit_lines_are_left_out_and_counted() -> None:
    """Those of a window; the next one begins anew."""
    clock = FakeClock()
    repeats = Repeats(2, clock)
    assert [repeats.admits(SAID) for _ in range(5)] == [True, True, False, False, False]
    assert list(repeats.ended()) == []
    clock.advance(WINDOW_SECONDS)
    assert list(repeats.ended()) == [(SAID, 3)]
    assert repeats.admits(SAID)


def test_lines_that_differ_in_anything_are_counted_apart() -> None:
    """Level, logger, event and the type of the exception."""
    repeats = Repeats(1, FakeClock())
    others = [SAID._replace(**{name: "other"}) for name in Said._fields]
    assert [repeats.admits(said) for said in (SAID, *others)] == [True] * 5


def test_a_window_without_anything_left_out_tells_nothing() -> None:
    """There is nothing to say."""
    repeats = Repeats(2, FakeClock())
    repeats.admits(SAID)
    assert list(repeats.ended(all=True)) == []


def test_at_the_end_all_windows_are_told() -> None:
    """Also those that are not over."""
    repeats = Repeats(1, FakeClock())
    repeats.admits(SAID)
    repeats.admits(SAID)
    assert list(repeats.ended(all=True)) == [(SAID, 1)]


def test_what_two_threads_sum_up_at_once_is_told_once() -> None:
    """The writer's thread does, and whoever flushes."""
    repeats = Repeats(1, FakeClock())
    others = [SAID._replace(event=str(number)) for number in range(3)]
    for said in [*others, *others]:
        repeats.admits(said)
    one, other = repeats.ended(all=True), repeats.ended(all=True)
    told = [next(one), next(other), *one, *other]
    assert told == [(said, 1) for said in others]


def test_memory_is_bounded_and_what_is_not_remembered_is_admitted() -> None:
    """An app that writes its ids into events loses none of them."""
    repeats = Repeats(1, FakeClock())
    for number in range(5_000):
        assert repeats.admits(SAID._replace(event=str(number)))
    assert all(repeats.admits(SAID._replace(event="4999")) for _ in range(3))
    assert not repeats.admits(SAID._replace(event="0"))
