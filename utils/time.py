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
    return utc_of(perf_counter())


def utc_of(moment: float) -> str:
    """Return when ``perf_counter`` showed ``moment``, by RFC 3339: UTC, microseconds, ``Z``.

    The wall clock is read once a second: so the text costs no look at a clock, and follows a clock that is set.
    """
    began, text = _second
    microseconds = int((moment - began) * 1e6)
    if not 0 <= microseconds < _MICROSECONDS:
        began, text = _second_of(moment)
        microseconds = int((moment - began) * 1e6)
    return f"{text}.{THOUSANDTHS[microseconds // 1000]}{THOUSANDTHS[microseconds % 1000]}Z"


def rfc3339(nanoseconds: int) -> str:
    """Return a unix time in nanoseconds by RFC 3339: UTC, microseconds, ``Z``."""
    seconds, microseconds = divmod(nanoseconds // 1000, _MICROSECONDS)
    return f"{_text_of(seconds)}.{microseconds:06d}Z"


def unix_time_of(moment: float) -> float:
    """Return the unix time at which ``perf_counter`` shows ``moment``."""
    return time.time() - perf_counter() + moment


def _second_of(moment: float) -> tuple[float, str]:
    """Return the second in which ``moment`` lies, and remember it for what follows."""
    global _second
    now = unix_time_of(moment)
    seconds = int(now)
    _second = (moment - (now - seconds), _text_of(seconds))
    return _second


def _text_of(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
