"""How much of the machine is in use: disk, memory, CPU. Each is a share of 0 to 1."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from ..results import Reading
from . import cgroup
from .limits import check_limits, judged
from .telling import Answer, telling


def disk(path: str | os.PathLike[str] = "/", warn: float = 0.85, fail: float | None = 0.95) -> Callable[[], Answer]:
    """Check how full the disk is that a path lies on; what is reserved for root counts as full, as ``df`` has it.

    Raise ValueError unless 0 <= warn <= fail.
    """
    check_limits("disk", warn, fail)
    return telling(lambda: _utilization(f"disk of {os.fspath(path)}", _disk_share(path), warn, fail))


def memory(warn: float = 0.9, fail: float | None = None) -> Callable[[], Answer]:
    """Check how much memory is in use: of the container's limit where there is one, else of the host.

    Raise ValueError unless 0 <= warn <= fail.
    """
    check_limits("memory", warn, fail)
    return telling(lambda: _utilization("memory", _memory_share(), warn, fail))


def cpu(warn: float = 0.9, fail: float | None = None) -> Callable[[], Answer]:
    """Check how much CPU was in use since the check before: of the container's quota where there is one, else of all
    cores of the host.

    Raise ValueError unless 0 <= warn <= fail.
    """
    check_limits("cpu", warn, fail)
    share = _CpuShare()
    return telling(lambda: _utilization("CPU", share.since_last(), warn, fail))


def _utilization(what: str, share: float, warn: float, fail: float | None) -> Reading:
    status = judged(share, warn, fail)
    output = "" if status == "pass" else f"{what} is {100 * share:.0f} % in use"
    return Reading(status, output, round(share, 4), "ratio", "utilization", "system")


def _disk_share(path: str | os.PathLike[str]) -> float:
    import psutil

    return float(psutil.disk_usage(os.fspath(path)).percent) / 100


def _memory_share() -> float:
    import psutil

    host = psutil.virtual_memory()
    share = cgroup.memory_share(cgroup.ROOT, cgroup.OWN, host.total)
    return share if share is not None else (host.total - host.available) / host.total


class _CpuShare:
    """The share in use since it was last asked, at the first time since it was made. For one thread at a time."""

    def __init__(self) -> None:
        self._used, self._available = _cpu_seconds()
        self._share = 0.0

    def since_last(self) -> float:
        used, available = _cpu_seconds()
        if available > self._available and used >= self._used:
            self._share = min(1.0, (used - self._used) / (available - self._available))
        self._used, self._available = used, available
        return self._share


def _cpu_seconds() -> tuple[float, float]:
    """Return the CPU seconds that were used, and that could have been used, up to now."""
    quota = cgroup.cpu_use(cgroup.ROOT, cgroup.OWN)
    if quota is not None:
        return quota.seconds, time.monotonic() * quota.cores
    import psutil

    times = psutil.cpu_times()
    whole = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return whole - times.idle - getattr(times, "iowait", 0.0), whole
