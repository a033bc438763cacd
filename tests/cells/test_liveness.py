"""Who lives: whoever holds ``flock`` on its file, and nobody else."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from monitoring.cells import CellFolder
from monitoring.testing import use

from .conftest import Join
from .support import QUEUE, Forked, cell_files, child, count, die, eventually, in_child, read, sharing, value


def living(folder: Path) -> list[str]:
    """Return the names of the files whose process lives."""
    return [file.name for file in CellFolder(folder).files() if file.alive]


def test_a_process_lives_while_it_holds_its_file(folder: Path, join: Join) -> None:
    """The file of a process is alive from the first write to the end, and so is no other."""
    registry, other = join(), join()
    count(registry)
    count(other)
    assert living(folder) == cell_files(folder)

    die(registry)
    assert len(living(folder)) == 1


def test_a_process_killed_with_sigkill_is_dead_at_once(folder: Path, join: Join) -> None:
    """The kernel gives its lock back; nothing has to time out."""
    registry = join()
    count(registry)
    with child(lambda: count(sharing(folder))):
        assert len(living(folder)) == 2

    assert len(living(folder)) == 1


def test_a_living_pid_does_not_make_a_file_alive(folder: Path, join: Join) -> None:
    """Pids repeat and mean nothing across containers: a file that names a running process but is unlocked is dead."""
    watcher, registry = join(), join()
    count(watcher, 0)
    count(registry, 3.0, declaration=QUEUE)
    die(registry)

    assert value(read(watcher), QUEUE) == 0


def test_opening_and_closing_the_file_elsewhere_in_the_process_does_not_drop_the_lock(folder: Path, join: Join) -> None:
    """POSIX record locks would go with any close; a reader in the same process opens and closes all files."""
    registry = join()
    count(registry)
    for name in cell_files(folder):
        (folder / name).read_bytes()
    read(registry)

    assert living(folder) == cell_files(folder)
    assert in_child(lambda: living(folder)) == cell_files(folder)


@pytest.mark.parametrize("counts", [True, False], ids=["that counts", "that counts nothing"])
def test_a_forked_child_does_not_keep_its_dead_parents_file_alive(folder: Path, join: Join, counts: bool) -> None:
    """A child that outlives its parent holds no lock of the parent's: the parent's gauges go, its counts stay."""
    watcher = join()
    count(watcher, 1)

    def parent() -> int:
        registry = sharing(folder)
        count(registry, 10)
        count(registry, 7, declaration=QUEUE)

        def survivor() -> None:
            if counts:
                count(registry, 100)
                count(registry, 70, declaration=QUEUE)

        forked = Forked(survivor)
        forked.answer()
        return forked.pid

    with child(parent) as survivor:
        together = read(watcher)
    try:
        alone = read(watcher)
    finally:
        os.kill(survivor, signal.SIGKILL)
    gone = eventually(lambda: value(read(watcher), QUEUE) == 0)

    extra = (100, 70) if counts else (0, 0)
    assert (value(together), value(together, QUEUE)) == (11 + extra[0], 7 + extra[1])
    assert (value(alone), value(alone, QUEUE)) == (11 + extra[0], extra[1])
    assert gone
    assert value(read(watcher)) == 11 + extra[0]


def test_a_view_that_a_child_holds_does_not_keep_its_dead_parents_file_alive(folder: Path, join: Join) -> None:
    """A fork leaves the child with whatever the parent's threads held; the lock is not among it."""
    watcher = join()
    count(watcher, 1)

    def parent() -> int:
        registry = sharing(folder)
        held = registry.series(QUEUE, ("a",)).cell
        assert held is not None
        held[0] = 7.0
        forked = Forked(lambda: held[0])
        forked.answer()
        return forked.pid

    with child(parent) as survivor:
        together = value(read(watcher), QUEUE)
    try:
        alone = value(read(watcher), QUEUE)
    finally:
        os.kill(survivor, signal.SIGKILL)

    assert (together, alone) == (7, 0)


def test_releasing_ends_a_process_even_while_somebody_holds_a_cell(folder: Path, join: Join) -> None:
    """A thread that still looks at a cell does not keep a released file alive."""
    watcher, registry = join(), join()
    count(watcher, 1)
    held = registry.series(QUEUE, ("a",)).cell
    assert held is not None
    held[0] = 7.0
    registry.release()

    assert value(read(watcher), QUEUE) == 0
    assert len(living(folder)) == 1


def test_a_forked_child_counts_into_its_own_file(folder: Path, join: Join) -> None:
    """Two processes that wrote one file would lose each other's increments."""
    registry = join()
    count(registry, 1)
    with child(lambda: count(registry, 10)):
        files = len(cell_files(folder))
        count(registry, 100)
        total = value(read(registry))

    assert (files, total) == (2, 111)
    assert value(read(registry)) == 111


def test_metrics_held_since_before_a_fork_count_right_in_both_processes(folder: Path) -> None:
    """A counter, gauge and histogram bound to their labels before the fork go on in parent and child."""
    with use(cells_folder=str(folder)) as m:
        jobs = m.counter("jobs_total", "Jobs.", ["kind"]).labels("a")
        waiting = m.gauge("waiting", "Jobs that wait.", ["kind"]).labels("a")
        seconds = m.histogram("job_seconds", "Time.", ["kind"]).labels("a")

        def work(times: int) -> None:
            for _ in range(times):
                jobs.inc()
                waiting.inc()
                seconds.observe(0.1)
                with m.observe("step"):
                    pass

        work(1)
        with child(lambda: work(20)):
            work(300)
            both = m.metrics.snapshot()
        after = m.metrics.snapshot()

    for snapshot in (both, after):
        assert snapshot["jobs_total"].series[0].value == 321
        assert snapshot["job_seconds"].series[0].count == 321
        assert snapshot["monitoring_span_duration_seconds"].series[0].count == 321
    assert both["waiting"].series[0].value == 321
    assert after["waiting"].series[0].value == 301


def test_a_child_does_not_take_over_its_parents_gauges(folder: Path, join: Join) -> None:
    """What the parent had in flight at the fork is the parent's alone."""
    registry = join()
    count(registry, 5, declaration=QUEUE)
    with child(lambda: count(registry, 0, declaration=QUEUE)):
        assert value(read(registry), QUEUE) == 5


def test_a_released_process_that_counts_again_is_a_new_one(folder: Path, join: Join) -> None:
    """What is observed after ``release`` starts a file of its own and adds to what was there."""
    watcher, registry = join(), join()
    count(watcher, 1)
    count(registry, 2)
    registry.release()
    between = value(read(watcher))
    count(registry, 4)

    assert (between, value(read(watcher))) == (3, 7)


def test_a_process_that_fork_left_with_every_descriptor_closed_does_no_harm(folder: Path, join: Join) -> None:
    """A daemon closes all descriptors after its fork; its child's cells are of its own making all the same."""
    registry = join()
    count(registry, 1)

    def daemon() -> float:
        count(registry, 10)
        for file in registry.own_files():
            file.close()
        count(registry, 10)
        return value(read(registry))

    in_child(daemon)
    assert value(read(registry)) == 21
