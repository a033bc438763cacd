"""What servers say comes out as the same JSON lines, once, by one call in the app."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.processes import poll
from tests.support.service import ROOT, Command, granian, gunicorn_asgi, gunicorn_wsgi, hypercorn, serve

ASGI = "tests.support.apps.asgi_app:app"

SERVERS: dict[str, tuple[Command, str]] = {
    "uvicorn": (lambda port: ["uvicorn", ASGI, "--port", str(port)], "uvicorn.access"),
    "gunicorn with uvicorn's worker": (gunicorn_asgi("--access-logfile", "-"), "uvicorn.access"),
    "gunicorn": (gunicorn_wsgi("--access-logfile", "-"), "gunicorn.access"),
    "hypercorn": (hypercorn("--access-logfile", "-"), "hypercorn.access"),
    "granian": (granian("--access-log"), "granian.access"),
}


def _served(command: Command, folder: Path, access_lines: str) -> list[dict[str, object]]:
    """Serve the app with lines on stdout, send one request, and return the lines."""
    settings = {"MONITORING_LOG_DESTINATION": "stdout", "MONITORING_LOG_ACCESS_LINES": access_lines}
    output = folder / "server.log"
    with serve(_of_this_environment(command), folder, env=settings) as service:
        service.get("/items/7")
        poll(lambda: '"event":"request"' in output.read_text(), "the request's line")
        if access_lines == "true":
            poll(lambda: re.search('"event":"access".*items/7', output.read_text()), "the access line")
    return [json.loads(line) for line in output.read_text().splitlines() if line.startswith("{")]


def _of_this_environment(command: Command) -> Command:
    def found(port: int) -> Sequence[str]:
        program, *options = command(port)
        return [str(Path(sys.executable).with_name(Path(program).name)), *options]

    return found


@pytest.mark.parametrize("name", SERVERS)
def test_access_lines_are_fields(tmp_path: Path, name: str) -> None:
    """Method, path and status of the request, as the server logged it."""
    command, logger = SERVERS[name]
    lines = _served(command, tmp_path, "true")
    (line,) = [line for line in lines if line["event"] == "access" and "items/7" in str(line["path"])]
    assert (line["logger"], line["method"], line["status"]) == (logger, "GET", 200)


@pytest.mark.parametrize("name", SERVERS)
def test_without_them_the_canonical_line_stands_alone(tmp_path: Path, name: str) -> None:
    """And no line of the server comes out in another form once the app has loaded."""
    command, _ = SERVERS[name]
    lines = _served(command, tmp_path, "false")
    assert sum(line["event"] == "request" for line in lines) == 1
    assert not [line for line in lines if line["event"] == "access"]
    text = (tmp_path / "server.log").read_text()
    assert "GET /items/7" not in text


CELERY_APP = """
import celery, logging
import monitoring
app = celery.Celery("work", broker="memory://")
monitoring.configure(service="work", store=None)

@app.task
def add(a, b):
    logging.getLogger("work.tasks").warning("adding")
    return a + b

@app.on_after_finalize.connect
def send(sender, **_):
    add.delay(1, 2)
"""


def test_a_celery_worker_writes_the_same_lines(tmp_path: Path) -> None:
    """Its own, and those of a task; it does not set up logging by itself."""
    (tmp_path / "work.py").write_text(CELERY_APP)
    program = [sys.executable, "-m", "celery", "-A", "work", "worker", "--pool", "solo", "--loglevel", "INFO"]
    output = tmp_path / "output"
    with output.open("wb") as file:
        worker = subprocess.Popen(
            program, cwd=tmp_path, stdout=file, stderr=file, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin"}
        )
        try:
            poll(lambda: "succeeded in" in output.read_text(), "the task's end", limit_seconds=30)
        finally:
            worker.terminate()
            worker.wait(20)
    lines = [json.loads(line) for line in output.read_text().splitlines() if line.startswith("{")]
    told = {(line["logger"], line["level"]) for line in lines if "adding" in line["event"]}
    assert told == {("work.tasks", "warning")}
    assert {"celery.worker.strategy", "celery.app.trace"} <= {line["logger"] for line in lines}
    assert len([line for line in output.read_text().splitlines() if "adding" in line]) == 1
