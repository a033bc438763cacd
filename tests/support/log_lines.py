"""Rendered lines for outlets, and what outlets drop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import orjson

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN_ID = "00f067aa0ba902b7"


def line(number: int = 0, level: str = "info", **fields: Any) -> bytes:
    """Return a line as the pack writes it: number n is of n microseconds after 2026-11-24T10:00:00Z."""
    seconds, microseconds = divmod(number, 1_000_000)
    return orjson.dumps(
        {
            "timestamp": f"2026-11-24T10:00:{seconds:02d}.{microseconds:06d}Z",
            "level": level,
            "logger": "app",
            "event": f"event {number}",
            "service": "shop",
            **fields,
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


def lines(numbers: Iterable[int], **fields: Any) -> list[bytes]:
    """Return a line for each number."""
    return [line(number, **fields) for number in numbers]


def number_of(text: str | bytes) -> int:
    """Return which line of ``line`` this is."""
    return int(str(orjson.loads(text)["event"]).split()[1])


class Drops(Counter[str]):
    """Counts dropped lines by reason: an ``on_dropped``."""

    def __call__(self, reason: str, lines: int) -> None:
        """Count lines."""
        self[reason] += lines
