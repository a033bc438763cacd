"""Time as text."""

from __future__ import annotations

import time
from typing import Final

THOUSANDTHS: Final = tuple(f"{number:03d}" for number in range(1000))
"""Three digits for each number below 1000: looking them up takes a third of the time of formatting."""

_second = (0, "")
_MICROSECONDS: Final = 1_000_000


def utc_now() -> str:
    """Return the present time by RFC 3339: UTC, microseconds, ``Z``."""
    now = time.time()
    seconds = int(now)
    known, prefix = _second
    if known != seconds:
        prefix = _prefix_of(seconds)
    microseconds = int((now - seconds) * 1e6)
    return f"{prefix}.{THOUSANDTHS[microseconds // 1000]}{THOUSANDTHS[microseconds % 1000]}Z"


def rfc3339(nanoseconds: int) -> str:
    """Return a unix time in nanoseconds by RFC 3339: UTC, microseconds, ``Z``."""
    seconds, microseconds = divmod(nanoseconds // 1000, _MICROSECONDS)
    return f"{_text_of(seconds)}.{microseconds:06d}Z"


def _prefix_of(seconds: int) -> str:
    """Return the text of the present second, which is made once and reused."""
    global _second
    _second = (seconds, _text_of(seconds))
    return _second[1]


def _text_of(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
