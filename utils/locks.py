"""flock that never waits: either nobody else holds it, or it is not taken."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows; ``LogFile`` says so
    fcntl = None  # type: ignore[assignment]

IS_SUPPORTED = fcntl is not None


def share(fd: int) -> bool:
    """Hold a file together with others, unless somebody holds it alone; say whether it is held."""
    return _take(fd, fcntl.LOCK_SH)


def take(fd: int) -> bool:
    """Hold a file alone, until it is closed; say whether it is held."""
    return _take(fd, fcntl.LOCK_EX)


def let_go(fd: int) -> None:
    """Give up a file and close it, also for a child that was forked meanwhile and has a copy of the descriptor."""
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_UN)
    with contextlib.suppress(OSError):
        os.close(fd)


@contextlib.contextmanager
def held_alone(path: str, flags: int = os.O_RDWR | os.O_CREAT, mode: int = 0o640) -> Iterator[int | None]:
    """Hold a file for a block, and yield its descriptor; yield None where somebody else holds it.

    Raise OSError when it cannot be opened, or where there are no locks. A forked child leaves the lock to its parent.
    """
    fd = os.open(path, flags | os.O_CLOEXEC, mode)
    owner = os.getpid()
    try:
        yield fd if _take(fd, fcntl.LOCK_EX) else None
    finally:
        let_go(fd) if os.getpid() == owner else os.close(fd)


def _take(fd: int, operation: int) -> bool:
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
