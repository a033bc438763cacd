"""A stdlib formatter that gives the pack's lines, and the reading of python-json-logger's settings.

For projects that keep their ``dictConfig``: the formatter takes python-json-logger's own arguments. Those that hand
their logging over to ``install`` keep the names of their fields with ``settings_of_json_logger``.
"""

from __future__ import annotations

import logging
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ..utils.redaction import DEFAULT
from .rendering import Renderer, renamed, request_of
from .stdlib import STANDARD_ATTRIBUTES, event_and_fields
from .structlog_bridge import level_name

_OURS: Final[Mapping[str, str]] = {
    "asctime": "timestamp",
    "timestamp": "timestamp",
    "levelname": "level",
    "name": "logger",
    "message": "event",
    "exc_info": "exception",
}
"""Keys of the pack's lines by the attribute of a record that they stand for."""
_NEVER_SHOWN: Final = frozenset({"args", "msg", "exc_text", "stack_info", "taskName"})
"""Attributes that python-json-logger's default list leaves open, or that make no field."""
_PERCENT: Final = re.compile(r"%\((\w+)\)")
_DOLLAR: Final = re.compile(r"\$\{?(\w+)")


class JSONFormatter(logging.Formatter):
    """Formats a record as one line of the pack's JSON, without the newline. Never raises.

    ``fmt`` names attributes of the record that are shown, as in ``%(levelname)s %(lineno)d``; with one, the keys have
    those names. ``rename_fields``, ``static_fields``, ``reserved_attrs`` and ``timestamp`` mean what they mean to
    python-json-logger; its other arguments are taken and ignored. Secrets are scrubbed by the default rules.
    """

    def __init__(
        self,
        fmt: str | Sequence[str] | None = None,
        datefmt: str | None = None,
        style: Any = "%",
        validate: bool = True,
        *,
        service: str = "app",
        rename_fields: Mapping[str, str] | None = None,
        static_fields: Mapping[str, Any] | None = None,
        reserved_attrs: Iterable[str] | None = None,
        timestamp: bool | str = False,
        **_: Any,
    ) -> None:
        super().__init__()
        wanted = _fields_of(fmt, style)
        settings = _settings(wanted, rename_fields or {}, static_fields or {}, reserved_attrs, timestamp)
        self._names: Mapping[str, str] = settings["log_rename"]
        self._static: Mapping[str, Any] = settings["log_fields"]
        self._shown = frozenset(settings["log_record_fields"])
        self._hidden = frozenset(settings["log_leave_out"])
        self._renderer = Renderer(service, DEFAULT)

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        event, fields = event_and_fields(record, self._shown, self._hidden)
        error = record.exc_info[1] if record.exc_info else None
        level, request = level_name(record.levelno), request_of(error)
        line = self._renderer.render(level, record.name, event, fields, error, request, marks=False)
        if self._names or self._static:
            line = renamed(line, self._names, self._static)
        return line.decode().rstrip("\n")


def settings_of_json_logger(config: Mapping[str, Any] | logging.Formatter) -> dict[str, Any]:
    """Return the settings of ``install`` under which lines keep the fields of python-json-logger.

    ``config`` is a formatter of python-json-logger, its section of a ``dictConfig``, or a whole ``dictConfig`` in which
    one formatter is. Raise ValueError where there is none.
    """
    if isinstance(config, logging.Formatter):
        found: Mapping[str, Any] = vars(config)
        wanted = list(found.get("_required_fields") or ())
    else:
        found = _section_of(config)
        wanted = _fields_of(found.get("fmt", found.get("format", "%(message)s")), found.get("style", "%"))
    return _settings(
        wanted,
        found.get("rename_fields") or {},
        found.get("static_fields") or {},
        found.get("reserved_attrs"),
        found.get("timestamp", False),
    )


def _section_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    formatters = config.get("formatters", {"": config})
    for section in formatters.values():
        made_by = section.get("()", section.get("class", ""))
        if "jsonlogger" in str(made_by).lower() or "rename_fields" in section or "static_fields" in section:
            return dict(section)
    raise ValueError(
        f"No formatter of python-json-logger is among {', '.join(map(repr, formatters)) or 'none'}; "
        "give its section of the dictConfig, the whole dictConfig, or the formatter."
    )


def _settings(
    wanted: Sequence[str],
    renamed: Mapping[str, str],
    static: Mapping[str, Any],
    reserved: Iterable[str] | None,
    timestamp: bool | str,
) -> dict[str, Any]:
    hidden = set(STANDARD_ATTRIBUTES if reserved is None else reserved)
    shown = {*wanted, *(STANDARD_ATTRIBUTES - hidden - _NEVER_SHOWN)}
    names = {_OURS[name]: renamed.get(name, name) for name in wanted if name in _OURS}
    names |= {_OURS.get(name, name): new for name, new in renamed.items()}
    if timestamp:
        names["timestamp"] = timestamp if isinstance(timestamp, str) else "timestamp"
    return {
        "log_rename": {name: new for name, new in names.items() if name != new},
        "log_fields": dict(static),
        "log_record_fields": tuple(sorted((shown & STANDARD_ATTRIBUTES) - _OURS.keys())),
        "log_leave_out": tuple(sorted(hidden - STANDARD_ATTRIBUTES)),
    }


def _fields_of(fmt: str | Sequence[str] | None, style: Any) -> list[str]:
    if fmt is None:
        return []
    if not isinstance(fmt, str):
        return list(fmt)
    if style == ",":
        return [part.strip() for part in fmt.split(",") if part.strip()]
    if style == "{":
        return [name for _, name, _, _ in string.Formatter().parse(fmt) if name]
    return (_DOLLAR if style == "$" else _PERCENT).findall(fmt)
