"""structlog's loggers, whose events become the same lines as all others. Imported when logging is set up."""

from __future__ import annotations

import sys
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import structlog
from structlog.typing import FilteringBoundLogger

if TYPE_CHECKING:
    from .lines import LogLines

_current: LogLines | None = None


def get_logger(name: str) -> FilteringBoundLogger:
    """Return a structlog logger."""
    logger: FilteringBoundLogger = structlog.get_logger(name)
    return logger


def configure(lines: LogLines) -> None:
    """Have structlog write these lines."""
    global _current
    _current = lines
    structlog.configure(
        processors=[_write_event],
        wrapper_class=structlog.make_filtering_bound_logger(lines.level),
        logger_factory=_LineLogger,
        cache_logger_on_first_use=True,
    )


def restore() -> None:
    """Give structlog its defaults back."""
    structlog.reset_defaults()


class _LineLogger:
    """What structlog calls at the end of its chain: the line is written by the processor already."""

    def __init__(self, *args: Any) -> None:
        self.name = str(args[0]) if args and args[0] else "app"

    def _done(self, **_: Any) -> None:
        """Do nothing."""

    debug = info = warning = error = critical = exception = log = msg = _done


def _write_event(logger: Any, method: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Render and write one event: the only structlog processor, so that a line costs one call and not a chain."""
    error = _exception_of(event_dict.pop("exc_info", None) or method == "exception")
    event = event_dict.pop("event", "")
    level = "error" if method == "exception" else method
    if _current is not None:
        _current.emit(level, logger.name, event, {**_structlog_fields(), **event_dict}, error)
    raise structlog.DropEvent


def _structlog_fields() -> Mapping[str, Any]:
    """Return what the app bound with structlog's own contextvars; asked for only when it uses them at all."""
    if getattr(structlog.contextvars, "_CONTEXT_VARS", True):
        return structlog.contextvars.get_contextvars()
    return {}


def _exception_of(exc_info: Any) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return exc_info[1] if len(exc_info) == 3 else None
    return sys.exc_info()[1] if exc_info else None
