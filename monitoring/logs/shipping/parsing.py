"""Rendered lines, read back into what receivers want to know of them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import orjson

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Line(NamedTuple):
    """A line and what it says."""

    text: str
    fields: dict[str, Any]
    nanoseconds: int
    """Unix time."""

    @property
    def level(self) -> str:
        """Return its level; ``info`` for a line without one."""
        return str(self.fields.get("level", "info"))

    def text_of(self, name: str, otherwise: str = "") -> str:
        """Return a field as text."""
        value = self.fields.get(name)
        return otherwise if value is None else str(value)


def parsed(lines: Iterable[bytes]) -> list[Line]:
    """Return what lines say. One that is no JSON object is an event without fields, of the present."""
    return [_line(line.rstrip(b"\n")) for line in lines]


def _line(line: bytes) -> Line:
    text = line.decode(errors="replace")
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError:
        fields = None
    if not isinstance(fields, dict):
        fields = {"event": text}
    return Line(text, fields, _nanoseconds(fields.get("timestamp")))


def _nanoseconds(timestamp: object) -> int:
    try:
        return (datetime.fromisoformat(str(timestamp)).astimezone(UTC) - _EPOCH) // _MICROSECOND * 1000
    except (ValueError, OverflowError):
        return time.time_ns()
