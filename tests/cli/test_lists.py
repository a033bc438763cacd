"""``status``, ``errors`` and ``alerts``: the same answers as the page, as text or as JSON."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from monitoring.store import health
from monitoring.store.database import FILE_NAME
from monitoring.store.health import CheckState
from tests.support.filled import filled

from .conftest import Run

LISTS = ("status", "errors", "alerts")


def test_status_is_a_sentence_and_the_routes(run: Run, store: Path) -> None:
    """What one wants to know first, then where the time goes."""
    ran = run("status", "--store", store)
    assert (ran.status, ran.err) == (0, "")
    sentence, _, head, *rows = ran.out.splitlines()
    assert re.fullmatch(
        r"Look here\. 27 requests in 1 h, p95 .+, 2 errors \(new: ValueError: no such funder\)\.", sentence
    )
    assert head.split() == ["route", "requests", "errors", "p50", "p95", "p99"]
    counts = {" ".join(row.split()[:2]): row.split()[2:] for row in rows}
    assert {route: numbers[0] for route, numbers in counts.items()} == {
        "GET /proposals/{id}": "20",
        "POST /proposals": "4",
        "GET /crash": "2",
        "GET /missing": "1",
    }
    assert counts["GET /crash"][1:3] == ["2", "(100.0%)"]
    assert counts["POST /proposals"][1] == "0"


def test_status_tells_how_each_component_stands(run: Run, tmp_path: Path) -> None:
    """With its uptime of a day, a month and a year, and why it is not well."""
    now = time.time()
    with filled(tmp_path / "store") as done, done.monitoring.open_database().writing() as connection:
        for since, until, status in ((now - 300, now - 100, "pass"), (now - 100, now, "fail")):
            health.note(connection, [CheckState("database", since, until, status, True, 0.1, "gone")])
    out = run("status", "--store", tmp_path / "store").out
    head, row = out.splitlines()[-2:]
    assert head.split()[:2] == ["component", "status"]
    assert row.split() == ["database", "fail", "66.7%", "66.7%", "66.7%", "gone"]


def test_status_of_a_quiet_time_is_the_sentence_alone(run: Run, store: Path) -> None:
    """No table without rows."""
    ran = run("status", "--store", store, "--since", "1s")
    assert ran.out.count("\n") <= 8
    assert "requests in 1 s" in ran.out


def test_errors_are_listed_with_where_they_happen(run: Run, store: Path) -> None:
    """One row for each group."""
    head, row = run("errors", "--store", store).out.splitlines()
    assert head.split() == ["group", "status", "seen", "last", "title", "where"]
    assert row.split()[1:3] == ["open", "2"]
    assert "ValueError: no such funder" in row
    assert row.endswith("filled.crash")
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", row)


def test_alerts_list_the_rules(run: Run, store: Path) -> None:
    """Also when none is open."""
    out = run("alerts", "--store", store).out
    assert out.startswith("No open alerts.\n\nrule ")
    assert "share of requests that failed above 5 % over 5 min, for 1 min" in out


@pytest.mark.parametrize("command", LISTS)
def test_the_json_is_that_of_the_api(run: Run, store: Path, command: str) -> None:
    """For scripts: one object, and nothing beside it."""
    ran = run(command, "--store", store, "--json")
    found = json.loads(ran.out)
    keys = {"status": "sentence", "errors": "groups", "alerts": "rules"}
    assert keys[command] in found
    assert (ran.status, ran.err) == (0, "")


@pytest.mark.parametrize("since", [("--since", "15m"), ("--since=-15m",), ("--since", "2h"), ("--since", "7d")])
def test_how_far_back_is_said_with_or_without_a_minus(run: Run, store: Path, since: tuple[str, ...]) -> None:
    """The page writes it with one, and a shell takes that for an option."""
    assert "27 requests in" in run("status", "--store", store, *since).out


@pytest.mark.parametrize("command", LISTS)
@pytest.mark.parametrize("since", ["yesterday", "1w", "", "500d", "now", "1800000000"])
def test_a_bad_time_is_one_sentence(run: Run, store: Path, command: str, since: str) -> None:
    """With what is accepted."""
    ran = run(command, "--store", store, "--since", since)
    assert (ran.status, ran.out) == (2, "")
    message = "--since must be a time such as 15m, 1h or 7d, of 400 days at most, got"
    assert ran.err == f"monitoring {command}: {message} {since!r}.\n"


@pytest.mark.parametrize("command", LISTS)
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_store_that_cannot_be_read_is_a_failure(
    run: Run, tmp_path: Path, command: str, options: tuple[str, ...]
) -> None:
    """Status 1 and one sentence, so that a script notices."""
    (tmp_path / FILE_NAME).write_bytes(b"")
    (tmp_path / FILE_NAME).chmod(0o600)
    (tmp_path / f"{FILE_NAME}-wal").mkdir()
    (tmp_path / f"{FILE_NAME}-wal" / "in the way").touch()
    ran = run(command, "--store", tmp_path, *options)
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith(f"monitoring {command}: The store cannot be read now: ")
    assert ran.err.count("\n") == 1


def test_a_server_that_does_not_answer_is_named_without_the_password(run: Run) -> None:
    """The URL is not repeated."""
    ran = run("status", "--store", "postgresql+psycopg://ana:secret@127.0.0.1:1/monitoring")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith("monitoring status: The store cannot be read now: ")
    assert "secret" not in ran.err
