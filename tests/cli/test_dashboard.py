"""``dashboard``: the page as a process of its own, over the store of an app that is gone."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.filled import BEARER, TOKEN
from tests.support.processes import Process, running

from .conftest import Run


def ask(port: int, path: str, **headers: str) -> Any:
    """Return the answer to a GET."""
    return urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers), timeout=10)


@pytest.fixture(scope="module")
def served(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, int]]:
    """Serve it as a user would."""

    def command(port: int) -> list[str]:
        return [sys.executable, "-m", "monitoring.cli", "dashboard", "--store", str(store), "--port", str(port)]

    log = tmp_path_factory.mktemp("dashboard") / "log"
    environment = {"MONITORING_TOKEN": TOKEN, "MONITORING_SERVICE": "proposals"}
    with running(command, lambda port: ask(port, "/"), log, env=environment) as (process, port):
        yield process, port


def test_the_page_and_its_files_are_served(served: tuple[Process, int]) -> None:
    """At the root of its own port."""
    _, port = served
    page = ask(port, "/").read().decode()
    name = page.partition('src="static/')[2].partition('"')[0]
    assert ask(port, f"/static/{name}").headers["content-type"].startswith("text/javascript")


def test_what_the_app_left_is_shown(served: tuple[Process, int]) -> None:
    """Requests, errors and costs; of its workers nothing is known."""
    _, port = served
    found = json.load(ask(port, "/api/v1/overview?from=-1d", **BEARER))
    assert (found["requests"]["count"], found["requests"]["errors"]) == (27, 2)
    assert (found["meta"]["service"], found["meta"]["workers"], found["meta"]["last_flush_seconds"]) == (
        "proposals",
        0,
        None,
    )
    assert json.load(ask(port, "/api/v1/health", **BEARER))["uptime_seconds"] is None


def test_it_needs_the_token_too(served: tuple[Process, int]) -> None:
    """The environment's."""
    _, port = served
    with pytest.raises(urllib.error.HTTPError) as refusal:
        ask(port, "/api/v1/overview")
    with refusal.value as answer:
        assert answer.code == 401


def test_it_says_where_it_is(served: tuple[Process, int], store: Path) -> None:
    """And over what."""
    process, port = served
    assert process.log_tail().startswith(f"dashboard http://127.0.0.1:{port}/ over {store}/monitoring.db\n")


@pytest.fixture
def not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it do everything but serve."""
    monkeypatch.setattr("uvicorn.run", lambda app, **options: None)


@pytest.mark.usefixtures("not_served")
def test_it_says_it_as_json(run: Run, store: Path) -> None:
    """For who starts it from a script."""
    ran = run("dashboard", "--store", store, "--port", "8801", "--json")
    assert json.loads(ran.out) == {"url": "http://127.0.0.1:8801/", "store": f"{store}/monitoring.db"}


@pytest.mark.usefixtures("not_served")
def test_it_says_when_nobody_can_log_in(run: Run, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what opens it."""
    ran = run("dashboard", "--store", store)
    assert ran.err == "Nobody can log in: set MONITORING_TOKEN, or MONITORING_ENVIRONMENT=development.\n"
    monkeypatch.setenv("MONITORING_TOKEN", TOKEN)
    assert run("dashboard", "--store", store).err == ""


@pytest.mark.usefixtures("not_served")
def test_it_prints_no_password(run: Run) -> None:
    """Of a database that is named by its URL."""
    ran = run("dashboard", "--store", "postgresql+psycopg://ana:secret@db.example.org/monitoring")
    assert "secret" not in ran.out + ran.err
    assert "postgresql+psycopg://ana:***@db.example.org/monitoring" in ran.out


def test_without_a_server_it_says_what_to_install(run: Run, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not with a traceback."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    ran = run("dashboard", "--store", store)
    assert (ran.status, ran.err) == (
        1,
        "The dashboard of its own needs uvicorn: pip install 'monitoring-kit[demo]'\n",
    )
