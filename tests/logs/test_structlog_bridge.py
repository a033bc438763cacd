"""structlog's loggers: the interface that its users know, without a chain."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

import monitoring
from monitoring import bind, get_logger

Read = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Configure logging from debug on, and return a function that reads it."""
    path = tmp_path / "log"
    path.touch()
    monitoring.configure(log_destination=str(path), log_level="debug")
    return lambda: [json.loads(line) for line in path.read_text().splitlines()]


def test_every_method_writes_its_level(read: Read) -> None:
    """Under each of its names."""
    names = ("debug", "info", "msg", "warning", "warn", "error", "critical", "fatal")
    for name in names:
        getattr(get_logger(), name)(name)
    assert [line["level"] for line in read()] == [
        *("debug", "info", "info", "warning", "warning", "error", "critical", "critical")
    ]


def test_the_methods_for_coroutines_do_the_same(read: Read) -> None:
    """With the context of the coroutine."""

    async def work() -> None:
        with bind(funder="NSF"):
            for name in ("adebug", "ainfo", "awarning", "aerror", "acritical"):
                await getattr(get_logger(), name)(name)
            await get_logger().alog(20, "numbered")
            try:
                raise ValueError("x")
            except ValueError:
                await get_logger().aexception("failed")

    asyncio.run(work())
    lines = [line for line in read() if line["logger"] == "app"]
    assert [line["level"] for line in lines] == ["debug", "info", "warning", "error", "critical", "info", "error"]
    assert {line["funder"] for line in lines} == {"NSF"}
    assert lines[-1]["exception"][0]["type"] == "ValueError"


def test_a_level_by_number_is_the_one_that_it_reaches(read: Read) -> None:
    """25 is info; 5 is below debug, and not written."""
    for number in (5, 10, 25, 50):
        get_logger().log(number, str(number))
    assert [(line["event"], line["level"]) for line in read()] == [("10", "debug"), ("25", "info"), ("50", "critical")]


def test_arguments_fill_the_event(read: Read) -> None:
    """By position or name; a ``%`` without any stays; what does not fit is told and not raised."""
    log = get_logger()
    log.info("%s of %d", "one", 2)
    log.info("%(name)s", {"name": "ada"})
    log.info("100 %")
    log.info("%d", "x")
    assert [line["event"] for line in read()] == [*("one of 2", "ada", "100 %", "%d (arguments do not fit: TypeError)")]


def test_bound_fields_stay_with_the_logger(read: Read) -> None:
    """bind, unbind and new make loggers of their own."""
    log = get_logger("app").bind(step=1, part="a")
    log.info("both", step=2)
    log.unbind("part").info("one")
    log.info("as before")
    log.new(other=3).info("new")
    found = [{key: line.get(key) for key in ("step", "part", "other")} for line in read()]
    assert found == [
        {"step": 2, "part": "a", "other": None},
        {"step": 1, "part": None, "other": None},
        {"step": 1, "part": "a", "other": None},
        {"step": None, "part": None, "other": 3},
    ]


@pytest.mark.parametrize("style", ["true", "instance", "tuple"])
def test_an_exception_may_be_given_in_each_way(read: Read, style: str) -> None:
    """exc_info as True, an exception, or what sys.exc_info returns."""
    try:
        raise ValueError("x")
    except ValueError as error:
        given = {"true": True, "instance": error, "tuple": sys.exc_info()}[style]
        get_logger().error("failed", exc_info=given)
    assert read()[0]["exception"][0]["message"] == "x"


def test_exception_outside_of_any_is_an_error_without_one(read: Read) -> None:
    """As is exc_info=(None, None, None)."""
    get_logger().exception("nothing")
    get_logger().error("nothing", exc_info=(None, None, None))
    assert [(line["level"], "exception" in line) for line in read()] == [("error", False)] * 2


def test_structlogs_own_get_logger_writes_the_same_lines(read: Read) -> None:
    """Also one that was made before, at import."""
    structlog.get_logger("app").bind(a=1).info("x", b=2)
    get_logger("app").bind(a=1).info("x", b=2)
    one, other = read()
    assert {**one, "timestamp": ""} == {**other, "timestamp": ""}


def test_a_logger_says_what_it_would_write(tmp_path: Path) -> None:
    """is_enabled_for and get_effective_level follow changes."""
    monitoring.configure(log_destination=str(tmp_path / "log"), log_level="warning")
    log = get_logger("app")
    assert (log.is_enabled_for(20), log.get_effective_level()) == (False, 30)
    monitoring.current().set_log_level("debug", "app")
    assert (log.is_enabled_for(10), log.get_effective_level()) == (True, 10)


def test_processors_of_the_app_see_the_events_first(tmp_path: Path) -> None:
    """They may change, add and drop; one that fails is told on the line."""

    def drop(logger: Any, method: str, event: Any) -> Any:
        if event["event"] == "secret":
            raise structlog.DropEvent
        return {**event, "seen": method}

    def fail(logger: Any, method: str, event: Any) -> Any:
        if event["event"] == "bad":
            raise LookupError("bug")
        return event

    path = tmp_path / "log"
    monitoring.configure(log_destination=str(path), log_processors=[drop, fail])
    for event in ("good", "secret", "bad"):
        get_logger("app").info(event, a=1)
    good, bad = [json.loads(line) for line in path.read_text().splitlines()]
    assert (good["event"], good["seen"], good["a"]) == ("good", "info", 1)
    assert (bad["event"], bad["a"], bad["log_error"]) == ("bad", 1, "a processor raised LookupError")


def test_before_configure_a_logger_does_what_structlog_does(capsys: pytest.CaptureFixture[str]) -> None:
    """It prints."""
    get_logger("early").bind(a=1).info("printed", b=2)
    printed = capsys.readouterr().out
    assert "printed" in printed
    assert "a" in printed
    assert "b" in printed


def test_structlogs_helper_for_tests_captures_the_events(read: Read) -> None:
    """Of loggers made before and after, with their bound fields; afterwards lines are written again."""
    log = get_logger("app").bind(step=1)
    with structlog.testing.capture_logs() as captured:
        log.info("saved %d", 3, items=3)
        get_logger("other").warning("careful")
        structlog.get_logger("third").info("as well")
    assert captured == [
        {"step": 1, "items": 3, "event": "saved 3", "log_level": "info"},
        {"event": "careful", "log_level": "warning"},
        {"event": "as well", "log_level": "info"},
    ]
    assert read() == []
    log.info("written")
    assert [line["event"] for line in read()] == ["written"]
