"""Logging: structlog loggers and stdlib records come out as the same JSON lines, with the request's IDs on each.

One fused processor renders a line to bytes in the caller; the ``LogWriter`` takes them from there.
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING, Final

from .logs.lines import LEVELS, LogLines

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

_SERVER_LOGGERS: Final = ("uvicorn", "uvicorn.error", "gunicorn", "gunicorn.error", "hypercorn.error", "_granian")
_ACCESS_LOGGERS: Final = ("uvicorn.access",)
_TALKATIVE_LOGGERS: Final = ("httpx", "httpx2", "httpcore", "httpcore2")
_NOT_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def get_logger(name: str | None = None) -> FilteringBoundLogger:
    """Return a structlog logger. Its lines carry the running request's IDs and the fields of ``bind``."""
    from .logs import structlog_bridge  # structlog takes a tenth of the pack's time to import

    return structlog_bridge.get_logger(name or "app")


def configure_logging(lines: LogLines) -> None:
    """Route structlog, the stdlib's root logger, the servers' loggers and warnings to these lines."""
    from .logs import structlog_bridge

    structlog_bridge.configure(lines)
    _configure_stdlib(lines)


def restore_logging() -> None:
    """Take the pack out of the stdlib's root logger and give structlog its defaults back."""
    from .logs import structlog_bridge

    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, StdlibBridge)]:
        root.removeHandler(handler)
    logging.captureWarnings(False)
    structlog_bridge.restore()


class StdlibBridge(logging.Handler):
    """Turns stdlib records into the same lines. Never raises, and never logs from within itself."""

    def __init__(self, lines: LogLines) -> None:
        super().__init__()
        self._lines = lines
        self._busy = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; one logged while another is being written in this thread is left to stderr."""
        if getattr(self._busy, "emitting", False):
            return self.handleError(record)
        self._busy.emitting = True
        try:
            fields = {key: value for key, value in vars(record).items() if key not in _NOT_FIELDS}
            error = record.exc_info[1] if record.exc_info else None
            self._lines.emit(_level_name(record.levelno), record.name, _message(record).rstrip("\n"), fields, error)
        except Exception:
            self.handleError(record)
        finally:
            self._busy.emitting = False


def _configure_stdlib(lines: LogLines) -> None:
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, StdlibBridge) or _writes_to_a_console(handler):
            root.removeHandler(handler)
    root.addHandler(StdlibBridge(lines))
    root.setLevel(lines.level)
    for name in _SERVER_LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name in _ACCESS_LOGGERS:  # the canonical line replaces them; uvicorn then skips the work, too
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = False
    for name in _TALKATIVE_LOGGERS:  # a line per outgoing call, unless the app asks for it
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)
    logging.captureWarnings(True)


def _writes_to_a_console(handler: logging.Handler) -> bool:
    return type(handler) is logging.StreamHandler and handler.stream in (sys.stdout, sys.stderr)


def _level_name(number: int) -> str:
    return next((name for name, floor in reversed(list(LEVELS.items())) if number >= floor), "debug")


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:
        return f"{record.msg} (arguments do not fit: {type(error).__name__})"
