"""What receivers of Loki's and OpenTelemetry's protocols take, through being killed and started again."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monitoring.logs.outlets import Handler
from monitoring.logs.shipping import OTLP, Limits, Loki
from tests.support.log_lines import Drops, line, lines
from tests.support.log_receiver import LogReceiver
from tests.support.processes import poll

FORK = multiprocessing.get_context("fork")

Make = Callable[..., Handler]
PROTOCOLS = [pytest.param(Loki, id="loki"), pytest.param(OTLP, id="otlp")]


def _handler(make: Make, url: str, **settings: Any) -> Handler:
    return make(url, limits=Limits(batch_seconds=0.02, batch_lines=20, retry_seconds=0.05), **settings)


def _numbers(receiver: LogReceiver) -> list[int]:
    """Return which lines were taken; of a push it is the line, of a log record its body."""
    return [int(text.partition("event ")[2].split('"')[0]) for text in receiver.lines]


@pytest.mark.parametrize("make", PROTOCOLS)
@pytest.mark.parametrize("has_spool", [True, False])
def test_every_line_arrives_once_and_in_order_though_the_receiver_is_killed_and_started_again(
    tmp_path: Path, make: Make, has_spool: bool
) -> None:
    """It is killed while lines stream to it: what it has not answered is sent again, from memory or the spool."""
    drops = Drops()
    with LogReceiver(tmp_path) as receiver:
        outlet = _handler(make, receiver.url, spool=tmp_path / "spool" if has_spool else None).open("shop", drops)
        for number in range(900):
            outlet.write(line(number))
            if number == 300:
                poll(lambda: receiver.lines, "the first lines")
                receiver.die()
            if number == 600:
                outlet.flush(0.1)  # it is away: they go to the spool, or stay in memory
                receiver.start()
        outlet.close(15)
        assert _numbers(receiver) == list(range(900))
    assert drops == {}
    assert not list((tmp_path / "spool").rglob("*.lines.gz"))


@pytest.mark.parametrize("make", PROTOCOLS)
def test_the_next_process_sends_what_was_left(tmp_path: Path, make: Make) -> None:
    """A process that ends while the receiver is away leaves its lines on disk; its successor's own come after them."""
    drops = Drops()
    with LogReceiver(tmp_path) as receiver:
        receiver.die()
        handler = _handler(make, receiver.url, spool=tmp_path / "spool")

        def process(first: int) -> None:
            outlet = handler.open("shop", drops)
            for one in lines(range(first, first + 50)):
                outlet.write(one)
            outlet.close(15 if first else 0.2)

        for first in (0, 50):
            child = FORK.Process(target=process, args=(first,))
            child.start()
            child.join(30)
            assert child.exitcode == 0
            if not first:
                receiver.start()
        assert _numbers(receiver) == list(range(100))


@pytest.mark.parametrize("make", PROTOCOLS)
def test_workers_that_fork_share_a_receiver_and_a_spool(tmp_path: Path, make: Make) -> None:
    """Each sends its own, in its order; what they leave while it is away is sent once."""
    drops = Drops()
    with LogReceiver(tmp_path) as receiver:
        receiver.die()
        outlet = _handler(make, receiver.url, spool=tmp_path / "spool").open("shop", drops)
        is_back = FORK.Event()
        are_spooled = FORK.Semaphore(0)

        def worker(number: int) -> None:
            own = range(1000 * number, 1000 * number + 100)
            for one in lines(own[:50]):
                outlet.write(one)
            outlet.flush()
            are_spooled.release()
            is_back.wait(30)
            for one in lines(own[50:]):
                outlet.write(one)
            outlet.close(15)

        workers = [FORK.Process(target=worker, args=(number,)) for number in range(3)]
        for one in workers:
            one.start()
        for _ in workers:
            assert are_spooled.acquire(timeout=30)
        receiver.start()
        is_back.set()
        for one in workers:
            one.join(30)
        outlet.write(line(9999))  # sends what the last of them left to another that was just ending
        outlet.close(15)
        got = _numbers(receiver)
    assert sorted(got) == sorted([*range(100), *range(1000, 1100), *range(2000, 2100), 9999])
    for number in range(3):
        own = [one for one in got if one // 1000 == number]
        assert own == sorted(own)
