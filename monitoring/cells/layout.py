"""The layout of a cell file: a header, then appended records whose float64 cells are changed in place.

A record is ``size, kind, page, parent, text length | text | cells | commit word``. The commit word is written last,
so that a process killed at any instruction leaves at most a torn tail, which readers ignore. Records never straddle
a chunk, and a chunk is allocated before it is mapped: writing to a sparse page on a full disk would end the process
with SIGBUS.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from . import scale

CHUNK: Final = 64 * 1024
RESERVE: Final = 2 * 1024
"""Bytes kept at the end of the last chunk for records of last resort: those that count what no longer fits."""
LAYOUT_VERSION: Final = 1

_MAGIC: Final = b"MONCELLS"
_BYTE_ORDER: Final = 0x01020304
_HEADER: Final = struct.Struct("=8sIIQQd32s64s")
HEADER_SIZE: Final = (_HEADER.size + 7) & ~7

_RECORD: Final = struct.Struct("=IHHII")
_COMMIT: Final = struct.Struct("=Q")
_COMMITTED: Final = 0x00C0FFEE_C0FFEE00
_OVERHEAD: Final = _RECORD.size + _COMMIT.size
TEXT_LIMIT: Final = 16 * 1024

DECLARATION, SERIES, PAGE, SOURCE = 1, 2, 3, 4


class Header(NamedTuple):
    """Who wrote a file: process, start time in unix seconds, generation of the service, and the server that
    supervises it.
    """

    pid: int
    started_at: float
    generation: str
    supervisor: str


class Record(NamedTuple):
    """One committed record; ``cell`` is the index of its first cell, counted in float64s from the start of the file."""

    kind: int
    page: int
    parent: int
    offset: int
    end: int
    text: bytes
    cell: int


class CorruptFile(Exception):
    """A file that is not, or no longer, in this layout."""


class Appended(NamedTuple):
    """Where a new record lies, and its cells as a view that changes them in place.

    They are ``chunk[first]`` and following, too: a view that all series share is in the processor's cache already.
    """

    offset: int
    cells: memoryview[float]
    chunk: memoryview[float]
    first: int


class CellFile:
    """A growing file of records, or anonymous memory of the same layout when ``fd`` is None.

    Not thread-safe: callers lock.
    """

    def __init__(self, fd: int | None, header: Header, lock: int | None = None) -> None:
        self.fd = fd
        self._lock = lock
        self.chunks: list[mmap.mmap] = []
        self._views: list[memoryview[float]] = []
        self._position = HEADER_SIZE
        self._grow()
        self._write_header(header)

    def append(
        self, kind: int, *, text: bytes = b"", cells: int = 0, parent: int = 0, page: int = 0, last_resort: bool = False
    ) -> Appended:
        """Append a committed record with zeroed cells. Raise OSError when the file cannot grow.

        Only records of last resort may use the last chunk's reserve.
        """
        padded = (len(text) + 7) & ~7
        size = _OVERHEAD + padded + 8 * cells
        if len(text) > TEXT_LIMIT or size > CHUNK - HEADER_SIZE:
            raise ValueError(f"A record of {size} bytes does not fit a chunk of {CHUNK}.")
        room = CHUNK if last_resort else CHUNK - RESERVE
        if self._position % CHUNK + size > room or self._position // CHUNK >= len(self.chunks):
            self._grow()
            self._position = (len(self.chunks) - 1) * CHUNK
        number, start = divmod(self._position, CHUNK)
        chunk, view = self.chunks[number], self._views[number]
        first = (start + _RECORD.size + padded) // 8
        chunk[start + _RECORD.size : start + _RECORD.size + len(text)] = text
        _RECORD.pack_into(chunk, start, size, kind, page, parent, len(text))
        _COMMIT.pack_into(chunk, start + size - _COMMIT.size, _COMMITTED)
        offset = self._position
        self._position += size
        return Appended(offset, view[first : first + cells], view, first)

    def close(self) -> None:
        """Release the descriptors, and with them the lock on the file.

        Maps live as long as somebody holds a view of them.
        """
        for fd in (self._lock, self.fd):
            if fd is not None:
                os.close(fd)
        self._lock = self.fd = None

    def _grow(self) -> None:
        start = len(self.chunks) * CHUNK
        if self.fd is None:
            chunk = mmap.mmap(-1, CHUNK)
        else:
            allocate(self.fd, start, CHUNK)
            chunk = mmap.mmap(self.fd, CHUNK, offset=start)
        self.chunks.append(chunk)
        self._views.append(memoryview(chunk).cast("d"))

    def _write_header(self, header: Header) -> None:
        packed = _HEADER.pack(
            _MAGIC,
            LAYOUT_VERSION,
            _BYTE_ORDER,
            scale.fingerprint(),
            header.pid,
            header.started_at,
            header.generation.encode(),
            header.supervisor.encode()[:64],
        )
        self.chunks[0][len(_MAGIC) : _HEADER.size] = packed[len(_MAGIC) :]
        self.chunks[0][: len(_MAGIC)] = _MAGIC


def allocate(fd: int, start: int, length: int) -> None:
    """Back ``length`` bytes of the file with real storage. Raise OSError when there is none."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, start, length)
    else:
        os.pwrite(fd, bytes(length), start)


def is_unfinished(buffer: mmap.mmap | bytes) -> bool:
    """Say whether the writer of this file died before its header was complete: such a file holds no counts."""
    return len(buffer) < HEADER_SIZE or bytes(buffer[: len(_MAGIC)]) == bytes(len(_MAGIC))


def read_header(buffer: mmap.mmap | bytes) -> Header:
    """Return the header. Raise CorruptFile when it is not one of this layout, byte order and scale."""
    if len(buffer) < HEADER_SIZE:
        raise CorruptFile(f"The file has {len(buffer)} bytes, fewer than its header.")
    magic, version, order, bounds, pid, started_at, generation, supervisor = _HEADER.unpack_from(buffer)
    if (magic, version, order, bounds) != (_MAGIC, LAYOUT_VERSION, _BYTE_ORDER, scale.fingerprint()):
        raise CorruptFile(f"The header {magic!r} version {version} is not one of this layout.")
    try:
        return Header(pid, started_at, generation.rstrip(b"\0").decode(), supervisor.rstrip(b"\0").decode())
    except UnicodeDecodeError as error:
        raise CorruptFile(f"The header's names are no text: {error}") from None


def read_records(buffer: mmap.mmap, position: int) -> Iterator[Record]:
    """Yield the committed records from ``position`` on; stop at the first that is torn or not there yet.

    Raise CorruptFile at a record that no writer can have left.
    """
    end = len(buffer) - len(buffer) % CHUNK
    while position + _OVERHEAD <= end:
        size, kind, page, parent, text_length = _RECORD.unpack_from(buffer, position)
        room = CHUNK - position % CHUNK
        if size == 0:
            position += room
            continue
        first_cell = _RECORD.size + ((text_length + 7) & ~7)
        if size % 8 or size > room:
            raise CorruptFile(f"The record at byte {position} has the size {size}, which is not one of this layout.")
        if not _is_committed(buffer, position + size):
            if buffer[position + size :].strip(b"\0") and not _is_committed(buffer, position + size):
                raise CorruptFile(f"The record at byte {position} lacks its commit word, but more follows.")
            return
        if first_cell + _COMMIT.size > size or not DECLARATION <= kind <= SOURCE:
            raise CorruptFile(f"The record at byte {position} (size {size}, kind {kind}) is not one of this layout.")
        start = position + _RECORD.size
        text = bytes(buffer[start : start + text_length])
        yield Record(kind, page, parent, position, position + size, text, (position + first_cell) // 8)
        position += size
        if CHUNK - position % CHUNK < _OVERHEAD:
            position += CHUNK - position % CHUNK


def _is_committed(buffer: mmap.mmap, end: int) -> bool:
    (commit,) = _COMMIT.unpack_from(buffer, end - _COMMIT.size)
    return bool(commit == _COMMITTED)
