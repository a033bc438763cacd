"""Workers of task queues as processes of their own, and what all of them together have counted and logged."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from monitoring.config import Config
from monitoring.metrics import MetricSnapshot
from monitoring.monitor import Monitoring
from tests.support.processes import Process, poll
from tests.support.service import ROOT


class Workplace:
    """A folder with the cells, the log and the store of a service that publisher and workers share."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.folder = folder
        self.env = {
            "PYTHONPATH": str(ROOT),
            "BROKER": redis_url,
            "MONITORING_SERVICE": "work",
            "MONITORING_STORE": str(folder / "store"),
            "MONITORING_CELLS_FOLDER": str(folder / "cells"),
            "MONITORING_LOG_DESTINATION": str(folder / "log.jsonl"),
        }
        self._reader = Monitoring(Config(service="work", store=None, cells_folder=str(folder / "cells")))
        self.snapshot()  # it lives from now on, so that what dead processes have counted is kept

    @contextmanager
    def worker(self, *program: str, ready: Callable[[str], bool]) -> Iterator[Process]:
        """Run a worker for the length of the block, from the moment that its output is ``ready``."""
        log = self.folder / "output"
        process = Process([sys.executable, "-m", *program], log, env=self.env, cwd=self.folder)
        try:
            process.wait_until(lambda: ready(log.read_text()))
            yield process
        finally:
            process.stop()

    def snapshot(self) -> dict[str, MetricSnapshot]:
        """Return every metric, over all processes."""
        return self._reader.metrics.snapshot()

    def ended(self) -> dict[tuple[str, str, str], int]:
        """Return how many attempts ended, by task, outcome and type of error."""
        snapshot = self.snapshot().get("messaging_process_duration_seconds")
        return {
            (one.labels["task"].rpartition(".")[2], one.labels["outcome"], one.labels["error_type"]): int(one.count)
            for one in (snapshot.series if snapshot else ())
        }

    def total(self, metric: str) -> float:
        """Return the sum of a counter or gauge."""
        snapshot = self.snapshot().get(metric)
        return sum(one.value for one in (snapshot.series if snapshot else ()))

    def wait_for(self, attempts: int) -> dict[tuple[str, str, str], int]:
        """Wait until so many attempts have ended, and return them."""
        poll(lambda: sum(self.ended().values()) >= attempts, f"{attempts} attempts of tasks", limit_seconds=25)
        return self.ended()

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines that all processes have logged."""
        text = (self.folder / "log.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def errors(self) -> list[str]:
        """Return the types of the error groups in the store."""
        reader = Monitoring(Config(service="work", store=self.env["MONITORING_STORE"]))
        try:
            return sorted(group.type.rpartition(".")[2] for group in reader.errors.groups())
        finally:
            reader.close()

    def close(self) -> None:
        """Close what reads."""
        self._reader.close()


@contextmanager
def workplace(folder: Path, redis_port: int, database: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    """Have a workplace, with the environment of this process set as a publisher's."""
    place = Workplace(folder, f"redis://127.0.0.1:{redis_port}/{database}")
    for name, value in place.env.items():
        monkeypatch.setenv(name, value)
    try:
        yield place
    finally:
        place.close()


def publish(place: Workplace, module: str, code: Sequence[str]) -> None:
    """Run lines of code in a process of its own that has imported an app, in a request ``monitoring.request_id()``."""
    import subprocess

    program = "\n".join(
        [
            f"from tests.integrations.tasks.apps import {module} as app",
            "import monitoring",
            "from monitoring.utils.logging_helpers import log_request",
            "with log_request('publisher', user='ada', request_id='the-request'):",
            *(f"    {line}" for line in code),
            "monitoring.shutdown()",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **place.env}, cwd=place.folder, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
