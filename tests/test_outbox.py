"""The outbox: bounded, with places of their own for what matters."""

from __future__ import annotations

from monitoring.outbox import CAPACITY, RESERVED, Outbox
from monitoring.store.facts import EventFact

FACT = EventFact(0.0, "event")


def fill(outbox: Outbox, number: int, *, important: bool = False) -> None:
    """Put so many facts."""
    for _ in range(number):
        outbox.put(FACT, important=important)


def test_facts_come_out_in_the_order_they_went_in() -> None:
    """The oldest first, and no more than asked for."""
    outbox = Outbox()
    facts = [EventFact(float(number), "event") for number in range(5)]
    for fact in facts:
        outbox.put(fact)
    assert outbox.take(2) == facts[:2]
    assert outbox.take(10) == facts[2:]
    assert outbox.take(10) == []


def test_what_finds_no_place_is_counted() -> None:
    """The newest are dropped, and nobody waits."""
    outbox = Outbox(capacity=10)
    fill(outbox, 13)
    assert (len(outbox), outbox.dropped) == (10, 3)


def test_errors_and_slow_requests_have_places_of_their_own() -> None:
    """A flood of samples does not push them out; these are bounded, too."""
    outbox = Outbox(capacity=CAPACITY)
    fill(outbox, CAPACITY)
    fill(outbox, RESERVED + 1, important=True)
    assert (len(outbox), outbox.dropped) == (CAPACITY + RESERVED, 1)


def test_important_facts_do_not_keep_others_out_of_their_places() -> None:
    """As long as there is room, all are alike."""
    outbox = Outbox(capacity=8)
    fill(outbox, 4, important=True)
    fill(outbox, 4)
    assert outbox.dropped == 0


def test_without_a_store_nothing_is_kept_and_nothing_is_missed() -> None:
    """A capacity of 0."""
    outbox = Outbox(capacity=0)
    fill(outbox, 3, important=True)
    assert (len(outbox), outbox.dropped, outbox.is_open) == (0, 0, False)
    assert Outbox().is_open


def test_a_child_begins_with_nothing() -> None:
    """What waited is its parent's to write."""
    outbox = Outbox(capacity=1)
    fill(outbox, 3)
    outbox.start_anew()
    assert (len(outbox), outbox.dropped) == (0, 0)
