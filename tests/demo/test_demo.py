"""One run of the demo with two workers, from its first line to its exit code; then how it refuses and how it stops."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from monitoring.demo.cache import TTLCache
from monitoring.demo.processes import fetch
from monitoring.demo.traffic import daily_shape
from tests.support.processes import Process, free_port, poll

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 6
RATE = 60

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class FinishedDemo:
    """What a run of the demo left behind."""

    exit_code: int | None
    output: str
    health: Line
    ledger: Line
    log: list[str]
    llm_calls: list[Line]

    @property
    def requests(self) -> list[Line]:
        """The canonical lines."""
        return [line for line in map(json.loads, self.log) if line["event"] == "request"]

    def request_ids(self, **fields: object) -> set[str]:
        """Return the ids of the requests whose canonical line carries `fields`."""
        return {line["request_id"] for line in self.requests if fields.items() <= line.items()}


def _passing(port: int) -> Line | None:
    """Return what /health says, once it passes: at first the checks are on their way."""
    health: Line = json.loads(fetch(f"http://127.0.0.1:{port}/health"))
    return health if health["status"] == "pass" else None


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> FinishedDemo:
    """The demo, run to its end once."""
    folder = tmp_path_factory.mktemp("demo")
    port = free_port()
    process = _start(folder, port=port, workers=2, duration=SECONDS, rate=RATE)
    try:
        process.wait_until(lambda: "stop      Ctrl-C" in process.log_tail(), limit_seconds=60)
        health = poll(lambda: _passing(port), "all checks to have passed once")
        exit_code = _wait(process)
    finally:
        process.stop()
    data = folder / ".monitoring" / "demo" / str(port)
    return FinishedDemo(
        exit_code=exit_code,
        output=process.log.read_text(),
        health=health,
        ledger=json.loads((data / "ledger.json").read_text()),
        log=(data / "app.log").read_text().splitlines(),
        llm_calls=[json.loads(line) for line in (data / "llm_server.out").read_text().splitlines() if line[0] == "{"],
    )


def test_the_demo_ends_well_and_its_metric_equals_the_ledger(demo: FinishedDemo) -> None:
    """Every response that the traffic got is counted once, over both workers, and the last line says so."""
    complete = demo.ledger["complete"]

    assert demo.exit_code == 0, demo.output
    assert complete > 0
    assert demo.ledger["cut"] == 0
    counted = f"{complete:,} by the ledger, {complete:,} by the metric, {complete:,} on the dashboard: equal"
    assert counted in demo.output


def test_every_log_line_is_one_json_object(demo: FinishedDemo) -> None:
    """Two workers write to one file and no line is torn, the lines of the app's own logger and of uvicorn included."""
    lines = [json.loads(line) for line in demo.log]

    assert all(isinstance(line, dict) for line in lines)
    assert {line["service"] for line in lines} == {"proposals"}


def test_there_is_one_canonical_line_per_request(demo: FinishedDemo) -> None:
    """By method, route and status the lines are the ledger, and no two share a request id."""
    logged = Counter((line["method"], line["route"], line["status"]) for line in demo.requests)
    sent = Counter({(row["method"], row["route"], row["status"]): row["count"] for row in demo.ledger["responses"]})

    assert logged == sent
    assert len(demo.request_ids()) == demo.ledger["complete"]


def test_the_llm_server_receives_the_id_of_the_request_behind_each_call(demo: FinishedDemo) -> None:
    """A call carries the id of a POST /proposals, and each proposal written took at least two calls with its id."""
    calls = Counter(call["x-request-id"] for call in demo.llm_calls)
    written = demo.request_ids(method="POST", route="/proposals", status=201)

    assert written
    assert set(calls) <= demo.request_ids(method="POST", route="/proposals")
    assert all(calls[request_id] >= 2 for request_id in written)


def test_the_runs_of_agents_add_up_to_what_the_proposals_took(demo: FinishedDemo) -> None:
    """A planner asks once, has notes taken unless they are known, and has a draft written."""
    runs = [line for line in map(json.loads, demo.log) if line["event"] == "agent.end" and line["outcome"] == "ok"]

    assert {line["agent"] for line in runs} == {"planner"}
    assert {line["llm_calls"] for line in runs} <= {2, 3}
    assert sum(line["llm_tokens"] for line in runs) == demo.ledger["tokens"]


def test_the_canonical_line_names_the_user(demo: FinishedDemo) -> None:
    """The user comes from a header that the app reads, not the pack."""
    assert all(line["user_id"] for line in demo.requests)


def test_health_passes_while_the_demo_runs(demo: FinishedDemo) -> None:
    """Both checks, of the database and of the LLM server, pass."""
    assert demo.health["status"] == "pass"


def test_a_taken_port_is_refused_with_the_remedy(tmp_path: Path) -> None:
    """One sentence, exit code 1, and nothing is left running."""
    with socket.create_server(("127.0.0.1", 0)) as owner:
        port = owner.getsockname()[1]
        process = _start(tmp_path, port=port)
        exit_code = _wait(process)

    assert exit_code == 1
    assert re.fullmatch(rf"monitoring demo: port {port} .* --port.*\n", process.log.read_text())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_demo_as_the_end_of_its_duration_does(number: signal.Signals, tmp_path: Path) -> None:
    """Children are stopped in order, the figures are still compared, and the exit code is 0."""
    process = _start(tmp_path, port=free_port(), rate=RATE)
    try:
        process.wait_until(lambda: "requests/s" in process.log_tail(), limit_seconds=60)
        os.kill(process.pid, number)
        exit_code = _wait(process)
    finally:
        process.stop()

    assert exit_code == 0, process.log_tail()
    assert "on the dashboard: equal" in process.log_tail()


def test_the_cache_forgets_by_age_and_by_size() -> None:
    """An entry lives for its time, and the least recently used one makes room."""
    now = [0.0]
    cache = TTLCache[str](max_entries=2, ttl_seconds=10, clock=lambda: now[0])
    cache.set("a", "1")
    cache.set("b", "2")
    cache.get("a")
    cache.set("c", "3")

    assert (cache.get("a"), cache.get("b"), cache.get("c")) == ("1", None, "3")
    now[0] = 10.0
    assert cache.get("a") is None


def test_the_day_has_one_high_and_one_low() -> None:
    """The rate is never above what was asked for and never nothing."""
    shares = [daily_shape(hour) for hour in range(24)]

    assert (shares.index(max(shares)), shares.index(min(shares))) == (15, 3)
    assert 0.3 < min(shares) < max(shares) <= 1.0


def _start(folder: Path, **options: object) -> Process:
    program = f"import sys; from monitoring.demo.run import run; sys.exit(run(**{options!r}))"
    return Process([sys.executable, "-c", program], folder / "output", env={"PYTHONPATH": str(ROOT)}, cwd=folder)


def _wait(process: Process) -> int | None:
    poll(lambda: process.exit_code is not None, "the demo to end", limit_seconds=90)
    return process.exit_code
