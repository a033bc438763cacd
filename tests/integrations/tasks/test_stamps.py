"""What travels with a task, and what is made of what arrives."""

from __future__ import annotations

import json

import pytest

from monitoring.integrations.tasks import stamps
from monitoring.integrations.tasks.runs import Work, new_record
from monitoring.integrations.tasks.stamps import new_stamp, queued_at
from monitoring.tasks import TaskRecord
from tests.integrations.tasks.contract import REQUEST_ID, SPAN_ID, in_request


def _arrived(stamp: object, due_at: float | None = None) -> TaskRecord:
    return new_record(Work("celery", "queue", "task", 1, stamp, due_at))


def test_a_stamp_is_small_and_json() -> None:
    """Any serializer of a broker takes it."""
    with in_request() as request:
        request.tracestate = "vendor=1"
        stamp = new_stamp()
    assert json.loads(json.dumps(stamp)) == stamp
    assert set(stamp) == {"queued_at", "request_id", "traceparent", "tracestate", "user_id"}
    assert len(json.dumps(stamp)) < 300


def test_outside_of_a_request_only_the_time_travels() -> None:
    """The task has an ID of its own then."""
    stamp = new_stamp()
    assert set(stamp) == {"queued_at"}
    assert len(_arrived(stamp).request_id) == 32


def test_what_was_sent_arrives() -> None:
    """Request, user, trace and vendors' state."""
    with in_request() as request:
        request.tracestate = "vendor=1"
        stamp = new_stamp()
    record = _arrived(stamp)
    assert (record.request_id, record.user_id, record.tracestate) == (REQUEST_ID, "ada", "vendor=1")
    assert (record.trace_id, record.parent_span_id) == (REQUEST_ID, SPAN_ID)


@pytest.mark.parametrize(
    "stamp",
    [
        None,
        "text",
        17,
        [],
        {},
        {"request_id": 5, "traceparent": None, "user_id": ["x"], "queued_at": "now"},
        {"request_id": "not an id \n", "traceparent": "00-zz"},
        {"request_id": "x" * 500},
    ],
)
def test_a_stamp_that_is_none_of_ours_is_passed_over(stamp: object) -> None:
    """Whoever can write to the queue chooses no ID that breaks a line."""
    record = _arrived(stamp)
    assert len(record.request_id) == 32
    assert (record.parent_span_id, record.user_id) == ("", "")


def test_a_wait_is_never_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    """The publisher's clock may be ahead."""
    monkeypatch.setattr("monitoring.integrations.tasks.runs.time.time", lambda: 1_000.0)
    assert _arrived({"queued_at": 1_005.0}).wait_seconds == 0.0
    assert _arrived({"queued_at": 998.0}).wait_seconds == 2.0


def test_a_wait_begins_when_the_task_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """And where neither time is known, there is none."""
    monkeypatch.setattr("monitoring.integrations.tasks.runs.time.time", lambda: 1_000.0)
    assert _arrived({"queued_at": 900.0}, due_at=999.0).wait_seconds == 1.0
    assert _arrived(None, due_at=999.0).wait_seconds == 1.0
    assert _arrived(None).wait_seconds is None


def test_a_time_is_a_number() -> None:
    """Nothing else is one."""
    assert [queued_at(stamp) for stamp in ({"queued_at": 5}, {"queued_at": "5"}, None)] == [5.0, None, None]
    assert stamps.KEY == "monitoring"
