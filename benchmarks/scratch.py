"""Where a variant keeps its lines and cells while it is measured, and how many of the lines arrived."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DISK, MEMORY = "BENCH_DISK", "BENCH_MEMORY"


@contextmanager
def folders() -> Iterator[dict[str, str]]:
    """Make a folder on disk and one in shared memory; yield the environment that names them, and remove them after."""
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as disk,
        tempfile.TemporaryDirectory(prefix="bench-", dir=shared) as memory,
    ):
        yield {DISK: disk, MEMORY: memory}


def on_disk(name: str) -> Path:
    """Return the path of a file in this variant's folder on disk."""
    return Path(os.environ[DISK], name)


def in_memory(name: str) -> Path:
    """Return a path in this variant's folder in shared memory."""
    return Path(os.environ[MEMORY], name)


def count_lines(path: Path, event: str) -> int:
    """Return how many JSON lines of the file have this `event`."""
    with path.open(encoding="utf-8") as lines:
        return sum(json.loads(line).get("event") == event for line in lines)
