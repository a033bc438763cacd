"""Rendering: an event and its context become one line of JSON.

A line is never lost because a value cannot be encoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from ..context import bound_fields, current_record
from ..observation import RequestRecord
from ..utils.exceptions import describe
from ..utils.plain import safe_repr, to_plain
from ..utils.time import utc_now

RESERVED: Final = frozenset(
    {"timestamp", "level", "logger", "event", "request_id", "trace_id", "span_id", "user_id", "service"}
)
"""Keys the pack writes itself; a caller's field of the same name comes out as ``field_<name>``."""

LOGGED: Final = "__monitoring_logged__"
"""Mark of an exception whose stack is on a line already: a server that logs it again repeats the type and message
only.
"""

_OPTIONS: Final = orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z


def render(
    service: str,
    level: str,
    logger: str,
    event: object,
    fields: Mapping[str, Any],
    exception: BaseException | None = None,
) -> bytes:
    """Return one line of JSON with the context of the running request, or of the request in which ``exception``
    happened.
    """
    line: dict[str, Any] = {"timestamp": utc_now(), "level": level, "logger": logger, "event": event}
    record = request_of(exception)
    if record is not None:
        add_request(line, record)
    line["service"] = service
    for given in (bound_fields(), fields):
        for key, value in given.items():
            line[f"field_{key}" if key in RESERVED else key] = value
    if exception is not None:
        line["exception"] = describe(exception, with_frames=getattr(exception, LOGGED, None) is None)
        _remember_logged(exception)
    return encode(line)


def request_of(exception: BaseException | None) -> RequestRecord | None:
    """Return the running request, or the one in which ``exception`` happened."""
    return current_record.get() or getattr(exception, "__monitoring_request__", None)


def add_request(line: dict[str, Any], record: RequestRecord) -> None:
    """Put the IDs of a request, and its user, on a line."""
    line["request_id"] = record.request_id
    line["trace_id"] = record.trace_id
    line["span_id"] = record.span_id
    if record.user_id:
        line["user_id"] = record.user_id


def encode(line: dict[str, Any]) -> bytes:
    """Return ``line`` as JSON and a newline. Never raises: what cannot be encoded comes out degraded."""
    try:
        return orjson.dumps(line, default=safe_repr, option=_OPTIONS)
    except Exception as error:
        return _encode_degraded(line, error)


def _remember_logged(exception: BaseException) -> None:
    try:
        setattr(exception, LOGGED, True)
    except AttributeError:
        pass


def _encode_degraded(line: dict[str, Any], error: Exception) -> bytes:
    try:
        return orjson.dumps({**to_plain(line), "log_error": safe_repr(error, 200)}, option=_OPTIONS)
    except Exception as still:
        known = {key: str(line.get(key, "")) for key in ("timestamp", "level", "logger")}
        return orjson.dumps({**known, "event": "(not encodable)", "log_error": type(still).__name__}, option=_OPTIONS)
