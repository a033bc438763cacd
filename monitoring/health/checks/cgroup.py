"""What the control group of this process may use, and uses: containers and services have less than their host.

The unified hierarchy (v2) is read, from the group of the process up to the root that it sees; of v1 the memory limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")
OWN: Final = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class CpuUse:
    """CPU time that a group has used, and how many cores' worth it may use."""

    seconds: float
    cores: float


def memory_share(root: Path, own: Path, host_bytes: int) -> float | None:
    """Return the share in use of the tightest memory limit below what the host has; None without a limit.

    Pages of files that can be dropped at once do not count.
    """
    shares = [*_unified_memory(root, own, host_bytes), *_older_memory(root / "memory", host_bytes)]
    return max(shares, default=None)


def cpu_use(root: Path, own: Path) -> CpuUse | None:
    """Return the use of the group with the tightest CPU quota, None without a quota."""
    found = [use for folder in _groups(root, own) if (use := _cpu_of(folder)) is not None]
    return min(found, key=lambda use: use.cores, default=None)


def _groups(root: Path, own: Path) -> Iterator[Path]:
    """Yield the folders of the process's group and of those around it."""
    place = next((line[3:] for line in _text(own).splitlines() if line.startswith("0::")), "/").lstrip("/")
    folder = root / place if ".." not in place else root
    while folder != root:
        yield folder
        folder = folder.parent
    yield root


def _unified_memory(root: Path, own: Path, host_bytes: int) -> Iterator[float]:
    for folder in _groups(root, own):
        limit, used = _number(folder / "memory.max"), _number(folder / "memory.current")
        if limit is not None and used is not None and 0 < limit < host_bytes:
            yield max(0, used - _stat(folder / "memory.stat").get("inactive_file", 0)) / limit


def _older_memory(folder: Path, host_bytes: int) -> Iterator[float]:
    limit, used = _number(folder / "memory.limit_in_bytes"), _number(folder / "memory.usage_in_bytes")
    if limit is not None and used is not None and 0 < limit < host_bytes:
        yield max(0, used - _stat(folder / "memory.stat").get("total_inactive_file", 0)) / limit


def _cpu_of(folder: Path) -> CpuUse | None:
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    used = _stat(folder / "cpu.stat").get("usage_usec")
    if used is None or not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return None
    return CpuUse(used / 1e6, int(quota) / int(period))


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None


def _stat(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
