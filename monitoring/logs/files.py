"""A log file that several processes append to, with rotation that loses no line.

A block of lines is one ``write`` to a descriptor that appends, without a lock. Now and then the process looks whether
the path still leads to its file; if not, somebody has rotated it, and the path is opened anew. Only the rename is done
under a lock.

A block may so arrive in a file that has just been renamed. It is not lost: while a process has a file open it holds
``flock`` on it, together with the others, and nobody compresses or removes a file that is held (``retention.py``).
A file that is opened is held before it is made sure that the path leads to it, so there is no gap between the two.

Where a write is cut short (a full disk), the end of the file is a torn line. It is left there, and written again whole
on a line of its own once there is room; whoever finds a torn line at the end begins with a newline.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Final

from ..utils import locks
from .levels import LEVELS
from .outlets import OnDropped
from .retention import Retention, Work, free_name, hidden_beside, tidy
from .writer import LogWriter

_LOOK_SECONDS: Final = 0.2
_LOOK_BYTES: Final = 64 * 1024
"""Bytes after which the process looks again, if that is sooner; a sixteenth of ``max_bytes`` when that is less."""

_CLOCK_GRAIN_SECONDS: Final = 0.02
"""By how much the time of a file's last change may lag behind the clock."""

_OPEN_TRIES: Final = 20
_GLANCES: Final = 5
"""How often the end of a file is read, a millisecond apart, before it is called torn: another process may just be
writing there.
"""

_LOCK_TRIES: Final = 10
"""How often the lock for the rename is tried, a millisecond apart: whoever has it may just not be running."""

_PATIENCE_SECONDS: Final = 1.0
_TIDY_SECONDS: Final = 60.0
_TIDY_AGAIN_SECONDS: Final = 2.0
_ROTATE_AGAIN_SECONDS: Final = 10.0
_CLOSED: Final = -1
_PERIODS: Final = {"hour": 3_600.0, "day": 86_400.0}


class RotatingFile:
    """A file for blocks of whole lines, which other processes may rotate, too. Thread-safe.

    It is rotated when a line would make it larger than ``max_bytes``, and at each multiple of ``rotate_every`` seconds
    since 1970 (UTC). Other processes may add up to a block each while that is noticed.
    """

    def __init__(
        self,
        path: str,
        *,
        max_bytes: int | None = None,
        rotate_every: float | None = None,
        retention: Retention = Retention(),  # noqa: B008 (frozen)
        mode: int = 0o640,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = os.path.realpath(path) if os.path.islink(path) else os.path.abspath(path)
        self._max_bytes = max_bytes
        self._every = rotate_every
        self._retention = retention
        self._mode = mode
        self._clock = clock
        self._look_bytes = _LOOK_BYTES if max_bytes is None else min(_LOOK_BYTES, max_bytes // 16)
        self._rotate_lock = hidden_beside(self.path, "rotation")
        self._complained = False
        self._fd = _CLOSED
        self._rest = b""
        self._tidying: Work | None = None
        self.start_afresh()

    def write(self, block: bytes | memoryview) -> None:
        """Write a block of whole lines. Raise OSError when it is refused: none of its lines is written, now or later.

        What of a block does not fit on the disk is kept, and goes before the next one.
        """
        with self._alone():
            self._settle()
            self._write_lines(memoryview(block))

    def flush(self) -> None:
        """Write what is kept of a block that did not fit. Raise OSError when it still does not."""
        with self._alone():
            self._settle()

    def tend(self) -> bool:
        """Do what is due when nothing is written: let go of a file that was rotated, rotate, compress, remove.

        That is a slice of some milliseconds; return whether the next one can follow. For one thread; never raises
        OSError.
        """
        now = self._clock()
        with contextlib.suppress(OSError), self._alone():
            self._follow()
            if self._fd != _CLOSED:
                self._look(now)
            self._settle()
        return self._tidy(now)

    def close(self) -> int:
        """Close the file, and return how many lines of it could not be written. A later write opens it again."""
        with contextlib.suppress(OSError):
            self.flush()
        self._leave()
        self._tidying = None
        rest, self._rest = self._rest, b""
        return rest.count(b"\n")

    def start_afresh(self) -> None:
        """Begin anew in a forked child: what was its parent's is left to its parent."""
        if self._fd != _CLOSED:
            with contextlib.suppress(OSError):
                os.close(self._fd)
        self._fd = _CLOSED
        self._place = (0, 0)
        """Device and inode of the file that is open."""
        self._size = 0
        """Its bytes: as many as at the last look, and what was written since."""
        self._period = 0.0
        """The multiple of ``rotate_every`` to which its lines belong."""
        self._is_torn = False
        """Whether it ends in a part of a line."""
        self._rest = b""
        self._looked_at = -math.inf
        self._unlooked = 0
        """Bytes that were written since the last look."""
        self._rotation_due = self._tidy_due = -math.inf
        self._tidying = None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        # Whoever holds it may be this thread, which a signal has interrupted.
        if not self._lock.acquire(timeout=_PATIENCE_SECONDS):
            raise OSError(errno.EBUSY, "another thread is writing", self.path)
        try:
            yield
        finally:
            self._lock.release()

    # --- lines ---

    def _settle(self) -> None:
        rest, self._rest = self._rest, b""
        try:
            self._write_lines(memoryview(rest))
        except OSError:
            self._rest = rest
            raise

    def _write_lines(self, block: memoryview) -> None:
        has_begun = False
        while block:
            try:
                block = block[self._write_some(block) :]
            except OSError:
                self._leave()
                if not has_begun:
                    raise
                self._rest = bytes(block)
                return
            has_begun = True

    def _write_some(self, block: memoryview) -> int:
        """Write as many lines as belong in this file, and return the bytes of those that are whole in it."""
        now = self._clock()
        if self._is_look_due(now):
            self._look(now)
        return self._append(block if self._max_bytes is None else block[: self._fitting(block, self._max_bytes, now)])

    def _append(self, lines: memoryview) -> int:
        newline = b"\n" if self._is_torn else b""
        size = os.writev(self._fd, (newline, lines)) if newline else os.write(self._fd, lines)
        self._size += size
        self._unlooked += size
        written = size - len(newline)
        if written == len(lines):
            self._is_torn = False
            return written
        self._looked_at = -math.inf
        return _whole_lines(lines, written)

    def _fitting(self, block: memoryview, max_bytes: int, now: float) -> int:
        if self._size and not _whole_lines(block, max_bytes - self._size):
            self._rotate(now, self._size)
        fitting = _whole_lines(block, max_bytes - self._size)
        return fitting or (len(block) if self._size else _first_line(block))

    # --- the file that the path leads to ---

    def _is_look_due(self, now: float) -> bool:
        return (
            self._fd == _CLOSED
            or self._unlooked >= self._look_bytes
            or not 0 <= now - self._looked_at < _LOOK_SECONDS
            or self._is_period_over(now)
        )

    def _look(self, now: float) -> None:
        self._take_stock(now)
        if self._is_period_over(now):
            self._rotate(now, 1)

    def _take_stock(self, now: float) -> None:
        self._follow()
        if self._fd == _CLOSED:
            self._open(now)
        self._looked_at, self._unlooked = now, 0
        status = os.fstat(self._fd)
        self._size = status.st_size if stat.S_ISREG(status.st_mode) else 0
        self._is_torn = self._size > 0 and self._ends_in_a_torn_line()
        if not self._size:
            self._period = self._period_of(now)

    def _follow(self) -> None:
        """Let go of the file when the path does not lead to it any more."""
        if self._fd != _CLOSED and not self._is_at_path():
            self._leave()

    def _is_at_path(self) -> bool:
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return False
        return (status.st_dev, status.st_ino) == self._place

    def _open(self, now: float) -> None:
        for _ in range(_OPEN_TRIES):
            self._fd = self._open_path()
            with contextlib.suppress(OSError):  # where there are no locks nobody compresses or removes files either
                locks.share(self._fd)
            status = os.fstat(self._fd)
            self._place = (status.st_dev, status.st_ino)
            self._period = self._period_of(min(now, status.st_mtime + _CLOCK_GRAIN_SECONDS))
            if self._is_at_path():
                return
            self._leave()
        raise OSError(errno.EAGAIN, "it is renamed faster than it can be opened", self.path)

    def _open_path(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(self.path, flags, self._mode)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            return os.open(self.path, flags, self._mode)

    def _leave(self) -> None:
        if self._fd != _CLOSED:
            fd, self._fd = self._fd, _CLOSED
            locks.let_go(fd)

    def _ends_in_a_torn_line(self) -> bool:
        size = former = 0
        for glance in range(_GLANCES):
            if glance:
                time.sleep(0.001)
                # Waits for whoever is writing on ext4 and tmpfs; on others only the sleep does, or the reading itself.
                os.lseek(self._fd, 0, os.SEEK_HOLE)
            former, size = size, os.fstat(self._fd).st_size
            if size == 0 or os.pread(self._fd, 1, size - 1) in (b"\n", b""):
                return False
        return size == former

    # --- rotation and what comes after it ---

    def _period_of(self, moment: float) -> float:
        return 0.0 if self._every is None else moment // self._every

    def _is_period_over(self, now: float) -> bool:
        return self._every is not None and now // self._every > self._period

    def _rotate(self, now: float, least: int) -> None:
        """Rename the file, if it still has ``least`` bytes, and open another. Where that fails, and where another
        process is at it and has stalled, lines go on to this one.
        """
        if not _is_due(self._rotation_due, now):
            return
        try:
            self._rename(now, least)
        except OSError as error:
            self._rotation_due = now + _ROTATE_AGAIN_SECONDS
            return self._complain(error)
        self._take_stock(now)

    def _rename(self, now: float, least: int) -> None:
        for _ in range(_LOCK_TRIES):
            with locks.held_alone(self._rotate_lock, mode=self._mode) as lock:
                if lock is not None:
                    if self._is_at_path() and os.fstat(self._fd).st_size >= least:
                        os.rename(self.path, free_name(self.path, now))
                        self._tidy_due = now
                    return
            time.sleep(0.001)

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            with contextlib.suppress(OSError):
                sys.stderr.write(f"monitoring cannot rotate {self.path}: {error}. Lines go on to the same file.\n")

    def _tidy(self, now: float) -> bool:
        if self._tidying is None:
            if not self._retention.asks_for_work or not _is_due(self._tidy_due, now):
                return False
            self._tidying, self._tidy_due = tidy(self.path, self._retention, now), now + _TIDY_SECONDS
        try:
            next(self._tidying)
            return True
        except StopIteration as end:
            if end.value:
                self._tidy_due = min(self._tidy_due, now + _TIDY_AGAIN_SECONDS)
        except OSError:  # the folder is gone, or is not ours to write in
            pass
        self._tidying = None
        return False


@dataclass(frozen=True)
class LogFile:
    """A log file for ``install(app, log_handlers=[LogFile("/var/log/app.log", max_bytes=100_000_000)])``.

    Several processes of one host may share it. Rotation loses no line; rotated files are named
    ``app.log.20261124T101226.123456Z``, by the time of rotation. An outside ``logrotate`` that renames the file is
    followed within 0.2 s; let it compress later (``delaycompress``). Two hidden files for locks stay beside it. Not for
    network file systems, where appending is not atomic. Raise ValueError for a setting that cannot be used.
    """

    path: str | os.PathLike[str]
    _: KW_ONLY
    level: str = "debug"
    """The lowest level that goes there."""
    max_bytes: int | None = None
    """Rotate before a line makes the file larger. Lines are never cut: one that is longer has a file of its own."""
    rotate_every: str | float | None = None
    """Rotate at the beginning of each ``"hour"`` or ``"day"`` (UTC), or at each multiple of so many seconds."""
    keep_files: int | None = None
    """Remove rotated files beyond so many."""
    keep_days: float | None = None
    """Remove files that were rotated longer ago."""
    keep_bytes: int | None = None
    """Remove the oldest rotated files while all of them together are larger."""
    compress: bool = False
    """Turn rotated files into gzip, in the background, once no process has them open."""
    mode: int = 0o640
    """Permissions of a new file, less the umask."""

    def __post_init__(self) -> None:
        self._check_path()
        self._check_bounds()
        if self.level not in LEVELS:
            raise ValueError(f"level of LogFile is {self.level!r}; give one of {', '.join(LEVELS)}.")
        if self._period is not None and not _is_number(self._period, 1):
            raise ValueError(f"rotate_every of LogFile is {self.rotate_every!r}; give 'hour', 'day' or seconds from 1.")
        if not isinstance(self.mode, int) or not 0 <= self.mode <= 0o777:
            raise ValueError(f"mode of LogFile is {self.mode!r}; give permissions such as 0o640.")
        if self.max_bytes is None and self._period is None and self._retention.asks_for_work:
            raise ValueError("LogFile keeps or compresses rotated files only; give max_bytes or rotate_every, too.")

    def open(self, service: str, on_dropped: OnDropped) -> LogWriter:
        """Return a writer for this file. It is created at the first line."""
        return LogWriter(self.file(), on_dropped=on_dropped, queues_at_once=True)

    def file(self) -> RotatingFile:
        """Return the file that a writer writes to."""
        return RotatingFile(
            os.fspath(self.path),
            max_bytes=self.max_bytes,
            rotate_every=self._period,
            retention=self._retention,
            mode=self.mode,
        )

    @property
    def is_tended(self) -> bool:
        """Whether the file is rotated by this process, so that there is work beside writing."""
        return self.max_bytes is not None or self.rotate_every is not None

    @property
    def _period(self) -> float | None:
        if isinstance(self.rotate_every, str):
            return _PERIODS.get(self.rotate_every, 0.0)
        return self.rotate_every

    @property
    def _retention(self) -> Retention:
        return Retention(self.keep_files, self.keep_days, self.keep_bytes, self.compress)

    def _check_path(self) -> None:
        path = os.fspath(self.path)
        if not isinstance(path, str) or not os.path.basename(path) or "\0" in path:
            raise ValueError(f"path of LogFile is {self.path!r}; give the path of a file.")
        if not locks.IS_SUPPORTED:
            raise ValueError(f"LogFile needs flock, which {sys.platform} lacks; use log_destination.")

    def _check_bounds(self) -> None:
        for name, least in (("max_bytes", 1), ("keep_files", 0), ("keep_days", 0), ("keep_bytes", 0)):
            value = getattr(self, name)
            is_whole = name == "keep_days" or isinstance(value, int)
            if value is not None and not (is_whole and _is_number(value, least)):
                raise ValueError(f"{name} of LogFile is {value!r}; give a number from {least}, or None for no bound.")


def _whole_lines(block: memoryview, limit: int) -> int:
    """Return where the last line ends that fits in ``limit`` bytes."""
    return len(block) if len(block) <= limit else bytes(block[: max(0, limit)]).rfind(b"\n") + 1


def _first_line(block: memoryview) -> int:
    return bytes(block).find(b"\n") + 1 or len(block)


def _is_due(due: float, now: float) -> bool:
    """Say whether a time has come; a clock that was set back does not put it off."""
    return not 0 < due - now <= _TIDY_SECONDS


def _is_number(value: object, least: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value < math.inf
