"""The stdlib's loggers: servers, later configurations and access lines."""

from __future__ import annotations

import json
import logging
import logging.config
import sys
from collections.abc import Callable, Iterator
from logging.handlers import QueueHandler, QueueListener
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

import monitoring
from monitoring.logs import stdlib
from monitoring.logs.stdlib import StdlibBridge

Read = Callable[[], list[dict[str, Any]]]
Configured = Callable[..., Read]


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[Configured]:
    """Return a function that configures logging with settings, and returns one that reads it."""
    path = tmp_path / "log"

    def configure(**settings: Any) -> Read:
        path.touch()
        monitoring.configure(log_destination=str(path), **settings)
        return lambda: [json.loads(line) for line in path.read_text().splitlines()]

    yield configure
    for name in ("server", "app.part", *(f"{server}.access" for server in SERVERS)):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).setLevel(logging.NOTSET)


SERVERS = ("uvicorn", "gunicorn", "hypercorn", "granian", "aiohttp")

DICT_CONFIG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr"}},
    "root": {"handlers": ["console"], "level": "ERROR"},
}


def test_a_later_dict_config_keeps_the_lines(configured: Configured, capsys: pytest.CaptureFixture[str]) -> None:
    """At its level, and once: what it would print to the console beside them is taken away."""
    read = configured()
    logging.config.dictConfig(DICT_CONFIG)
    logging.getLogger("app").warning("still here")
    assert [line["event"] for line in read()] == ["still here"]
    assert capsys.readouterr().err == ""


def test_what_is_printed_through_a_queue_is_taken_away_too(
    configured: Configured, capsys: pytest.CaptureFixture[str]
) -> None:
    """Litestar logs like this unless told otherwise; a queue in front of anything else stays."""
    printing, filing = QueueHandler(Queue()), QueueHandler(Queue())
    printing.listener = QueueListener(printing.queue, logging.StreamHandler())  # type: ignore[attr-defined]
    filing.listener = QueueListener(filing.queue, logging.NullHandler())  # type: ignore[attr-defined]
    root = logging.getLogger()
    root.addHandler(printing)
    root.addHandler(filing)
    read = configured()
    kept = [handler for handler in root.handlers if handler in (printing, filing)]
    root.removeHandler(filing)
    logging.getLogger("app").warning("once")
    assert [line["event"] for line in read()] == ["once"]
    assert kept == [filing]


def test_a_later_dict_config_disables_no_logger_that_is_there_because_of_us(configured: Configured) -> None:
    """By default it disables those it finds and does not name; the servers' and those of log_levels were made early."""
    read = configured(log_levels={"app.part": "debug"})
    names = ["app.part", "uvicorn.error", "celery", "httpx", "monitoring", "py.warnings"]
    loggers = [logging.getLogger(name) for name in names]
    others = {one for one in logging.Logger.manager.loggerDict.values() if isinstance(one, logging.Logger)}
    disabled = {one for one in others if one.disabled}
    try:
        logging.config.dictConfig({"version": 1})
        for logger in loggers:
            logger.warning("heard")
    finally:
        for one in others - disabled:
            one.disabled = False
    assert [line["logger"] for line in read()] == names


def test_levels_are_given_back_at_shutdown(configured: Configured) -> None:
    """The root logger's, too."""
    before = logging.getLogger().level
    logging.getLogger("app.part").setLevel(logging.CRITICAL)
    configured(log_level="error", log_levels={"app.part": "debug"})
    assert [logging.getLogger(name).level for name in ("", "app.part")] == [40, 10]
    monitoring.configure(log_level="critical", log_destination="stderr")
    monitoring.shutdown()
    assert [logging.getLogger(name).level for name in ("", "app.part")] == [before, 50]


def test_a_later_basic_config_keeps_the_lines_from_the_next_second_on(configured: Configured) -> None:
    """It tells nobody, so the writer's thread looks."""
    read = configured()
    logging.basicConfig(force=True, stream=sys.stdout)
    monitoring.current().log_lines.tick()
    logging.getLogger("app").warning("still here")
    assert [line["event"] for line in read()] == ["still here"]


def test_handlers_of_the_app_that_write_elsewhere_are_left_alone(configured: Configured, tmp_path: Path) -> None:
    """A file of its own is none of our business."""
    own = logging.FileHandler(tmp_path / "own")
    logging.getLogger().addHandler(own)
    try:
        read = configured()
        logging.getLogger("app").warning("both")
        assert (tmp_path / "own").read_text() == "both\n"
        assert [line["event"] for line in read()] == ["both"]
    finally:
        logging.getLogger().removeHandler(own)
        own.close()


def test_a_bridge_that_is_taken_away_while_a_thread_looks_does_not_come_back(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lines would come out beside those of the next configuration."""
    configured()
    root = logging.getLogger()
    assert any(isinstance(handler, StdlibBridge) for handler in root.handlers)

    def restore_and_say_no(handler: logging.Handler) -> bool:
        stdlib.restore()
        return False

    monkeypatch.setattr(stdlib, "_writes_to_a_console", restore_and_say_no)
    monitoring.current().log_lines.tick()
    assert not any(isinstance(handler, StdlibBridge) for handler in root.handlers)


def test_a_server_that_sets_its_handlers_later_comes_out_once(configured: Configured) -> None:
    """hypercorn and granian set up their loggers when they start to serve."""
    read = configured()
    logger = logging.getLogger("hypercorn.error")
    logger.addHandler(logging.StreamHandler())
    logger.propagate = False
    monitoring.current().log_lines.tick()
    logger.warning("started")
    assert [line["event"] for line in read()] == ["started"]


ACCESS = [
    (
        "uvicorn.access",
        '%s - "%s %s HTTP/%s" %d',
        ("127.0.0.1:5", "GET", "/x?a=1", "1.1", 200),
        {"client": "127.0.0.1:5", "method": "GET", "path": "/x?a=1", "http_version": "1.1", "status": 200},
    ),
    (
        "gunicorn.access",
        '%(h)s "%(r)s" %(s)s',
        ({"h": "127.0.0.1", "r": "GET /x HTTP/1.1", "m": "GET", "U": "/x", "s": "200", "D": 1500},),
        {"client": "127.0.0.1", "method": "GET", "path": "/x", "status": 200, "duration_ms": 1.5},
    ),
    (
        "hypercorn.access",
        "%(h)s %(s)s",
        ({"h": "127.0.0.1", "r": "GET /x 1.1", "s": 200},),
        {"client": "127.0.0.1", "method": "GET", "path": "/x", "status": 200},
    ),
    (
        "granian.access",
        '[t] 127.0.0.1 - "GET /x HTTP/1.1" 200 1.5',
        (),
        {"client": "127.0.0.1", "method": "GET", "path": "/x", "status": 200},
    ),
    (
        "aiohttp.access",
        '127.0.0.1 [24/Nov/2026:14:00:00 +0000] "GET /x HTTP/1.1" 200 150 "-" "-"',
        (),
        {"client": "127.0.0.1", "method": "GET", "path": "/x", "http_version": "1.1", "status": 200},
    ),
]


@pytest.mark.parametrize(("name", "message", "args", "fields"), ACCESS, ids=lambda value: str(value)[:16])
def test_access_lines_come_out_as_fields_when_asked_for(
    configured: Configured, name: str, message: str, args: tuple[Any, ...], fields: dict[str, Any]
) -> None:
    """Whatever form the server keeps them in."""
    read = configured(log_access_lines=True)
    logging.getLogger(name).setLevel(logging.INFO)
    logging.getLogger(name).info(message, *args)
    (line,) = read()
    assert line["event"] == "access"
    assert {key: line[key] for key in fields} == fields


def test_an_access_line_of_an_unknown_form_is_a_line_all_the_same(configured: Configured) -> None:
    """With its text."""
    read = configured(log_access_lines=True)
    logging.getLogger("granian.access").warning("something else")
    assert [line["event"] for line in read()] == ["something else"]


def test_a_changed_level_reaches_stdlib_loggers_and_is_taken_back(configured: Configured) -> None:
    """The logger's own level is what it was before."""
    read = configured()
    logger = logging.getLogger("app.part")
    logger.debug("before")
    monitoring.current().set_log_level("debug", "app.part")
    logger.debug("during")
    monitoring.current().set_log_level(None, "app.part")
    logger.debug("after")
    assert [line["event"] for line in read()] == ["during"]
    assert logger.level == logging.NOTSET


def test_a_logger_may_be_configured_by_name(configured: Configured) -> None:
    """For stdlib and structlog loggers alike."""
    read = configured(log_levels={"app.part": "debug"}, log_level="error")
    logging.getLogger("app.part").debug("one")
    monitoring.get_logger("app.part.below").debug("two")
    monitoring.get_logger("app").warning("three")
    assert [line["event"] for line in read()] == ["one", "two"]


def test_a_mapping_as_message_becomes_fields(configured: Configured) -> None:
    """And is not changed."""
    read = configured()
    message = {"event": "saved", "items": 3}
    logging.getLogger("app").warning(message)
    assert (read()[0]["event"], read()[0]["items"]) == ("saved", 3)
    assert message == {"event": "saved", "items": 3}


def test_standard_attributes_are_fields_when_asked_for_and_others_are_left_out(configured: Configured) -> None:
    """log_record_fields and log_leave_out."""
    read = configured(log_record_fields=("funcName", "threadName"), log_leave_out=("noise",))
    logging.getLogger("app").warning("x", extra={"noise": 1, "signal": 2})
    line = read()[0]
    assert (line["funcName"], line["threadName"], line["signal"]) == (
        *("test_standard_attributes_are_fields_when_asked_for_and_others_are_left_out", "MainThread", 2),
    )
    assert "noise" not in line


def test_a_stack_that_was_asked_for_is_on_the_line(configured: Configured) -> None:
    """stack_info=True."""
    read = configured()
    logging.getLogger("app").warning("x", stack_info=True)
    assert "test_a_stack_that_was_asked_for" in read()[0]["stack"]


class Logs:
    """A value that logs when it is shown."""

    def __init__(self, *shown: object) -> None:
        self.shown = shown

    def __str__(self) -> str:
        logging.getLogger("alone").warning("inner %s", *(self.shown or (self,)))
        return "shown"


def test_a_value_that_logs_while_it_is_logged_has_its_line(configured: Configured) -> None:
    """Before the line that shows it; one that shows itself ends. (The test runner's own handler would not.)"""
    read = configured()
    logger = logging.getLogger("alone")
    logger.propagate = False
    logger.addHandler(next(one for one in logging.getLogger().handlers if isinstance(one, StdlibBridge)))
    try:
        logger.warning("outer %s", Logs("x"))
        logger.warning("endless %s", Logs())
    finally:
        logger.handlers.clear()
        logger.propagate = True
    assert [line["event"] for line in read()] == ["inner x", "outer shown", "inner shown", "endless shown"]


def test_the_record_is_left_as_it_was_for_other_handlers(configured: Configured) -> None:
    """Arguments, exception and message."""
    configured()
    seen: list[dict[str, Any]] = []

    class Other(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(dict(vars(record)))

    other = Other()
    logging.getLogger().addHandler(other)
    try:
        logging.getLogger("app").error("%s", "x", exc_info=ValueError("y"), extra={"a": 1})
    finally:
        logging.getLogger().removeHandler(other)
    assert (seen[0]["msg"], seen[0]["args"], seen[0]["a"]) == ("%s", ("x",), 1)
    assert isinstance(seen[0]["exc_info"][1], ValueError)
