"""Lines as syslog messages: by RFC 5424 for the network, and in the older form that local sockets take."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from .parsing import Line

FACILITIES: Final = {
    name: number
    for number, name in enumerate(
        (
            *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news"),
            *("uucp", "cron", "authpriv", "ftp", "ntp", "audit", "alert", "clock"),
            *(f"local{number}" for number in range(8)),
        )
    )
}
_SEVERITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_SD_ID: Final = "monitoring@32473"
"""32473 is the enterprise number that RFC 5612 sets aside for examples: this pack has none of its own."""
_PARAMETERS: Final = ("request_id", "trace_id", "span_id", "user_id")
_NOT_PRINTABLE: Final = re.compile(r"[^!-~]")
_ESCAPED: Final = re.compile(r'(["\\\]])')


_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_ENDS_TAG: Final = re.compile(r"[:\[\]]")


def message(line: Line, facility: int, host: str, app_name: str) -> bytes:
    """Return a line as a message: the line itself is MSG, its logger MSGID, and its IDs are structured data.

    There is no PROCID, because a line may be sent by another process than the one that wrote it.
    """
    header = f"{_priority(line, facility)}1 {_timestamp(line)} {name(host, 255)} {name(app_name, 48)}"
    return f"{header} - {name(line.text_of('logger'), 32)} {_structured_data(line)} {line.text}".encode()


def local_message(line: Line, facility: int, app_name: str) -> bytes:
    """Return a line as glibc's ``syslog`` would send it: what reads ``/dev/log`` does not understand RFC 5424.

    The time is local, without a year; the line has its own.
    """
    at = datetime.fromtimestamp(line.nanoseconds // 10**9)
    time = f"{_MONTHS[at.month - 1]} {at.day:2d} {at:%H:%M:%S}"
    return f"{_priority(line, facility)}{time} {_ENDS_TAG.sub('_', name(app_name, 48))}: {line.text}".encode()


def name(text: str, longest: int) -> str:
    """Return text as a field of the header: printable ASCII without spaces, ``-`` for nothing."""
    return _NOT_PRINTABLE.sub("_", text)[:longest] or "-"


def cut(text: bytes, longest: int) -> bytes:
    """Return the first bytes of UTF-8, ``longest`` at most, no character in parts."""
    if len(text) <= longest:
        return text
    return text[:longest].decode(errors="ignore").encode()


def _priority(line: Line, facility: int) -> str:
    return f"<{facility * 8 + _SEVERITIES.get(line.level, 6)}>"


def _timestamp(line: Line) -> str:
    """Return the line's own text, which is in RFC 3339 as syslog wants it."""
    return name(line.text_of("timestamp"), 40)


def _structured_data(line: Line) -> str:
    parameters = [f' {one}="{_escaped(value)}"' for one in _PARAMETERS if (value := line.text_of(one))]
    return f"[{_SD_ID}{''.join(parameters)}]" if parameters else "-"


def _escaped(value: str) -> str:
    return _ESCAPED.sub(r"\\\1", value)
