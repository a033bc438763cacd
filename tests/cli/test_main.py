"""The command itself: help, versions, and what it says when it understands nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from monitoring import __version__

from .conftest import Run

COMMANDS = ("demo", "dashboard", "status", "errors", "alerts", "logs", "doctor")
OVER_A_STORE = ("dashboard", "status", "errors", "alerts", "doctor")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(run: Run, command: str) -> None:
    """With its options, and nothing on stderr."""
    ran = run(command, "--help")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith(f"usage: monitoring {command}")
    if command in OVER_A_STORE:
        assert "--json" in ran.out
        assert "--store" in ran.out


def test_the_command_lists_what_it_can_do(run: Run) -> None:
    """Without an argument it prints its help, and that is no success."""
    ran = run()
    assert ran.status == 2
    for command in COMMANDS:
        assert re.search(rf"^    {command}\s+\w", ran.out, re.MULTILINE)


def test_the_version_is_the_packages(run: Run) -> None:
    """For bug reports."""
    assert run("--version").out == f"monitoring-kit {__version__}\n"


def test_an_unknown_command_is_refused_with_those_there_are(run: Run) -> None:
    """Status 2, as usual."""
    ran = run("stats")
    assert ran.status == 2
    assert "'status'" in ran.err or "status" in ran.err


@pytest.mark.parametrize("command", OVER_A_STORE)
def test_where_there_is_no_store_it_says_so(run: Run, command: str, tmp_path: Path) -> None:
    """One sentence with the place, and nothing is made there."""
    ran = run(command, "--store", tmp_path / "nowhere")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == (
        f"monitoring {command}: There is no store in '{tmp_path}/nowhere'; "
        "name the folder, or the URL, of the app's with --store.\n"
    )
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("url", ["nonsense://ana:secret@host/db", "://ana:secret@"])
def test_a_url_of_no_database_is_refused_without_being_repeated(run: Run, url: str) -> None:
    """There may be a password in it."""
    ran = run("status", "--store", url)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("monitoring status: store must be a folder or a database's URL such as ")
    assert "secret" not in ran.err


def test_where_the_environment_wants_no_store_it_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty setting is one."""
    monkeypatch.setenv("MONITORING_STORE", "")
    assert (
        run("status").err == "monitoring status: There is no store: MONITORING_STORE is empty; name one with --store.\n"
    )


def test_a_bad_setting_of_the_environment_is_one_sentence(
    run: Run, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the variable."""
    monkeypatch.setenv("MONITORING_TOKEN", "short")
    ran = run("status", "--store", store)
    assert (ran.status, ran.err) == (
        2,
        "monitoring status: MONITORING_TOKEN must be at least 8 characters, or None, got 'short'.\n",
    )


def test_the_store_of_the_environment_is_the_default(run: Run, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is for the app."""
    monkeypatch.setenv("MONITORING_STORE", str(store))
    assert run("status").out.startswith("Look here. 27 requests in 1 h")


def test_a_reader_that_has_enough_is_no_failure(store: Path) -> None:
    """``monitoring errors | head -0`` ends quietly, as a module too."""
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "monitoring.cli", "errors", "--store", str(store)]
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, env=buffered, check=False)
    assert (done.returncode, done.stderr) == (0, "")
