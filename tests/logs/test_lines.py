"""The lines of a service: what is left out, held back, sampled and summed up."""

from __future__ import annotations

import json
import logging
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import monitoring
from monitoring import get_logger
from monitoring.context import current_record
from monitoring.logs.levels import Levels
from monitoring.logs.lines import LogLines
from monitoring.logs.rendering import Renderer
from monitoring.logs.repeats import WINDOW_SECONDS, Repeats
from monitoring.logs.writer import LogWriter
from monitoring.observation import Kind, Observation, RequestRecord
from monitoring.testing import FakeClock
from tests.support.processes import poll

ID = "0123456789abcdef" * 2


class Log:
    """A configured log and what is in it."""

    def __init__(self, path: Path, **settings: Any) -> None:
        self.path = path
        self.monitoring = monitoring.configure(service="tests", log_destination=str(path), store=None, **settings)

    def read(self) -> list[dict[str, Any]]:
        """Return the lines so far."""
        self.monitoring.log_lines.writer.flush()
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def events(self) -> list[str]:
        """Return their events."""
        return [line["event"] for line in self.read()]

    @contextmanager
    def request(self, status: int = 200, request_id: str = ID) -> Iterator[RequestRecord]:
        """Run a block as a request with this status."""
        edge = self.monitoring.edge
        assert edge is not None
        with self.unended(request_id) as record:
            yield record
        record.status = status
        edge.finish(record, "/x")

    @contextmanager
    def unended(self, request_id: str = ID) -> Iterator[RequestRecord]:
        """Run a block as a request whose end is not reported."""
        edge = self.monitoring.edge
        assert edge is not None
        record = edge.begin("GET", "/x")
        record.request_id = request_id
        token = current_record.set(record)
        try:
            yield record
        finally:
            current_record.reset(token)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the log is."""
    return tmp_path / "log"


# Held lines


def test_lines_below_the_level_are_written_when_their_request_fails(path: Path) -> None:
    """Before the request's own line, of structlog and stdlib alike, with the request's IDs."""
    log = Log(path, log_debug_on_failure=True)
    with log.request(500):
        get_logger("app").debug("step", number=1)
        logging.getLogger("app").debug("step two")
    lines = log.read()
    assert [line["event"] for line in lines] == ["step", "step two", "request"]
    assert {line["request_id"] for line in lines} == {ID}


def test_lines_of_a_request_that_succeeds_are_forgotten(path: Path) -> None:
    """And those outside of any."""
    log = Log(path, log_debug_on_failure=True)
    with log.request(200):
        get_logger("app").debug("step")
    get_logger("app").debug("outside")
    assert log.events() == ["request"]


def test_what_is_held_is_bounded_and_the_newest_stays(path: Path) -> None:
    """20 kB a request."""
    log = Log(path, log_debug_on_failure=True)
    with log.request(500):
        for number in range(100):
            get_logger("app").debug("step", number=number, text="x" * 1000)
    numbers = [line["number"] for line in log.read() if line["event"] == "step"]
    assert numbers == list(range(100 - len(numbers), 100))
    assert 10 < len(numbers) < 20


@pytest.mark.parametrize(("kind", "outcome"), [("websocket", "server_error"), ("background", "background_error")])
def test_what_is_held_is_written_when_a_websocket_or_background_work_fails(
    path: Path, kind: Kind, outcome: str
) -> None:
    """Before its line, which has the IDs although its context is over."""
    log = Log(path, log_debug_on_failure=True)
    with log.unended() as record:
        get_logger("app").debug("step")
    log.monitoring.recorder.record(Observation(kind, "/x", outcome, 1.0, record))
    lines = log.read()
    assert [line["event"] for line in lines] == ["step", kind]
    assert {line["request_id"] for line in lines} == {ID}


def test_without_the_setting_nothing_is_held(path: Path) -> None:
    """A debug call below the level does nothing at all."""
    log = Log(path)
    with log.request(500) as record:
        get_logger("app").debug("step")
    assert record.held is None
    assert log.events() == ["request"]


def test_a_stack_on_a_line_that_is_never_written_is_on_the_next_one(path: Path) -> None:
    """A request may log an exception below the level, again above it, and end well."""
    log = Log(path, log_debug_on_failure=True)
    error = ValueError("x")
    with log.request(200):
        get_logger("app").debug("once more", exc_info=error)
        get_logger("app").error("given up", exc_info=error)
    given_up, _ = log.read()
    assert given_up["event"] == "given up"
    assert "frames" in given_up["exception"][0]


def test_an_exception_that_is_raised_again_in_another_request_has_its_stack_there(path: Path) -> None:
    """Some apps make one at import and raise it whenever it fits."""
    log = Log(path)
    error = ValueError("always the same")
    for request_id in ("1" * 32, "2" * 32):
        with log.request(request_id=request_id):
            get_logger("app").error("failed", exc_info=error)
            get_logger("app").error("and told", exc_info=error)
    told = [line for line in log.read() if "exception" in line]
    assert ["frames" in line["exception"][0] for line in told] == [True, False] * 2


# Sampling


def test_a_request_that_is_not_sampled_writes_no_line_below_warning(path: Path) -> None:
    """Neither its own; lines outside of requests are written."""
    log = Log(path, log_sample_rate=0.0)
    with log.request():
        get_logger("app").info("quiet")
        get_logger("app").warning("loud")
    get_logger("app").info("outside")
    assert log.events() == ["loud", "outside"]


def test_a_websocket_shares_the_fate_of_its_lines(path: Path) -> None:
    """One that is not sampled has none of its own, either."""
    log = Log(path, log_sample_rate=0.0)
    with log.unended() as record:
        get_logger("app").info("quiet")
    log.monitoring.recorder.record(Observation("websocket", "/x", "ok", 1.0, record))
    assert log.events() == []


def test_a_failed_request_has_its_line_whatever_the_rate(path: Path) -> None:
    """With the held lines, where they are held."""
    log = Log(path, log_sample_rate=0.0, log_debug_on_failure=True)
    with log.request(500):
        get_logger("app").info("step")
    with log.request(404):
        pass
    assert log.events() == ["step", "request", "request"]


def test_all_lines_of_a_request_share_its_fate(path: Path) -> None:
    """Decided by the request's ID: about the wanted share, and the same in another process."""
    log = Log(path, log_sample_rate=0.3)
    for number in range(300):
        with log.request(request_id=f"{number:032x}"):
            get_logger("app").info("step")
    by_event: dict[str, set[str]] = {"step": set(), "request": set()}
    for line in log.read():
        by_event[line["event"]].add(line["request_id"])
    assert by_event["step"] == by_event["request"]
    assert 60 < len(by_event["step"]) < 120


# Repeats and drops


def test_repeated_lines_are_left_out_and_counted_in_one_line(path: Path) -> None:
    """With the event, level and logger of what was repeated."""
    log = Log(path, log_repeats=2)
    for _ in range(10):
        get_logger("app").warning("again")
    get_logger("app").warning("other")
    log.monitoring.flush()
    told = [(line["event"], line["level"], line["logger"], line.get("repeated")) for line in log.read()]
    assert told == [
        ("again", "warning", "app", None),
        ("again", "warning", "app", None),
        ("other", "warning", "app", None),
        ("again", "warning", "app", 8),
    ]


def test_each_job_has_its_line_however_many_there_are(path: Path) -> None:
    """As each request has: they say the same of different things."""
    log = Log(path, log_repeats=2)
    for _ in range(5):
        with monitoring.log_request("import"):
            get_logger("app").info("step")
    log.monitoring.flush()
    assert sorted(log.events()) == ["job"] * 5 + ["step"] * 3  # the third is the sum


def test_repeats_are_told_in_a_process_without_requests(path: Path) -> None:
    """Once their time is over, and the next such lines are written: a script may run for days."""
    log = Log(path, log_repeats=1)
    clock = FakeClock()
    log.monitoring.log_lines._repeats = Repeats(1, clock)
    get_logger("app").warning("again")
    get_logger("app").warning("again")
    clock.advance(WINDOW_SECONDS)
    poll(lambda: [line for line in log.read() if line.get("repeated") == 1], "the sum of the repeats")
    get_logger("app").warning("again")
    assert log.events() == ["again"] * 3


def test_a_process_that_runs_jobs_follows_changed_levels(path: Path) -> None:
    """As one that serves requests does: its lines are queued, and the thread looks."""
    log = Log(path)
    assert not log.monitoring.log_lines.writer.queues
    with monitoring.log_request("nightly"):
        pass
    assert log.monitoring.log_lines.writer.queues


def test_repeats_and_drops_of_a_parent_are_not_told_by_its_children_too(path: Path) -> None:
    """Workers that are forked from a master that has loaded the app would each tell the same."""
    log = Log(path, log_repeats=1)
    get_logger("app").warning("again")
    get_logger("app").warning("again")
    log.monitoring.log_lines.writer.stop_queue()  # the thread would tell them
    log.monitoring.log_lines.count_dropped("queue_full", 1)
    child = multiprocessing.get_context("fork").Process(target=_tell_all)
    child.start()
    child.join()
    assert log.events() == ["again"]
    _tell_all()
    assert sorted(log.events()) == ["again", "again", "log lines were dropped"]


def _tell_all() -> None:
    monitoring.current().log_lines.tick()
    monitoring.current().flush()


def test_dropped_lines_are_told_in_a_line_and_counted(path: Path) -> None:
    """Exactly: what was written and what was dropped are what was logged."""
    log = Log(path, log_queue_bytes=65536, log_flush_seconds=60.0)
    lines = log.monitoring.log_lines
    lines.writer.start_queue()
    with lines.writer._lock:  # the thread waits as it does for a reader that has stopped
        for number in range(2_000):
            get_logger("app").info("filler", number=number, text="x" * 100)
    lines.tick()
    log.monitoring.flush()
    written = log.read()
    (told,) = [line for line in written if line["event"] == "log lines were dropped"]
    fillers = sum(line["event"] == "filler" for line in written)
    assert told["lines"] == {"queue_full": 2_000 - fillers}
    assert 0 < fillers < 2_000
    dropped = log.monitoring.metrics.snapshot()["monitoring_log_lines_dropped_total"]
    assert dropped.series[0].value == 2_000 - fillers


# Never raises


class Hostile(dict[str, Any]):
    """A mapping that raises at each look."""

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("no")

    def __len__(self) -> int:
        raise RuntimeError("no")

    def keys(self) -> Any:
        raise RuntimeError("no")


def test_a_line_that_cannot_be_rendered_at_all_is_written_bare(tmp_path: Path) -> None:
    """Level and logger, and why: it is not lost, and nothing is raised."""
    lines = LogLines(LogWriter(str(tmp_path / "log")), Renderer("tests"), Levels("info"))
    lines.emit("error", "app", "x", Hostile(a=1))
    line = json.loads((tmp_path / "log").read_text())
    assert (line["level"], line["logger"], line["event"]) == ("error", "app", "(not encodable)")


# The level of the canonical line


@pytest.mark.parametrize("settings", [{}, {"log_repeats": 5}], ids=["plain", "repeats"])
@pytest.mark.parametrize(("level", "events"), [("critical", []), ("error", ["unhandled exception"])])
def test_the_line_of_an_error_has_a_level_of_its_own(
    path: Path, level: str, events: list[str], settings: dict[str, Any]
) -> None:
    """Its logger is monitoring.error."""
    log = Log(path, log_levels={"monitoring.error": level, "monitoring.request": "critical"}, **settings)
    with log.request(500) as record:
        record.exception, record.noted = ValueError("x"), True
    assert log.events() == events


def test_a_changed_level_holds_for_the_lines_of_requests(path: Path) -> None:
    """Their logger is monitoring.request."""
    log = Log(path, log_level="warning")
    with log.request():
        pass
    log.monitoring.set_log_level("info", "monitoring.request")
    with log.request():
        pass
    log.monitoring.set_log_level("critical", "monitoring.request")
    with log.request(500):
        pass
    assert log.events() == ["request"]


def test_a_level_that_changes_while_a_line_is_put_together_is_not_missed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what is made once for a kind of requests nothing stays from before the change."""
    log = Log(path, log_level="warning")
    levels = log.monitoring.log_lines.levels
    before = levels.of
    changes = [lambda: levels.set("info")]

    def changing(logger: str) -> int:
        number = before(logger)
        if changes:
            changes.pop()()
        return number

    with monkeypatch.context() as patched:
        patched.setattr(levels, "of", changing)
        with log.request(request_id="1" * 32):
            pass
    with log.request():
        pass
    assert [line["request_id"] for line in log.read()] == [ID]
