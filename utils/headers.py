"""What headers of HTTP may hold, and what some of them say."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime


def is_plain(text: object) -> bool:
    """Say whether a value is text that can stand in a header or a URL: printable ASCII."""
    return isinstance(text, str) and text.isascii() and text.isprintable()


def seconds_of_retry_after(value: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for, as a number or a date (RFC 9110); None for none."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
