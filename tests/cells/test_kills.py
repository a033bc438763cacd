"""Processes are killed with SIGKILL at random moments while they count, and the sum still agrees with a ledger."""

from __future__ import annotations

import os
import random
import select
import threading
import time
from pathlib import Path

import pytest

from monitoring.cells import CellReader, Totals

from .conftest import Join
from .support import JOBS, SECONDS, Forked, count, metric, observe, read, samples, sharing, value

CHILDREN = 3
THREADS = 2
SERIES_EVERY = 20

Values = dict[tuple[str, ...], float]


class Ledger:
    """A pipe into which children write a byte after each increment; what is written survives its writer."""

    def __init__(self) -> None:
        self.acknowledged = 0
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)

    def acknowledge(self) -> None:
        """Say that an increment is done. For the children."""
        os.write(self._write, b"+")

    def follow(self, seconds: float) -> None:
        """Count what children acknowledge, for so long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([self._read], [], [], left)[0]:
                self.acknowledged += len(os.read(self._read, 1 << 16))

    def close(self) -> int:
        """Return all that was acknowledged, when nobody writes any more."""
        while select.select([self._read], [], [], 0)[0]:
            self.acknowledged += len(os.read(self._read, 1 << 16))
        os.close(self._read)
        os.close(self._write)
        return self.acknowledged


def count_for_ever(folder: Path, ledger: Ledger, child: int) -> None:
    """Count a job and a sample, then acknowledge them, in a few threads; every so often under a label never seen."""

    def work(thread: int) -> None:
        registry_kind = f"{child}-{thread}"
        for step in range(10**9):
            kind = f"{registry_kind}-{step // SERIES_EVERY}"
            count(registry, kind=kind)
            observe(registry, 1e-5 * 1.3 ** (step % 60), kind=kind)
            ledger.acknowledge()

    registry = sharing(folder)
    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def numbers_of(totals: Totals) -> tuple[Values, float, float]:
    """Return the value of each series, and the sums of jobs and of samples."""
    jobs = {(JOBS.name, *values): total.value for values, total in metric(totals).series.items()}
    seconds = {(SECONDS.name, *values): total.count() for values, total in metric(totals, SECONDS).series.items()}
    return {**jobs, **seconds}, value(totals), samples(totals)


def watch(folder: Path, over: int) -> tuple[int, list[str]]:
    """Scrape without pause until told to stop; return how often, and which values fell or files broke."""
    reader, wrong, reads = CellReader(sharing(folder)), list[str](), 0
    former, former_jobs, former_samples = dict[tuple[str, ...], float](), 0.0, 0.0
    while not select.select([over], [], [], 0)[0]:
        totals = reader.read()
        series, jobs, counted = numbers_of(totals)
        reads += 1
        if jobs < former_jobs or counted < former_samples:
            wrong.append(f"read {reads}: {former_jobs} jobs and {former_samples} samples became {jobs} and {counted}")
        wrong += [f"read {reads}: {key} fell" for key, shown in former.items() if series.get(key, shown) < shown]
        if totals.unreadable:
            wrong.append(f"read {reads}: {totals.unreadable} files are unreadable")
        former, former_jobs, former_samples = series, jobs, counted
    return reads, wrong[:5]


@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.long)])
def test_sigkill_at_any_moment_loses_no_acknowledged_increment_and_counts_none_twice(
    folder: Path, join: Join, kills: int
) -> None:
    """ledger <= metric <= ledger + one increment per killed thread; no scrape fails and no number ever falls."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    watcher, ledger = join(), Ledger()
    count(watcher, 0)
    over, stop = os.pipe()
    reader = Forked(lambda: watch(folder, over))
    children: list[Forked] = []
    try:
        for number in range(kills):
            while len(children) < CHILDREN:
                serial = number + len(children)
                children.append(Forked(lambda serial=serial: count_for_ever(folder, ledger, serial)))  # type: ignore[misc]
            ledger.follow(chance.choice((0.005, 0.03, 0.1)) * chance.random() + 0.001)
            children.pop(chance.randrange(len(children))).kill()
        os.write(stop, b"x")
        reads, wrong = reader.answer()
    finally:
        for child in (*children, reader):
            child.kill()
    killed = kills + len(children)
    acknowledged = ledger.close()
    totals = read(watcher)

    print(f"{acknowledged} acknowledged, {value(totals)} jobs, {samples(totals)} samples, {reads} scrapes")
    assert not wrong, wrong
    assert reads >= 5
    assert acknowledged > 50 * kills
    assert acknowledged <= value(totals) <= acknowledged + killed * THREADS
    assert acknowledged <= samples(totals) <= acknowledged + killed * THREADS
    assert totals.unreadable == 0
