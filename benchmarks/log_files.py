"""Does every line arrive when 4 processes write to one log file that is rotated? Lost, torn and double lines."""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import logging
import logging.handlers
import multiprocessing
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from . import scratch
from .report import Result, publish

PROCESSES, LINES = 4, 15_000
LINE_BYTES = 160
MAX_BYTES = 200_000
FILES_KEPT = 1_000
RUNS = 3
START_SECONDS = 60

Say = Callable[[str], object]
End = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Case:
    """One way to write to the file: ``make`` returns what writes a text of one line, and what ends it."""

    label: str
    make: Callable[[Path], tuple[Say, End]]
    needs: str
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """What became of the lines of one run, and how long the slowest process took."""

    lost: int
    torn: int
    double: int
    files: int
    seconds: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Let each package write the same lines, count what arrived, and publish."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.log_files", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one run of each: a first idea")
    runs = 1 if parser.parse_args(arguments).quick else RUNS
    with scratch.folders() as places:
        found = {case: _run_all(case, Path(places[scratch.DISK]), runs) for case in CASES}
    publish(_result(found))


# --- the ways to write ---


def stdlib_rotating(path: Path) -> tuple[Say, End]:
    """Return the standard library's handler."""
    return _stdlib(logging.handlers.RotatingFileHandler(path, maxBytes=MAX_BYTES, backupCount=FILES_KEPT))


def concurrent_rotating(path: Path) -> tuple[Say, End]:
    """Return concurrent-log-handler's."""
    from concurrent_log_handler import ConcurrentRotatingFileHandler  # type: ignore[import-not-found]

    return _stdlib(ConcurrentRotatingFileHandler(str(path), maxBytes=MAX_BYTES, backupCount=FILES_KEPT))


def _stdlib(handler: logging.Handler) -> tuple[Say, End]:
    logging.raiseExceptions = False
    logger = logging.getLogger("bench")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    return logger.info, logging.shutdown


def loguru_rotating(path: Path) -> tuple[Say, End]:
    """Return loguru's file sink."""
    from loguru import logger

    logger.remove()
    logger.add(path, rotation=MAX_BYTES, format="{message}", catch=True)
    return logger.info, logger.remove


def ours(path: Path) -> tuple[Say, End]:
    """Return a ``LogFile`` that rotates."""
    return _ours(path)


def ours_compressed(path: Path) -> tuple[Say, End]:
    """Return a ``LogFile`` that rotates and compresses meanwhile."""
    return _ours(path, compress=True)


def _ours(path: Path, **settings: Any) -> tuple[Say, End]:
    from monitoring.logs.files import LogFile

    writer = LogFile(path, max_bytes=MAX_BYTES, **settings).open("bench", lambda reason, lines: None)
    return (lambda text: writer.write(text.encode() + b"\n")), writer.close


CASES = (
    Case("logging RotatingFileHandler", stdlib_rotating, "logging"),
    Case("loguru, rotation=", loguru_rotating, "loguru"),
    Case("concurrent-log-handler", concurrent_rotating, "concurrent_log_handler"),
    Case("ours, LogFile", ours, "monitoring", ours=True),
    Case("ours, LogFile with compress=True", ours_compressed, "monitoring", ours=True),
)


# --- one run ---


def _run_all(case: Case, folder: Path, runs: int) -> list[Run]:
    return [_run(case, folder) for _ in range(runs)] if find_spec(case.needs) is not None else []


def _run(case: Case, folder: Path) -> Run:
    place = folder / "lines"
    place.mkdir()
    spawn = multiprocessing.get_context("spawn")
    barrier, seconds = spawn.Barrier(PROCESSES), spawn.SimpleQueue()
    arguments = (case.make, place / "app.log", barrier, seconds)
    processes = [spawn.Process(target=_write, args=(number, *arguments)) for number in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError(f"A process of {case.label!r} failed; its error stands above.")
    run = _judge(place, max(seconds.get() for _ in processes))
    shutil.rmtree(place)
    return run


def _write(process: int, make: Callable[[Path], tuple[Say, End]], path: Path, barrier: Barrier, seconds: Any) -> None:
    texts = [_text(process, number) for number in range(LINES)]
    with contextlib.redirect_stderr(io.StringIO()):  # some complain there about each line that they lose
        say, end = make(path)
        barrier.wait(START_SECONDS)
        began = time.perf_counter()
        for text in texts:
            say(text)
        end()
        seconds.put(time.perf_counter() - began)


def _text(process: int, number: int) -> str:
    return f"process {process} line {number} ".ljust(LINE_BYTES - 1, "x")


def _judge(folder: Path, seconds: float) -> Run:
    found = Counter(_lines(folder))
    expected = {_text(process, number).encode() + b"\n" for process in range(PROCESSES) for number in range(LINES)}
    torn = sum(count for line, count in found.items() if line not in expected)
    double = sum(count - 1 for line, count in found.items() if line in expected)
    files = sum(1 for path in folder.iterdir() if path.name.startswith("app"))
    return Run(len(expected - found.keys()), torn, double, files, seconds)


def _lines(folder: Path) -> Iterator[bytes]:
    for path in folder.iterdir():
        if path.suffix != ".tmp":
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as content:
                yield from content


# --- the result ---


def _result(found: dict[Case, list[Run]]) -> Result:
    return Result(
        name="log_files",
        title=f"{PROCESSES} processes write {PROCESSES * LINES:,} lines of {LINE_BYTES} bytes to one file, "
        f"rotated at {MAX_BYTES // 1000} kB: lines that went wrong, run by run",
        columns=("", "lost", "torn", "double", "files", "seconds", ""),
        rows=[_row(case, runs) for case, runs in found.items()],
        unit="lines",
        notes=(
            "seconds: median, from the first line until all are on disk, of the slowest process. The others' loggers",
            "format a record; ours gets a line that is rendered.",
        ),
        data={case.label: [asdict(run) for run in runs] for case, runs in found.items()},
    )


def _row(case: Case, runs: Sequence[Run]) -> tuple[str, ...]:
    if not runs:
        return (case.label, "-", "-", "-", "-", "-", "not installed")
    columns = [" / ".join(f"{getattr(run, name):,}" for run in runs) for name in ("lost", "torn", "double", "files")]
    return (case.label, *columns, f"{statistics.median(run.seconds for run in runs):.2f}", "")


if __name__ == "__main__":
    main()
