"""Logging: structlog and stdlib come out as the same JSON, a call never raises, and a line is never lost."""

from __future__ import annotations

import datetime
import enum
import json
import logging
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

import monitoring
from monitoring import ConfigError, bind, configure, get_logger
from monitoring.context import current_record
from monitoring.logs.rendering import encode
from monitoring.logs.stdlib import StdlibBridge
from monitoring.observation import RequestRecord

Read = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(tmp_path: Path) -> Read:
    """Configure logging to a file and return a function that reads it."""
    path = tmp_path / "app.log"
    path.touch()
    configure(service="tests", log_destination=str(path))
    return lambda: [json.loads(line) for line in path.read_text().splitlines()]


def test_structlog_and_stdlib_lines_have_the_same_keys(lines: Read) -> None:
    """Both ways of logging give timestamp, level, logger, event, service and the caller's fields."""
    get_logger("app").info("saved", items=3)
    logging.getLogger("app").info("saved", extra={"items": 3})
    one, other = lines()
    assert {**one, "timestamp": ""} == {**other, "timestamp": ""}
    assert (one["level"], one["logger"], one["event"], one["service"], one["items"]) == (
        "info",
        "app",
        "saved",
        "tests",
        3,
    )


def test_timestamps_are_rfc3339_in_utc_with_microseconds(lines: Read) -> None:
    """A line's timestamp parses and is of now."""
    get_logger().info("now")
    stamp = lines()[0]["timestamp"]
    parsed = datetime.datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=datetime.UTC)
    assert abs((datetime.datetime.now(datetime.UTC) - parsed).total_seconds()) < 60


def test_a_line_of_a_request_carries_its_ids(lines: Read) -> None:
    """request_id, trace_id, span_id and user_id are on structlog and stdlib lines alike."""
    record = RequestRecord()
    record.request_id, record.trace_id, record.span_id = "r" * 32, "t" * 32, "s" * 16
    token = current_record.set(record)
    monitoring.set_user("ada")
    get_logger().info("one")
    logging.getLogger("x").warning("two")
    current_record.reset(token)
    for line in lines():
        assert (line["request_id"], line["trace_id"], line["span_id"], line["user_id"]) == (
            "r" * 32,
            "t" * 32,
            "s" * 16,
            "ada",
        )


def test_bound_fields_are_on_every_line_of_the_block(lines: Read) -> None:
    """bind reaches both kinds of loggers, and ends with its block; structlog's own contextvars are honoured."""
    with bind(funder="NSF"), structlog.contextvars.bound_contextvars(step=2):
        get_logger().info("inside")
        logging.getLogger("x").info("inside too")
    get_logger().info("outside")
    inside, stdlib, outside = lines()
    assert (inside["funder"], inside["step"]) == ("NSF", 2)
    assert stdlib["funder"] == "NSF"
    assert "funder" not in outside
    assert "step" not in outside


def test_a_callers_field_cannot_overwrite_the_packs(lines: Read) -> None:
    """A reserved name comes out as field_<name>."""
    get_logger("app").info("x", service="mine", level="silly")
    line = lines()[0]
    assert (line["service"], line["field_service"]) == ("tests", "mine")
    assert (line["level"], line["field_level"]) == ("info", "silly")


def test_levels_below_the_configured_one_are_not_written(tmp_path: Path) -> None:
    """log_level is the lowest level that comes out."""
    configure(log_level="warning", log_destination=str(tmp_path / "log"))
    get_logger().info("quiet")
    logging.getLogger("x").info("quiet")
    get_logger().warning("loud")
    assert [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines()] == ["loud"]


def test_an_exception_is_structured_with_its_causes_and_group_members(lines: Read) -> None:
    """exception() gives type, message, frames, the cause with its own frames, and the members of a group."""
    try:
        try:
            raise ExceptionGroup("several", [ValueError("a"), KeyError("b")])
        except ExceptionGroup as group:
            raise RuntimeError("outer") from group
    except RuntimeError:
        get_logger().exception("failed")
    outer, cause = lines()[0]["exception"]
    assert (outer["type"], outer["message"]) == ("RuntimeError", "outer")
    assert "in test_an_exception_is_structured" in outer["frames"][-1]
    assert cause["is"] == "cause"
    assert [member[0]["type"] for member in cause["members"]] == ["ValueError", "KeyError"]


def test_an_exception_logged_again_by_the_server_keeps_its_request_but_not_a_second_stack(lines: Read) -> None:
    """The line that a server logs after the request has ended names the request in which the exception happened."""
    record = RequestRecord()
    record.request_id, record.trace_id, record.span_id = "r" * 32, "t" * 32, "s" * 16
    error = ValueError("boom")
    error.__monitoring_request__ = record  # type: ignore[attr-defined]
    logging.getLogger("uvicorn.error").error("Exception in ASGI application\n", exc_info=error)
    logging.getLogger("uvicorn.error").error("again", exc_info=error)
    first, second = lines()
    assert (first["event"], first["request_id"]) == ("Exception in ASGI application", "r" * 32)
    assert "frames" in first["exception"][0]
    assert second["exception"] == [{"type": "ValueError", "message": "boom"}]


def test_servers_loggers_come_out_once_and_access_lines_not_at_all(lines: Read) -> None:
    """uvicorn's and gunicorn's own handlers are replaced; the canonical line stands for the access log."""
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("uvicorn.access").info("GET / 200")
    assert [line["event"] for line in lines()] == ["Started server process"]


def test_warnings_are_lines(tmp_path: Path) -> None:
    """warnings.warn comes out through the logger py.warnings."""
    configure(log_destination=str(tmp_path / "log"))  # here, because pytest takes warnings back after a fixture
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert json.loads((tmp_path / "log").read_text())["logger"] == "py.warnings"


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Colour(enum.Enum):
    RED = "red"


def _cyclic() -> dict[str, Any]:
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    return cycle


def _deep() -> list[Any]:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    return deep


@pytest.mark.parametrize(
    "value",
    [
        _cyclic(),
        _deep(),
        Broken(),
        2**70,
        "\ud800",
        float("nan"),
        {(1, 2): "tuple key"},
        {"bytes": b"\xff\x00"},
        uuid.UUID(int=1),
        datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        Colour.RED,
        {1, 2},
        object(),
        ValueError("x"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_log_call_never_raises_and_its_line_is_never_lost(lines: Read, value: object) -> None:
    """Whatever the value does when it is encoded, one valid line with the event comes out."""
    get_logger().info("kept", value=value)
    assert lines()[0]["event"] == "kept"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    )
)
def test_any_value_encodes_to_one_valid_json_line(value: object) -> None:
    """encode() is total."""
    line = encode({"event": "x", "value": value})
    assert line.count(b"\n") == 1
    assert json.loads(line)["event"] == "x"


def test_a_record_whose_arguments_do_not_fit_is_written_all_the_same(lines: Read) -> None:
    """A wrong number of %-arguments degrades the line and nothing else."""
    bridge = next(handler for handler in logging.getLogger().handlers if isinstance(handler, StdlibBridge))
    bridge.emit(logging.makeLogRecord({"name": "x", "levelno": 20, "msg": "%s and %s", "args": ("one",)}))
    assert lines()[0]["event"] == "%s and %s (arguments do not fit: TypeError)"


class Unreadable:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class UnreadableMapping(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("no items")


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        (Unreadable(), ()),
        (Unreadable(), ("one",)),
        ({"event": Unreadable()}, ()),
        ({Unreadable(): 1}, ()),
        (UnreadableMapping(), ()),
    ],
    ids=["bare", "with arguments", "in a mapping", "as a key", "no mapping"],
)
def test_a_message_that_cannot_be_read_is_stood_in_for(
    lines: Read, capsys: pytest.CaptureFixture[str], message: Any, arguments: tuple[str, ...]
) -> None:
    """By structlog and stdlib alike: neither raises, complains or loses its line, nor does the formatter."""
    get_logger("one").info(message, *arguments)
    bridge = next(handler for handler in logging.getLogger().handlers if isinstance(handler, StdlibBridge))
    record = logging.makeLogRecord({"name": "other", "levelno": 20, "msg": message, "args": arguments})
    bridge.handle(record)
    assert [line["logger"] for line in lines()] == ["one", "other"]
    assert json.loads(monitoring.JSONFormatter().format(record))["logger"] == "other"
    assert capsys.readouterr().err == ""


def test_before_configure_a_logger_works_too() -> None:
    """get_logger at import time is no mistake; it follows the configuration that comes later."""
    logger = get_logger("early")
    path = Path("late.log")
    configure(log_destination=str(path))
    logger.info("now")
    assert json.loads(path.read_text())["logger"] == "early"


def test_the_main_file_rotates_by_settings(tmp_path: Path) -> None:
    """No line is lost, and old files go."""
    path = tmp_path / "app.log"
    configure(log_destination=str(path), log_max_bytes=2_000, log_keep_files=3, log_compress=False)
    for number in range(100):
        get_logger().info("numbered", number=number)
    monitoring.current().flush()
    rotated = sorted(tmp_path.glob("app.log.*Z"))
    numbers = [json.loads(line)["number"] for file in (*rotated, path) for line in file.read_text().splitlines()]
    assert numbers == list(range(100 - len(numbers), 100))
    assert len(rotated) >= 3
    assert path.stat().st_size <= 2_000


def test_a_main_file_that_was_renamed_is_opened_anew(tmp_path: Path) -> None:
    """As an outside logrotate does; lines before the first request are written at once."""
    path = tmp_path / "app.log"
    configure(log_destination=str(path))
    get_logger().info("one")
    path.rename(tmp_path / "app.log.1")
    get_logger().info("long", text="x" * 70_000)  # the file is looked at every 0.2 s, and after 64 KiB
    get_logger().info("two")
    before, after = (
        [json.loads(line)["event"] for line in file.read_text().splitlines()] for file in (tmp_path / "app.log.1", path)
    )
    assert [*before, *after] == ["one", "long", "two"]
    assert after[-1:] == ["two"]


def test_rotation_of_what_is_no_file_is_refused_in_one_sentence() -> None:
    """With what to do."""
    with pytest.raises(ConfigError, match=r"log_max_bytes is for a file, got log_destination 'stdout'; name a file\."):
        configure(log_max_bytes=1_000)


def test_a_device_is_written_to_as_it_is() -> None:
    """/dev/null and /dev/stderr are no files to rotate."""
    configure(log_destination="/dev/null")
    get_logger().info("gone")
    assert monitoring.current().log_lines.writer.destination == "/dev/null"
