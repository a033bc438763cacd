"""Increments take no lock and lose nothing: under the GIL on one file, without it on a file per thread."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import monitoring
from monitoring.cells import CellRegistry
from monitoring.cells import registry as registry_module
from monitoring.exposition import Exposition
from monitoring.testing import use

from .conftest import Join
from .support import JOBS, SECONDS, cell_files, count, observe, read, samples, value

THREADS = 8
EACH = 300_000


@pytest.fixture
def switching_all_the_time() -> Iterator[None]:
    """Let threads take the GIL from each other as often as the interpreter can."""
    former = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(former)


@pytest.fixture
def without_the_gil(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the way that a free-threaded interpreter takes."""
    monkeypatch.setattr(registry_module, "_gil_is_on", lambda: False)


def in_threads(work: Callable[[int], None], threads: int = THREADS) -> None:
    """Run ``work`` with its number in each of so many threads, which start together."""
    together = threading.Barrier(threads)
    failures: list[BaseException] = []

    def run(number: int) -> None:
        together.wait()
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert not failures, failures


@pytest.mark.usefixtures("switching_all_the_time")
def test_threads_that_add_to_one_cell_lose_nothing(join: Join) -> None:
    """8 threads add 1 to one cell 300,000 times each, and the cell holds 2,400,000."""
    registry = join()
    count(registry, 0.0)

    def add(number: int) -> None:
        cell = registry.series(JOBS, ("a",)).cell
        assert cell is not None
        for _ in range(EACH):
            cell[0] += 1.0

    in_threads(add)
    assert value(read(registry)) == THREADS * EACH


@pytest.mark.usefixtures("switching_all_the_time")
def test_threads_that_observe_into_one_histogram_lose_nothing(join: Join) -> None:
    """Buckets and sum of a histogram are exact under 8 threads, whose values fall into a few shared pages."""
    registry = join()
    histogram = registry.series(SECONDS, ("a",)).histogram
    assert histogram is not None

    def add(number: int) -> None:
        each = 2.0 ** (number % 4 - 6)  # exact in binary, so that the sum is too
        for _ in range(EACH // 4):
            histogram.observe(each)

    in_threads(add)
    totals = read(registry)
    assert samples(totals) == THREADS * EACH // 4
    assert totals.metrics[SECONDS.name].series["a",].value == (EACH // 4) * 2 * sum(
        2.0**power for power in range(-6, -2)
    )


@pytest.mark.usefixtures("switching_all_the_time")
def test_threads_that_make_the_same_series_at_once_lose_nothing(join: Join) -> None:
    """The first increments of 500 series come from 8 threads at the same moment; each series is there once, in full."""
    registry = join()

    def add(number: int) -> None:
        for kind in range(500):
            count(registry, kind=str(kind))
            observe(registry, 0.01, kind=str(kind))

    in_threads(add)
    totals = read(registry)
    assert {total.value for total in totals.metrics[JOBS.name].series.values()} == {float(THREADS)}
    assert {total.count() for total in totals.metrics[SECONDS.name].series.values()} == {float(THREADS)}


@pytest.mark.usefixtures("switching_all_the_time")
def test_a_page_that_threads_touch_at_once_loses_nothing(join: Join) -> None:
    """Threads whose values open the same new page at the same moment count all of them."""
    registry = join()
    for attempt in range(60):
        observe(registry, 1e-6, kind=str(attempt))

        def first_of_a_page(number: int, kind: str = str(attempt)) -> None:
            for power in range(1, 8):
                observe(registry, 10.0 ** (power - 5), kind=kind)

        in_threads(first_of_a_page, threads=4)

    assert samples(read(registry)) == 60 * (1 + 4 * 7)


@pytest.mark.usefixtures("without_the_gil")
def test_without_the_gil_each_thread_has_a_file_of_its_own(folder: Path, join: Join) -> None:
    """Shards instead of a lock: as many files as threads, and exact sums of counters and histograms."""
    registry = join()
    all_alive = threading.Barrier(THREADS)

    def add(number: int) -> None:
        count(registry)
        all_alive.wait()
        for _ in range(1_999):
            count(registry)
            observe(registry, 0.25)
        observe(registry, 0.25)

    in_threads(add)
    assert len(cell_files(folder)) == THREADS
    totals = read(registry)
    assert value(totals) == THREADS * 2_000
    assert samples(totals) == THREADS * 2_000


@pytest.mark.usefixtures("without_the_gil")
def test_without_the_gil_and_a_folder_the_threads_memories_are_summed() -> None:
    """Cells in memory are sharded too."""
    registry = CellRegistry()
    in_threads(lambda number: count(registry, number + 1.0))

    assert value(read(registry)) == sum(range(1, THREADS + 1))


@pytest.mark.usefixtures("without_the_gil")
def test_without_the_gil_looked_up_series_belong_to_the_thread_that_looks() -> None:
    """Counters, gauges, histograms and folded observations of all threads come out exactly."""
    with use() as m:
        jobs = m.counter("jobs_total", "Jobs.", ["kind"]).labels("a")
        seconds = m.histogram("job_seconds", "Time.")
        waiting = m.gauge("waiting", "Jobs that wait.")

        def work(number: int) -> None:
            for _ in range(1_000):
                jobs.inc()
                seconds.observe(0.1)
                waiting.inc()
                waiting.dec()
                with monitoring.observe("step"):
                    pass

        in_threads(work)
        snapshot = m.metrics.snapshot()

    assert snapshot["jobs_total"].series[0].value == THREADS * 1_000
    assert snapshot["job_seconds"].series[0].count == THREADS * 1_000
    assert snapshot["waiting"].series[0].value == 0
    assert snapshot["monitoring_span_duration_seconds"].series[0].count == THREADS * 1_000


@pytest.mark.usefixtures("without_the_gil")
def test_without_the_gil_a_process_is_one_worker_however_many_files_it_has(tmp_path: Path) -> None:
    """A process of many threads is exposed once: the same sample twice would cost the whole scrape."""
    with use(cells_folder=str(tmp_path / "cells"), metrics_public=True) as m:
        in_threads(lambda number: m.counter("jobs_total", "Jobs.").inc(), threads=3)
        text = Exposition().render(m.metrics.totals_with_state(), openmetrics=False).decode()

    lines = [line for line in text.splitlines() if line.startswith("process_threads{")]
    assert len(lines) == 1, lines


@pytest.mark.usefixtures("without_the_gil")
def test_without_the_gil_threads_that_ended_leave_few_files(folder: Path, join: Join) -> None:
    """A server that starts a thread per request must not leave a file, and a descriptor, per request."""
    registry = join()
    for _ in range(60):
        thread = threading.Thread(target=count, args=(registry,))
        thread.start()
        thread.join()

    assert value(read(registry)) == 60
    assert len(cell_files(folder)) <= 10
