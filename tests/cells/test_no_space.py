"""No space: nothing raises, hangs or dies; what exists counts on, what cannot be made is dropped and counted."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.cells import CellRegistry, Declaration
from monitoring.cells import registry as registry_module
from monitoring.testing import use

from .conftest import Join
from .support import (
    JOBS,
    SECONDS,
    Disk,
    cell_files,
    count,
    deadline,
    dropped,
    observe,
    read,
    run_program,
    samples,
    value,
)

RETRY = 0.02
FILLERS = Declaration(
    name="fillers_total", kind="counter", help="Fill the file.", labels=("number",), limits={"number": 5_000}
)


@pytest.fixture(autouse=True)
def retrying_soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Try again soon, and let no test hang."""
    monkeypatch.setattr(registry_module, "_RETRY_SECONDS", RETRY)
    with deadline(20):
        yield


def fill_up(registry: CellRegistry, disk: Disk) -> tuple[int, int]:
    """Take all room but what is there, make series until five were refused; return how many were made and refused."""
    disk.chunks_left = 0
    made = refused = 0
    while refused < 5 and made < 5_000:
        cell = registry.series(FILLERS, (f"{made + refused:0150d}",)).cell
        if cell is None:
            refused += 1
        else:
            made += 1
    assert refused == 5
    return made, refused


def test_existing_series_go_on_counting(join: Join, disk: Disk) -> None:
    """Counters and histograms that have their cells do not notice the full disk."""
    registry = join()
    count(registry)
    observe(registry, 0.1)
    jobs, seconds = registry.series(JOBS, ("a",)), registry.series(SECONDS, ("a",))
    fill_up(registry, disk)
    assert jobs.cell is not None
    assert seconds.histogram is not None
    for _ in range(1_000):
        jobs.cell[0] += 1.0
        seconds.histogram.observe(0.1)
    totals = read(registry)

    assert (value(totals), samples(totals)) == (1_001, 1_001)


def test_existing_series_are_found_again_while_there_is_no_space(join: Join, disk: Disk) -> None:
    """A look-up of a series that was made before succeeds, also just after another one was refused."""
    registry = join(max_label_values=1)
    count(registry, kind="a")
    count(registry, kind="b")
    disk.chunks_left = 0
    for filler in range(5_000):
        if registry.series(FILLERS, (f"{filler:0150d}",)).cell is None:
            break
    for _ in range(10):
        assert registry.series(JOBS, ("a",)).cell is not None
        assert registry.series(JOBS, ("b",)).cell is not None, "(other) was made before and is refused now"


def test_new_series_are_dropped_and_each_drop_is_counted(join: Join, disk: Disk) -> None:
    """Nobody gets an exception; monitoring_series_dropped_total says how many look-ups went uncounted."""
    said: list[str] = []
    registry = join(on_degraded=said.append)
    count(registry, kind="made in time")
    _, refused = fill_up(registry, disk)
    for kind in range(20):
        assert registry.series(JOBS, (str(kind),)).cell is None
        assert registry.series(SECONDS, (str(kind),)).histogram is None

    assert dropped(read(registry)) == refused + 40
    assert len(said) == 1
    assert "new series are dropped while there is no space" in said[0]
    assert registry.degraded != ""


def test_drops_are_counted_also_if_the_disk_was_full_from_the_first_series_on(join: Join, disk: Disk) -> None:
    """The counter of drops does not depend on the room that is missing."""
    registry = join()
    count(registry, 0)
    fill_up(registry, disk)

    assert dropped(read(registry)) == 5


def test_a_page_that_cannot_be_had_drops_the_sample_and_counts_it(join: Join, disk: Disk) -> None:
    """A histogram's value in a new range is dropped, whole: neither bucket nor sum; nothing hangs."""
    registry = join()
    observe(registry, 0.1)
    histogram = registry.series(SECONDS, ("a",)).histogram
    assert histogram is not None
    fill_up(registry, disk)
    before = dropped(read(registry))
    with deadline(3):
        for _ in range(3):
            histogram.observe(500.0)
    totals = read(registry)

    assert samples(totals) == 1
    assert totals.metrics[SECONDS.name].series["a",].value == pytest.approx(0.1)
    assert dropped(totals) == before + 3


def test_the_first_refusal_of_all_may_be_a_page(join: Join, disk: Disk) -> None:
    """A page that is refused before any other drop was counted does not hang the request."""
    registry = join()
    observe(registry, 0.1)
    histogram = registry.series(SECONDS, ("a",)).histogram
    assert histogram is not None
    disk.chunks_left = 0
    with deadline(3):
        for kind in range(5_000):
            another = registry.series(SECONDS, (f"{kind:0150d}",)).histogram
            if another is None:
                break
            another.observe(0.1)
        histogram.observe(500.0)

    assert dropped(read(registry)) > 0


def test_new_series_are_made_again_when_there_is_space_again(join: Join, disk: Disk) -> None:
    """The process recovers by itself, and no longer calls itself degraded."""
    registry = join()
    count(registry)
    fill_up(registry, disk)
    histogram_before = registry.series(SECONDS, ("a",)).histogram
    disk.chunks_left = float("inf")
    time.sleep(2 * RETRY)
    count(registry, 5, kind="new")
    observe(registry, 0.1)
    totals = read(registry)

    assert histogram_before is None
    assert (value(totals), samples(totals)) == (6, 1)
    assert registry.degraded == ""


def test_a_page_is_tried_again_when_there_is_space_again(join: Join, disk: Disk) -> None:
    """A range that was refused once is not lost to the histogram for good."""
    registry = join()
    observe(registry, 0.1)
    observe(registry, 0.1, kind="b")
    histogram = registry.series(SECONDS, ("a",)).histogram
    assert histogram is not None
    fill_up(registry, disk)
    with deadline(3):
        histogram.observe(500.0)
    disk.chunks_left = float("inf")
    time.sleep(2 * RETRY)
    histogram.observe(500.0)

    assert samples(read(registry)) == 3


def test_a_refused_metric_is_not_remembered_by_the_apps_metrics(folder: Path, disk: Disk) -> None:
    """A counter that met the full disk at its first increment counts from when there is room."""
    with use(cells_folder=str(folder)) as m:
        m.counter("first_total", "First.").inc()
        fill_up(m.registry, disk)
        jobs, seconds = m.counter("jobs_total", "Jobs."), m.histogram("job_seconds", "Time.")
        jobs.inc()
        seconds.observe(0.1)
        disk.chunks_left = float("inf")
        time.sleep(2 * RETRY)
        jobs.inc()
        seconds.observe(0.1)
        snapshot = m.metrics.snapshot()

    assert snapshot["jobs_total"].series[0].value == 1
    assert snapshot["job_seconds"].series[0].count == 1


def test_a_process_that_finds_the_disk_full_at_its_start_counts_in_memory(folder: Path, join: Join, disk: Disk) -> None:
    """No file can be made at all: the numbers are one process's own, right, and said to be so once."""
    said: list[str] = []
    registry = join(on_degraded=said.append)
    disk.chunks_left = 0
    for kind in range(3_000):
        count(registry, kind=str(kind % 300))
        observe(registry, 0.1)
    totals = read(registry)

    assert (value(totals), samples(totals)) == (3_000, 3_000)
    assert len(said) == 1
    assert cell_files(folder) == []


def test_others_read_a_process_whose_disk_is_full(join: Join, disk: Disk) -> None:
    """The sum over all processes is complete while one of them cannot make series."""
    full, other = join(), join()
    count(other, 1)
    count(full, 10)
    cell = full.series(JOBS, ("a",)).cell
    assert cell is not None
    fill_up(full, disk)
    cell[0] += 100

    assert value(read(other)) == 111


TINY = """
import sys
from pathlib import Path
from tests.cells.support import JOBS, SECONDS, count, dropped, observe, read, samples, sharing, value
registry = sharing(Path(sys.argv[1]), max_series=5_000, max_label_values=5_000)
count(registry); observe(registry, 0.1)
cell, histogram = registry.series(JOBS, ("a",)).cell, registry.series(SECONDS, ("a",)).histogram
made = 0
while registry.series(JOBS, (f"{made:0190d}",)).cell is not None and made < 1_900:
    made += 1
for each in range(1000):
    cell[0] += 1.0
    histogram.observe(0.1)
    registry.series(SECONDS, (f"{each:0190d}",))
totals = read(registry)
print(made, value(totals), samples(totals), dropped(totals) > 0, registry.degraded != "")
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a file system of 256 KiB."""
    place = tmp_path / "tiny"
    place.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounts a file system, so needs root on Linux")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "none", place], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_real_disk_that_fills_up_kills_nobody(tiny: Path) -> None:
    """On a tmpfs of 256 KiB: no SIGBUS, no exception, and all that had cells is counted to the last."""
    run = run_program(TINY, str(tiny / "cells"))

    assert run.returncode == 0, run.stderr
    made, jobs, seconds, some_dropped, degraded = run.stdout.split()
    assert 100 < int(made) < 1_900
    assert (jobs, seconds, some_dropped, degraded) == ("1001.0", "1001.0", "True", "True")
