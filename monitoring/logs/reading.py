"""Reading logs: the lines of a file and its rotated ones, what is added to them, and several merged by time.

A rotated file may still get lines for a moment, from a process that has not noticed yet. So whoever follows a log goes
on reading a file for 150 looks after it was rotated; it stays open meanwhile, also when it is compressed or removed.
"""

from __future__ import annotations

import contextlib
import gzip
import heapq
import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import IO, Any, Final, NamedTuple

import orjson

from .retention import Rotated, rotated_files

WINDOW_SECONDS: Final = 5.0
"""By how much the lines of one log may be out of order, and come out in order still."""
WINDOW_BYTES: Final = 16 * 1024 * 1024
"""Bytes that are held for it at most; past them the oldest line goes."""

_LINE_BYTES: Final = 1024 * 1024
"""Longer lines come in pieces, and so no file has to fit into memory."""
_CHUNK: Final = 256 * 1024
_OF_AN_OBJECT: Final = 200
"""Bytes that a held line takes besides its own, roughly."""
_LOOKS: Final = 150
_OPEN_TRIES: Final = 20
_REMEMBERED_BYTES: Final = 256
"""Bytes before the place of reading by which a file is known that was truncated and has grown again."""
_HEAD_BYTES: Final = 4096
"""Bytes at the beginning by which a compressed file is known as one that is open."""
_OUR_BEGINNING: Final = b'{"timestamp":"'
_TIME_KEYS: Final = ("timestamp", "@timestamp", "time", "ts")
_MILLISECONDS: Final = 1e11
"""Year 5138 in seconds: numbers above it are milliseconds."""

Complain = Callable[[str], None]
Readable = gzip.GzipFile | IO[bytes]
UNKNOWN: Final = -math.inf
"""The time of a line that has none, and no line with one before it."""


class Timed(NamedTuple):
    """A line without its newline, and its time in unix seconds."""

    at: float
    text: bytes


class Log:
    """A log file with its rotated ones, read from the oldest line on and then followed. For one thread.

    ``complain`` gets a sentence about each file that cannot be read; such a file is left out.
    """

    def __init__(self, path: str, complain: Complain = lambda sentence: None) -> None:
        self.path = path
        self._is_compressed = path.endswith(".gz")
        self._complain = complain
        self._complaints: set[str] = set()
        self._live: _Tail | None = None
        self._leaving: list[_Tail] = []
        self._known: set[float] = set()
        """Times of the rotations that are known."""

    def lines(self, since: float = -math.inf) -> Iterator[bytes]:
        """Yield the whole lines up to the present end of the file, oldest first.

        Files that were rotated before ``since`` (unix seconds) are not opened.
        """
        for file in self._open_live():
            if file.at >= since:
                yield from self._rotated_lines(file)
        if self._live is not None:
            yield from self._live.lines()

    def new_lines(self) -> Iterator[bytes]:
        """Yield the whole lines that have come since the last look, through rotation and truncation."""
        for tail in self._leaving:
            yield from tail.lines()
        if self._live is not None:
            yield from self._live.lines()
        if self._live is None or not self._live.is_at(self.path):
            yield from self._move_on()
        yield from self._let_go()

    def rest(self) -> Iterator[bytes]:
        """Yield what is at the end of the file and is no whole line yet."""
        if self._live is not None:
            yield from self._live.rest()

    def close(self) -> None:
        """Close the files."""
        for tail in (*self._leaving, *filter(None, [self._live])):
            tail.close()
        self._live, self._leaving = None, []

    def _open_live(self) -> list[Rotated]:
        """Open the file that the path leads to, and return those that had been rotated by then."""
        for _ in range(_OPEN_TRIES):
            self._live = None if self._is_compressed else self._open(self.path)
            rotated = self._rotated()
            if self._live is None or self._live.is_at(self.path):
                break
            self._live.close()
            self._live = None
        self._known.update(file.at for file in rotated)
        return rotated

    def _open(self, path: str) -> _Tail | None:
        try:
            return _Tail(open(path, "rb", buffering=0))
        except FileNotFoundError:
            return None
        except OSError as error:
            self._complain_once(f"{path} cannot be read: {error.strerror}; it is left out.")
            return None

    def _rotated(self) -> list[Rotated]:
        """Return the rotated files, oldest first. One that is being compressed is there twice for a moment."""
        if self._is_compressed:
            return [Rotated(self.path, math.inf, 0, ".gz")]
        try:
            found = rotated_files(os.path.realpath(self.path))
        except FileNotFoundError:
            return []
        except OSError as error:
            self._complain_once(f"The folder of {self.path} cannot be listed: {error.strerror}.")
            return []
        return sorted({file.at: file for file in reversed(found)}.values(), key=lambda file: file.at)

    def _rotated_lines(self, file: Rotated) -> Iterator[bytes]:
        content = self._open_rotated(file)
        if content is None:
            return
        with content:
            try:
                yield from lines_of(content)
            except (OSError, EOFError, zlib.error) as error:
                self._complain_once(f"{file.path} cannot be read to its end: {error}.")

    def _open_rotated(self, file: Rotated) -> Readable | None:
        """Open a rotated file; None where it was removed meanwhile. It may have been compressed, too."""
        for path in (file.path,) if file.kind else (file.path, f"{file.path}.gz"):
            try:
                return gzip.open(path) if path.endswith(".gz") else open(path, "rb")
            except FileNotFoundError:
                continue
            except OSError as error:
                self._complain_once(f"{path} cannot be read: {error.strerror}; it is left out.")
        return None

    def _move_on(self) -> Iterator[bytes]:
        """Leave a file that was rotated, and read those that came after it: perhaps more than one."""
        if self._live is not None:
            self._leaving.append(self._live)
            yield from self._live.lines()
        known = self._known.copy()
        for file in self._open_live():
            if file.at not in known and not self._is_open(file):
                yield from self._lines_of_missed(file)
        if self._live is not None:
            yield from self._live.lines()

    def _lines_of_missed(self, file: Rotated) -> Iterator[bytes]:
        tail = None if file.kind else self._open(file.path)
        if tail is None:
            yield from self._rotated_lines(file)
        else:
            self._leaving.append(tail)
            yield from tail.lines()

    def _is_open(self, file: Rotated) -> bool:
        content = self._open_rotated(file)
        if content is None:
            return True
        with content, contextlib.suppress(OSError, EOFError, zlib.error):
            place = _place_of(content.fileno())
            head = content.read(_HEAD_BYTES) if isinstance(content, gzip.GzipFile) else None
            return any(tail.place == place or tail.begins_with(head) for tail in self._tails())
        return False

    def _tails(self) -> list[_Tail]:
        return [*self._leaving, *filter(None, [self._live])]

    def _let_go(self) -> Iterator[bytes]:
        for tail in list(self._leaving):
            tail.looks_left -= 1
            if tail.looks_left <= 0:
                self._leaving.remove(tail)
                yield from tail.rest()
                tail.close()

    def _complain_once(self, sentence: str) -> None:
        if sentence not in self._complaints:
            self._complaints.add(sentence)
            self._complain(sentence)


class _Tail:
    """An open file that may grow, read from where reading has come to."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._fd: int = file.fileno()
        self.place = _place_of(self._fd)
        self.looks_left = _LOOKS
        self._at = 0
        self._before = b""
        """The last bytes that were read."""
        self._rest = b""

    def lines(self) -> Iterator[bytes]:
        """Yield the whole lines up to the present end."""
        if self._is_rewritten():
            yield from self.rest()
            self._at, self._before = 0, b""
        end = os.fstat(self._fd).st_size
        while self._at < end and (chunk := os.pread(self._fd, _CHUNK, self._at)):
            self._at += len(chunk)
            self._before = (self._before + chunk)[-_REMEMBERED_BYTES:]
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            yield from lines
            if len(self._rest) > _LINE_BYTES:
                yield from self.rest()

    def rest(self) -> Iterator[bytes]:
        """Yield what is at the end and is no whole line, if anything is."""
        rest, self._rest = self._rest, b""
        if rest:
            yield rest

    def is_at(self, path: str) -> bool:
        """Whether the path leads to this file."""
        try:
            status = os.stat(path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self.place

    def begins_with(self, head: bytes | None) -> bool:
        """Whether this is what the file begins with; None is no beginning."""
        return head is not None and os.pread(self._fd, len(head), 0) == head

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _is_rewritten(self) -> bool:
        before = self._before
        return os.pread(self._fd, len(before), self._at - len(before)) != before


def _place_of(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def lines_of(file: Readable) -> Iterator[bytes]:
    """Yield the lines of a file, without their newlines; one of more than 1 MiB comes in pieces."""
    while line := file.readline(_LINE_BYTES):
        yield line.removesuffix(b"\n")


def follow(
    logs: Sequence[Log], choose: Sequence[Callable[[Iterable[bytes]], Iterator[Timed]]], wait: Callable[[], bool]
) -> Iterator[Timed]:
    """Yield what each of ``choose`` takes of the new lines of its log; those of one look are merged by time.

    ``wait`` is called between looks, and says whether there is to be another.
    """
    while True:
        yield from merged([chosen(log.new_lines()) for log, chosen in zip(logs, choose, strict=True)])
        if not wait():
            return


def merged(sources: Sequence[Iterable[Timed]]) -> Iterator[Timed]:
    """Yield the lines of several logs by time.

    Lines of one log may be out of order by ``WINDOW_SECONDS``, and by ``WINDOW_BYTES``; a line that is late by more
    comes out late. None is left out.
    """
    return heapq.merge(*map(_in_order, sources), key=lambda line: line.at)


def _in_order(lines: Iterable[Timed]) -> Iterator[Timed]:
    held: list[tuple[float, int, Timed]] = []
    size, newest = 0, -math.inf
    for number, line in enumerate(lines):
        heapq.heappush(held, (line.at, number, line))
        size += len(line.text) + _OF_AN_OBJECT
        newest = max(newest, line.at)
        while held and (held[0][0] < newest - WINDOW_SECONDS or size > WINDOW_BYTES):
            first = heapq.heappop(held)[2]
            size -= len(first.text) + _OF_AN_OBJECT
            yield first
    while held:
        yield heapq.heappop(held)[2]


def moment_of(line: bytes) -> float | None:
    """Return the time of a line in unix seconds; None where it is no JSON object with a time."""
    if line.startswith(_OUR_BEGINNING):
        begin = len(_OUR_BEGINNING)
        return _moment(line[begin : line.find(b'"', begin)].decode("ascii", "replace"))
    found = object_of(line)
    return None if found is None else next((_moment(found[key]) for key in _TIME_KEYS if key in found), None)


def may_have_a_time(line: bytes) -> bool:
    """Whether it is worth while to look for the time of a line: this looks at its bytes only."""
    return line.startswith(_OUR_BEGINNING) or (line.startswith(b"{") and (b"time" in line or b'"ts"' in line))


def object_of(line: bytes) -> dict[str, Any] | None:
    """Return the JSON object that a line is; None where it is none."""
    if not line.startswith(b"{"):
        return None
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _moment(given: object) -> float | None:
    if isinstance(given, (int, float)):
        return given / 1000 if given > _MILLISECONDS else float(given)
    try:
        moment = datetime.fromisoformat(str(given))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
