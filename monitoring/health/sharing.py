"""One process of a host runs the checks, and the others read what it found.

Who holds the lock on a file in the folder of the metric cells runs them; a process that ends, however it ends, lets go
of it. What was found is a file beside it, replaced as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import orjson

from ..utils import locks
from ..utils.shared_file import SharedFile
from .results import CheckResult, Reading

_LOCK: Final = "health.lock"
_FILE: Final = "health.json"


class SharedResults:
    """The results of a host's processes. Without a folder each process stands alone. For one thread."""

    def __init__(self, folder: Callable[[], Path | None]) -> None:
        self._folder = folder
        self._file = SharedFile(folder, _FILE)
        self._lock: int | None = None

    def leads(self) -> bool:
        """Say whether this process is the one that runs the checks, and become it where nobody is."""
        if self._lock is not None:
            return True
        folder = self._folder()
        if folder is None or not locks.IS_SUPPORTED:
            return True
        try:
            self._lock = _locked(folder / _LOCK)
        except OSError:
            return True
        return self._lock is not None

    def publish(self, results: Iterable[CheckResult]) -> None:
        """Tell the other processes what was found."""
        self._file.write(orjson.dumps([asdict(result) for result in results]))

    def read(self) -> list[CheckResult] | None:
        """Return what the process that leads has found, None where that is what was read before."""
        if not self._file.has_changed():
            return None
        try:
            return [_result(found) for found in orjson.loads(self._file.read() or b"[]")]
        except (ValueError, TypeError, KeyError, AttributeError):
            return None

    def leave(self) -> None:
        """Let another process lead."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _locked(path: Path) -> int | None:
    """Return a descriptor that holds the lock of a file, None where another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if locks.take(descriptor):
        return descriptor
    os.close(descriptor)
    return None


def _result(found: dict[str, Any]) -> CheckResult:
    reading = found.pop("reading")
    return CheckResult(**found, reading=Reading(**reading) if reading else None)
