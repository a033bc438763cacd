"""structlog's loggers, whose events become the same lines as all others. Imported when logging is set up.

There is no chain of processors by default: the bound logger asks for its level and hands the event to the lines.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, cast

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from ..utils.plain import safe_str
from .levels import LEVELS
from .lines import LogLines

_current: LogLines | None = None
_gates: dict[str, int] = {}
"""By logger, the level from which its calls do anything; see ``Levels.gates``."""
_processors: tuple[Processor, ...] = ()
_bound_by_structlog: Mapping[str, Any] = getattr(structlog.contextvars, "_CONTEXT_VARS", {"unknown": None})
"""Empty as long as the app does not use structlog's own contextvars."""


def get_logger(name: str) -> FilteringBoundLogger:
    """Return a logger, bound already: a lazy proxy would bind anew at each call."""
    return cast(FilteringBoundLogger, LineLogger(_Named(name), _chain, {}))


def configure(lines: LogLines, processors: Sequence[Processor] = ()) -> None:
    """Have structlog write these lines; ``processors`` see each event before it becomes one."""
    global _current, _gates, _processors
    _current, _gates, _processors = lines, lines.levels.gates, tuple(processors)
    _chain[:] = [_write_event]
    structlog.configure(
        processors=_chain, wrapper_class=LineLogger, logger_factory=_Named, cache_logger_on_first_use=True
    )


def restore() -> None:
    """Give structlog its defaults back."""
    global _current, _gates, _processors
    _current, _gates, _processors = None, {}, ()
    structlog.reset_defaults()


class _Named:
    """What a bound logger wraps: a name."""

    __slots__ = ("name",)

    def __init__(self, *args: Any) -> None:
        self.name = str(args[0]) if args and args[0] else "app"


class LineLogger(structlog.BoundLoggerBase):
    """A bound logger of structlog. Before ``configure`` it does what structlog does by default."""

    _logger: _Named

    def debug(self, event: object = "", *args: Any, **fields: Any) -> None:
        """Write a line of level debug. ``args`` fill the event's ``%``."""
        name = self._logger.name
        if (_gates.get(name) or _gate_of(name)) <= 10:
            self._write("debug", event, args, fields)

    def info(self, event: object = "", *args: Any, **fields: Any) -> None:
        """Write a line of level info."""
        name = self._logger.name
        if (_gates.get(name) or _gate_of(name)) <= 20:
            self._write("info", event, args, fields)

    def warning(self, event: object = "", *args: Any, **fields: Any) -> None:
        """Write a line of level warning."""
        name = self._logger.name
        if (_gates.get(name) or _gate_of(name)) <= 30:
            self._write("warning", event, args, fields)

    def error(self, event: object = "", *args: Any, **fields: Any) -> None:
        """Write a line of level error."""
        name = self._logger.name
        if (_gates.get(name) or _gate_of(name)) <= 40:
            self._write("error", event, args, fields)

    def critical(self, event: object = "", *args: Any, **fields: Any) -> None:
        """Write a line of level critical."""
        self._write("critical", event, args, fields)

    def exception(self, event: object = "", *args: Any, **fields: Any) -> None:
        """Write a line of level error with the exception that is being handled."""
        fields.setdefault("exc_info", True)
        self.error(event, *args, **fields)

    def log(self, level: int, event: object = "", *args: Any, **fields: Any) -> None:
        """Write a line of a level given as a number."""
        if self.is_enabled_for(level):
            self._write(level_name(level), event, args, fields)

    async def adebug(self, event: object = "", *args: Any, **fields: Any) -> None:
        """Do the same from a coroutine; nothing here blocks."""
        self.debug(event, *args, **fields)

    async def ainfo(self, event: object = "", *args: Any, **fields: Any) -> None:
        """Do the same from a coroutine."""
        self.info(event, *args, **fields)

    async def awarning(self, event: object = "", *args: Any, **fields: Any) -> None:
        """Do the same from a coroutine."""
        self.warning(event, *args, **fields)

    async def aerror(self, event: object = "", *args: Any, **fields: Any) -> None:
        """Do the same from a coroutine."""
        self.error(event, *args, **fields)

    async def acritical(self, event: object = "", *args: Any, **fields: Any) -> None:
        """Do the same from a coroutine."""
        self.critical(event, *args, **fields)

    async def aexception(self, event: object = "", *args: Any, **fields: Any) -> None:
        """Do the same from a coroutine."""
        self.exception(event, *args, **fields)

    async def alog(self, level: int, event: object = "", *args: Any, **fields: Any) -> None:
        """Do the same from a coroutine."""
        self.log(level, event, *args, **fields)

    warn, fatal, msg = warning, critical, info
    awarn, afatal, amsg = awarning, acritical, ainfo

    def is_enabled_for(self, level: int) -> bool:
        """Say whether a line of this level would be written, or held for a failure."""
        return level >= (_gates.get(self._logger.name) or _gate_of(self._logger.name))

    def get_effective_level(self) -> int:
        """Return the number of the level from which lines are written."""
        return _current.levels.of(self._logger.name) if _current is not None else LEVELS["debug"]

    def _write(self, level: str, event: object, args: tuple[Any, ...], fields: dict[str, Any]) -> None:
        lines = _current
        if lines is None:
            return _write_by_default(self._logger.name, self._context, level, event, args, fields)
        if args:
            event = filled(event, args)
        if _chain[0] is not _write_event:  # structlog.testing.capture_logs has put something in its place
            self._proxy_to_logger(level, str(event), **fields)
            return
        if self._context:
            fields = {**self._context, **fields}
        if _processors:
            processed = _processed(self._logger, level, event, fields)
            if processed is None:
                return
            level, event, fields = processed
        exc_info = fields.pop("exc_info", None) if "exc_info" in fields else None
        if _bound_by_structlog:
            fields = {**structlog.contextvars.get_contextvars(), **fields}
        lines.emit(level, self._logger.name, event, fields, _exception_of(exc_info) if exc_info else None)


def level_name(number: int) -> str:
    """Return the name of the level that a number belongs to: 25 is ``info``."""
    return next((name for name, floor in reversed(list(LEVELS.items())) if number >= floor), "debug")


def filled(event: object, args: tuple[Any, ...] | Mapping[str, Any]) -> str:
    """Return an event with its ``%`` filled; arguments that do not fit are told in it."""
    try:
        if isinstance(args, tuple) and len(args) == 1 and isinstance(args[0], Mapping) and args[0]:
            args = args[0]
        return str(event) % args
    except Exception as error:
        return f"{text_of(event)} (arguments do not fit: {type(error).__name__})"


def text_of(value: object) -> str:
    """Return ``str(value)``, or a stand-in when it raises."""
    try:
        return str(value)
    except Exception:
        return safe_str(value)


def _gate_of(name: str) -> int:
    return _current.levels.gate(name) if _current is not None else LEVELS["debug"]


def _processed(
    logger: _Named, level: str, event: object, fields: dict[str, Any]
) -> tuple[str, object, dict[str, Any]] | None:
    """Return what the app's processors made of an event, None when one of them drops it or fails."""
    event_dict: Any = {**fields, "event": event}
    try:
        event_dict = functools.reduce(lambda made, processor: processor(logger, level, made), _processors, event_dict)
    except structlog.DropEvent:
        return None
    except Exception as error:
        return level, event, {**fields, "log_error": f"a processor raised {type(error).__name__}"}
    if not isinstance(event_dict, MutableMapping):  # it has rendered the line by itself
        return level, event_dict, {}
    made = dict(event_dict)
    return level, made.pop("event", ""), made


def _write_event(logger: Any, method: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Write one event of a bound logger that is not ours."""
    fields = dict(event_dict)
    LineLogger(logger, _chain, {})._write(method, fields.pop("event", ""), (), fields)
    raise structlog.DropEvent


_chain: list[Processor] = [_write_event]
"""What structlog is configured with. Its helpers for tests change this very list for a while."""


def _write_by_default(
    name: str,
    context: Mapping[str, Any],
    level: str,
    event: object,
    args: tuple[Any, ...],
    fields: Mapping[str, Any],
) -> None:
    getattr(structlog.get_logger(name).bind(**context), level)(event, *args, **fields)


def _exception_of(exc_info: Any) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return exc_info[1] if len(exc_info) == 3 else None
    return sys.exc_info()[1]
