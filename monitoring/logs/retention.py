"""Rotated files: their names, which of them may go, and their compression.

``app.log`` becomes ``app.log.20261124T101226.123456Z`` when it is rotated, and that plus ``.gz`` when it is compressed.
Whatever is named otherwise is not ours and stays, and so do directories and symbolic links.

Whoever may still append to a file holds ``flock`` on it, together with the others. So a file that can be held alone is
one to which no line is added any more: only such a file is compressed or removed.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import zlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from ..utils.locks import held_alone

_STAMP: Final = "%Y%m%dT%H%M%S.%fZ"
_ENDING: Final = re.compile(r"\.(?P<stamp>\d{8}T\d{6}\.\d{6}Z)(?P<kind>|\.gz|\.gz\.tmp)", re.ASCII)
_UNFINISHED: Final = ".gz.tmp"
_DAY_SECONDS: Final = 86_400
_SLICE: Final = 256 * 1024
"""Bytes that are compressed at a time: some milliseconds."""
_GZIP: Final = 16 + zlib.MAX_WBITS
_LEFT_ALONE_IF_LINK: Final = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)

Work = Generator[None, None, bool]
"""Work in slices of some milliseconds; returns whether something is left that can be done in a while."""


class Rotated(NamedTuple):
    """A rotated file: when that was, in unix seconds, and its bytes. ``kind``: "", ".gz" or ".gz.tmp"."""

    path: str
    at: float
    size: int
    kind: str


@dataclass(frozen=True, slots=True)
class Retention:
    """What stays of the rotated files: the newest ``files``, none older than ``days``, and ``size`` bytes in all.

    None sets no bound. With ``compress`` they become gzip.
    """

    files: int | None = None
    days: float | None = None
    size: int | None = None
    compress: bool = False

    @property
    def asks_for_work(self) -> bool:
        """Whether anything is ever to be done."""
        return self != Retention()

    def expired(self, files: Sequence[Rotated], now: float) -> list[Rotated]:
        """Return those of ``files``, oldest first, that have to go; the newest go last."""
        total, gone = 0, []
        for younger, file in enumerate(reversed(files)):
            total += file.size
            if _exceeds(younger + 1, self.files) or _exceeds(total, self.size) or _exceeds(_days(file, now), self.days):
                gone.append(file)
        return gone[::-1]


def free_name(path: str, at: float) -> str:
    """Return the name that ``path`` gets when it is rotated ``at`` a unix time; a later one while that is taken."""
    moment = datetime.fromtimestamp(at, UTC)
    while any(os.path.lexists(_named(path, moment) + kind) for kind in ("", ".gz")):
        moment += timedelta(microseconds=1)
    return _named(path, moment)


def rotated_files(path: str) -> list[Rotated]:
    """Return the rotated files of ``path``, oldest first. Raise OSError when the folder cannot be read."""
    return sorted((file for file in _found(path) if file.kind != _UNFINISHED), key=lambda file: (file.at, file.kind))


def tidy(path: str, retention: Retention, now: float) -> Work:
    """Compress and remove rotated files of ``path``; do nothing while another process is at it."""
    with held_alone(hidden_beside(path, "retention")) as lock:
        if lock is None:
            return False
        _remove_unfinished(path)
        left = yield from _remove(replace(retention, size=None).expired(rotated_files(path), now))
        if retention.compress:
            plain = [file for file in rotated_files(path) if not file.kind]
            left |= yield from _compress_all(plain)
        left |= yield from _remove(retention.expired(rotated_files(path), now))
        return left


def hidden_beside(path: str, purpose: str) -> str:
    """Return the path of a hidden file for locks; it stays."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{purpose}.lock")


def _named(path: str, moment: datetime) -> str:
    return f"{path}.{moment.strftime(_STAMP)}"


def _exceeds(amount: float, bound: float | None) -> bool:
    return bound is not None and amount > bound


def _days(file: Rotated, now: float) -> float:
    return (now - file.at) / _DAY_SECONDS


def _found(path: str) -> Iterator[Rotated]:
    folder, name = os.path.split(path)
    with os.scandir(folder) as entries:
        for entry in entries:
            ending = _ENDING.fullmatch(entry.name, len(name)) if entry.name.startswith(name) else None
            if ending is not None and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(ValueError, FileNotFoundError):
                    at = datetime.strptime(ending["stamp"], _STAMP).replace(tzinfo=UTC).timestamp()
                    yield Rotated(entry.path, at, entry.stat(follow_symlinks=False).st_size, ending["kind"])


def _remove_unfinished(path: str) -> None:
    """Remove what a process left that ended while it compressed; the file that it was made of is still there."""
    for file in list(_found(path)):
        if file.kind == _UNFINISHED:
            os.unlink(file.path)


def _remove(files: Iterable[Rotated]) -> Work:
    left = False
    for file in files:
        with contextlib.suppress(OSError), held_alone(file.path, _LEFT_ALONE_IF_LINK) as fd:
            if fd is None:
                left = True
            else:
                os.unlink(file.path)
        yield
    return left


def _compress_all(files: Iterable[Rotated]) -> Work:
    left = False
    for file in files:
        try:
            left |= yield from _compress(file.path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(file.path + _UNFINISHED)
    return left


def _compress(path: str) -> Work:
    """Put a file's gzip in its place. A process that dies on the way leaves the file, and perhaps its gzip, too: the
    next one replaces that.
    """
    with held_alone(path, _LEFT_ALONE_IF_LINK) as source:
        if source is None:
            return True
        target = os.open(path + _UNFINISHED, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _take_after(os.fstat(source), target)
            yield from _pack(source, target)
            os.fsync(target)
        finally:
            os.close(target)
        os.rename(path + _UNFINISHED, path + ".gz")
        os.unlink(path)
    return False


def _pack(source: int, target: int) -> Generator[None, None, None]:
    # GzipFile would write its last bytes when it is thrown away, in a forked child, too.
    packer = zlib.compressobj(wbits=_GZIP)
    while chunk := os.read(source, _SLICE):
        _write_all(target, packer.compress(chunk))
        yield
    _write_all(target, packer.flush())


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _take_after(model: os.stat_result, fd: int) -> None:
    """Give a file the owner and mode of another."""
    with contextlib.suppress(PermissionError):
        os.fchown(fd, model.st_uid, model.st_gid)
    os.fchmod(fd, stat.S_IMODE(model.st_mode))
