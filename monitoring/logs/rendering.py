"""Rendering: an event and its context become one line of JSON.

A line is never lost because a value cannot be encoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import orjson

from ..context import bound_fields, current_record
from ..observation import RequestRecord
from ..utils.exceptions import describe
from ..utils.plain import clip, safe_repr, safe_str, to_plain
from ..utils.time import utc_now

if TYPE_CHECKING:
    from ..utils.redaction import Scrubber

RESERVED: Final = frozenset(
    {"timestamp", "level", "logger", "event", "request_id", "trace_id", "span_id", "user_id", "service"}
)
"""Keys the pack writes itself; a caller's field of the same name comes out as ``field_<name>``."""

LOGGED: Final = "__monitoring_logged__"
"""Mark of an exception whose stack is on a line of a request already, with the request's ID: a server that logs it
again repeats the type and message only.
"""

_EVENTS_REMEMBERED: Final = 2_000
"""Events that are known to hold nothing to scrub: most are constants of the app."""
_EVENT_LENGTH: Final = 200
_LINE_BYTES: Final = 256 * 1024
_FIELD_BYTES: Final = (64 * 1024, 2 * 1024)
"""Bytes that a field may have on a line that is too long with all values cut: at first, and if it is so still."""

_OPTIONS: Final = orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z


class Renderer:
    """Renders the lines of one service. Thread-safe.

    ``scrubber`` takes secrets out of events, fields and exceptions; None leaves everything as it is.
    """

    def __init__(self, service: str, scrubber: Scrubber | None = None) -> None:
        self.service = service
        self._scrubber = scrubber
        self._clean_events: set[str] = set()

    def render(
        self,
        level: str,
        logger: str,
        event: object,
        fields: Mapping[str, Any],
        exception: BaseException | None = None,
        request: RequestRecord | None = None,
        *,
        marks: bool = True,
    ) -> bytes:
        """Return one line of JSON with the context of ``request``.

        A stack is shown once in a request, on the first line of its exception that ``marks`` it; lines that do not,
        because they may never be written, or go where the others do not, show it always.
        """
        scrubber = self._scrubber
        if scrubber is not None:
            if event.__class__ is not str or event not in self._clean_events:
                event = self._scrubbed(scrubber, event)
            if fields:
                fields = scrubber.scrub_fields(fields)
        line: dict[str, Any] = {"timestamp": utc_now(), "level": level, "logger": logger, "event": event}
        if request is not None:
            add_request(line, request)
        line["service"] = self.service
        bound = bound_fields()
        if bound:
            _add_fields(line, bound if scrubber is None else scrubber.scrub_fields(bound))
        if fields:
            if RESERVED.isdisjoint(fields):
                line.update(fields)
            else:
                _add_fields(line, fields)
        if exception is not None:
            mark = request.request_id if request is not None else ""
            with_frames = not marks or getattr(exception, LOGGED, None) != mark
            clean = safe_str if scrubber is None else scrubber.scrub_text
            line["exception"] = describe(exception, with_frames=with_frames, clean=clean)
            if marks:
                _remember_logged(exception, mark)
        return encode(line)

    def clean(self, text: str) -> str:
        """Return a text without what must not be written."""
        return text if self._scrubber is None else self._scrubber.scrub_text(text)

    def _scrubbed(self, scrubber: Scrubber, event: object) -> object:
        if event.__class__ is not str:
            return scrubber.scrub(event)
        assert isinstance(event, str)
        scrubbed = scrubber.scrub_text(event)
        if scrubbed == event and len(event) <= _EVENT_LENGTH:
            if len(self._clean_events) >= _EVENTS_REMEMBERED:
                self._clean_events.clear()
            self._clean_events.add(event)
        return scrubbed


def _add_fields(line: dict[str, Any], fields: Mapping[str, Any]) -> None:
    for key, value in fields.items():
        line[f"field_{key}" if key in RESERVED else key] = value


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
    """Return ``line`` as JSON and a newline.

    Never raises: what cannot be encoded comes out degraded, and what is longer than 256 KiB is cut.
    """
    try:
        encoded = orjson.dumps(line, default=safe_repr, option=_OPTIONS)
    except Exception as error:
        return _encode_degraded(line, safe_repr(error, 200))
    if len(encoded) > _LINE_BYTES:
        return _encode_degraded(line, f"cut: the line had {len(encoded)} bytes")
    return encoded


def renamed(line: bytes, names: Mapping[str, str], more: Mapping[str, Any]) -> bytes:
    """Return a line with other names for its keys, and with ``more`` fields.

    A field that has one of the new names already comes out as ``field_<name>``.
    """
    taken = frozenset(names.values())
    found = orjson.loads(line)
    shown = {names.get(key) or (f"field_{key}" if key in taken else key): value for key, value in found.items()}
    return encode({**shown, **more})


def _remember_logged(exception: BaseException, mark: str) -> None:
    try:
        setattr(exception, LOGGED, mark)
    except AttributeError:
        pass


def bare_line(level: str, logger: str, error: Exception) -> bytes:
    """Return the line that stands for one that could not be rendered."""
    line = {"timestamp": utc_now(), "level": level, "logger": safe_str(logger, 200)}
    return orjson.dumps({**line, "event": "(not encodable)", "log_error": type(error).__name__}, option=_OPTIONS)


def _encode_degraded(line: dict[str, Any], reason: str) -> bytes:
    try:
        plain = {**to_plain(line), "log_error": reason}
        encoded = orjson.dumps(plain, option=_OPTIONS)
        for limit in _FIELD_BYTES:
            if len(encoded) > _LINE_BYTES:
                encoded = orjson.dumps({key: _at_most(value, limit) for key, value in plain.items()}, option=_OPTIONS)
        return encoded
    except Exception as still:
        return bare_line(str(line.get("level", "")), str(line.get("logger", "")), still)


def _at_most(value: object, limit: int) -> object:
    """Return a value whose JSON has about so many bytes at most: of a longer one the beginning, or a stand-in."""
    size = len(orjson.dumps(value))
    if size <= limit:
        return value
    return clip(value, limit // 6) if isinstance(value, str) else f"<{type(value).__name__} of {size} bytes left out>"
