"""Time as text."""

from __future__ import annotations

import time
from typing import Final

_second = (0, "")
_MICROSECONDS: Final = 1_000_000


def utc_now() -> str:
    """Return the present time by RFC 3339: UTC, microseconds, ``Z``."""
    return rfc3339(time.time_ns())


def rfc3339(nanoseconds: int) -> str:
    """Return a unix time in nanoseconds by RFC 3339. The text of a second is made once and reused."""
    global _second
    seconds, microseconds = divmod(nanoseconds // 1000, _MICROSECONDS)
    known, prefix = _second
    if known != seconds:
        prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        _second = (seconds, prefix)
    return f"{prefix}.{microseconds:06d}Z"
