"""What the tests of the cells share: three metrics, counting and reading, processes, and a disk that fills up."""

from __future__ import annotations

import errno
import fcntl
import os
import pickle
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

import pytest

from monitoring.cells import CellFolder, CellReader, CellRegistry, Declaration, MetricTotals, Totals, layout, scale
from monitoring.cells.layout import CellFile, Header

T = TypeVar("T")

JOBS = Declaration(name="jobs_total", kind="counter", help="Jobs done.", labels=("kind",))
QUEUE = Declaration(name="queue_length", kind="gauge", help="Jobs that wait.", labels=("kind",))
SECONDS = Declaration(
    name="job_seconds", kind="histogram", help="Time of a job.", labels=("kind",), le=scale.HTTP_SECONDS
)
DROPPED = "monitoring_series_dropped_total"
HEADER = Header(pid=4711, started_at=1_800_000_000.0, generation="ab" * 16, supervisor="1:2.00")

ANSWER_SECONDS = 20.0
ROOT = Path(__file__).parents[2]

forks_beside_threads = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
"""For tests that fork while threads run, which is what they are about."""


def sharing(path: Path, **settings: Any) -> CellRegistry:
    """Return the cells of one process that shares the folder; several of them stand for several processes."""
    return CellRegistry(lambda: CellFolder(path), **settings)


def count(registry: CellRegistry, amount: float = 1.0, kind: str = "a", declaration: Declaration = JOBS) -> None:
    """Add to a counter or gauge, which must have a cell."""
    cell = registry.series(declaration, (kind,)).cell
    assert cell is not None, f"{declaration.name} of {kind} has no cell"
    cell[0] += amount


def observe(registry: CellRegistry, value: float, kind: str = "a", declaration: Declaration = SECONDS) -> None:
    """Count a value in a histogram, which must have cells."""
    histogram = registry.series(declaration, (kind,)).histogram
    assert histogram is not None, f"{declaration.name} of {kind} has no cells"
    histogram.observe(value)


def die(registry: CellRegistry) -> None:
    """End a process as SIGKILL does: its files are left as they are, without their locks."""
    for file in registry.own_files():
        if file.fd is not None:
            fcntl.flock(file.fd, fcntl.LOCK_UN)
        file.close()


def read(registry: CellRegistry) -> Totals:
    """Return the sums as a process that looks for the first time sees them."""
    return CellReader(registry).read()


def metric(totals: Totals, declaration: Declaration = JOBS) -> MetricTotals:
    """Return a metric's totals, empty where nobody counted."""
    return totals.metrics.get(declaration.name, MetricTotals(declaration))


def value(totals: Totals, declaration: Declaration = JOBS) -> float:
    """Return the sum over all label sets of a counter or gauge."""
    return sum(total.value for total in metric(totals, declaration).series.values())


def samples(totals: Totals, declaration: Declaration = SECONDS) -> float:
    """Return the number of samples over all label sets of a histogram."""
    return sum(total.count() for total in metric(totals, declaration).series.values())


def dropped(totals: Totals) -> float:
    """Return the look-ups that were dropped, over all metrics."""
    found = totals.metrics.get(DROPPED)
    return sum(total.value for total in found.series.values()) if found else 0.0


def cell_files(path: Path) -> list[str]:
    """Return the names of the cell files in a folder."""
    return sorted(entry.name for entry in path.glob("*.cells"))


def write_file(path: Path, write: Callable[[CellFile], None], header: Header = HEADER) -> bytes:
    """Write a cell file as a process that has died left it, and return its bytes."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        write(CellFile(fd, header))
    finally:
        os.close(fd)
    return path.read_bytes()


def write_jobs_and_seconds(file: CellFile) -> None:
    """Write 5 jobs of kind ``a`` and one of them that took 20 ms."""
    jobs = file.append(layout.DECLARATION, text=JOBS.to_json())
    file.append(layout.SERIES, text=b'["a"]', cells=1, parent=jobs.offset).cells[0] = 5.0
    seconds = file.append(layout.DECLARATION, text=SECONDS.to_json())
    series = file.append(layout.SERIES, text=b'["a"]', cells=1, parent=seconds.offset)
    series.cells[0] = 0.02
    page = file.append(layout.PAGE, cells=scale.PAGE, parent=series.offset, page=7)
    page.cells[3] = 1.0


@contextmanager
def deadline(seconds: float = 5.0) -> Iterator[None]:
    """Fail a block that hangs. For the main thread."""

    def give_up(number: int, frame: FrameType | None) -> NoReturn:
        raise AssertionError(f"still not done after {seconds} s")

    former = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


class Forked:
    """A forked process that does its work, tells what came of it, and idles until it is killed."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._answers, answer = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            _do(work, answer)
        os.close(answer)

    def answer(self) -> Any:
        """Return what the work returned; what it raised fails the test."""
        ready, _, _ = select.select([self._answers], [], [], ANSWER_SECONDS)
        assert ready, f"the child gave no answer within {ANSWER_SECONDS} s"
        pickled = os.read(self._answers, 1 << 16)
        assert pickled, "the child died before its answer"
        succeeded, result = pickle.loads(pickled)
        assert succeeded, f"the child failed:\n{result}"
        return result

    def kill(self) -> None:
        """End it with SIGKILL and wait until it is gone, with its locks."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._answers)


@contextmanager
def child(work: Callable[[], T]) -> Iterator[T]:
    """Run ``work`` in a forked process that then lives on until the block ends; the block gets its result."""
    forked = Forked(work)
    try:
        yield forked.answer()
    finally:
        forked.kill()


def in_child(work: Callable[[], T]) -> T:
    """Run ``work`` in a forked process, which is dead when its result is here."""
    with child(work) as result:
        return result


def _do(work: Callable[[], object], answer: int) -> NoReturn:
    try:
        signal.alarm(60)  # whatever becomes of the test, its processes end
        try:
            result: tuple[bool, object] = (True, work())
        except BaseException:
            result = (False, traceback.format_exc())
        os.write(answer, pickle.dumps(result))
        signal.pause()
    finally:
        os._exit(1)


def run_program(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program that can import these tests, in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def eventually(holds: Callable[[], bool], within: float = 5.0) -> bool:
    """Say whether something comes true in time."""
    until = time.monotonic() + within
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.002)
    return True


class Disk:
    """A disk that has room for so many more chunks; stands in for ``layout.allocate``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.chunks_left: float = float("inf")
        self._allocate = layout.allocate
        monkeypatch.setattr(layout, "allocate", self.allocate)

    def allocate(self, fd: int, start: int, length: int) -> None:
        """Allocate while there is room."""
        if self.chunks_left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.chunks_left -= 1
        self._allocate(fd, start, length)
