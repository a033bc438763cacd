"""Repeated and slow database statements: when they are found, where, and what is told of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import monitoring
from monitoring.calls import DatabaseCall
from monitoring.context import current_record
from monitoring.error_groups import Grouper, InApp
from monitoring.monitor import Monitoring
from monitoring.observation import JobRecord, Observation, RequestRecord
from monitoring.query_patterns import FINDINGS, LINES, STATEMENTS, QueryPatterns
from monitoring.testing import FakeClock, use


class Counted:
    """Where the sink counts."""

    def __init__(self) -> None:
        self.values: list[tuple[str, tuple[str, ...], float]] = []

    def add(self, declaration: Any, values: tuple[str, ...], amount: float) -> None:
        self.values.append((declaration.name, values, amount))

    observe = add

    def of(self, name: str) -> list[tuple[tuple[str, ...], float]]:
        return [(values, amount) for known, values, amount in self.values if known == name]


class Lines:
    """Where it writes: the fields of each line, with the request that was current."""

    def __init__(self) -> None:
        self.levels: Any = self
        self.threshold = 20
        self.written: list[dict[str, Any]] = []

    def of(self, logger: str) -> int:
        return self.threshold

    def emit(self, level: str, logger: str, event: str, fields: dict[str, Any]) -> None:
        self.written.append({"level": level, "event": event, "request": current_record.get(), **fields})


class Rig:
    """The sink with what is around it."""

    def __init__(self, *, repeated: int | None = 3, slow_seconds: float = 0.5) -> None:
        self.counted, self.lines, self.clock = Counted(), Lines(), FakeClock()
        lines: Any = self.lines
        self.sink = QueryPatterns(
            self.counted,
            lines,
            Grouper(InApp()).is_in_app,
            repeated=repeated,
            slow_seconds=slow_seconds,
            clock=self.clock,
        )
        self.folds = self.sink.folds()

    def read(self, request: RequestRecord | None, statement: str = "SELECT a FROM t WHERE id = ?", **more: Any) -> None:
        self.folds["db"](called(request, statement, **more))

    def end(self, request: RequestRecord, kind: Any = "request") -> None:
        request.finished = True
        observation = Observation(kind, request.route, "ok", 1.0, request) if kind == "websocket" else request
        self.folds[kind](observation)

    def told(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines.written if line["event"] == event]


def called(
    request: RequestRecord | None, statement: str, *, operation: str = "SELECT", seconds: float = 0.001
) -> DatabaseCall:
    token = current_record.set(request)
    call = DatabaseCall(0.0)
    current_record.reset(token)
    call.name, call.operation, call.statement, call.system = f"{operation} t", operation, statement, "sqlite"
    call.duration_seconds = seconds
    if request is not None:
        request.db_calls += 1
    return call


def request(route: str = "/funders", kind: type[RequestRecord] = RequestRecord) -> RequestRecord:
    record = kind()
    record.request_id, record.trace_id, record.span_id, record.route = "r" * 32, "t" * 32, "s" * 16, route
    return record


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_statement_read_as_often_as_the_setting_says_is_found_once(rig: Rig) -> None:
    """More of the same make no further finding, and are part of its sums."""
    record = request()
    for _ in range(5):
        rig.read(record)
    rig.end(record)
    (line,) = rig.told("repeated query")
    assert (line["times"], line["duration_ms"], line["level"]) == (5, 5.0, "warning")
    assert (line["query"], line["route"]) == ("SELECT t", "/funders")
    assert line["statement"] == "SELECT a FROM t WHERE id = ?"
    assert line["request"] is record
    assert record.found("repeated") == 1


@pytest.mark.parametrize("times", [0, 1, 2])
def test_fewer_are_not_repeated(rig: Rig, times: int) -> None:
    """Two different reads, or two of the same, are what any page does."""
    record = request()
    for _ in range(times):
        rig.read(record)
        rig.read(record, "SELECT b FROM t")
    rig.end(record)
    assert rig.lines.written == []


def test_only_reading_is_repeated(rig: Rig) -> None:
    """Inserting row by row is another matter."""
    record = request()
    for _ in range(9):
        rig.read(record, "INSERT INTO t VALUES (?)", operation="INSERT")
    rig.end(record)
    assert rig.lines.written == []


def test_each_request_begins_anew(rig: Rig) -> None:
    """A statement that many requests use once is none of it."""
    for _ in range(9):
        record = request()
        rig.read(record)
        rig.end(record)
    assert rig.lines.written == []


def test_a_statement_outside_of_requests_is_not_repeated(rig: Rig) -> None:
    """There is nothing that it would be repeated in."""
    for _ in range(9):
        rig.read(None)
    assert rig.lines.written == []


@pytest.mark.parametrize("off", [None, 0])
def test_it_can_be_switched_off(off: int | None) -> None:
    """None and 0 are never."""
    rig, record = Rig(repeated=off), request()
    for _ in range(99):
        rig.read(record)
    rig.end(record)
    assert rig.lines.written == []


def test_the_place_is_the_apps_own_code() -> None:
    """The frames of the pack and of libraries between are passed over."""

    def load_each(rig: Rig, record: RequestRecord) -> None:
        for _ in range(3):
            list(map(lambda _: rig.read(record), [1]))

    rig, record = Rig(), request()
    load_each(rig, record)
    rig.end(record)
    (line,) = rig.told("repeated query")
    file, _, rest = line["place"].partition(":")
    assert file == __file__
    assert rest.partition(" in ")[2] == "Rig.read"


def test_code_that_is_not_the_apps_has_no_place() -> None:
    """Where none of the app's code is on the stack, nothing is guessed."""
    rig, record = Rig(), request()
    rig.sink._is_in_app = lambda frame: False
    for _ in range(3):
        rig.read(record)
    rig.end(record)
    (line,) = rig.told("repeated query")
    assert "place" not in line


def test_repeated_statements_are_counted_by_route(rig: Rig) -> None:
    """Once for a request and statement; the route is that of the request's end."""
    record = request("")
    for _ in range(7):
        rig.read(record)
    record.route = "/late"
    rig.end(record)
    assert rig.counted.of("db_client_repeated_queries_total") == [(("/late", "SELECT t"), 1.0)]


def test_a_slow_statement_is_counted_and_told(rig: Rig) -> None:
    """It tells its duration, in requests together with others of the same text."""
    record = request()
    rig.read(record, seconds=0.5)
    rig.read(record, seconds=0.7)
    rig.read(record, seconds=0.4)
    rig.end(record)
    (line,) = rig.told("slow query")
    assert (line["times"], line["duration_ms"]) == (2, 1200.0)
    assert rig.counted.of("db_client_slow_queries_total") == [(("sqlite", "SELECT"), 1.0)] * 2
    assert record.found("slow") == 1


def test_a_slow_statement_outside_of_requests_is_told_at_once(rig: Rig) -> None:
    """There is no end to wait for, and no route."""
    rig.read(None, seconds=2.0)
    (line,) = rig.told("slow query")
    assert (line["request"], "route" in line) == (None, False)


def test_what_happens_after_the_request_is_told_at_once(rig: Rig) -> None:
    """Background work goes on with the record of its request."""
    record = request()
    rig.end(record)
    for _ in range(3):
        rig.read(record)
    rig.read(record, "SELECT b FROM t", seconds=1.0)
    assert [line["event"] for line in rig.lines.written] == ["repeated query", "slow query"]


def test_a_job_is_like_a_request(rig: Rig) -> None:
    """Its name stands for the route."""
    job = request("nightly", JobRecord)
    for _ in range(3):
        rig.read(job)
    rig.end(job, "job")
    assert rig.told("repeated query")[0]["route"] == "nightly"
    assert rig.counted.of("db_client_queries_per_request") == [(("nightly",), 3)]


def test_a_websocket_may_ask_the_same_for_ever(rig: Rig) -> None:
    """Of its statements only slow ones are told."""
    record = request("/feed")
    for _ in range(9):
        rig.read(record)
    rig.read(record, "SELECT b FROM t", seconds=1.0)
    rig.end(record, "websocket")
    assert [line["event"] for line in rig.lines.written] == ["slow query"]


def test_queries_per_request_are_counted_where_there_were_any(rig: Rig) -> None:
    """Requests without statements do not make the others look better."""
    busy, idle = request(), request()
    rig.read(busy, "INSERT INTO t VALUES (?)", operation="INSERT")
    rig.read(busy)
    for record in (busy, idle):
        rig.end(record)
    assert rig.counted.of("db_client_queries_per_request") == [(("/funders",), 2)]
    assert (busy.noted, idle.noted) == (True, False)


def test_a_statement_of_a_route_is_told_once_a_minute(rig: Rig) -> None:
    """A bad route does not flood the log; its metric counts on."""
    for _ in range(4):
        record = request()
        for _ in range(3):
            rig.read(record)
        rig.end(record)
    assert len(rig.told("repeated query")) == 1
    rig.clock.advance(60)
    for _ in range(3):
        rig.read(record := request())
        rig.read(record)
        rig.read(record)
        rig.end(record)
    assert len(rig.told("repeated query")) == 2
    assert len(rig.counted.of("db_client_repeated_queries_total")) == 7


def test_what_is_kept_and_told_is_bounded(rig: Rig) -> None:
    """Of a request with no end of statements some are followed, and of those some are told."""
    records = [request(f"/{number}") for number in range(5)]
    for record in records:
        for number in range(STATEMENTS + 50):
            for _ in range(3):
                rig.read(record, f"SELECT a{number} FROM t")
        rig.end(record)
    assert {len(record.statements or ()) for record in records} == {STATEMENTS}
    assert {len(record.findings or ()) for record in records} == {FINDINGS}
    assert len(rig.lines.written) == LINES


def test_a_level_above_warning_keeps_it_quiet(rig: Rig) -> None:
    """The lines have a logger whose level can be set; the numbers stay."""
    rig.lines.threshold = 40
    rig.read(None, seconds=2.0)
    assert rig.lines.written == []
    assert len(rig.counted.of("db_client_slow_queries_total")) == 1


# Through the whole


@pytest.fixture
def running(tmp_path: Any) -> Iterator[tuple[Monitoring, Callable[[], list[dict[str, Any]]]]]:
    log = tmp_path / "log"

    def lines() -> list[dict[str, Any]]:
        made.flush()
        return [json.loads(line) for line in log.read_text().splitlines()]

    with use(log_destination=str(log), repeated_queries=3, slow_query_seconds=0.25, sample_rate=1) as made:
        yield made, lines


def serve(made: Monitoring, work: Callable[[RequestRecord], None]) -> RequestRecord:
    assert made.edge is not None
    record = made.edge.begin("GET", "/funders/7")
    token = current_record.set(record)
    work(record)
    record.status = 200
    made.edge.finish(record, "/funders/{id}")
    current_record.reset(token)
    return record


def test_the_canonical_line_tells_how_many_were_found(running: Any) -> None:
    """``repeated_queries`` and ``slow_queries`` stand there where there are any."""
    made, lines = running

    def work(record: RequestRecord) -> None:
        for _ in range(3):
            made.recorder.record(called(record, "SELECT a FROM t"))
        made.recorder.record(called(record, "SELECT b FROM t", seconds=0.3))

    serve(made, work)
    serve(made, lambda record: made.recorder.record(called(record, "SELECT a FROM t")))
    first, second = (line for line in lines() if line["event"] == "request")
    assert (first["repeated_queries"], first["slow_queries"]) == (1, 1)
    assert "repeated_queries" not in second


def test_the_lines_belong_to_their_request(running: Any) -> None:
    """They have its ID and its route, and come before its own line."""
    made, lines = running

    def work(record: RequestRecord) -> None:
        for _ in range(3):
            made.recorder.record(called(record, "SELECT a FROM t"))

    record = serve(made, work)
    finding, canonical = lines()
    assert (finding["event"], canonical["event"]) == ("repeated query", "request")
    assert (finding["request_id"], finding["route"]) == (record.request_id, "/funders/{id}")
    assert finding["logger"] == "monitoring.database"


def test_a_kept_request_shows_what_was_found(tmp_path: Any) -> None:
    """Kind, statement, place, times and time go to the store, and come back by the API's reader."""
    with use(store=str(tmp_path), repeated_queries=3, sample_rate=1, log_destination=str(tmp_path / "log")) as made:

        def work(record: RequestRecord) -> None:
            for _ in range(4):
                made.recorder.record(called(record, "SELECT a FROM t"))

        record = serve(made, work)
        made.flush()
        detail = made.performance.request(record.request_id)
    assert detail is not None
    (finding,) = detail.findings
    assert (finding.kind, finding.name, finding.statement, finding.times) == (
        "repeated",
        "SELECT t",
        "SELECT a FROM t",
        4,
    )
    assert finding.seconds == pytest.approx(0.004)
    assert finding.place.startswith(__file__)


def test_settings_are_checked() -> None:
    """One time is no repetition, and no time is slow."""
    for settings in ({"repeated_queries": 1}, {"repeated_queries": -1}, {"slow_query_seconds": 0}):
        with pytest.raises(monitoring.ConfigError):
            monitoring.Config(**settings)  # type: ignore[arg-type]
    assert monitoring.Config.from_env({"MONITORING_REPEATED_QUERIES": ""}).repeated_queries is None
    assert monitoring.Config.from_env({"MONITORING_REPEATED_QUERIES": "20"}).repeated_queries == 20
