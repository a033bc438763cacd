"""Handlers: each gets the lines of its level and filters, beside the main destination."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

import monitoring
from monitoring import Config, LogFile, get_logger
from monitoring.config import ConfigError
from monitoring.logs.outlets import Filtered, Handler
from monitoring.testing import use

from .outlets import Kept


def configured(tmp_path: Path, *handlers: Handler, **settings: Any) -> Path:
    """Configure logging with handlers and return the main destination."""
    monitoring.configure(log_destination=str(tmp_path / "log"), log_handlers=handlers, **settings)
    return tmp_path / "log"


def test_a_handler_gets_what_the_main_destination_gets(tmp_path: Path) -> None:
    """The same bytes."""
    kept = Kept()
    main = configured(tmp_path, kept)
    get_logger("app").info("saved", items=3)
    monitoring.current().flush()
    assert b"".join(line for line, _ in kept.raw) == main.read_bytes()


def test_a_handler_has_a_level_of_its_own(tmp_path: Path) -> None:
    """Errors are urgent."""
    kept = Kept("warning")
    configured(tmp_path, kept)
    for level in ("debug", "info", "warning", "error"):
        getattr(get_logger("app"), level)(level)
    assert [(json.loads(line)["event"], urgent) for line, urgent in kept.raw] == [("warning", False), ("error", True)]


def test_a_filter_by_loggers_takes_those_below_them_too(tmp_path: Path) -> None:
    """A name that only begins alike is another."""
    only, without = Kept(), Kept()
    configured(tmp_path, Filtered(only, loggers=("app.web",)), Filtered(without, without=("app.web",)))
    for name in ("app", "app.web", "app.web.forms", "app.website"):
        get_logger(name).info(name)
    assert [line["event"] for line in only.lines] == ["app.web", "app.web.forms"]
    assert [line["event"] for line in without.lines] == ["app", "app.website"]


def test_a_filter_by_fields_sees_the_line(tmp_path: Path) -> None:
    """One that raises lets the line through: it is not lost."""
    yes, broken = Kept(), Kept()
    configured(
        tmp_path,
        Filtered(yes, where=lambda line: line.get("funder") == "NSF"),
        Filtered(broken, where=lambda line: line["nothing"]),
    )
    get_logger("app").info("a", funder="NSF")
    get_logger("app").info("b", funder="ERC")
    assert [line["event"] for line in yes.lines] == ["a"]
    assert [line["event"] for line in broken.lines] == ["a", "b"]


def test_handlers_are_flushed_and_closed_with_the_monitoring(tmp_path: Path) -> None:
    """So nothing waits in them when a process ends."""
    kept = Kept()
    configured(tmp_path, kept)
    monitoring.current().flush()
    assert kept.calls == ["flush"]
    monitoring.shutdown()
    assert kept.calls[-1] == "close"


class Slow(Kept):
    """A handler whose outlet takes all the time it is given."""

    def flush(self, seconds: float = 5.0) -> None:
        self.calls.append(f"flush {seconds:.1f}")
        time.sleep(seconds)


def test_all_handlers_share_one_deadline(tmp_path: Path) -> None:
    """One that hangs leaves no time to the next, and the process ends in time."""
    slow, next_one = Slow(), Slow()
    configured(tmp_path, slow, next_one)
    monitoring.current().log_lines.flush(0.2)
    assert (slow.calls, next_one.calls) == (["flush 0.2"], ["flush 0.0"])


class Broken(Kept):
    """A handler whose outlet raises whatever it is asked."""

    def write(self, line: bytes, urgent: bool = False) -> None:
        raise LookupError("bug")

    def flush(self, seconds: float = 5.0) -> None:
        raise LookupError("bug")

    def close(self, seconds: float = 5.0) -> None:
        raise LookupError("bug")


def test_an_outlet_that_raises_holds_up_neither_the_app_nor_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it did not take is counted as dropped."""
    kept = Kept()
    configured(tmp_path, Broken(), kept)
    get_logger("app").info("one")
    get_logger("app").info("two")
    monitoring.current().flush()
    assert [line["event"] for line in kept.lines] == ["one", "two"]
    (dropped,) = monitoring.current().metrics.snapshot()["monitoring_log_lines_dropped_total"].series
    assert (dict(dropped.labels), dropped.value) == ({"reason": "Broken raised LookupError"}, 2)
    monitoring.shutdown()
    assert kept.calls[-1] == "close"
    assert "monitoring cannot flush Broken" in capsys.readouterr().err


def test_the_line_that_tells_of_drops_is_not_told_of_when_it_is_dropped(tmp_path: Path) -> None:
    """A receiver that takes no line does not make an idle service write one a second."""
    configured(tmp_path, Broken())
    lines = monitoring.current().log_lines
    for _ in range(3):
        get_logger("app").info("one")
    for _ in range(5):
        lines.tick()
    monitoring.current().flush()
    told = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line["lines"] for line in told if "lines" in line] == [{"Broken raised LookupError": 3}]
    for _ in range(3):
        get_logger("app").info("one")
    lines.tick()
    monitoring.current().flush()
    last = json.loads((tmp_path / "log").read_text().splitlines()[-1])
    assert last["lines"] == {"Broken raised LookupError": 4}


class Telling(Kept):
    """A handler that takes no line once it is closed, and while it closes somebody logs."""

    def close(self, seconds: float = 5.0) -> None:
        """Log, as another thread may do at that moment."""
        get_logger("app").info("meanwhile")


def test_a_line_that_comes_while_a_former_configuration_closes_goes_to_the_new_one(tmp_path: Path) -> None:
    """Its handlers may take none any more."""
    former, new = Telling(), Kept()
    configured(tmp_path, former)
    configured(tmp_path, new)
    assert [line["event"] for line in new.lines] == ["meanwhile"]
    assert former.lines == []


def test_handlers_outlive_a_test_of_the_app(tmp_path: Path) -> None:
    """``monitoring.testing.use`` puts another in the place of the app's own, and closes only that."""
    kept = Kept()
    configured(tmp_path, kept)
    with use(log_destination=str(tmp_path / "other")):
        get_logger("app").info("inside")
    get_logger("app").info("after")
    assert [line["event"] for line in kept.lines] == ["inside", "after"]
    assert "close" not in kept.calls


@pytest.mark.parametrize("handlers", [("syslog",), "syslog", (object(),)])
def test_what_is_no_handler_is_refused_in_one_sentence(handlers: Any) -> None:
    """At configure, not at the first line."""
    with pytest.raises(ConfigError, match=r"^log_handlers must be a list of handlers such as .*, got .*\.$"):
        Config(log_handlers=handlers)


@pytest.mark.parametrize("handler", [Kept("loud"), LogFile], ids=["level", "class"])
def test_a_handler_that_cannot_be_used_is_refused_in_one_sentence(handler: Any) -> None:
    """Its level is none, or it is the class and not one of its handlers."""
    with pytest.raises(ConfigError, match=r"^log_handlers must be a list of handlers .*, got .*\.$"):
        monitoring.configure(log_handlers=[handler], store=None)
