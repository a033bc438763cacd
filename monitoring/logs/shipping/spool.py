"""The spool: batches on disk that could not be delivered yet, for this process or the next.

A batch is a file of gzip, written under another name first, so that it is there whole or not at all. Its name holds the
time, so that names sort as batches came, and the number of its lines, so that a broken one can be counted. Whoever
sends batches holds a lock on the folder: no two processes send the same. A file survives its process, not a power cut.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import itertools
import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

_ENDING: Final = ".lines.gz"
_BROKEN: Final = ".broken"
_BEGUN: Final = ".begun"
_DISK_BLOCK: Final = 4096
_LOST_SECONDS: Final = 3600.0
"""Age at which a file that was begun has nobody who will finish it."""
_numbers: Final = itertools.count()


class Spool:
    """The batches of one destination, in a folder that processes of one machine share. Thread-safe."""

    def __init__(self, folder: Path, max_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._clock = clock
        self._last = 0
        self._lock_file: int | None = None

    def add(self, lines: Sequence[bytes]) -> bool:
        """Keep a batch behind the others. Return whether there was room, and the disk took it."""
        packed = gzip.compress(b"".join(lines), 5, mtime=0)
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not self._has_room(len(packed)):
                return False
            self._write(self.folder / self._name(len(lines)), packed)
        except OSError:
            return False
        return True

    @contextlib.contextmanager
    def claim(self) -> Iterator[bool]:
        """Give the right to send batches, for a block, unless another process or thread has it."""
        self._lock_file = lock = self._locked()
        try:
            yield lock is not None
        finally:
            self._lock_file = None
            if lock is not None:
                fcntl.flock(lock, fcntl.LOCK_UN)  # a forked child may have the file open too
                os.close(lock)

    def leave_claim(self) -> None:
        """Close what a forked child has of its parent's claim, which stays the parent's."""
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    def batches(self) -> list[Path]:
        """Return the files of the batches, the oldest first."""
        try:
            names = os.listdir(self.folder)
        except OSError:
            return []
        return [self.folder / name for name in sorted(names) if name.endswith(_ENDING)]

    def read(self, batch: Path) -> list[bytes] | None:
        """Return the lines of a batch, None when the file is broken; that is set aside then."""
        try:
            lines = gzip.decompress(batch.read_bytes()).splitlines(keepends=True)
        except (OSError, EOFError, zlib.error):
            lines = []
        if len(lines) == lines_of(batch):
            return lines
        with contextlib.suppress(OSError):
            batch.rename(batch.with_name(batch.name + _BROKEN))
        return None

    def shorten(self, batch: Path, lines: Sequence[bytes]) -> None:
        """Keep only these lines of a batch, none for the whole of it being delivered."""
        if lines:
            named = f"{batch.name.partition('.')[0]}.{len(lines)}{_ENDING}"
            self._write(batch.with_name(named), gzip.compress(b"".join(lines), 5, mtime=0))
        batch.unlink(missing_ok=True)

    def _locked(self) -> int | None:
        try:
            lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return None
        return lock

    def _name(self, lines: int) -> str:
        self._last = max(self._last + 1, int(self._clock() * 1e9))
        return f"{self._last:020d}-{os.getpid()}-{next(_numbers)}.{lines}{_ENDING}"

    def _write(self, path: Path, content: bytes) -> None:
        begun = path.with_name(path.name + _BEGUN)
        try:
            with os.fdopen(os.open(begun, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)
            begun.rename(path)
        except OSError:
            begun.unlink(missing_ok=True)
            raise

    def _has_room(self, size: int) -> bool:
        """Say whether a file fits; those that nobody can use make room for it."""
        used, useless = 0, []
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # sent meanwhile
                found = path.stat()
                used += _on_disk(found.st_size)
                if path.name.endswith(_BROKEN) or self._is_lost(path.name, found.st_mtime):
                    useless.append((path, _on_disk(found.st_size)))
        while used + _on_disk(size) > self._max_bytes and useless:
            path, freed = useless.pop()
            path.unlink(missing_ok=True)
            used -= freed
        return used + _on_disk(size) <= self._max_bytes

    def _is_lost(self, name: str, written_at: float) -> bool:
        return name.endswith(_BEGUN) and written_at < self._clock() - _LOST_SECONDS


def lines_of(batch: Path) -> int:
    """Return how many lines a batch has, by its name."""
    count = batch.name.removesuffix(_ENDING).rpartition(".")[2]
    return int(count) if count.isdecimal() else 0


def _on_disk(size: int) -> int:
    return -(-size // _DISK_BLOCK) * _DISK_BLOCK
