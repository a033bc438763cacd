"""Identifiers: request IDs, W3C trace context, and what may be taken over from a header."""

from __future__ import annotations

import os
import re
from random import Random
from time import perf_counter
from typing import Final, NamedTuple

from .time import unix_time_of

REQUEST_ID_LIMIT: Final = 128
CLIENT_ID_LIMIT: Final = 64
"""Characters kept of an inbound ID that was not taken over."""

_REQUEST_ID: Final = re.compile(r"(?![0-]*\Z)[A-Za-z0-9._-]{1,128}")
_TRACEPARENT: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<parent>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<rest>-.*)?"
)
_AMAZON_ROOT: Final = re.compile(r"(?:^|;)\s*Root=([A-Za-z0-9.-]+)")
_SENDABLE: Final = re.compile(r"[\x20-\x7e]*")
_TRACESTATE_LIMIT: Final = 512
_KNOWN_FLAGS: Final = 0x03
"""Sampled and random: what the W3C has defined of the flags."""

_random = Random()
"""The pack's own: an app that seeds ``random`` neither repeats our IDs nor finds its numbers changed by them."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)

_getrandbits = _random.getrandbits
_second = ("", 0.0)
"""The present second of unix time as 8 hex digits, and when it ends by ``perf_counter``."""

_NOT_ALLOWED: Final = re.compile(r"[^A-Za-z0-9._-]")


class TraceParent(NamedTuple):
    """The caller's part of a trace: W3C Trace Context, level 1."""

    trace_id: str
    parent_span_id: str
    flags: str


def new_ids() -> tuple[str, str]:
    """Return a fresh request ID (32 hex digits, valid as a trace ID) and a span ID (16 hex digits).

    The first 8 digits of a request ID are the second of unix time in which it was made, so that IDs sort by time and
    an index of them grows at its end; the other 24 are random, and the last 16 of them are the span ID.
    """
    return new_ids_at(perf_counter())


def new_ids_at(moment: float) -> tuple[str, str]:
    """Do the same when ``perf_counter`` shows ``moment``, for a caller that has looked already."""
    second, end = _second
    if moment >= end:
        second = _begin_second(moment)
    digits = _getrandbits(96).to_bytes(12, "big").hex()
    return second + digits, digits[8:]


def _begin_second(moment: float) -> str:
    global _second
    now = unix_time_of(moment)
    seconds = int(now)
    _second = (f"{seconds:08x}", moment + 1.0 - (now - seconds))
    return _second[0]


is_request_id = _REQUEST_ID.fullmatch
"""Match an ID that may be taken over: 1 to 128 of ``A-Za-z0-9._-``, and not only zeros."""

CARRIERS: Final = frozenset({"traceparent", "x-amzn-trace-id"})
"""Headers that carry an ID within something longer; see ``inbound_id``."""


def inbound_id(header: str, value: str) -> str | None:
    """Return the ID that a header carries: the trace of ``traceparent``, the root of ``x-amzn-trace-id``, else the
    value itself.
    """
    if header not in CARRIERS:
        return value
    if header == "traceparent":
        parent = parse_traceparent(value)
        return parent.trace_id if parent else None
    root = _AMAZON_ROOT.search(value)
    return root[1] if root else value


def clipped(value: str) -> str:
    """Return what may be logged of an ID that was not taken over: at most 64 characters, others than allowed shown as
    ``?``.
    """
    return _NOT_ALLOWED.sub("?", value[:CLIENT_ID_LIMIT])


def parse_traceparent(value: str) -> TraceParent | None:
    """Return the parts of a ``traceparent`` header, or None when it is not valid by the W3C rules."""
    match = _TRACEPARENT.fullmatch(value.strip())
    if match is None or match["version"] == "ff" or (match["version"] == "00" and match["rest"]):
        return None
    if set(match["trace"]) == {"0"} or set(match["parent"]) == {"0"}:
        return None
    return TraceParent(match["trace"], match["parent"], f"{int(match['flags'], 16) & _KNOWN_FLAGS:02x}")


def sendable_tracestate(value: str) -> str:
    """Return the members of a ``tracestate`` header that may go on: whole ones, 512 characters, "" for a broken one."""
    if not _SENDABLE.fullmatch(value):
        return ""
    if len(value) <= _TRACESTATE_LIMIT:
        return value
    return value[: _TRACESTATE_LIMIT + 1].rpartition(",")[0]


def format_traceparent(trace_id: str, span_id: str, flags: str) -> str:
    """Return a ``traceparent`` header of version 00."""
    return f"00-{trace_id}-{span_id}-{flags}"
