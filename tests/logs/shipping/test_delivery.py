"""Delivery: order, retries, the spool, and that every line is delivered, kept or counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from monitoring.logs.shipping.delivery import Delivery
from monitoring.logs.shipping.limits import Limits
from monitoring.logs.shipping.line_queue import LineQueue
from monitoring.logs.shipping.retries import NotDelivered, Refused, pause_seconds
from monitoring.logs.shipping.spool import Spool
from monitoring.testing import FakeClock
from tests.support.log_lines import Drops


class Receiver:
    """A transport that keeps what it is sent, unless it is told to answer otherwise."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.tries = 0
        self.answer: Callable[[Sequence[bytes]], int] = lambda lines: 0

    def send(self, lines: Sequence[bytes]) -> int:
        """Take lines."""
        self.tries += 1
        refused = self.answer(lines)
        self.got.extend(lines)
        return refused

    def abort(self) -> None:
        """Have nothing to abort."""

    def close(self) -> None:
        """Have nothing to close."""

    def goes_away(self, **how: object) -> None:
        """Take nothing from now on."""

        def away(_: Sequence[bytes]) -> int:
            raise NotDelivered("away", **how)  # type: ignore[arg-type]

        self.answer = away

    def comes_back(self) -> None:
        """Take everything again."""
        self.answer = lambda lines: 0


class Bench:
    """A delivery with all that it needs; time moves when a test says so."""

    def __init__(self, spool: Path | None = None, **limits: float) -> None:
        self.limits = Limits(**{"batch_lines": 2, **limits})  # type: ignore[arg-type]
        self.drops = Drops()
        self.said: list[str] = []
        self.clock = FakeClock()
        self.receiver = Receiver()
        self.spool = Spool(spool, int(self.limits.spool_bytes)) if spool is not None else None
        self.queue = LineQueue(self.limits, lambda lines: self.drops("queue_full", lines))
        self.delivery = Delivery(
            self.queue, self.receiver, self.spool, self.limits, self.drops, self.said.append, self.clock
        )

    def write(self, *numbers: int) -> None:
        """Put lines in the queue, and have the delivery do its work."""
        for number in numbers:
            self.queue.put(b"%d\n" % number)
        self.delivery.work()

    def later(self) -> None:
        """Let the longest pause pass, and have the delivery do its work."""
        self.clock.advance(self.limits.retry_seconds)
        self.delivery.work()

    @property
    def got(self) -> list[int]:
        """Return the numbers that the receiver took."""
        return list(map(int, self.receiver.got))


def test_lines_are_sent_in_order_in_batches() -> None:
    """Nothing is left when all of it was taken."""
    bench = Bench()
    bench.write(1, 2, 3, 4, 5)
    assert bench.got == [1, 2, 3, 4, 5]
    assert bench.receiver.tries == 3
    assert bench.delivery.is_settled


def test_without_a_spool_lines_wait_in_memory_for_a_receiver_that_is_away() -> None:
    """It is tried again after a pause, with the same lines first."""
    bench = Bench()
    bench.receiver.goes_away()
    bench.write(1, 2, 3)
    bench.write(4)
    assert (bench.receiver.tries, bench.delivery.is_settled) == (1, False)
    bench.later()
    assert bench.receiver.tries == 2
    bench.receiver.comes_back()
    bench.later()
    assert bench.got == [1, 2, 3, 4]
    assert bench.drops == {}


def test_the_pause_grows_by_chance_up_to_its_bound_and_ends_with_a_success() -> None:
    """Tries go on for ever: a receiver may be away for a day."""
    pauses = [[pause_seconds(failures, 30.0) for _ in range(200)] for failures in (1, 2, 3, 10, 2000)]
    assert [min(some) >= 0 and max(some) <= bound for some, bound in zip(pauses, (0.5, 1, 2, 30, 30))] == [True] * 5
    assert all(len(set(some)) > 100 for some in pauses)
    assert max(pauses[4]) > 20


@pytest.mark.parametrize(("asked", "granted"), [(120.0, 120.0), (1e9, 3600.0)])
def test_a_receiver_that_asks_for_time_is_left_alone_for_so_long(asked: float, granted: float) -> None:
    """Up to an hour; nobody who is in a hurry changes that."""
    bench = Bench()
    bench.receiver.goes_away(retry_after_seconds=asked)
    bench.write(1)
    bench.receiver.comes_back()
    bench.clock.advance(granted - 1)
    bench.delivery.try_soon()
    bench.delivery.work()
    assert bench.receiver.tries == 1
    bench.clock.advance(1)
    bench.delivery.work()
    assert bench.got == [1]


def test_who_is_in_a_hurry_does_not_wait_for_the_next_try() -> None:
    """As at the end of a process."""
    bench = Bench()
    bench.receiver.goes_away()
    for _ in range(8):
        bench.write(1)
        bench.clock.advance(bench.limits.retry_seconds)
    bench.receiver.comes_back()
    bench.clock.advance(-bench.limits.retry_seconds)
    bench.delivery.try_soon()
    bench.delivery.work()
    assert bench.got == [1] * 8


def test_refused_lines_are_counted_and_hold_up_no_others() -> None:
    """A batch that will never be taken is not tried again; neither is one that cannot be encoded."""
    bench = Bench()

    def refuse(lines: Sequence[bytes]) -> int:
        if b"1\n" in lines:
            raise Refused("answered 400")
        if b"3\n" in lines:
            raise KeyError("a bug")
        return 1  # of the two: as a collector says it

    bench.receiver.answer = refuse
    bench.write(1, 2, 3, 4, 5, 6)
    assert bench.got == [5, 6]
    assert bench.drops == {"refused": 5}
    assert bench.delivery.is_settled


def test_a_batch_that_a_receiver_fails_of_is_given_up_after_twenty_tries() -> None:
    """Otherwise one line that it cannot digest would keep back all that follow, for ever."""
    bench = Bench()
    bench.receiver.goes_away(has_failed=True)
    bench.write(1, 2)
    for _ in range(19):
        assert bench.drops == {}
        bench.later()
    assert bench.drops == {"refused": 2}
    bench.receiver.comes_back()
    bench.write(3)
    assert bench.got == [3]


def test_failures_of_one_batch_are_not_held_against_the_next() -> None:
    """A success in between ends the count, and the growth of the pause."""
    bench = Bench()
    for number in (1, 2):
        bench.receiver.goes_away(has_failed=True)
        bench.write(number)
        for _ in range(18):
            bench.later()
        bench.receiver.comes_back()
        bench.later()
    assert bench.drops == {}
    assert bench.got == [1, 2]


def test_what_was_refused_of_a_part_that_was_taken_is_counted() -> None:
    """Where the first half of a batch was answered, and the second half was not."""
    bench = Bench()

    def half(lines: Sequence[bytes]) -> int:
        error = NotDelivered("away", delivered=1)
        error.refused = 1
        raise error

    bench.receiver.answer = half
    bench.write(1, 2)
    bench.receiver.comes_back()
    bench.later()
    assert bench.got == [2]
    assert bench.drops == {"refused": 1}


def test_a_receiver_that_is_away_may_stay_away(tmp_path: Path) -> None:
    """Only answers count against a batch: a host that cannot be reached says nothing about it."""
    bench = Bench(tmp_path)
    bench.receiver.goes_away()
    bench.write(1)
    for _ in range(100):
        bench.later()
    assert bench.drops == {}
    bench.receiver.comes_back()
    bench.later()
    assert bench.got == [1]


@pytest.mark.parametrize("has_spool", [True, False])
def test_what_was_taken_before_a_failure_is_not_sent_again(tmp_path: Path, has_spool: bool) -> None:
    """In memory and in the spool, where a slow receiver has taken the first part of a batch."""
    bench = Bench(tmp_path if has_spool else None, batch_lines=4)
    bench.receiver.goes_away()
    bench.write(1, 2, 3, 4)

    def half(lines: Sequence[bytes]) -> int:
        bench.receiver.got.extend(lines[:2])
        raise NotDelivered("slow", delivered=2)

    bench.receiver.answer = half
    bench.later()
    bench.receiver.comes_back()
    bench.later()
    assert bench.got == [1, 2, 3, 4]


def test_with_a_spool_lines_go_to_disk_and_come_back_before_newer_ones(tmp_path: Path) -> None:
    """While the receiver is away memory is free, and the order stays."""
    bench = Bench(tmp_path)
    bench.receiver.goes_away()
    bench.write(1, 2, 3)
    bench.write(4)
    assert bench.delivery.is_settled
    assert bench.spool is not None
    assert len(bench.spool.batches()) == 3
    bench.receiver.comes_back()
    bench.clock.advance(60)
    bench.write(5, 6)
    assert bench.got == [1, 2, 3, 4, 5, 6]
    assert bench.spool.batches() == []


def test_the_next_process_sends_what_the_last_one_left_before_its_own(tmp_path: Path) -> None:
    """Also what waited in memory when it ended."""
    first = Bench(tmp_path)
    first.receiver.goes_away()
    first.write(1, 2)
    first.queue.put(b"3\n")
    first.delivery.put_away(1.0)
    second = Bench(tmp_path)
    second.write(4)
    assert second.got == [1, 2, 3, 4]
    assert first.drops + second.drops == {}


def test_a_long_spool_is_sent_without_the_queue_running_over(tmp_path: Path) -> None:
    """What comes meanwhile goes behind it on disk."""
    bench = Bench(tmp_path, queue_lines=3)
    bench.receiver.goes_away()
    for number in range(20):
        bench.write(number)
    newer = iter(range(20, 60))

    def take_and_hear_more(_: Sequence[bytes]) -> int:
        for number in (next(newer, None), next(newer, None)):
            if number is not None:
                bench.queue.put(b"%d\n" % number)
        return 0

    bench.receiver.answer = take_and_hear_more
    bench.later()
    assert bench.got == list(range(60))
    assert bench.drops == {}


def test_lines_that_the_spool_has_no_room_for_wait_in_memory(tmp_path: Path) -> None:
    """The queue drops what it cannot keep, lines below error first; at the end the rest is counted."""
    bench = Bench(tmp_path, spool_bytes=2 * 4096, queue_lines=3)
    bench.receiver.goes_away()
    for number in range(10):
        bench.write(number)
    assert bench.drops == {"queue_full": 4}  # two on disk, one taken, three in the queue
    bench.queue.put(b"99\n", urgent=True)
    assert bench.drops == {"queue_full": 5}
    bench.delivery.put_away(1.0)
    assert bench.drops == {"queue_full": 5, "spool_full": 4}
    bench.receiver.comes_back()
    bench.later()
    assert bench.got == [0, 1]


def test_at_the_end_without_a_spool_lines_are_counted_as_undelivered() -> None:
    """Sent = delivered + counted, always."""
    bench = Bench()
    bench.receiver.goes_away()
    bench.write(1, 2, 3)
    bench.delivery.put_away(1.0)
    assert bench.drops == {"undelivered": 3}


def test_a_broken_file_of_the_spool_is_counted_and_holds_up_no_others(tmp_path: Path) -> None:
    """The lines after it are sent."""
    bench = Bench(tmp_path)
    bench.receiver.goes_away()
    bench.write(1, 2, 3, 4)
    assert bench.spool is not None
    bench.spool.batches()[0].write_bytes(b"broken")
    bench.receiver.comes_back()
    bench.later()
    assert bench.got == [3, 4]
    assert bench.drops == {"spool_broken": 2}


def test_while_another_process_sends_the_spool_lines_go_behind_it(tmp_path: Path) -> None:
    """No batch is sent twice, and none overtakes another."""
    bench = Bench(tmp_path)
    other = Spool(tmp_path, 10**6)
    other.add([b"1\n"])
    with other.claim():
        bench.write(2)
        assert bench.got == []
        assert bench.delivery.is_settled
    bench.delivery.work()
    assert bench.got == [1, 2]


def test_what_goes_wrong_is_said_with_what_becomes_of_the_lines() -> None:
    """An operator wants to know both."""
    bench = Bench()
    bench.receiver.goes_away()
    bench.write(1)
    assert bench.said == ["away. They are sent later, or counted as dropped"]


@pytest.mark.parametrize("value", [0, -1, "9", True, float("nan"), float("inf")])
def test_limits_are_numbers_above_zero(value: object) -> None:
    """One sentence says which is not."""
    with pytest.raises(ValueError, match=r"^queue_lines of Limits must be a number above 0, got .*\.$"):
        Limits(queue_lines=value)  # type: ignore[arg-type]
