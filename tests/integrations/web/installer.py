"""Installing into an app as a user does, and looking at what became of its requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import monitoring
from monitoring import Monitoring
from monitoring.testing import MemorySink

STEPS_ASIDE = "the app serves /health itself, so monitoring does not; set another path, or None, to say which is meant"
"""The line that says that a path is left to the app."""


class Installer:
    """Installs the pack into an app, and shows what became of its requests."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.sink = MemorySink()
        self.monitoring: Monitoring | None = None

    def __call__(self, app: Any, **settings: Any) -> Monitoring:
        """Install into ``app`` as a user does; lines go to a file, and nothing is stored."""
        defaults = {
            "log_destination": str(self._folder / "log"),
            "cells_folder": str(self._folder / "cells"),
            "store": None,
        }
        self.monitoring = monitoring.install(app, **{**defaults, **settings})
        self.monitoring.recorder.add(self.sink)
        return self.monitoring

    @property
    def requests(self) -> list[tuple[str, int, str]]:
        """Return route, status and outcome of each request, in the order they ended."""
        ended = []
        for one in self.sink.of_kind("request"):
            assert one.request is not None
            ended.append((one.name, one.request.status, one.outcome))
        return ended

    @property
    def routes(self) -> list[str]:
        """Return the route of each request."""
        return [route for route, _, _ in self.requests]

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return the log lines of one event."""
        assert self.monitoring is not None
        self.monitoring.log_lines.writer.flush()
        log = self._folder / "log"
        lines = map(json.loads, log.read_text().splitlines() if log.exists() else [])
        return [line for line in lines if line["event"] == event]
