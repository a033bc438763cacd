"""``monitoring logs explain`` and ``monitoring logs level``: against the environment, an app, and running workers."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.support.processes import poll
from tests.support.service import Service, cells_folder, serve, uvicorn

from .conftest import Run

APP = """
import monitoring
monitoring.configure(
    service="explained",
    log_destination={log!r},
    log_levels={{"app.billing": "debug"}},
    cells_folder={cells!r},
    store=None,
)
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write an app's module, and return its name."""
    name = f"app_{tmp_path.name}"
    source = APP.format(log=str(tmp_path / "app.log"), cells=str(tmp_path / "cells"))
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    return f"{name}:app"


def test_a_line_of_an_app_is_explained(run: Run, app: str, tmp_path: Path) -> None:
    """With what the app has set up in code."""
    ran = run("logs", "explain", "app.billing.cards", "--level", "debug", "--app", app)
    assert (ran.status, ran.err) == (0, "")
    first, second = ran.out.splitlines()
    assert first == (
        "app.billing.cards writes from debug on (configured for app.billing): a line of level debug is written."
    )
    assert second == f"It goes to {tmp_path / 'app.log'}."


def test_without_an_app_the_environment_is_explained(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """And it says that it does not know the app."""
    monkeypatch.setenv("MONITORING_LOG_LEVEL", "warning")
    said = json.loads(run("logs", "explain", "--json").out)
    assert said[0] == "The root logger writes from warning on (log_level): a line of level info is not written."
    assert said[-1].endswith("name it with --app.")


def test_an_app_that_cannot_be_imported_is_one_sentence(run: Run) -> None:
    """With the reason."""
    ran = run("logs", "explain", "--app", "no_such_module:app")
    assert ran.status == 2
    assert ran.err.startswith("monitoring logs explain: no_such_module:app cannot be imported: ModuleNotFoundError")


def test_a_level_is_changed_in_all_running_workers_and_back(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a service with two of them: each shows the lines of its requests from then on, and not after."""
    settings = {"MONITORING_LOG_LEVEL": "critical"}
    with serve(uvicorn("--workers", "2"), tmp_path, env=settings) as service:
        for name, value in (("SERVICE", "server-tests"), ("CELLS_FOLDER", str(cells_folder(tmp_path)))):
            monkeypatch.setenv(f"MONITORING_{name}", value)

        assert lines_of(service) == 0
        ran = run("logs", "level", "info", "monitoring.request")
        assert ran.out.splitlines() == [
            "monitoring.request of server-tests: info for 15 minutes.",
            "2 running processes of this host will follow within two seconds.",
        ]
        poll(lambda: lines_of(service) == REQUESTS, "both workers to write all their requests")
        assert run("logs", "level", "default", "monitoring.request").status == 0
        poll(lambda: lines_of(service) == 0, "both workers to write none")


REQUESTS = 12


def lines_of(service: Service) -> int:
    """Return how many of a few requests have a line, once one after them would be on disk."""
    before = len(service.lines(event="request"))
    for _ in range(REQUESTS):
        service.get("/items/7")
    time.sleep(1.2)  # the writers' own time
    return len(service.lines(event="request")) - before


def test_without_a_running_worker_it_says_so(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of the service may be wrong."""
    monkeypatch.setenv("MONITORING_CELLS_FOLDER", str(tmp_path))
    assert "No running process was found" in run("logs", "level", "debug").out


def test_a_change_that_cannot_be_written_is_one_sentence(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not told as done."""
    monkeypatch.setenv("MONITORING_CELLS_FOLDER", str(tmp_path))
    (tmp_path / "levels.json").mkdir()
    ran = run("logs", "level", "debug")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == (
        f"monitoring logs level: The workers' folder {tmp_path} cannot be written; run this as their user.\n"
    )


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf"])
def test_a_time_that_is_none_is_one_sentence(run: Run, minutes: str) -> None:
    """With what is accepted."""
    ran = run("logs", "level", "debug", f"--minutes={minutes}")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("monitoring logs level: --minutes must be a number above 0, got")
