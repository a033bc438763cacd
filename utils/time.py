"""Time as text."""

from __future__ import annotations

import time
from time import perf_counter
from typing import Final

THOUSANDTHS: Final = tuple(f"{number:03d}" for number in range(1000))
"""Three digits for each number below 1000: looking them up takes a third of the time of formatting."""

_second = (0.0, "")
"""When the second that was shown last began, by ``perf_counter``, and its text."""
_MICROSECONDS: Final = 1_000_000


def utc_now() -> str:
    """Return the present time by RFC 3339: UTC, microseconds, ``Z``."""
    moment = perf_counter()
    began, second = second_of(moment)
    microseconds = int((moment - began) * 1e6)
    return f"{second}.{THOUSANDTHS[microseconds // 1000]}{THOUSANDTHS[microseconds % 1000]}Z"


def second_of(moment: float) -> tuple[float, str]:
    """Return the second in which ``perf_counter`` showed ``moment``: its beginning by that clock, and its text.

    The wall clock is read once a second: so a time costs no look at a clock, and follows a clock that is set.
    """
    global _second
    if not 0 <= moment - _second[0] < 1:
        now = unix_time_of(moment)
        seconds = int(now)
        _second = (moment - (now - seconds), _text_of(seconds))
    return _second


def unix_time_of(moment: float) -> float:
    """Return the unix time at which ``perf_counter`` shows ``moment``."""
    return time.time() - perf_counter() + moment


def rfc3339(nanoseconds: int) -> str:
    """Return a unix time in nanoseconds by RFC 3339: UTC, microseconds, ``Z``."""
    seconds, microseconds = divmod(nanoseconds // 1000, _MICROSECONDS)
    return f"{_text_of(seconds)}.{microseconds:06d}Z"


def _text_of(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
