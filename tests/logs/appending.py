"""Processes that append numbered lines to one log file, and the count of what arrived.

Run as a program: `lines` writes so many and ends, `orders` writes as many as each line of stdin says, `full-disk` has
three processes under orders on a disk that it fills up and frees again.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from monitoring.logs.files import LogFile
from monitoring.logs.writer import LogWriter

_BURST = 100
_PAUSE_SECONDS = 0.004
"""Between two bursts of lines, so that the processes write for a while beside each other."""


def line_of(process: int, number: int) -> bytes:
    """Return the line of a number; its length depends on it, so that what is torn or mixed up equals no line."""
    return b'{"process":%d,"number":%d,"text":"%s"}\n' % (process, number, b"x" * (90 + number % 61))


@dataclass(frozen=True)
class Verdict:
    """What became of the lines. `torn`: the lines in the files that equal none that was written; empty ones, too."""

    written: int
    missing: frozenset[bytes]
    duplicate: int
    torn: tuple[bytes, ...]

    @property
    def lost(self) -> int:
        """How many lines are missing."""
        return len(self.missing)

    @property
    def summary(self) -> str:
        """Return it in one line."""
        return f"{self.written} written, {self.lost} lost, {self.duplicate} double, torn: {self.torn[:5]}"

    @property
    def is_exact(self) -> bool:
        """Whether every line is there once, and nothing else."""
        return (self.lost, self.duplicate, self.torn) == (0, 0, ())


def judge(path: Path, processes: int, lines: int) -> Verdict:
    """Count the lines of a log and its rotated files, compressed or not."""
    found = Counter(_lines(path))
    expected = {line_of(process, number) for process in range(processes) for number in range(lines)}
    return Verdict(
        len(found.keys() & expected),
        frozenset(expected - found.keys()),
        sum(count - 1 for line, count in found.items() if line in expected),
        tuple(line for line in found if line not in expected),
    )


def _lines(path: Path) -> Iterator[bytes]:
    for file in path.parent.glob(f"{path.name}*"):
        if file.suffix != ".tmp":
            with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as content:
                yield from content


def start(mode: str, path: Path, process: int, lines: int, **settings: Any) -> subprocess.Popen[bytes]:
    """Start one process. `mode` names a way to write: whole, or with a fault that the count has to notice."""
    return subprocess.Popen(
        [sys.executable, __file__, "lines", mode, str(path), str(process), str(lines), json.dumps(settings)]
    )


# --- in the processes ---


def write_lines(mode: str, path: str, process: int, lines: int, settings: dict[str, Any]) -> None:
    """Write so many lines, in bursts, and end."""
    writer = LogFile(path, **settings).open("test", _no_drops)
    write = MODES[mode]
    for number in range(lines):
        write(writer, process, number)
        if number % _BURST == 0:
            time.sleep(_PAUSE_SECONDS)
    writer.close()


def _write(writer: LogWriter, process: int, number: int) -> None:
    writer.write(line_of(process, number))


def _lose(writer: LogWriter, process: int, number: int) -> None:
    if number % 20:
        _write(writer, process, number)


def _repeat(writer: LogWriter, process: int, number: int) -> None:
    for _ in range(1 if number % 20 else 2):
        _write(writer, process, number)


def _tear(writer: LogWriter, process: int, number: int) -> None:
    line = line_of(process, number)
    writer.write(line if number % 20 else line[:20] + b"\n" + line[20:])


MODES = {"whole": _write, "lose": _lose, "repeat": _repeat, "tear": _tear}


def _no_drops(reason: str, lines: int) -> None:
    raise AssertionError(f"{lines} lines were dropped: {reason}")


def obey(path: str, process: int) -> None:
    """Write as many lines as each line of stdin says, and answer with how many are dropped so far."""
    dropped: Counter[str] = Counter()

    def count(reason: str, lines: int) -> None:
        dropped[reason] += lines

    writer = LogFile(path, max_bytes=100_000).open("test", count)
    number = 0
    for order in sys.stdin:
        for _ in range(int(order)):
            writer.write(line_of(process, number))
            number += 1
        writer.flush()
        print(dropped.total(), flush=True)
    writer.close()
    print(dropped.total(), flush=True)


def fill_up_and_free(folder: Path) -> dict[str, Any]:
    """Have three processes write before, while and after their disk is full; return what is found then."""
    path, processes = folder / "app.log", 3
    command = [sys.executable, __file__, "orders", str(path)]
    running = [
        subprocess.Popen([*command, str(process)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for process in range(processes)
    ]
    before = _order(running, 500)
    _fill(folder / "junk")
    full = _order(running, 500, times=4)
    (folder / "junk").unlink()
    after = _order(running, 500, times=2)
    for process in running:
        _pipe(process.stdin).close()
    ended = _answers(running)
    verdict = judge(path, processes, 7 * 500)
    return {
        "dropped": {"before": before, "full": full, "after": after, "ended": ended},
        "written": verdict.written,
        "duplicate": verdict.duplicate,
        "torn": [line.decode() for line in verdict.torn],
        "exit_codes": [process.wait() for process in running],
    }


def _order(running: list[subprocess.Popen[str]], lines: int, times: int = 1) -> int:
    """Give an order to all at once, and return how many lines they have dropped by then."""
    for _ in range(times):
        for process in running:
            _pipe(process.stdin).write(f"{lines}\n")
            _pipe(process.stdin).flush()
        dropped = _answers(running)
    return dropped


def _answers(running: list[subprocess.Popen[str]]) -> int:
    return sum(int(_pipe(process.stdout).readline()) for process in running)


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def _fill(junk: Path) -> None:
    with junk.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4_096))
        except OSError:
            pass


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["lines", mode, path, process, lines, settings]:
            write_lines(mode, path, int(process), int(lines), json.loads(settings))
        case ["orders", path, process]:
            obey(path, int(process))
        case ["full-disk", folder]:
            print(json.dumps(fill_up_and_free(Path(folder))))
