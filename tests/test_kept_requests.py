"""Kept requests: which are kept, how many, and what is in them."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from time import perf_counter
from typing import Any

import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

import monitoring
from monitoring import MonitoringMiddleware, kept_requests
from monitoring.calls import CacheCall, DatabaseCall, HTTPCall, LLMCall
from monitoring.kept_requests import BLOCKS, CALLS, KeptRequests
from monitoring.observation import UNMATCHED, Block, Observation, RequestRecord
from monitoring.outbox import Outbox
from monitoring.recorder import Recorder
from monitoring.store.facts import RequestFact
from monitoring.testing import FakeClock, MemorySink, use


class Kept:
    """The sink alone, with an outbox to look into."""

    def __init__(self, **settings: Any) -> None:
        self.outbox, self.clock = Outbox(), FakeClock()
        given = {"slow_seconds": 1.0, "sample_rate": 0.0, "max_per_second": 1_000_000.0, **settings}
        self.sink = KeptRequests(self.outbox, clock=self.clock, **given)
        self.recorder = Recorder([self.sink], _raise)

    def end(self, seconds: float = 0.01, outcome: str = "ok", route: str = "/") -> list[str]:
        """Let a request end, and return why it was kept, if it was."""
        self.recorder.record(request(seconds, outcome, route))
        return [fact.reason for fact in self.facts()]

    def facts(self) -> list[RequestFact]:
        """Return and remove what was kept."""
        return self.outbox.take(10**6)  # type: ignore[return-value]


def _raise(part: str, error: Exception) -> None:
    raise AssertionError(part) from error


def request(seconds: float = 0.01, outcome: str = "ok", route: str = "/") -> RequestRecord:
    """Return the record of a request that has just ended."""
    record = RequestRecord()
    record.request_id, record.trace_id, record.method, record.path = "r1", "t1", "GET", "/"
    record.started, record.duration_seconds = 100.0, seconds
    record.outcome, record.route, record.status = outcome, route, 500 if "error" in outcome else 200
    return record


# Which are kept


@pytest.mark.parametrize("outcome", ["server_error", "error_after_start"])
def test_a_failed_request_is_always_kept(outcome: str) -> None:
    """However quick it was."""
    kept = Kept()
    kept.end()
    assert [kept.end(0.001, outcome) for _ in range(100)] == [["error"]] * 100


@pytest.mark.parametrize("outcome", ["ok", "client_error", "client_disconnected", "cancelled"])
def test_a_quick_request_that_did_not_fail_is_not_kept(outcome: str) -> None:
    """What the client did wrong is no failure of the app."""
    kept = Kept()
    assert [kept.end(0.01, outcome) for _ in range(50)] == [[]] * 50


def test_a_request_over_the_limit_is_slow() -> None:
    """Also where its route is always that slow."""
    kept = Kept(slow_seconds=0.5)
    assert [kept.end(0.5) for _ in range(200)] == [["slow"]] * 200


def test_a_request_is_slow_for_its_route() -> None:
    """A tenth of a second is nothing on one route, and ten times the usual on another."""
    kept = Kept()
    for _ in range(1_000):
        kept.end(0.01, route="/quick")
        kept.end(0.1, route="/long")
    kept.facts()
    assert kept.end(0.1, route="/quick") == ["slow"]
    assert kept.end(0.1, route="/long") == []


def test_about_one_in_a_hundred_is_slow_for_its_route() -> None:
    """The estimate settles at the route's p99, wherever it begins."""
    kept = Kept(slow_seconds=1_000.0)
    durations = [0.001 + (number * 7919 % 1000) / 1000 for number in range(60_000)]
    reasons = [kept.end(seconds) for seconds in durations]
    assert 200 < sum(reason == ["slow"] for reason in reasons[20_000:]) < 800


def test_a_slow_first_request_does_not_hide_slow_ones() -> None:
    """It was the cold start; the limit of the app holds from the beginning."""
    kept = Kept(slow_seconds=1.0)
    kept.end(30.0)
    kept.facts()
    assert kept.end(1.5) == ["slow"]
    assert kept.sink._thresholds["/"] <= 1.1


def test_a_sample_is_kept() -> None:
    """One in ten, evenly, and the first of each route."""
    kept = Kept(sample_rate=0.1)
    assert kept.end() == ["sampled"]
    assert [kept.end() for _ in range(30)] == ([[]] * 9 + [["sampled"]]) * 3
    assert kept.end(route="/other") == ["sampled"]


def test_without_a_sample_rate_nothing_is_sampled() -> None:
    """Not even the first of a route."""
    kept = Kept(sample_rate=0)
    assert [kept.end(route=f"/{number % 3}") for number in range(30)] == [[]] * 30


def test_unmatched_requests_are_sampled_like_others() -> None:
    """A scanner's requests do not push out those of the app."""
    kept = Kept(sample_rate=0.01)
    reasons = [kept.end(0.01, "client_error", UNMATCHED) for _ in range(1_000)]
    assert sum(map(len, reasons)) <= 20


def test_the_number_of_routes_that_are_followed_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are kept when they fail, take too long or are sampled."""
    monkeypatch.setattr(kept_requests, "ROUTES", 5)
    kept = Kept(sample_rate=0.5)
    for number in range(20):
        kept.end(route=f"/{number}")
    assert len(kept.sink._thresholds) == 5
    assert [kept.end(route="/new"), kept.end(route="/new")].count(["sampled"]) == 1
    assert kept.end(1.0, route="/new") == ["slow"]
    assert kept.end(outcome="server_error", route="/new") == ["error"]


@pytest.mark.parametrize(
    ("seconds", "outcome", "rate", "most"),
    [(0.01, "ok", 1.0, 5), (2.0, "ok", 0.0, 10), (0.01, "server_error", 0.0, 20)],
    ids=["sampled", "slow", "failed"],
)
def test_no_more_than_so_many_are_kept_in_a_second(seconds: float, outcome: str, rate: float, most: int) -> None:
    """Samples, slow and failed ones have a larger share in this order; the next second has its own."""
    kept = Kept(max_per_second=10.0, sample_rate=rate)
    for _ in range(2):
        assert sum(len(kept.end(seconds, outcome)) for _ in range(100)) == most
        kept.clock.advance(1.0)


def test_what_matters_more_has_room_when_samples_were_many() -> None:
    """A slow one after them is kept, and a failed one after slow ones."""
    kept = Kept(max_per_second=10.0, sample_rate=1.0)
    for _ in range(100):
        kept.end()
    assert kept.end(5.0) == ["slow"]
    for _ in range(100):
        kept.end(5.0)
    assert kept.end(outcome="server_error") == ["error"]


def test_a_clock_that_is_set_back_stops_nothing() -> None:
    """The second begins anew."""
    kept = Kept(max_per_second=1.0)
    kept.end(5.0)
    kept.clock.advance(-3600)
    assert kept.end(5.0) == ["slow"]


def test_the_first_request_starts_what_waits_for_it() -> None:
    """Once, and again in a forked child."""
    started: list[int] = []
    kept = Kept(on_first=lambda: started.append(1))
    kept.end()
    kept.end()
    assert len(started) == 1
    kept.sink.start_anew()
    kept.end()
    assert len(started) == 2


def test_a_start_that_failed_is_tried_again() -> None:
    """The system had no more threads."""
    tries: list[int] = []

    def start() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise RuntimeError("can't start new thread")

    kept = Kept(on_first=start)
    kept.recorder = Recorder([kept.sink], lambda part, error: None)
    for _ in range(5):
        kept.end()
    assert len(tries) == 3


# What is in them


class App:
    """A small app whose requests are all kept, and the facts of them."""

    def __init__(self, current: monitoring.Monitoring, sink: MemorySink) -> None:
        self.monitoring, self.sink = current, sink
        routes = [
            Route("/tree", self.tree),
            Route("/many", self.many),
            Route("/fail", self.fail),
            WebSocketRoute("/socket", self.socket),
        ]
        self.client = TestClient(MonitoringMiddleware(Starlette(routes=routes), current), raise_server_exceptions=False)

    async def tree(self, request: Request) -> JSONResponse:
        """Do an operation with an agent in it that asks a model, and a query before, within and after it."""
        monitoring.set_user("alice")
        monitoring.get_logger("app").info("working", step=1)
        self.monitoring.recorder.record(database("before"))
        with monitoring.operation("generate", id="op-1", funder="NSF"):
            self.monitoring.recorder.record(database("within"))
            with monitoring.agent("writer", step=2):
                self.monitoring.recorder.record(model())
        self.monitoring.recorder.record(cache())
        self.monitoring.recorder.record(outgoing())
        return JSONResponse({})

    async def many(self, request: Request) -> JSONResponse:
        """Make too many calls, within blocks."""
        with monitoring.observe("outer"), monitoring.observe("inner"):
            for _ in range(300):
                self.monitoring.recorder.record(database("one of many"))
        return JSONResponse({})

    async def fail(self, request: Request) -> JSONResponse:
        """Raise after a query."""
        self.monitoring.recorder.record(database("before"))
        raise LookupError("nothing there")

    async def socket(self, socket: WebSocket) -> None:
        """Query in a websocket."""
        await socket.accept()
        self.monitoring.recorder.record(database("in a socket"))
        await socket.close()

    def kept(self, path: str) -> RequestFact:
        """Ask for a path and return what was kept of it."""
        self.client.get(path)
        (fact,) = [fact for fact in self.monitoring.outbox.take(1000) if isinstance(fact, RequestFact)]
        return fact


def database(name: str) -> DatabaseCall:
    """Return a query that has just ended."""
    call = DatabaseCall(perf_counter())
    call.name, call.system, call.operation, call.statement, call.rows = name, "sqlite", "SELECT", "SELECT ?", 3
    return call


def cache() -> CacheCall:
    """Return a look-up that has just ended."""
    call = CacheCall(perf_counter(), KeyError("x"))
    call.name, call.cache, call.system, call.hits, call.misses = "mget", "profiles", "redis", 2, 1
    return call


def outgoing() -> HTTPCall:
    """Return a request that has just been answered."""
    call = HTTPCall(perf_counter())
    call.name, call.host, call.status = "GET api.example.org", "api.example.org", 204
    call.span_id = "00f067aa0ba902b7"
    return call


def model() -> LLMCall:
    """Return a call to a model that has just ended."""
    call = LLMCall(perf_counter())
    call.name, call.provider, call.model, call.has_usage = "chat m", "openai", "m", True
    call.input_tokens, call.output_tokens, call.cost_usd = 100, 20, Decimal("0.0125")
    return call


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """The app, with a store that nothing is written to: a test takes the facts out of the outbox."""
    sink = MemorySink()
    settings = {"store": str(tmp_path / "store"), "sample_rate": 1.0, "slow_request_seconds": 1000.0}
    with use(**settings, log_destination=str(tmp_path / "lines.log")) as current:
        current.background.start = lambda: None  # type: ignore[method-assign]
        monitoring.logging_config.configure_logging(current.log_lines)
        yield App(current, sink)
        monitoring.logging_config.restore_logging()


def test_blocks_are_a_tree(app: App) -> None:
    """The agent is inside the operation, and the call to the model inside the agent."""
    spans = app.kept("/tree").spans
    names = [span.name for span in spans]
    tree = {span.name: names[span.parent] if span.parent >= 0 else "" for span in spans}
    assert tree == {
        "before": "",
        "generate": "",
        "within": "generate",
        "writer": "generate",
        "chat m": "writer",
        "mget": "",
        "GET api.example.org": "",
    }
    assert [span.kind for span in spans] == ["db", "operation", "db", "agent", "llm", "cache", "http"]
    offsets = [span.offset_seconds for span in spans]
    assert offsets == sorted(offsets)
    assert offsets[0] >= 0


def test_a_span_tells_what_its_kind_has(app: App) -> None:
    """Statement, rows, tokens, cost; of an operation its ID and dimensions; no parameter, key or prompt."""
    details = {span.name: dict(span.detail) for span in app.kept("/tree").spans}
    assert details["within"] == {"system": "sqlite", "operation": "SELECT", "statement": "SELECT ?", "rows": 3}
    assert details["generate"] == {"id": "op-1", "funder": "NSF"}
    writer = details["writer"]
    assert writer.pop("run_id") == writer.pop("root") != ""
    assert writer == {
        "step": 2,
        "llm_calls": 1,
        "llm_tokens": 120,
        "llm_cost_usd": 0.0125,
        "llm_unpriced": 0,
        "tool_calls": 0,
    }
    assert details["mget"] == {"cache": "profiles", "system": "redis", "hits": 2, "misses": 1, "error_type": "KeyError"}
    assert details["GET api.example.org"] == {
        "method": "GET",
        "host": "api.example.org",
        "status": 204,
        "span_id": "00f067aa0ba902b7",
    }
    assert details["chat m"] == {
        "provider": "openai",
        "model": "m",
        "response_model": "",
        "operation": "chat",
        "agent": "writer",
        "streamed": False,
        "first_chunk_seconds": 0.0,
        "input_tokens": 100,
        "output_tokens": 20,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "reasoning_tokens": 0,
        "finish_reason": "",
        "tool_calls": 0,
        "retries": (),
        "service_tier": "",
        "price_source": "",
        "price_version": "",
        "cost_usd": 0.0125,
    }


def test_a_request_sums_up_its_calls(app: App) -> None:
    """As its canonical line does."""
    fact = app.kept("/tree")
    assert (fact.db_calls, fact.cache_hits, fact.cache_misses) == (2, 2, 1)
    assert (fact.llm_calls, fact.llm_tokens, fact.llm_cost_usd) == (1, 120, 0.0125)
    assert fact.db_seconds == pytest.approx(sum(s.duration_seconds for s in fact.spans if s.kind == "db"))
    assert (fact.user, fact.route, fact.status, fact.outcome) == ("alice", "/tree", 200, "ok")


def test_its_lines_are_kept_with_it(app: App) -> None:
    """Those that were written in it; what its canonical line says is in the request itself."""
    lines = app.kept("/tree").lines
    assert [orjson.loads(line)["event"] for line in lines] == ["working", "agent.start", "agent.end"]
    assert orjson.loads(lines[0])["step"] == 1


def test_a_failed_request_leads_to_its_error(app: App) -> None:
    """By the group that its line names, too."""
    fact = app.kept("/fail")
    assert (fact.reason, fact.status, [span.name for span in fact.spans]) == ("error", 500, ["before"])
    assert fact.error_group


def test_calls_are_bounded_and_the_rest_is_counted(app: App) -> None:
    """200 are kept; the sums are of all, and the blocks around them have places of their own."""
    fact = app.kept("/many")
    assert (len(fact.spans), fact.spans_dropped, fact.db_calls) == (CALLS + 2, 100, 300)
    names = [span.name for span in fact.spans]
    assert names[:2] == ["outer", "inner"]
    assert {span.parent for span in fact.spans if span.kind == "db"} == {1}


def test_blocks_are_bounded_too() -> None:
    """A loop of blocks takes its places and no more."""
    kept = Kept(sample_rate=1.0)
    record = request()
    for _ in range(1_000):
        block = Observation("span", "step", "ok", 0.1, record)
        block.started, block.opened = 100.0, Block("step", None)
        kept.recorder.record(block)
    kept.recorder.record(record)
    (fact,) = kept.facts()
    assert (len(fact.spans), fact.spans_dropped) == (CALLS + BLOCKS, 1_000 - CALLS - BLOCKS)


def test_what_ends_after_the_request_is_not_in_it() -> None:
    """A background task's calls come too late for it."""
    kept = Kept(sample_rate=1.0)
    record = request()
    record.finished = True
    kept.recorder.record(record)
    kept.recorder.record(Observation("span", "late", "ok", 0.1, record))
    assert record.calls is None


def test_a_long_path_is_clipped() -> None:
    """It is raw input."""
    kept = Kept(sample_rate=1.0)
    record = request()
    record.path = "/" + "x" * 10_000
    kept.recorder.record(record)
    assert len(kept.facts()[0].path) == 256


@pytest.mark.parametrize("path", ["/tree", "/socket"])
def test_no_cycle_is_left_behind(app: App, path: str) -> None:
    """A record is freed when its request is over, without the garbage collector."""
    records: list[weakref.ref[RequestRecord]] = []

    class Watching:
        def folds(self) -> Any:
            return {"db": lambda call: records.append(weakref.ref(call.request))}

    app.monitoring.recorder.add(Watching())
    gc.collect()
    gc.disable()
    try:
        if path == "/socket":
            with app.client.websocket_connect(path):
                pass
        else:
            app.client.get(path)
        app.monitoring.outbox.take(1000)
        app.monitoring.log_lines.writer.flush()
        left = [record for reference in records if (record := reference()) is not None]
    finally:
        gc.enable()
    assert (len(records) > 0, left) == (True, [])


def test_a_pipeline_tells_how_many_commands_it_sent() -> None:
    """It is one call of a request; other commands say nothing of that."""
    pipeline = cache()
    pipeline.inner = {"get": 2, "set": 1}
    assert kept_requests._detail(pipeline)["commands"] == 3
    assert "commands" not in kept_requests._detail(cache())
