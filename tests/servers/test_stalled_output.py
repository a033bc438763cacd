"""A service whose standard output nobody reads any more: requests go on, and what is dropped is counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from tests.support.load import Target, run_load
from tests.support.processes import free_port, poll
from tests.support.scrape import scrape
from tests.support.service import ASGI_APP, ROOT, TOKEN, answers

REQUESTS = 3_000


def _is_up(port: int) -> bool:
    try:
        return answers(port)
    except OSError:
        return False


def test_requests_are_answered_and_every_line_is_read_or_counted(tmp_path: Path) -> None:
    """The pipe is full from early on; the reader comes back at the end."""
    port = free_port()
    settings = {
        "PYTHONPATH": str(ROOT),
        "MONITORING_TOKEN": TOKEN,
        "MONITORING_LOG_QUEUE_BYTES": "65536",
        "MONITORING_CELLS_FOLDER": str(tmp_path / "cells"),
        "MONITORING_STORE": str(tmp_path / "store"),
    }
    program = [sys.executable, "-m", "uvicorn", ASGI_APP, "--port", str(port), "--no-access-log"]
    service = subprocess.Popen(program, stdout=subprocess.PIPE, env={**os.environ, **settings}, cwd=tmp_path)
    assert service.stdout is not None
    received: list[bytes] = []
    try:
        poll(lambda: _is_up(port), "the service")
        ledger = run_load(port, [Target("/items/{n}", "/items/{id}")], REQUESTS, connections=4)
        assert (ledger.complete.total(), ledger.cut) == (REQUESTS, 0)
        dropped = scrape(port, TOKEN).total("monitoring_log_lines_dropped_total", reason="queue_full")
        reader = threading.Thread(target=lambda: received.extend(service.stdout))  # type: ignore[arg-type]
        reader.start()
        service.terminate()
        service.wait(20)
        reader.join()
    finally:
        service.kill()
        service.wait()
        service.stdout.close()
    lines = [json.loads(line) for line in received if line.startswith(b"{")]
    requests = sum(line["event"] == "request" for line in lines)
    assert 0 < requests < REQUESTS
    assert requests + dropped == REQUESTS
