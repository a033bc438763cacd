"""A small file by which the processes of a host tell each other something: written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


class SharedFile:
    """One such file. ``folder`` says where it is, None where nothing is shared. Never raises OSError.

    A reader asks ``has_changed`` before it reads; that is for one thread.
    """

    def __init__(self, folder: Callable[[], Path | None], name: str) -> None:
        self._folder = folder
        self._name = name
        self._seen = (0, 0)

    def write(self, data: bytes) -> bool:
        """Replace the file. Return whether it was written."""
        folder = self._folder()
        if folder is None:
            return False
        temporary = folder / f"{self._name}.{os.getpid()}"
        try:
            temporary.write_bytes(data)
            temporary.replace(folder / self._name)
        except OSError:
            temporary.unlink(missing_ok=True)
            return False
        return True

    def has_changed(self) -> bool:
        """Say whether the file is another one than at the last call."""
        folder = self._folder()
        try:
            found = os.stat(folder / self._name) if folder is not None else None
        except OSError:
            found = None
        # The number of the file, too: two changes may come within one tick of the file system's clock.
        seen = (found.st_mtime_ns, found.st_ino) if found is not None else (0, 0)
        if seen == self._seen:
            return False
        self._seen = seen
        return True

    def read(self) -> bytes | None:
        """Return what it says, nothing where there is no file, and None where that cannot be known."""
        folder = self._folder()
        if folder is None:
            return None
        try:
            return (folder / self._name).read_bytes()
        except FileNotFoundError:
            return b""
        except OSError:
            return None
