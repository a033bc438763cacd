"""Real processes that append to one log file: every line is there once, whole, whoever rotates."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monitoring.logs.files import RotatingFile
from monitoring.logs.retention import Retention, rotated_files
from tests.logs import appending
from tests.logs.appending import Verdict, judge, line_of
from tests.support.components import require, unavailable

PROCESSES = 4
ROTATED = {"max_bytes": 200_000, "compress": True}


def _run(
    path: Path, lines: int, mode: str = "whole", beside: Callable[[], object] = lambda: None, **settings: Any
) -> Verdict:
    """Let the processes write so many lines each, doing something beside them, and count."""
    running = [appending.start(mode, path, process, lines, **settings) for process in range(PROCESSES)]
    while any(process.poll() is None for process in running):
        beside()
        time.sleep(0.02)
    assert [process.returncode for process in running] == [0] * PROCESSES
    return judge(path, PROCESSES, lines)


def test_every_line_is_there_once_over_rotation_and_compression(tmp_path: Path) -> None:
    """60,000 lines of four processes, a new file every 200 kB, gzip while they write."""
    path = tmp_path / "app.log"
    verdict = _run(path, 15_000, **ROTATED)
    files = rotated_files(str(path))
    assert verdict.is_exact, verdict.summary
    assert len(files) > 30
    assert sum(file.kind == ".gz" for file in files) > 5, "compressed beside the writing"
    file = RotatingFile(str(path), retention=Retention(compress=True))
    while file.tend():
        pass
    assert {file.kind for file in rotated_files(str(path))} == {".gz"}
    assert judge(path, PROCESSES, 15_000).is_exact


@pytest.mark.parametrize("mode", ["lose", "repeat", "tear"])
def test_the_count_notices_a_faulty_writer(mode: str, tmp_path: Path) -> None:
    """One line in twenty is lost, or there twice, or torn: so the other tests can fail."""
    verdict = _run(tmp_path / "app.log", 2_000, mode, **ROTATED)
    faults = PROCESSES * 2_000 // 20
    assert not verdict.is_exact
    assert (verdict.lost, verdict.duplicate) == {"lose": (faults, 0), "repeat": (0, faults), "tear": (faults, 0)}[mode]
    assert (len(verdict.torn) > 0) == (mode == "tear")


def test_no_line_is_lost_where_somebody_else_renames_the_file(tmp_path: Path) -> None:
    """As an outside logrotate does, many times a second."""
    path = tmp_path / "app.log"
    numbers = itertools.count(1)

    def rename() -> None:
        if path.exists():
            path.rename(tmp_path / f"app.log.{next(numbers)}")

    verdict = _run(path, 15_000, beside=rename)
    assert verdict.is_exact, verdict.summary
    assert next(numbers) > 3


def test_no_line_is_lost_to_logrotate(tmp_path: Path) -> None:
    """The program itself, which makes the new file."""
    path, settings = tmp_path / "app.log", tmp_path / "logrotate.conf"
    settings.write_text(f"{path} {{\n rotate 1000\n create 0640\n missingok\n}}\n")
    command = [_logrotate(), "--force", "--state", str(tmp_path / "state"), str(settings)]
    verdict = _run(path, 10_000, beside=lambda: subprocess.run(command, check=True))
    assert verdict.is_exact, verdict.summary
    assert (tmp_path / "app.log.3").exists()


def _logrotate() -> str:
    program = Path("/usr/sbin/logrotate")
    return str(program) if program.exists() else require("logrotate")


def test_processes_that_are_killed_cost_no_line_of_the_others(tmp_path: Path) -> None:
    """They take along what they had queued, and at most tear their own last line; who compressed then is followed."""
    path = tmp_path / "app.log"
    running = [appending.start("whole", path, process, 15_000, **ROTATED) for process in range(PROCESSES)]
    while len(list(tmp_path.glob("app.log.*"))) < 3 and all(process.poll() is None for process in running):
        time.sleep(0.01)
    for process in running[:2]:
        process.kill()
    assert [process.wait() for process in running] == [-signal.SIGKILL, -signal.SIGKILL, 0, 0]
    verdict = judge(path, PROCESSES, 15_000)
    assert verdict.missing.isdisjoint(line_of(process, number) for process in (2, 3) for number in range(15_000))
    assert verdict.duplicate == 0
    assert len(verdict.torn) <= 2


@pytest.mark.long
@pytest.mark.parametrize("max_bytes", [2_000, 50_000, 1_000_000])
def test_every_line_is_there_once_in_a_long_run(max_bytes: int, tmp_path: Path) -> None:
    """Files that hold a dozen lines, and files that hold many blocks; hourly bounds shrunk to a second."""
    lines = 20_000 if max_bytes < 10_000 else 150_000
    verdict = _run(tmp_path / "app.log", lines, max_bytes=max_bytes, rotate_every=1, compress=True)
    assert verdict.is_exact, verdict.summary


def test_a_disk_that_is_full_for_a_while_costs_only_lines_that_are_counted(tmp_path: Path) -> None:
    """Three processes on a real disk: what is there is whole and there once, the rest is counted, and it heals."""
    report = _on_a_small_disk(tmp_path)
    dropped = report["dropped"]
    assert report["exit_codes"] == [0, 0, 0], "the processes went on"
    assert dropped["before"] == 0
    assert dropped["full"] > 1_000
    assert dropped["after"] == dropped["ended"] == dropped["full"], "nothing is dropped once there is room"
    assert report["written"] + dropped["ended"] == 3 * 7 * 500
    assert report["duplicate"] == 0
    lines = [line_of(process, number).decode() for process in range(3) for number in range(7 * 500)]
    for torn in report["torn"]:
        assert any(line.startswith(torn.rstrip("\n")) for line in lines), "each torn line is on a line of its own"


def _on_a_small_disk(folder: Path) -> dict[str, Any]:
    anybody = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    private = [require("unshare"), *anybody, "--mount", "sh", "-c"]
    tried = subprocess.run([*private, "mount -t tmpfs none /mnt"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        unavailable(f"no tmpfs can be mounted here: {tried.stderr.strip()}; run as root or allow user namespaces.")
    mount = 'mount -t tmpfs -o size=4m,mode=700 none "$0" && exec "$@"'
    program = [sys.executable, appending.__file__, "full-disk", str(folder)]
    done = subprocess.run([*private, mount, str(folder), *program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report
