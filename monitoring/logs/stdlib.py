"""The standard library's loggers, the servers' among them: their records become the same lines as all others."""

from __future__ import annotations

import logging
import logging.config
import logging.handlers
import re
import sys
import threading
from collections.abc import Iterable, Mapping
from typing import Any, Final

from .levels import Levels
from .lines import LogLines
from .structlog_bridge import filled, level_name, text_of

_SERVER_LOGGERS: Final = (
    *("uvicorn", "uvicorn.error", "uvicorn.asgi", "gunicorn", "gunicorn.error", "hypercorn", "hypercorn.error"),
    *("_granian", "granian", "aiohttp.server", "aiohttp.web", "litestar", "celery", "celery.task", "celery.redirected"),
)
_ACCESS_LOGGERS: Final = (
    *("uvicorn.access", "gunicorn.access", "hypercorn.access", "granian.access", "aiohttp.access"),
)
_OWN_LOGGERS: Final = ("monitoring", "py.warnings")
_TALKATIVE_LOGGERS: Final = ("httpx", "httpx2", "httpcore", "httpcore2")
STANDARD_ATTRIBUTES: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; the rest are the caller's fields."""
_COLOURED: Final = frozenset({"color_message"})
"""uvicorn's second form of its message."""
_DEPTH: Final = 2
"""Records that may be on their way at once in a thread: a value may log when it is shown."""
_STACK_LENGTH: Final = 4000
_ACCESS_TEXT: Final = re.compile(
    r"(?P<client>\S+) (?:- .*?|\[[^]]*\] )"
    r'"(?P<method>[A-Z]+) (?P<path>\S+)(?: HTTP/(?P<http_version>[\d.]+))?" (?P<status>\d{3})'
)


class StdlibBridge(logging.Handler):
    """Turns stdlib records into lines. Never raises, and never logs from within itself."""

    def __init__(self, lines: LogLines, shown: Iterable[str] = (), hidden: Iterable[str] = ()) -> None:
        super().__init__()
        self._lines = lines
        self._shown = frozenset(shown)
        self._hidden = frozenset(hidden) | _COLOURED
        self._busy = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record. One that is logged while another is being rendered in this thread is written, too, but none
        inside of that.
        """
        depth = getattr(self._busy, "depth", 0)
        if depth >= _DEPTH:
            return
        self._busy.depth = depth + 1
        try:
            event, fields = event_and_fields(record, self._shown, self._hidden)
            error = record.exc_info[1] if record.exc_info else None
            self._lines.emit(level_name(record.levelno), record.name, event, fields, error)
        except Exception:
            self.handleError(record)
        finally:
            self._busy.depth = depth


def configure(
    lines: LogLines, *, access_lines: bool = False, shown: Iterable[str] = (), hidden: Iterable[str] = ()
) -> None:
    """Route the root logger, the servers' loggers and warnings to these lines, and keep it so.

    Without ``access_lines`` the servers' access logs are silent: a canonical line tells each request. ``shown`` are
    standard attributes of records that become fields, ``hidden`` names that do not.
    """
    global _keeper
    restore()
    _keeper = keep = _Keeper(StdlibBridge(lines, shown, hidden), lines.levels, access_lines)
    keep()
    lines.levels.on_change.append(keep)
    lines.on_tick = keep
    logging.config.dictConfigClass = _keeping(keep)
    logging.captureWarnings(True)
    _leave_logging_to_us()


def restore() -> None:
    """Take the pack out of the stdlib's loggers, and give them their levels back."""
    global _keeper
    if _keeper is not None:
        _keeper.end()
        _keeper = None
    logging.config.dictConfigClass = logging.config.DictConfigurator
    logging.captureWarnings(False)


class _Keeper:
    """Brings the stdlib's loggers into the state that our lines need, at first and whenever something changed it.

    A later ``dictConfig`` and a server that starts after ``configure`` set their own handlers.
    """

    def __init__(self, bridge: StdlibBridge, levels: Levels, access_lines: bool) -> None:
        self._bridge = bridge
        self._levels = levels
        self._access_lines = access_lines
        self._changed: dict[str, int] = {}
        self._has_ended = False

    def __call__(self) -> None:
        if self._has_ended:
            return
        root = logging.getLogger()
        for handler in list(root.handlers):
            if _writes_to_a_console(handler):
                root.removeHandler(handler)
        if self._bridge not in root.handlers:
            root.addHandler(self._bridge)
        for name in _SERVER_LOGGERS:
            _set_handlers(name, propagates=True)
        for name in _ACCESS_LOGGERS:
            _set_handlers(name, propagates=self._access_lines)
            logging.getLogger(name).disabled = not self._access_lines  # so that no server fills in what nobody reads
        self._set_levels(root)
        if self._has_ended:  # meanwhile, in another thread
            root.removeHandler(self._bridge)

    def enable(self) -> None:
        """Enable the loggers that are there because of us: by default a ``dictConfig`` disables those it finds."""
        if not self._has_ended:
            for name in (*_SERVER_LOGGERS, *_TALKATIVE_LOGGERS, *_OWN_LOGGERS, *self._changed):
                logging.getLogger(name).disabled = False

    def end(self) -> None:
        """Take the bridge away, and give levels back. Later calls do nothing."""
        self._has_ended = True
        logging.getLogger().removeHandler(self._bridge)
        for name in _ACCESS_LOGGERS:
            logging.getLogger(name).disabled = False
        for name, level in list(self._changed.items()):
            logging.getLogger(name).setLevel(level)

    def _set_levels(self, root: logging.Logger) -> None:
        self._changed.setdefault("", root.level)
        _set_level(root, self._levels.gate(""))
        for name in _TALKATIVE_LOGGERS:  # a line per outgoing call, unless the app asks for it
            if (logger := logging.getLogger(name)).level == logging.NOTSET:
                logger.setLevel(logging.WARNING)
        wanted = {name for name in (*self._levels.configured, *self._levels.changed) if name}
        for name in wanted:
            logger = logging.getLogger(name)
            self._changed.setdefault(name, logger.level)
            _set_level(logger, self._levels.gate(name))
        for name in self._changed.keys() - wanted - {""}:
            if (level := self._changed.pop(name, None)) is not None:  # else another thread has given it back
                logging.getLogger(name).setLevel(level)


_keeper: _Keeper | None = None


def _leave_logging_to_us() -> None:
    """Tell Celery, where the app uses it, that logging is set up: its workers would clear the root's handlers."""
    if "celery" in sys.modules:
        from celery import signals

        signals.setup_logging.connect(_set_up_already, weak=False, dispatch_uid="monitoring")


def _set_up_already(**_: Any) -> None:
    """Do nothing: that somebody listens keeps Celery from setting up logging."""


def _keeping(keep: _Keeper) -> type[logging.config.DictConfigurator]:
    """Return the class that ``dictConfig`` uses: it configures, and then our lines are wired again."""

    class KeepingConfigurator(logging.config.DictConfigurator):
        def configure(self) -> None:
            super().configure()
            keep()
            keep.enable()

    return KeepingConfigurator


def _set_handlers(name: str, *, propagates: bool) -> None:
    logger = logging.getLogger(name)
    if logger.handlers:
        logger.handlers.clear()
    logger.propagate = propagates


def _set_level(logger: logging.Logger, level: int) -> None:
    if logger.level != level:
        logger.setLevel(level)


def _writes_to_a_console(handler: logging.Handler) -> bool:
    """Say whether a handler prints, by itself or, as Litestar's does, through a queue and a thread."""
    if isinstance(handler, logging.handlers.QueueHandler):
        behind = getattr(getattr(handler, "listener", None), "handlers", ())
        return bool(behind) and all(map(_writes_to_a_console, behind))
    return type(handler) is logging.StreamHandler and handler.stream in (sys.stdout, sys.stderr)


def event_and_fields(
    record: logging.LogRecord, shown: frozenset[str], hidden: frozenset[str]
) -> tuple[str, Mapping[str, Any]]:
    """Return what a record says, and the fields it carries: the caller's but ``hidden``, and those of ``shown``.

    Never raises, whatever the message does.
    """
    try:
        return _event_and_fields(record, shown, hidden)
    except Exception as error:
        return "(not readable)", {"log_error": type(error).__name__}


def _event_and_fields(
    record: logging.LogRecord, shown: frozenset[str], hidden: frozenset[str]
) -> tuple[str, Mapping[str, Any]]:
    if record.name in _ACCESS_LOGGERS and (access := _access_fields(record)):
        return "access", access
    attributes = vars(record)
    fields = {name: attributes[name] for name in attributes.keys() - STANDARD_ATTRIBUTES - hidden}
    for name in shown & attributes.keys():
        fields[name] = attributes[name]
    if record.stack_info:
        fields["stack"] = record.stack_info[-_STACK_LENGTH:]
    if isinstance(record.msg, Mapping) and not record.args:
        message = {text_of(key): value for key, value in record.msg.items()}
        return text_of(message.pop("event", message.pop("message", ""))), {**message, **fields}
    return (filled(record.msg, record.args) if record.args else text_of(record.msg)).rstrip("\n"), fields


def _access_fields(record: logging.LogRecord) -> Mapping[str, Any]:
    """Return the fields of a server's access record, none where its form is not known.

    uvicorn keeps them as a tuple of arguments, gunicorn and hypercorn as a mapping of atoms, others as text.
    """
    arguments = record.args
    if isinstance(arguments, tuple) and len(arguments) == 5:
        client, method, path, version, status = arguments
        return {"client": client, "method": method, "path": path, "http_version": version, "status": status}
    if isinstance(arguments, Mapping) and "s" in arguments:
        request = str(arguments.get("r", "")).split(" ")
        return {
            "client": arguments.get("h"),
            "method": arguments.get("m") or request[0],
            "path": arguments.get("U") or (request[1] if len(request) > 1 else ""),
            "status": _number(arguments["s"]),
            "duration_ms": _milliseconds(arguments),
        }
    match = _ACCESS_TEXT.search(record.getMessage())
    return {**match.groupdict(), "status": int(match["status"])} if match else {}


def _number(value: Any) -> Any:
    try:
        return int(value)
    except (TypeError, ValueError):
        return value


def _milliseconds(atoms: Mapping[str, Any]) -> float | None:
    try:
        return int(atoms["D"]) / 1000
    except (KeyError, TypeError, ValueError):
        return None
