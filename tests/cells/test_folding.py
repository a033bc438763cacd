"""Folding the dead: nothing is lost, counted twice or seen to dip, wherever a process dies while it folds."""

from __future__ import annotations

import itertools
import os
import random
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from monitoring.cells import CellFolder, CellReader, CellRegistry, Declaration, Totals, fold_dead, folding, layout
from monitoring.cells import folder as folder_module

from .conftest import Join
from .support import (
    JOBS,
    QUEUE,
    SECONDS,
    Disk,
    Forked,
    cell_files,
    count,
    die,
    in_child,
    metric,
    observe,
    read,
    samples,
    sharing,
    value,
    write_file,
)

Act = Callable[[], None]


def numbers(registry: CellRegistry) -> tuple[float, float, float]:
    """Return what must not change: jobs, samples, and the sum of the samples."""
    totals = read(registry)
    return value(totals), samples(totals), sum(total.value for total in metric(totals, SECONDS).series.values())


def retired(folder: Path) -> list[str]:
    """Return the names of the retired files."""
    return [name for name in cell_files(folder) if name.startswith("retired-")]


@pytest.fixture
def watcher(join: Join) -> CellRegistry:
    """Return a living process, so that a generation goes on whoever dies."""
    registry = join()
    count(registry, 0)
    return registry


def leave_dead(join: Join, processes: int = 3) -> None:
    """Leave the files of processes that died at once: the i-th with i + 1 jobs, i in its queue, a sample of 0.25 s."""
    registries = [join() for _ in range(processes)]
    for number, registry in enumerate(registries, 1):
        count(registry, number)
        count(registry, 1, kind=f"only {number}")
        count(registry, number, declaration=QUEUE)
        observe(registry, 0.25)
    for registry in registries:
        die(registry)


@contextmanager
def before(target: object, name: str, act: Act, call: int = 1) -> Iterator[None]:
    """Do ``act`` right before the n-th call of a function from now on."""
    real, calls = getattr(target, name), itertools.count(1)

    def acting(*args: object, **kwargs: object) -> object:
        if next(calls) == call:
            act()
        return real(*args, **kwargs)

    setattr(target, name, acting)
    try:
        yield
    finally:
        setattr(target, name, real)


Step = Callable[[Act], AbstractContextManager[None]]

STEPS: dict[str, Step] = {
    "before the new file has a header": lambda act: before(folding, "CellFile", act),
    "while the new file is written": lambda act: before(layout.CellFile, "append", act, call=4),
    "before it is synced": lambda act: before(os, "fsync", act),
    "before it is renamed": lambda act: before(Path, "rename", act),
    "before the first dead file goes": lambda act: before(Path, "unlink", act, call=1),
    "before the second dead file goes": lambda act: before(Path, "unlink", act, call=2),
    "before the third dead file goes": lambda act: before(Path, "unlink", act, call=3),
}


def die_while_folding(folder: Path, step: str) -> None:
    """Let a process of its own fold the dead and be killed at a step."""

    def fold_and_die() -> None:
        with STEPS[step](lambda: os.kill(os.getpid(), signal.SIGKILL)):
            fold_dead(CellFolder(folder))

    forked = Forked(fold_and_die)
    try:
        with pytest.raises(AssertionError, match="died before its answer"):
            forked.answer()
    finally:
        forked.kill()


def test_the_dead_become_one_retired_file(folder: Path, join: Join, watcher: CellRegistry) -> None:
    """However many died, their counts, buckets and sums are in one file afterwards."""
    leave_dead(join, processes=5)
    fold_dead(CellFolder(folder))

    assert len(cell_files(folder)) == 2
    assert len(retired(folder)) == 1
    assert numbers(watcher) == (15 + 5, 5, 5 * 0.25)


def test_counts_are_equal_before_during_and_after(
    folder: Path, join: Join, watcher: CellRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that cannot have the lock, and so reads at any step of a fold, finds the same numbers."""
    leave_dead(join)
    numbers(watcher)
    leave_dead(join)
    seen: dict[str, tuple[float, float, float]] = {}
    expected = (2 * 9.0, 6.0, 6 * 0.25)
    monkeypatch.setattr(folder_module, "_LOCK_PATIENCE_SECONDS", 0.02)
    with ExitStack() as stack:
        for name, step in STEPS.items():
            stack.enter_context(step(lambda name=name: seen.update({name: numbers(watcher)})))  # type: ignore[misc]
        fold_dead(CellFolder(folder))
    seen["after"] = numbers(watcher)

    assert list(seen) == [*STEPS, "after"]
    assert set(seen.values()) == {expected}, seen


def test_gauges_of_the_dead_are_gone_and_those_of_the_living_stay(join: Join, watcher: CellRegistry) -> None:
    """What a dead process had in flight is in flight no more, folded or not."""
    alive = join()
    count(alive, 100, declaration=QUEUE)
    leave_dead(join)

    assert value(read(watcher), QUEUE) == 100
    assert value(read(watcher), QUEUE) == 100


def test_folding_again_and_again_leaves_one_retired_file(folder: Path, join: Join, watcher: CellRegistry) -> None:
    """The retired file itself is folded into the next one."""
    for round_number in range(1, 6):
        leave_dead(join)
        assert numbers(watcher) == (9 * round_number, 3 * round_number, 0.75 * round_number)
        assert len(retired(folder)) == 1


def test_folding_without_anybody_dead_changes_nothing(folder: Path, join: Join, watcher: CellRegistry) -> None:
    """A scrape of a healthy service writes nothing."""
    leave_dead(join)
    before_all = numbers(watcher)
    files = {name: (folder / name).stat().st_mtime_ns for name in cell_files(folder)}
    for _ in range(3):
        fold_dead(CellFolder(folder))

    assert {name: (folder / name).stat().st_mtime_ns for name in cell_files(folder)} == files
    assert numbers(watcher) == before_all


@pytest.mark.parametrize("step", STEPS)
def test_a_process_killed_at_any_step_of_a_fold_counts_nothing_twice_and_loses_nothing(
    folder: Path, join: Join, watcher: CellRegistry, step: str
) -> None:
    """Between write, rename and unlink: a retired file names what it holds, so what is left over is not added again."""
    leave_dead(join)
    numbers(watcher)
    leave_dead(join)
    die_while_folding(folder, step)
    first = numbers(watcher)
    leave_dead(join)

    assert first == (18, 6, 1.5)
    assert numbers(watcher) == (27, 9, 2.25)
    assert len(retired(folder)) == 1
    assert list(folder.glob("*.tmp")) == []


@pytest.mark.parametrize(("first", "second"), list(itertools.product(STEPS, STEPS)))
def test_two_kills_in_a_row_while_folding_lose_nothing(
    folder: Path, join: Join, watcher: CellRegistry, first: str, second: str
) -> None:
    """The fold that cleans up after a killed one may be killed as well, at any step."""
    leave_dead(join)
    die_while_folding(folder, first)
    leave_dead(join)
    die_while_folding(folder, second)

    assert numbers(watcher) == (18, 6, 1.5)
    assert list(folder.glob("*.tmp")) == []


@pytest.mark.parametrize(("target", "name"), [(Path, "rename"), (os, "fsync"), (layout.CellFile, "append")])
def test_a_fold_that_fails_leaves_everything_as_it_was(
    folder: Path, join: Join, watcher: CellRegistry, monkeypatch: pytest.MonkeyPatch, target: object, name: str
) -> None:
    """An error of the disk while folding is nobody's problem: readers sum the dead files all the same."""
    leave_dead(join)

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(target, name, fail)
        assert numbers(watcher) == (9, 3, 0.75)
        assert len(cell_files(folder)) == 4
    assert numbers(watcher) == (9, 3, 0.75)
    assert len(cell_files(folder)) == 2
    assert list(folder.glob("*.tmp")) == []


def test_an_unlink_that_fails_counts_nothing_twice(
    folder: Path, join: Join, watcher: CellRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dead files that cannot be removed stay named by the retired one."""
    leave_dead(join)

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(1, "Operation not permitted")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", fail)
        seen = [numbers(watcher) for _ in range(3)]

    assert seen == [(9, 3, 0.75)] * 3
    assert numbers(watcher) == (9, 3, 0.75)


def test_a_fold_on_a_full_disk_loses_nothing(folder: Path, join: Join, watcher: CellRegistry, disk: Disk) -> None:
    """Without room for the retired file the dead files stay and are summed."""
    leave_dead(join)
    disk.chunks_left = 0

    assert numbers(watcher) == (9, 3, 0.75)
    assert len(cell_files(folder)) == 4
    assert list(folder.glob("*.tmp")) == []


def test_a_leftover_temporary_file_is_removed(folder: Path, join: Join, watcher: CellRegistry) -> None:
    """What a killed fold had half written does not fill the shared memory."""
    (folder / "retired-00000009.tmp").write_bytes(b"half a file")
    leave_dead(join)
    numbers(watcher)

    assert list(folder.glob("*.tmp")) == []


def test_two_processes_that_fold_at_once_lose_nothing(folder: Path, join: Join, watcher: CellRegistry) -> None:
    """Both saw the dead; the one that comes second finds only the first one's retired file, and must leave it there."""

    class Overtaken(CellFolder):
        """A folder whose lock another process gets first."""

        @contextmanager
        def folding(self) -> Iterator[list[folder_module.CellFileOnDisk]]:
            fold_dead(CellFolder(self.path))
            with super().folding() as files:
                yield files

    leave_dead(join)
    fold_dead(Overtaken(folder))

    assert numbers(watcher) == (9, 3, 0.75)


@pytest.mark.parametrize("content", [b"", bytes(64 * 1024), b"MONC"], ids=["empty", "zeros", "torn header"])
def test_a_process_killed_while_it_started_takes_no_counts_with_it(
    folder: Path, join: Join, watcher: CellRegistry, content: bytes
) -> None:
    """A file that was never finished is removed; what was folded before stays."""
    leave_dead(join)
    numbers(watcher)
    (folder / "1-unfinished.cells").write_bytes(content)

    assert numbers(watcher) == (9, 3, 0.75)
    assert numbers(watcher) == (9, 3, 0.75)
    assert len(cell_files(folder)) == 2


def test_folding_keeps_every_kind_of_bucket(folder: Path, join: Join, watcher: CellRegistry) -> None:
    """Samples below, on, between and above the bounds come back in the very buckets they were in."""
    sizes = Declaration(
        name="body_bytes", kind="histogram", help="Bytes.", labels=("kind",), unit="quantity", le=(10.0, 1e6)
    )
    registry = join()
    for power in range(-8, 16):
        observe(registry, 10.0**power)
        observe(registry, 10.0**power, declaration=sizes)
    counts = {one.name: metric(read(watcher), one).series["a",].counts() for one in (SECONDS, sizes)}
    die(registry)
    numbers(watcher)

    assert len(retired(folder)) == 1
    assert {one.name: metric(read(watcher), one).series["a",].counts() for one in (SECONDS, sizes)} == counts


def test_a_dead_file_that_does_not_parse_is_set_aside_and_the_others_are_folded(
    folder: Path, join: Join, watcher: CellRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """It is kept for a look, counted, logged once, and read no more."""
    leave_dead(join)
    write_file(folder / "1-bad.cells", lambda file: None)
    with (folder / "1-bad.cells").open("r+b") as file:
        file.seek(8)
        file.write(b"\xff" * 8)
    for _ in range(3):
        totals = read(watcher)
        assert (value(totals), samples(totals), totals.unreadable) == (9, 3, 1)

    assert [path.name for path in folder.glob("*.unreadable")] == ["1-bad.unreadable"]
    assert len(cell_files(folder)) == 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "1-bad.cells does not parse and is set aside" in caplog.text


def test_label_sets_of_the_dead_do_not_pile_up(folder: Path, join: Join) -> None:
    """Worker after worker with label values of its own: the retired file is capped like the scrape."""
    caps = {"max_series": 20, "max_label_values": 20}
    watcher = join(**caps)
    count(watcher, 0, kind="0-0")
    for process in range(6):
        registry = join(**caps)
        for kind in range(20):
            count(registry, kind=f"{process}-{kind}")
        die(registry)
    shown = read(watcher)
    kept = read(join(max_series=2_000))

    assert (value(shown), value(kept)) == (120, 120)
    assert len(metric(shown).series) <= 21
    assert len(metric(kept).series) <= 2 * 21, "the retired file holds every label set that there ever was"


class Dips:
    """Reads again and again, and remembers the first number that was smaller than before."""

    def __init__(self, registry: CellRegistry) -> None:
        self._reader = CellReader(registry)
        self._highest: dict[tuple[str, ...], float] = {}
        self.reads = 0
        self.first = ""

    def look(self) -> None:
        """Read once and compare."""
        now = self._numbers(self._reader.read())
        self.reads += 1
        for key, highest in self._highest.items():
            if now.get(key, 0.0) < highest and not self.first:
                self.first = f"{key} fell from {highest} to {now.get(key)} at read {self.reads}"
        self._highest = now

    @staticmethod
    def _numbers(totals: Totals) -> dict[tuple[str, ...], float]:
        jobs = {(JOBS.name, *values): total.value for values, total in metric(totals).series.items()}
        seconds = {(SECONDS.name, *values): total.count() for values, total in metric(totals, SECONDS).series.items()}
        return {**jobs, **seconds}


def test_a_reader_never_sees_a_dip_while_50_processes_join_fold_and_die(folder: Path, join: Join) -> None:
    """Prometheus reads a dip as a reset: no number ever falls for a process that reads without pause."""
    watcher = join()
    count(watcher, 0)
    over, stop = os.pipe()

    def watch() -> tuple[int, str]:
        dips = Dips(sharing(folder))
        while not _has_input(over):
            dips.look()
        return dips.reads, dips.first

    chance = random.Random(50)
    reader = Forked(watch)
    expected = 0
    try:
        for number in range(50):
            jobs = chance.randint(1, 40)
            expected += jobs

            def work(number: int = number, jobs: int = jobs) -> None:
                registry = sharing(folder)
                for job in range(jobs):
                    count(registry, kind=f"{(number + job) % 7}")
                    observe(registry, 0.01 * job, kind=f"{number % 3}")

            in_child(work)
            if chance.random() < 0.3:
                numbers(watcher)
        os.write(stop, b"x")
        reads, first_dip = reader.answer()
    finally:
        reader.kill()
        os.close(over)
        os.close(stop)
    totals = read(watcher)

    assert first_dip == ""
    assert reads > 20
    assert (value(totals), samples(totals)) == (expected, expected)


def _has_input(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


def test_a_process_that_releases_in_good_order_is_folded_without_a_dip(join: Join, watcher: CellRegistry) -> None:
    """Hand-over at a clean exit goes the same way as after a kill."""
    dips = Dips(watcher)
    for number in range(10):
        registry = join()
        count(registry, number)
        observe(registry, 0.1)
        dips.look()
        registry.release()
        dips.look()

    assert dips.first == ""
    assert numbers(watcher)[:2] == (45, 10)


def test_a_process_that_dies_between_two_reads_keeps_its_counts(join: Join, watcher: CellRegistry) -> None:
    """The same reader finds in the retired file what it read from the living one."""
    registry = join()
    count(registry, 3)
    reader = CellReader(watcher)
    reader.read()
    die(registry)

    assert value(reader.read()) == 3
