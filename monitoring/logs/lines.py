"""The lines of one service: rendered in the caller, and handed to the writer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from .rendering import render, request_of
from .writer import LogWriter

LEVELS: Final[Mapping[str, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}


class LogLines:
    """Renders and writes the lines of one service. Thread-safe."""

    def __init__(self, writer: LogWriter, service: str, level: str) -> None:
        self.writer = writer
        self.service = service
        self.level = LEVELS[level]

    def emit(
        self, level: str, logger: str, event: object, fields: Mapping[str, Any], exception: BaseException | None = None
    ) -> None:
        """Write one line; errors do not wait in the queue."""
        line = render(self.service, level, logger, event, fields, exception)
        request = request_of(exception)
        if request is not None:
            request.keep_line(line)
        self.writer.write(line, urgent=LEVELS.get(level, 20) >= logging.ERROR)
