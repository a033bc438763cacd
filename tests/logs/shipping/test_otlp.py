"""Lines as log records of OpenTelemetry, read by its own messages."""

from __future__ import annotations

import gzip
import socket
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from monitoring.logs.shipping import OTLP
from monitoring.logs.shipping.otlp import rejected_by
from monitoring.utils.exceptions import describe
from tests.support.log_lines import SPAN_ID, TRACE_ID, Drops, line
from tests.support.log_receiver import otlp_request
from tests.support.receivers import hooks


def _sent(lines: list[bytes], **settings: Any) -> Any:
    """Return the request that lines make."""
    with hooks() as receiver:
        outlet = OTLP(receiver.url, **settings).open("shop", Drops())
        for one in lines:
            outlet.write(one)
        outlet.close()
        ((_, body),) = receiver.requests
    return otlp_request(gzip.decompress(body))


def _record(**fields: Any) -> Any:
    """Return the log record that a line makes."""
    return _sent([line(1, **fields)]).resource_logs[0].scope_logs[0].log_records[0]


def _attributes(record: Any) -> dict[str, Any]:
    """Return attributes in protobuf's JSON form."""
    return {one.key: MessageToDict(one.value) for one in record.attributes}


def test_the_resource_names_service_and_host_and_the_scope_is_the_logger() -> None:
    """Services and loggers are kept apart."""
    request = _sent([line(1), line(2, logger="x"), line(3, service="other")], resource={"deployment.id": "7"})
    found = [
        ({one.key: one.value.string_value for one in logs.resource.attributes}, [s.scope.name for s in logs.scope_logs])
        for logs in request.resource_logs
    ]
    own = {"host.name": socket.gethostname(), "deployment.id": "7"}
    assert found == [({"service.name": "shop", **own}, ["app", "x"]), ({"service.name": "other", **own}, ["app"])]


@pytest.mark.parametrize(
    ("level", "number"), [("debug", 5), ("info", 9), ("warning", 13), ("error", 17), ("critical", 21), ("odd", 0)]
)
def test_levels_are_severities(level: str, number: int) -> None:
    """By the log data model: DEBUG, INFO, WARN, ERROR, FATAL; what is none of ours is not specified."""
    record = _record(level=level)
    assert (record.severity_number, record.severity_text) == (number, level)


def test_a_record_has_the_event_as_its_body_the_time_and_the_ids_of_its_span() -> None:
    """IDs are bytes on the wire, so a collector can join logs and traces."""
    record = _record(trace_id=TRACE_ID, span_id=SPAN_ID, request_id="r")
    assert record.body.string_value == "event 1"
    assert record.time_unix_nano == record.observed_time_unix_nano == 1_795_514_400_000_001_000
    assert (record.trace_id.hex(), record.span_id.hex()) == (TRACE_ID, SPAN_ID)
    assert _attributes(record) == {"request_id": {"stringValue": "r"}}


@pytest.mark.parametrize("trace_id", ["0" * 32, "x" * 32, TRACE_ID.upper(), TRACE_ID[:-1], None])
def test_ids_that_are_none_are_left_out(trace_id: str | None) -> None:
    """A collector would refuse the whole batch for one of them; without a trace a span is nothing."""
    record = _record(trace_id=trace_id, span_id=SPAN_ID)
    assert (record.trace_id, record.span_id) == (b"", b"")


@pytest.mark.parametrize("span_id", ["0" * 16, "x" * 16, SPAN_ID.upper(), SPAN_ID[:-2], None])
def test_a_span_id_that_is_none_is_left_out_and_the_trace_stays(span_id: str | None) -> None:
    """It can be found by the trace still."""
    record = _record(trace_id=TRACE_ID, span_id=span_id)
    assert (record.trace_id.hex(), record.span_id) == (TRACE_ID, b"")


def test_other_fields_are_attributes_flattened_and_typed() -> None:
    """Mappings by dotted names; integers beyond 64 bits as text; no two attributes of one name."""
    given = {
        "count": 1,
        "negative": -(2**63),
        "huge": 2**63,
        "ratio": 0.5,
        "flag": True,
        "nothing": None,
        "text": "é",
        "empty": {},
        "deep": {"a": {"b": 1}, "c": "x"},
        "deep.c": "y",
        "list": [1, "x", {"k": None}],
    }
    assert _attributes(_record(**given)) == {
        "count": {"intValue": "1"},
        "negative": {"intValue": str(-(2**63))},
        "huge": {"stringValue": str(2**63)},
        "ratio": {"doubleValue": 0.5},
        "flag": {"boolValue": True},
        "nothing": {},
        "text": {"stringValue": "é"},
        "empty": {"kvlistValue": {}},
        "deep.a.b": {"intValue": "1"},
        "deep.c": {"stringValue": "y"},
        "list": {
            "arrayValue": {
                "values": [
                    {"intValue": "1"},
                    {"stringValue": "x"},
                    {"kvlistValue": {"values": [{"key": "k", "value": {}}]}},
                ]
            }
        },
    }


def test_an_exception_becomes_the_attributes_that_conventions_name() -> None:
    """Type and message of the outermost; the trace has what led to it, notes, and the members of a group."""
    try:
        try:
            raise KeyError("k")
        except KeyError as cause:
            error = ExceptionGroup("several", [ValueError("one"), TypeError("two")])
            error.add_note("a note")
            raise error from cause
    except ExceptionGroup as raised:
        found = _attributes(_record(level="error", exception=describe(raised)))
    assert found["exception.type"] == {"stringValue": "ExceptionGroup"}
    assert found["exception.message"] == {"stringValue": "several (2 sub-exceptions)"}
    trace = found["exception.stacktrace"]["stringValue"].splitlines()
    assert trace[:2] == ["ExceptionGroup: several (2 sub-exceptions)", "  a note"]
    assert trace[2].startswith("  ")
    assert "test_otlp.py:" in trace[2]
    assert trace[3:6] == ["  | ValueError: one", "  | TypeError: two", "cause: KeyError: 'k'"]
    assert "exception" not in found


def test_a_field_named_exception_that_is_something_else_is_an_attribute() -> None:
    """An app may have called it so."""
    assert _attributes(_record(exception="none")) == {"exception": {"stringValue": "none"}}


def test_an_event_that_is_no_text_is_a_body_all_the_same() -> None:
    """A mapping stays one."""
    assert MessageToDict(_record(event={"a": 1}).body) == {
        "kvlistValue": {"values": [{"key": "a", "value": {"intValue": "1"}}]}
    }


@pytest.mark.parametrize(
    ("answer", "rejected"),
    [
        (b"{}", 0),
        (b"", 0),
        (b"\x0a\x00", 0),
        (b"[]", 0),
        (b'{"partialSuccess": {}}', 0),
        (b'{"partialSuccess": {"rejectedLogRecords": "3", "errorMessage": "x"}}', 3),
        (b'{"partialSuccess": {"rejectedLogRecords": 3}}', 3),
        (b'{"partialSuccess": {"rejectedLogRecords": null}}', 0),
    ],
)
def test_what_a_collector_rejects_is_read_from_its_answer(answer: bytes, rejected: int) -> None:
    """64-bit integers are text in protobuf's JSON, and some write numbers."""
    assert rejected_by(answer) == rejected


def test_what_a_collector_rejects_is_counted_and_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partial success is a success."""
    drops = Drops()
    with hooks() as receiver:
        _answers(monkeypatch, b'{"partialSuccess": {"rejectedLogRecords": "2"}}')
        outlet = OTLP(receiver.url).open("shop", drops)
        for number in range(5):
            outlet.write(line(number))
        outlet.close()
        assert len(receiver.requests) == 1
    assert drops == {"refused": 2}


def _answers(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Have answers to posts hold a content."""
    import http.client

    monkeypatch.setattr(http.client.HTTPResponse, "read", lambda *_: content)
