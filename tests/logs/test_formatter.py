"""The formatter for plain dictConfig users, and python-json-logger's settings: the same keys come out."""

from __future__ import annotations

import io
import json
import logging
import logging.config
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pythonjsonlogger.json import JsonFormatter

import monitoring
from monitoring.logs.formatter import JSONFormatter, settings_of_json_logger
from monitoring.logs.rendering import Renderer

SECTIONS: list[dict[str, Any]] = [
    {},
    {"fmt": "%(asctime)s %(levelname)s %(name)s %(message)s"},
    {"fmt": "%(asctime)s %(levelname)s %(message)s", "rename_fields": {"levelname": "severity", "asctime": "time"}},
    {"fmt": "{levelname}{message}{lineno}", "style": "{"},
    {"fmt": ["levelname", "message", "threadName"], "static_fields": {"region": "eu"}},
    {"fmt": "%(message)s", "timestamp": "@timestamp"},
    {"fmt": "%(message)s", "rename_fields": {"funder": "client"}},
    {"fmt": "%(message)s", "reserved_attrs": [*vars(logging.makeLogRecord({})), "message", "asctime", "noise"]},
]


def record() -> logging.LogRecord:
    """Return a record with two fields of the caller's."""
    made = logging.LogRecord("app", logging.WARNING, "app.py", 7, "saved %d", (3,), None, "save")
    made.funder, made.noise = "NSF", 1
    return made


@pytest.mark.parametrize("section", SECTIONS[1:], ids=str)
def test_what_python_json_logger_shows_is_shown_under_the_same_key(section: dict[str, Any]) -> None:
    """With the same value, but for the form of times; levels are in lower case."""
    theirs = json.loads(JsonFormatter(**section).format(record()))
    ours = json.loads(JSONFormatter(**section).format(record()))
    for key, value in theirs.items():
        assert key in ours
        if key not in ("asctime", "time", "timestamp", "@timestamp"):
            assert str(ours[key]).lower() == str(value).lower()


def test_reserved_names_do_not_come_out() -> None:
    """As python-json-logger leaves them out."""
    ours = json.loads(JSONFormatter(**SECTIONS[-1]).format(record()))
    assert "noise" not in ours
    assert ours["funder"] == "NSF"


@pytest.mark.parametrize("section", SECTIONS, ids=str)
def test_a_formatter_and_its_section_give_the_same_settings(section: dict[str, Any]) -> None:
    """Also as a part of a whole dictConfig."""
    of_section = settings_of_json_logger({"()": "pythonjsonlogger.json.JsonFormatter", **section})
    json_section = {"class": "pythonjsonlogger.jsonlogger.JsonFormatter", **section}
    whole = {"version": 1, "formatters": {"plain": {"format": "x"}, "json": json_section}}
    assert settings_of_json_logger(JsonFormatter(**section)) == of_section == settings_of_json_logger(whole)


def test_a_config_without_one_is_refused_in_one_sentence() -> None:
    """With what is accepted."""
    with pytest.raises(ValueError, match=r"^No formatter of python-json-logger is among 'plain'; give .*\.$"):
        settings_of_json_logger({"formatters": {"plain": {"format": "%(message)s"}}})


def test_lines_keep_the_projects_names_when_the_pack_takes_over(tmp_path: Path) -> None:
    """Of structlog, stdlib and requests alike."""
    settings = settings_of_json_logger({"()": "pythonjsonlogger.json.JsonFormatter", **SECTIONS[2]})
    monitoring.configure(log_destination=str(tmp_path / "log"), **settings)
    logging.getLogger("app").warning("saved", extra={"funder": "NSF"})
    monitoring.get_logger("app").info("saved")
    one, other = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    for line in (one, other):
        assert {"time", "severity", "message"} <= line.keys()
        assert not {"timestamp", "level", "event"} & line.keys()
    assert (one["message"], one["severity"], one["funder"]) == ("saved", "warning", "NSF")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Configure a logger by dictConfig with our formatter, and return what it writes to."""
    stream = io.StringIO()
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"json": {"()": "monitoring.logs.formatter.JSONFormatter", "service": "proposals"}},
            "handlers": {"memory": {"class": "logging.StreamHandler", "stream": stream, "formatter": "json"}},
            "loggers": {"formatted": {"handlers": ["memory"], "level": "INFO", "propagate": False}},
        }
    )
    yield stream
    logging.getLogger("formatted").handlers.clear()
    logging.getLogger("formatted").propagate = True


def test_a_dict_config_may_name_the_formatter(stream: io.StringIO) -> None:
    """The line is the pack's: scrubbed, with the exception as structure."""
    try:
        raise ValueError("password=hunter2")
    except ValueError:
        logging.getLogger("formatted").exception("failed %s", "twice", extra={"token": "abcdefgh"})
    line = json.loads(stream.getvalue())
    assert (line["level"], line["logger"], line["event"], line["service"]) == (
        *("error", "formatted", "failed twice", "proposals"),
    )
    assert line["token"] == "[scrubbed: token]"
    assert line["exception"][0]["message"] == "password=[scrubbed: password]"


def test_each_line_has_the_stack_wherever_the_record_went_before(stream: io.StringIO) -> None:
    """A file and a console may both use the formatter, and the pack's own lines may have come first."""
    try:
        raise ValueError("x")
    except ValueError as error:
        Renderer("app").render("error", "app", "failed", {}, error)
        logging.getLogger("formatted").exception("failed")
        logging.getLogger("formatted").exception("failed")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert ["frames" in line["exception"][0] for line in lines] == [True, True]
