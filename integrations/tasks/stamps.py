"""What travels with a task from who queues it to who runs it: one small mapping under a key of ours, safe for JSON.

It holds no argument of the task. Whatever else is found under the key is passed over, as is its absence.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from monitoring.context import current_record
from monitoring.tasks import TaskRecord
from monitoring.utils.ids import format_traceparent, is_request_id, parse_traceparent, sendable_tracestate
from monitoring.utils.plain import safe_str

KEY: Final = "monitoring"
"""The header, option or item of ``meta`` that holds a stamp."""

_USER_LENGTH: Final = 200


def new_stamp() -> dict[str, Any]:
    """Return the stamp of a task that is queued now: when, and by which request for whom."""
    stamp: dict[str, Any] = {"queued_at": time.time()}
    record = current_record.get()
    if record is not None:
        stamp["request_id"] = record.request_id
        stamp["traceparent"] = format_traceparent(record.trace_id, record.span_id, record.trace_flags)
        if record.tracestate:
            stamp["tracestate"] = record.tracestate
        if record.user_id:
            stamp["user_id"] = record.user_id
    return stamp


def continue_request(record: TaskRecord, stamp: object) -> None:
    """Put on ``record`` what a stamp says of the request that queued the task."""
    request_id = _text(stamp, "request_id")
    if is_request_id(request_id):
        record.request_id = request_id
    parent = parse_traceparent(_text(stamp, "traceparent"))
    if parent is not None:
        record.trace_id, record.parent_span_id, record.trace_flags = parent
        record.tracestate = sendable_tracestate(_text(stamp, "tracestate"))
    record.user_id = safe_str(_text(stamp, "user_id"), _USER_LENGTH)


def queued_at(stamp: object) -> float | None:
    """Return when the task was queued, in unix time; None where it is not known."""
    value = stamp.get("queued_at") if isinstance(stamp, Mapping) else None
    return float(value) if isinstance(value, (int, float)) else None


def _text(stamp: object, name: str) -> str:
    value = stamp.get(name) if isinstance(stamp, Mapping) else None
    return value if isinstance(value, str) else ""
