"""Logging: structlog loggers and stdlib records come out as the same JSON lines, with the request's IDs on each.

A line is rendered to bytes in the caller; the ``LogWriter`` and the outlets of the handlers take them from there. The
parts are in ``monitoring.logs``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import Config, ConfigError
from .logs.levels import LEVELS, Levels
from .logs.lines import LogLines
from .logs.outlets import OnDropped, is_handler
from .logs.rendering import Renderer
from .logs.repeats import Repeats
from .logs.shapes import shape_of
from .logs.writer import LogWriter

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from .logs.files import LogFile
    from .utils.redaction import Scrubber


def get_logger(name: str | None = None) -> FilteringBoundLogger:
    """Return a structlog logger. Its lines carry the running request's IDs and the fields of ``bind``."""
    from .logs import structlog_bridge  # structlog takes a tenth of the pack's time to import

    return structlog_bridge.get_logger(name or "app")


def make_lines(
    config: Config, scrubber: Scrubber | None, folder: Callable[[], Path | None], on_dropped: OnDropped
) -> LogLines:
    """Return the lines that a config asks for. ``folder`` is where workers share changed levels. Raise ConfigError."""
    lines = LogLines(
        _main_writer(config, on_dropped),
        Renderer(config.service, scrubber),
        Levels(config.log_level, config.log_levels, hold=config.log_debug_on_failure, folder=folder),
        sample_rate=config.log_sample_rate,
        hold=config.log_debug_on_failure,
        repeats=Repeats(config.log_repeats) if config.log_repeats else None,
        shape=shape_of(config.log_destination, config.log_format, config.log_rename, config.log_fields),
    )
    for handler in config.log_handlers:
        if not is_handler(handler):
            raise ConfigError(
                f"log_handlers must be a list of handlers such as monitoring.LogFile(...), each with one of the levels "
                f"{', '.join(LEVELS)}, got {handler!r}."
            )
    lines.add_routes(config.log_handlers, config.service, on_dropped)
    return lines


def _main_writer(config: Config, on_dropped: OnDropped) -> LogWriter:
    file = _main_file(config)
    return LogWriter(
        file.file() if file is not None else config.log_destination,
        queue_bytes=config.log_queue_bytes,
        flush_seconds=config.log_flush_seconds,
        on_dropped=on_dropped,
        queues_at_once=config.log_repeats > 0 or (file is not None and file.is_tended),
    )


def _main_file(config: Config) -> LogFile | None:
    """Return the file that the main destination is; None for streams, and for devices and pipes such as
    ``/dev/stderr``, which are written to as they are.
    """
    bounds: dict[str, Any] = {
        name: value
        for name in ("max_bytes", "rotate_every", "keep_files", "keep_days", "keep_bytes")
        if (value := getattr(config, f"log_{name}")) is not None
    }
    path = config.log_destination
    if path in ("stdout", "stderr") or (os.path.exists(path) and not os.path.isfile(path)):
        if bounds:
            raise ConfigError(f"log_{next(iter(bounds))} is for a file, got log_destination {path!r}; name a file.")
        return None
    from .logs.files import LogFile
    from .utils import locks

    if not locks.IS_SUPPORTED and not bounds:
        return None
    try:
        return LogFile(path, compress=config.log_compress and bool(bounds), **bounds)
    except ValueError as error:
        raise ConfigError(f"log_destination: {error}") from None


def configure_logging(lines: LogLines, config: Config | None = None) -> None:
    """Route structlog, the stdlib's root logger, the servers' loggers and warnings to these lines.

    A later ``dictConfig`` keeps them. Of ``config`` the settings count that say which records become lines.
    """
    from .logs import stdlib, structlog_bridge

    config = config or Config()
    structlog_bridge.configure(lines, config.log_processors)
    stdlib.configure(
        lines, access_lines=config.log_access_lines, shown=config.log_record_fields, hidden=config.log_leave_out
    )


def restore_logging() -> None:
    """Take the pack out of the stdlib's loggers and give structlog its defaults back."""
    from .logs import stdlib, structlog_bridge

    stdlib.restore()
    structlog_bridge.restore()
