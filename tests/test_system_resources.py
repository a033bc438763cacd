"""System resources: what the host and the processes use, as far as the system tells."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psutil
import pytest

from monitoring import system_resources
from monitoring.cells import Totals
from monitoring.cells.layout import Header
from monitoring.system_resources import SystemResources
from tests.cells.support import Forked


@pytest.fixture
def resources(tmp_path: Path) -> SystemResources:
    """A reader whose store lies where nothing is yet."""
    return SystemResources(str(tmp_path / "not" / "there" / "yet"))


def living(*pids: int) -> Totals:
    """Return the sums of a service with these processes."""
    return Totals(living=[Header(pid, 0.0, "generation", "") for pid in pids])


def gauges(totals: Totals) -> dict[str, float]:
    """Return the gauges that were added."""
    return {name: metric.series[()].value for name, metric in totals.metrics.items()}


def test_the_host_has_memory_and_a_disk(resources: SystemResources) -> None:
    """In bytes, and not more in use than there is; a store that is not there yet lies on its folder's disk."""
    host = resources.host()
    assert 0 < host.memory_used_bytes < host.memory_total_bytes
    assert 0 < host.disk_used_bytes <= host.disk_total_bytes
    assert 0 <= host.cpu_share <= 1
    assert len(host.load) == 3


def test_the_share_of_the_processors_is_since_the_last_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of busy and all seconds, and for at least a second: two readers do not take it from each other."""
    now, seconds = [100.0], [(10.0, 100.0)]
    monkeypatch.setattr(system_resources, "_cpu_seconds", lambda: seconds[0])
    monkeypatch.setattr(system_resources.time, "monotonic", lambda: now[0])
    resources = SystemResources()
    seconds[0], now[0] = (13.0, 104.0), 101.0
    assert resources.host().cpu_share == 0.75
    seconds[0], now[0] = (13.0, 106.0), 101.5
    assert resources.host().cpu_share == 0.75
    now[0] = 102.0
    assert resources.host().cpu_share == 0.0


def test_a_process_has_memory_threads_and_files(resources: SystemResources) -> None:
    """This one; how much of a core it uses is known from the second time on."""
    (use,) = resources.processes([os.getpid(), os.getpid()])
    assert (use.pid, use.cpu_share) == (os.getpid(), None)
    assert use.memory_bytes > 1_000_000
    assert use.threads >= 1
    assert use.open_files >= 1
    assert use.started_at == psutil.Process().create_time()
    (again,) = resources.processes([os.getpid()])
    assert again.cpu_share is not None


def test_a_process_that_is_gone_is_left_out(resources: SystemResources) -> None:
    """Also where it was known before."""
    forked = Forked(lambda: None)
    assert [use.pid for use in resources.processes([os.getpid(), forked.pid])] == sorted([os.getpid(), forked.pid])
    forked.kill()
    assert [use.pid for use in resources.processes([os.getpid(), forked.pid])] == [os.getpid()]


def test_gauges_are_added_to_the_sums(resources: SystemResources) -> None:
    """Shares of the host, and the service's processes together."""
    totals = living(os.getpid())
    resources.add_gauges(totals)
    found = gauges(totals)
    assert 0 < found["system_memory_utilization_ratio"] < 1
    assert 0 < found["system_disk_utilization_ratio"] <= 1
    assert found["system_memory_usage_bytes"] > 0
    assert found["monitoring_processes_memory_bytes"] == pytest.approx(psutil.Process().memory_info().rss, rel=0.5)
    assert set(found) >= {"system_cpu_utilization_ratio", "monitoring_processes_cpu_ratio"}


@pytest.mark.parametrize("error", [OSError("no such disk"), psutil.AccessDenied()])
def test_what_the_system_does_not_tell_is_left_out(
    resources: SystemResources, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The other gauges are there, and with them the roll-ups of everything else."""

    def refuse(path: str) -> Any:
        raise error

    monkeypatch.setattr(psutil, "disk_usage", refuse)
    totals = living(os.getpid())
    resources.add_gauges(totals)
    assert set(gauges(totals)) == {"monitoring_processes_cpu_ratio", "monitoring_processes_memory_bytes"}
