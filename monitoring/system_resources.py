"""What the host and the service's processes use, read by psutil."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import psutil

from .cells import Declaration, Total, Totals

HOST_CPU: Final = Declaration(
    name="system_cpu_utilization_ratio", kind="gauge", help="Share of all cores of the host in use."
)
HOST_MEMORY: Final = Declaration(
    name="system_memory_usage_bytes", kind="gauge", help="Memory of the host in use, caches left out."
)
HOST_DISK: Final = Declaration(
    name="system_disk_utilization_ratio", kind="gauge", help="Share in use of the disk that the store lies on."
)
HOST_MEMORY_SHARE: Final = Declaration(
    name="system_memory_utilization_ratio", kind="gauge", help="Share of the host's memory in use."
)
PROCESS_CPU: Final = Declaration(
    name="monitoring_processes_cpu_ratio", kind="gauge", help="Cores that the service's processes use together."
)
PROCESS_MEMORY: Final = Declaration(
    name="monitoring_processes_memory_bytes", kind="gauge", help="Resident memory of the service's processes."
)


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """One process of the service. ``cpu_share`` is of one core since it was last asked; None at first."""

    pid: int
    cpu_share: float | None
    memory_bytes: int
    threads: int
    open_files: int
    started_at: float


@dataclass(frozen=True, slots=True)
class HostUse:
    """The host: ``cpu_share`` of all cores since it was last asked."""

    cpu_share: float
    memory_used_bytes: int
    memory_total_bytes: int
    disk_used_bytes: int
    disk_total_bytes: int
    load: tuple[float, float, float]


Gauges = tuple[tuple[Declaration, float], ...]


class SystemResources:
    """Reads what is in use. CPU shares are since the last reading of the same object. Thread-safe."""

    def __init__(self, disk: str = ".") -> None:
        self._disk = disk
        self._known: dict[int, psutil.Process] = {}
        self._lock = threading.Lock()
        self._cpu = _CpuShare()

    def host(self) -> HostUse:
        """Return what the host uses."""
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(_existing(self._disk))
        return HostUse(
            self._cpu.read(),
            memory.total - memory.available,
            memory.total,
            disk.used,
            disk.total,
            os.getloadavg() if hasattr(os, "getloadavg") else (0.0, 0.0, 0.0),
        )

    def processes(self, pids: Iterable[int]) -> list[ProcessUse]:
        """Return what these processes use; one that is gone, or lives in another container, is left out."""
        with self._lock:
            wanted = sorted(set(pids))
            self._known = {pid: process for pid, process in self._known.items() if pid in wanted}
            return [use for pid in wanted if (use := self._process(pid)) is not None]

    def add_gauges(self, totals: Totals) -> None:
        """Add what is in use to the sums, as gauges, so that it is rolled up like everything else.

        What the system does not tell (a hidden ``/proc``, a disk that is gone) is left out.
        """
        for read in (self._host_gauges, lambda: self._process_gauges(totals)):
            with contextlib.suppress(psutil.Error, OSError):
                for declaration, value in read():
                    totals.metric(declaration).series[()] = Total(value)

    def _host_gauges(self) -> Gauges:
        host = self.host()
        return (
            (HOST_CPU, host.cpu_share),
            (HOST_MEMORY, float(host.memory_used_bytes)),
            (HOST_MEMORY_SHARE, host.memory_used_bytes / host.memory_total_bytes),
            (HOST_DISK, host.disk_used_bytes / host.disk_total_bytes),
        )

    def _process_gauges(self, totals: Totals) -> Gauges:
        processes = self.processes(header.pid for header in totals.living)
        return (
            (PROCESS_CPU, sum(use.cpu_share or 0.0 for use in processes)),
            (PROCESS_MEMORY, float(sum(use.memory_bytes for use in processes))),
        )

    def _process(self, pid: int) -> ProcessUse | None:
        try:
            known = self._known.get(pid)
            process = self._known.setdefault(pid, psutil.Process(pid))
            with process.oneshot():
                share = process.cpu_percent() / 100
                return ProcessUse(
                    pid,
                    share if known is not None else None,
                    process.memory_info().rss,
                    process.num_threads(),
                    process.num_fds() if hasattr(process, "num_fds") else 0,
                    process.create_time(),
                )
        except psutil.Error:
            self._known.pop(pid, None)
            return None


class _CpuShare:
    """The share of all cores in use since the last reading, but of a second at least: readers do not starve another.

    psutil's own function remembers a reading per thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy, self._all = _cpu_seconds()
        self._read_at = time.monotonic()
        self._share = 0.0

    def read(self) -> float:
        with self._lock:
            now = time.monotonic()
            if now - self._read_at >= 1.0 or not self._share:
                busy, whole = _cpu_seconds()
                if whole > self._all:
                    self._share = min(1.0, max(0.0, (busy - self._busy) / (whole - self._all)))
                self._busy, self._all, self._read_at = busy, whole, now
            return self._share


def _cpu_seconds() -> tuple[float, float]:
    """Return the busy and all CPU seconds of the host since it started."""
    times = psutil.cpu_times()
    whole = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return whole - times.idle - getattr(times, "iowait", 0.0), whole


def _existing(path: str) -> str:
    """Return the path, or the nearest folder above it that is there."""
    path = os.path.abspath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path
