"""The queue of lines that wait to be sent."""

from __future__ import annotations

import signal
import threading

from hypothesis import given
from hypothesis import strategies as st

from monitoring.logs.shipping.limits import Limits
from monitoring.logs.shipping.line_queue import LineQueue


def _queue(drops: list[int], **limits: int) -> LineQueue:
    return LineQueue(Limits(**limits), drops.append)


def _all(queue: LineQueue) -> list[bytes]:
    taken = []
    while batch := queue.take():
        taken.extend(batch)
    return taken


def test_lines_come_out_in_the_order_they_came_in_whatever_their_level() -> None:
    """Errors are kept apart, and still take their place among the others."""
    queue = _queue([])
    expected = [b"%d" % number for number in range(100)]
    for number, line in enumerate(expected):
        queue.put(line, urgent=number % 3 == 0)
    assert len(queue) == 100
    assert _all(queue) == expected
    assert len(queue) == 0


def test_a_batch_is_bounded_in_lines_and_in_bytes() -> None:
    """A line that is longer than a batch goes alone."""
    queue = _queue([], batch_lines=3, batch_bytes=10)
    for line in (b"1", b"2", b"3", b"4", b"x" * 7, b"y" * 11, b"z"):
        queue.put(line)
    assert [queue.take() for _ in range(5)] == [[b"1", b"2", b"3"], [b"4", b"x" * 7], [b"y" * 11], [b"z"], []]


def test_a_full_queue_drops_new_lines_and_old_ones_for_errors() -> None:
    """Each drop is counted; an error is dropped only where nothing but errors waits."""
    drops: list[int] = []
    queue = _queue(drops, queue_lines=3)
    for line in (b"1", b"2", b"3", b"4"):
        queue.put(line)
    assert drops == [1]
    for line in (b"E1", b"E2", b"E3", b"E4"):
        queue.put(line, urgent=True)
    assert sum(drops) == 5
    assert _all(queue) == [b"E1", b"E2", b"E3"]


def test_the_bound_in_bytes_counts_too_and_no_line_empties_the_queue_in_vain() -> None:
    """An error that is larger than all the room there is does not drive out the others."""
    drops: list[int] = []
    queue = _queue(drops, queue_bytes=10)
    queue.put(b"1" * 6)
    queue.put(b"2" * 5)
    queue.put(b"E" * 11, urgent=True)
    assert drops == [1, 1]
    queue.put(b"E" * 5, urgent=True)
    assert drops == [1, 1, 1]
    assert _all(queue) == [b"E" * 5]


def test_a_complete_batch_is_announced_once_until_lines_are_taken() -> None:
    """Whoever wakes the thread for it does so once, however many lines follow while a receiver is away."""
    queue = _queue([], batch_lines=2)
    assert [queue.put(b"x") for _ in range(5)] == [False, True, False, False, False]
    queue.take()
    assert queue.put(b"x")


@given(st.lists(st.tuples(st.integers(1, 12), st.booleans(), st.booleans()), max_size=60))
def test_every_line_is_either_taken_or_counted_and_the_bounds_hold(steps: list[tuple[int, bool, bool]]) -> None:
    """Put and take in any order: lines in = lines out + drops, and errors are dropped last."""
    drops: list[int] = []
    queue = _queue(drops, queue_lines=5, queue_bytes=30, batch_lines=2)
    taken: list[bytes] = []
    for size, urgent, takes in steps:
        queue.put(b"x" * size, urgent)
        assert len(queue) <= 5
        taken.extend(queue.take() if takes else [])
    taken.extend(_all(queue))
    assert len(taken) + sum(drops) == len(steps)


def test_threads_lose_no_line() -> None:
    """What one thread leaves while another sorts in is taken all the same."""
    drops: list[int] = []
    queue = _queue(drops, queue_lines=10_000)

    def write(name: int) -> None:
        for number in range(2_000):
            queue.put(b"%d %d" % (name, number))

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    taken: list[bytes] = []
    while any(thread.is_alive() for thread in threads):
        taken.extend(queue.take())
    taken.extend(_all(queue))
    assert drops == []
    by_thread: dict[bytes, list[int]] = {}
    for line in taken:
        name, number = line.split()
        by_thread.setdefault(name, []).append(int(number))
    assert list(by_thread.values()) == [list(range(2_000))] * 4


def test_a_line_from_a_signal_handler_in_the_middle_of_a_put_is_kept() -> None:
    """The handler finds the queue busy with the very thread that it interrupts, and waits for nobody."""
    drops: list[int] = []
    limits = Limits(queue_lines=1)

    def drop(lines: int) -> None:
        drops.append(lines)

    queue = LineQueue(limits, drop)
    former = signal.signal(signal.SIGUSR1, lambda *_: queue.put(b"from the handler", True) and None)
    try:
        with queue._sorting:  # as if the signal came while a line is sorted in
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert len(queue) == 1
    assert queue.take() == [b"from the handler"]
