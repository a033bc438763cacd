"""The checks of disk, memory and CPU: real readings are sane, and injected ones are judged."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from monitoring.health.checks import cgroup, cpu, disk, memory, system
from tests.health.checks.support import outcome, status_of

GIB = 1024**3


@pytest.fixture
def no_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the process be in no control group, and return where one can be made."""
    root = tmp_path / "cgroup"
    root.mkdir()
    (tmp_path / "own").write_text("0::/\n")
    monkeypatch.setattr(cgroup, "ROOT", root)
    monkeypatch.setattr(cgroup, "OWN", tmp_path / "own")
    return root


@pytest.mark.parametrize("check", [disk(warn=1.0, fail=None), memory(warn=1.01), cpu(warn=1.01)])
def test_this_machine_has_a_share_in_use(check: object) -> None:
    """Between nothing and all, as a reading of the system."""
    found = outcome(check)  # type: ignore[arg-type]
    assert (found.status, found.output) == ("pass", "")
    assert found.value is not None
    assert 0 <= found.value <= 1
    assert (found.unit, found.measurement, found.component_type) == ("ratio", "utilization", "system")


@pytest.mark.parametrize(("percent", "status"), [(50.0, "pass"), (85.0, "warn"), (94.9, "warn"), (95.0, "fail")])
def test_a_full_disk_warns_and_then_fails(monkeypatch: pytest.MonkeyPatch, percent: float, status: str) -> None:
    """At 85 and 95 percent."""
    monkeypatch.setattr(psutil, "disk_usage", lambda path: SimpleNamespace(percent=percent))
    found = outcome(disk("/data"))
    assert found.status == status
    assert found.value == pytest.approx(percent / 100)
    assert found.output == ("" if status == "pass" else f"disk of /data is {percent:.0f} % in use")


def test_a_disk_that_is_not_there_fails() -> None:
    """Its path is told."""
    assert outcome(disk("/no/such/disk")).output.startswith("FileNotFoundError")


def of_host(monkeypatch: pytest.MonkeyPatch, available: int) -> None:
    """Give the host 8 GiB, and so much of it free."""
    host = SimpleNamespace(total=8 * GIB, available=available)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: host)


@pytest.mark.usefixtures("no_group")
def test_memory_of_the_host_only_warns_unless_told_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is available does not count as used."""
    of_host(monkeypatch, GIB // 2)
    assert outcome(memory()).output == "memory is 94 % in use"
    assert [status_of(memory()), status_of(memory(fail=0.93)), status_of(memory(warn=0.95))] == ["warn", "fail", "pass"]


def limit(folder: Path, maximum: object, current: int, inactive: int = 0) -> None:
    """Make a control group with a memory limit."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{maximum}\n")
    (folder / "memory.current").write_text(f"{current}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {inactive}\n")


def test_a_containers_limit_counts_rather_than_the_host(no_group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And of what it uses not the files that can be dropped."""
    of_host(monkeypatch, 7 * GIB)
    limit(no_group, GIB, current=GIB, inactive=GIB // 4)
    assert outcome(memory()).value == 0.75
    limit(no_group, GIB, current=GIB)
    assert status_of(memory()) == "warn"


@pytest.mark.parametrize("maximum", ["max", 16 * GIB, "garbage", 0])
def test_what_limits_nothing_is_no_limit(no_group: Path, monkeypatch: pytest.MonkeyPatch, maximum: object) -> None:
    """Then the host's memory counts."""
    of_host(monkeypatch, 6 * GIB)
    limit(no_group, maximum, current=GIB)
    assert outcome(memory()).value == 0.25


def test_of_the_groups_around_the_process_the_tightest_counts(no_group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service's own limit lies below the root."""
    of_host(monkeypatch, 7 * GIB)
    cgroup.OWN.write_text("0::/system.slice/app.service\n")
    limit(no_group / "system.slice", 4 * GIB, current=GIB)
    limit(no_group / "system.slice/app.service", GIB, current=GIB // 2)
    assert outcome(memory()).value == 0.5


def test_the_older_control_groups_have_a_limit_too(no_group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory controller of v1; its number for no limit is larger than any host."""
    of_host(monkeypatch, 4 * GIB)
    folder = no_group / "memory"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (folder / "memory.usage_in_bytes").write_text(f"{GIB}\n")
    assert outcome(memory()).value == 0.5
    (folder / "memory.limit_in_bytes").write_text(f"{2 * GIB}\n")
    (folder / "memory.stat").write_text(f"total_inactive_file {GIB // 2}\n")
    assert outcome(memory()).value == 0.25


def test_cpu_is_measured_since_the_check_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Used over available; when no time has passed the last share stands."""
    readings = iter([(10.0, 100.0), (19.5, 110.0), (19.5, 110.0), (20.5, 120.0)])
    monkeypatch.setattr(system, "_cpu_seconds", lambda: next(readings))
    check = cpu()
    found = [outcome(check) for _ in range(3)]
    assert [reading.value for reading in found] == [0.95, 0.95, 0.1]
    assert [reading.status for reading in found] == ["warn", "warn", "pass"]
    assert found[0].output == "CPU is 95 % in use"


def test_cpu_of_a_container_is_measured_by_its_quota(no_group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a core, of which it used all."""
    now = [1000.0]
    monkeypatch.setattr(system.time, "monotonic", lambda: now[0])
    (no_group / "cpu.max").write_text("50000 100000\n")
    (no_group / "cpu.stat").write_text("usage_usec 7000000\nuser_usec 1\n")
    check = cpu(fail=0.99)
    now[0] += 10
    (no_group / "cpu.stat").write_text("usage_usec 12000000\nuser_usec 1\n")
    assert (outcome(check).value, outcome(check).status) == (1.0, "fail")


@pytest.mark.parametrize("quota", ["max 100000", "", "50000 0", "nonsense"])
def test_what_is_no_quota_leaves_the_hosts_cpu(no_group: Path, quota: str) -> None:
    """All its cores."""
    (no_group / "cpu.max").write_text(quota)
    (no_group / "cpu.stat").write_text("usage_usec 1\n")
    assert cgroup.cpu_use(no_group, cgroup.OWN) is None


@pytest.mark.parametrize("make", [disk, memory, cpu])
def test_limits_the_wrong_way_round_are_refused(make: object) -> None:
    """With what to pass."""
    with pytest.raises(ValueError, match="pass 0 <= warn <= fail"):
        make(warn=0.9, fail=0.8)  # type: ignore[operator]
