"""The read endpoints over a store that a real app filled, every number against the ledger of what happened."""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import monitoring
from monitoring import Budget, families
from monitoring.calls import DatabaseCall
from monitoring.context import current_record
from monitoring.store import health, schema
from monitoring.store.health import CheckState
from monitoring.store.writer import hashed, user_key
from monitoring.testing import use
from tests.support.filled import BEARER, FUNDERS, TOKEN, Filled, Periods, filled, report_llm_call

REQUESTS = {
    ("GET", "/proposals/{id}"): {"200": 20},
    ("POST", "/proposals"): {"201": 4},
    ("GET", "/crash"): {"500": 2},
    ("GET", "/missing"): {"404": 1},
}
COUNT = 27
ERRORS = 2
LLM_CALLS = 6
COST = 0.0125 * 5
KEPT = {
    "request_id",
    "at",
    "method",
    "route",
    "status",
    "outcome",
    "duration_seconds",
    "reason",
    "user",
    "error_group",
    "db_calls",
    "db_seconds",
    "cache_hits",
    "cache_misses",
    "llm_calls",
    "llm_tokens",
    "llm_cost_usd",
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """Fill one store for all tests of this module: none of them writes."""
    with filled(tmp_path_factory.mktemp("views") / "store") as done:
        yield done


def exact(values: Sequence[float], share: float) -> float:
    """Return the value of a sorted list below which a share of it lies."""
    return values[max(0, math.ceil(share * len(values)) - 1)]


def assert_stats(given: dict[str, Any], durations: Sequence[float], errors: int = 0) -> None:
    """Compare stats with the durations they are of."""
    count = len(durations)
    assert (given["count"], given["errors"]) == (count, errors)
    assert given["error_rate"] == pytest.approx(errors / count)
    assert given["mean_seconds"] == pytest.approx(sum(durations) / count)
    assert count / 3_661 <= given["rate_per_second"] <= count / 3_600
    for share in (0.5, 0.95, 0.99):
        found = given[f"p{share * 100:.0f}_seconds"]
        assert found == pytest.approx(exact(durations, share), rel=0.02), share


# Overview


def test_the_overview_counts_every_request(done: Filled) -> None:
    """Counts, errors, mean and percentiles are those of the requests that were sent."""
    assert_stats(done.get("/overview")["requests"], done.durations("request"), ERRORS)


def test_the_overview_says_in_a_sentence_how_it_goes(done: Filled) -> None:
    """A new kind of error makes it a warning, and is named."""
    found = done.get("/overview")
    assert found["state"] == "warning"
    assert found["sentence"].startswith(f"Look here. {COUNT} requests in 1 h, p95 ")
    assert found["sentence"].endswith(", 2 errors (new: ValueError: no such funder).")


@pytest.mark.parametrize(
    ("since", "words"), [("-15m", "15 min"), ("-90m", "1.5 h"), ("-24h", "1 d"), ("-50s", "50 s"), ("-36h", "1.5 d")]
)
def test_the_sentence_names_the_time_that_was_asked_for(done: Filled, since: str, words: str) -> None:
    """An hour and a half is not two hours."""
    assert f"requests in {words}, " in done.get("/overview", **{"from": since})["sentence"]


def test_the_overview_compares_with_the_period_before(done: Filled) -> None:
    """Nothing happened in the hour before, so there is nothing to compare with."""
    previous = done.get("/overview")["previous"]
    assert (previous["count"], previous["error_rate"], previous["p95_seconds"]) == (0, None, None)


def test_the_period_before_holds_what_this_one_held(done: Filled) -> None:
    """Asked for the time after, all requests are in the period before."""
    now = time.time()
    minute = now // 60 * 60 + 120
    found = done.get("/overview", **{"from": minute, "to": minute + 3600})
    assert (found["requests"]["count"], found["previous"]["count"]) == (0, COUNT)


def test_the_series_adds_up_to_the_whole(done: Filled) -> None:
    """Every request is in one bucket, buckets are a minute apart, and empty ones have no percentile."""
    series = done.get("/overview")["series"]
    assert (sum(series["count"]), sum(series["errors"])) == (COUNT, ERRORS)
    assert {after - before for before, after in zip(series["t"], series["t"][1:])} == {60}
    assert len({len(values) for values in series.values()}) == 1
    for name in ("p50_seconds", "p95_seconds", "p99_seconds"):
        assert [value is None for value in series[name]] == [not count for count in series["count"]]


def test_the_overview_lists_busy_routes_slow_requests_errors_and_costs(done: Filled) -> None:
    """Each of its lists leads on to what is behind the numbers."""
    found = done.get("/overview")
    spent = [row["mean_seconds"] * row["count"] for row in found["routes"]]
    assert spent == sorted(spent, reverse=True)
    durations = [row["duration_seconds"] for row in found["slowest"]]
    assert durations == done.durations("request")[:-11:-1]
    assert [group["title"] for group in found["error_groups"]] == ["ValueError: no such funder"]
    tokens = LLM_CALLS * 1_250
    assert found["llm"] == {"calls": LLM_CALLS, "tokens": tokens, "cost_usd": pytest.approx(COST), "errors": 0}
    assert found["health"] == {"status": "pass"}
    assert found["alerts"] == []


def test_meta_tells_of_the_pack_itself(done: Filled) -> None:
    """Service, environment, version, leader, drops, and how large the store is."""
    meta = done.get("/overview")["meta"]
    assert (meta["service"], meta["environment"], meta["degraded"]) == ("proposals", "production", [])
    assert (meta["facts_dropped"], meta["lines_dropped"]) == (0, 0)
    assert meta["version"]
    assert meta["store_bytes"] > 0
    assert 0 <= meta["last_flush_seconds"] < 600
    assert abs(meta["now"] - time.time()) < 60


# Routes


def test_routes_have_the_counts_statuses_and_bytes_of_each_route(done: Filled) -> None:
    """Every route and method is there once, with exactly what was answered."""
    rows = done.get("/routes")["routes"]
    assert {(row["method"], row["route"]): row["status"] for row in rows} == REQUESTS
    for row in rows:
        wanted = {"method": row["method"], "route": row["route"]}
        errors = ERRORS if row["route"] == "/crash" else 0
        assert_stats(row, done.durations("request", **wanted), errors)
        assert row["bytes_sent"] == sum(one.bytes_sent for one in done.of("request", **wanted))


def test_databases_are_listed_by_statement(done: Filled) -> None:
    """One statement, five calls, one of them failed."""
    (row,) = done.get("/routes")["databases"]
    names = ("kind", "name", "system", "operation")
    assert [row[name] for name in names] == ["db", "SELECT funders", "sqlite", "SELECT"]
    assert_stats(row, done.durations("db"), errors=1)
    assert (row["slow"], row["repeated"]) == (sum(one > 0.5 for one in done.durations("db")), 0)


def test_routes_tell_how_many_statements_their_requests_sent(done: Filled) -> None:
    """Of those that sent any, one each."""
    counted = Counter(one.route for one in done.of("request") if one.db_calls)
    assert counted
    for row in done.get("/routes")["routes"]:
        number = counted[row["route"]]
        one = {"requests": number, "mean": 1.0, "p50": 1, "p95": 1, "repeated": 0}
        none = {"requests": 0, "mean": None, "p50": None, "p95": None, "repeated": 0}
        assert row["queries"] == (one if number else none)
        found = done.get("/route", route=row["route"])
        assert (found["queries"], found["repeated"]) == (row["queries"], [])


def test_repeated_statements_are_found_by_route_and_request(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the lists by statement and route, and in the request itself with the place."""
    from tests.support import filled as support

    def repeat(done: Filled) -> None:
        edge = done.monitoring.edge
        assert edge is not None
        record = edge.begin("GET", "/funders/1")
        token = current_record.set(record)
        for _ in range(4):
            call = DatabaseCall(time.perf_counter())
            call.name, call.operation, call.statement = "SELECT funders", "SELECT", "SELECT a FROM funders"
            done.monitoring.recorder.record(call)
        current_record.reset(token)
        record.status = 200
        edge.finish(record, "/funders/{id}")
        done.ids["/funders/{id}"] = [record.request_id]

    monkeypatch.setattr(support, "do_everything", repeat)
    with filled(tmp_path / "store", repeated_queries=3) as done:
        (row,) = done.get("/routes")["databases"]
        found = done.get("/route", route="/funders/{id}", method="GET")
        (finding,) = done.get(f"/requests/{done.ids['/funders/{id}'][0]}")["findings"]
    assert (row["slow"], row["repeated"]) == (0, 1)
    assert found["repeated"] == [{"name": "SELECT funders", "requests": 1}]
    assert (finding["kind"], finding["times"]) == ("repeated", 4)
    assert finding["place"].startswith(__file__)


def test_caches_have_their_hit_rate(done: Filled) -> None:
    """Three of four keys were found each time."""
    (row,) = done.get("/routes")["caches"]
    assert (row["cache"], row["system"], row["hits"], row["misses"]) == ("profiles", "redis", 15, 5)
    assert row["hit_rate"] == 0.75
    assert row["prefixes"] == [{"prefix": "users", "hits": 10, "misses": 5, "hit_rate": 10 / 15}]
    assert_stats(row, done.durations("cache"))


def test_outgoing_calls_are_listed_by_host(done: Filled) -> None:
    """Calls that were answered and the one that was not are one row."""
    (row,) = done.get("/routes")["http"]
    names = ("kind", "name", "system", "operation")
    assert [row[name] for name in names] == ["http", "GET api.example.org", "api.example.org", "GET"]
    assert_stats(row, done.durations("http"), errors=1)


def test_lists_that_are_whole_say_so(done: Filled) -> None:
    """Nothing is left out here."""
    assert done.get("/routes")["truncated"] is False
    assert done.get("/errors")["truncated"] is False


# One route


def test_a_route_has_its_own_numbers(done: Filled) -> None:
    """Stats, statuses, series and requests are those of the route alone."""
    found = done.get("/route", route="/proposals/{id}", method="GET")
    assert (found["route"], found["method"], found["status"]) == ("/proposals/{id}", "GET", {"200": 20})
    assert_stats(found["stats"], done.durations("request", route="/proposals/{id}"))
    assert sum(found["series"]["count"]) == 20
    assert found["previous"]["count"] == 0
    assert {row["request_id"] for row in found["requests"]} == set(done.ids["/proposals/{id}"])


def test_a_route_without_a_method_is_all_of_its_methods(tmp_path: Any) -> None:
    """The statuses of both methods are added up."""
    with filled(tmp_path / "store") as done:
        done.ask("POST", "/proposals/7", "/proposals/{id}")
        done.monitoring.flush()
        found = done.get("/route", route="/proposals/{id}")
        assert found["stats"]["count"] == 21
        assert found["status"] == {"200": 20, "405": 1}


def test_a_route_that_nobody_asked_for_is_empty(done: Filled) -> None:
    """No request is no error."""
    found = done.get("/route", route="/nothing", method="GET")
    assert (found["stats"]["count"], found["status"], found["requests"]) == (0, {}, [])


# Requests


def routes_of(rows: Sequence[dict[str, Any]]) -> Counter[str]:
    """Count rows by their route."""
    return Counter(row["route"] for row in rows)


def test_requests_are_listed_newest_first_with_all_fields(done: Filled) -> None:
    """Each row has the fields of the contract, and the ID that the client got."""
    rows = done.get("/requests")["requests"]
    assert [row["request_id"] for row in rows[:1]] == done.ids["/missing"]
    assert {row["request_id"] for row in rows} == {id for ids in done.ids.values() for id in ids}
    assert {frozenset(row) for row in rows} == {frozenset(KEPT)}


def test_a_row_sums_up_what_its_request_did(done: Filled) -> None:
    """Calls, tokens and cost are those of the request."""
    (first, *_) = done.get("/requests", route="/proposals", order="slowest")["requests"]
    assert (first["db_calls"], first["cache_hits"], first["cache_misses"], first["llm_calls"]) == (1, 3, 1, 1)
    assert first["db_seconds"] == pytest.approx(0.02, rel=0.1)
    assert (first["llm_tokens"], first["llm_cost_usd"]) == (1_250, 0.0125)
    assert (first["status"], first["outcome"], first["method"]) == (201, "ok", "POST")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"route": "/proposals/{id}"}, {"/proposals/{id}": 20}),
        ({"method": "POST"}, {"/proposals": 4}),
        ({"status": "5xx"}, {"/crash": 2}),
        ({"status": "404"}, {"/missing": 1}),
        ({"status": "2xx", "method": "POST"}, {"/proposals": 4}),
        ({"outcome": "client_error"}, {"/missing": 1}),
        ({"kind": "llm"}, {"/proposals": 4}),
        ({"kind": "llm", "name": "chat gpt-4o"}, {"/proposals": 4}),
        ({"kind": "llm", "name": "chat other"}, {}),
        ({"kind": "db", "name": "SELECT funders"}, {"/proposals": 4}),
        ({"kind": "agent", "name": "writer"}, {"/proposals": 4}),
        ({"kind": "cache"}, {"/proposals": 4}),
        ({"kind": "http"}, {"/proposals": 4}),
        ({"min_seconds": "1000"}, {}),
        ({"error_group": "unknown"}, {}),
        ({"user": "alice"}, {"/proposals": 3}),
        ({"user": "nobody"}, {}),
        ({"from": "-2h", "to": "-1h"}, {}),
    ],
)
def test_requests_are_filtered(done: Filled, wanted: dict[str, str], expected: dict[str, int]) -> None:
    """Each filter leaves those that fit, and filters together leave what fits all of them."""
    assert routes_of(done.get("/requests", **wanted)["requests"]) == expected


def test_requests_are_filtered_by_duration(done: Filled) -> None:
    """The bound itself is included."""
    median = exact(done.durations("request"), 0.5)
    found = done.get("/requests", min_seconds=repr(median))["requests"]
    assert len(found) == sum(duration >= median for duration in done.durations("request"))


def test_requests_are_filtered_by_the_user_as_the_store_has_them(done: Filled) -> None:
    """What a row shows as its user finds the others of this user."""
    with done.monitoring.open_database().reading() as connection:
        stored = hashed("bob", user_key(connection))
    rows = done.get("/requests", user=stored)["requests"]
    assert [row["user"] for row in rows] == [stored]


def test_requests_are_filtered_by_their_errors_group(done: Filled) -> None:
    """From a group to the requests it happened in."""
    (group,) = done.get("/errors")["groups"]
    rows = done.get("/requests", error_group=group["id"])["requests"]
    assert {row["request_id"] for row in rows} == set(done.ids["/crash"])


def test_the_slowest_come_first_when_asked_for(done: Filled) -> None:
    """All of them, in order."""
    rows = done.get("/requests", order="slowest")["requests"]
    assert [row["duration_seconds"] for row in rows] == done.durations("request")[::-1]


@pytest.mark.parametrize(
    ("limit", "shown", "truncated"), [(26, 26, True), (27, 27, False), (28, 27, False), (0, 1, True)]
)
def test_a_list_says_whether_there_is_more(done: Filled, limit: int, shown: int, truncated: bool) -> None:
    """As many as there are is not fewer than there are."""
    found = done.get("/requests", limit=limit)
    assert (len(found["requests"]), found["truncated"]) == (shown, truncated)


def test_no_list_of_requests_is_longer_than_a_hundred(tmp_path: Any) -> None:
    """Whatever limit is asked for."""
    with filled(tmp_path / "store") as done:
        for number in range(100):
            done.ask("GET", f"/proposals/{number}", "/proposals/{id}")
        done.monitoring.flush()
        found = done.get("/requests", limit=1e6)
        assert (len(found["requests"]), found["truncated"]) == (100, True)


# One request


def test_a_request_opens_into_its_calls(done: Filled) -> None:
    """The waterfall: every call and block with its offset, its parent and its detail."""
    found = done.get(f"/requests/{done.ids['/proposals'][0]}")
    spans = {span["kind"]: span for span in found["spans"]}
    assert sorted(spans) == ["agent", "cache", "db", "http", "llm", "operation"]
    parents = {kind: found["spans"][span["parent"]]["kind"] for kind, span in spans.items() if span["parent"] >= 0}
    assert parents == {"db": "agent", "cache": "agent", "http": "agent", "llm": "agent", "agent": "operation"}
    statement = "SELECT * FROM funders WHERE id = ?"
    assert spans["db"]["detail"] == {"system": "sqlite", "operation": "SELECT", "statement": statement, "rows": 3}
    assert spans["cache"]["detail"] == {"cache": "profiles", "system": "redis", "hits": 3, "misses": 1}
    assert spans["http"]["detail"] == {"method": "GET", "host": "api.example.org", "status": 200}
    assert spans["operation"]["detail"]["funder"] == "NSF"
    assert {
        "provider": "openai",
        "model": "gpt-4o",
        "input_tokens": 1_000,
        "output_tokens": 250,
        "cost_usd": 0.0125,
        "streamed": True,
        "first_chunk_seconds": 0.1,
        "agent": "writer",
    }.items() <= spans["llm"]["detail"].items()
    assert [span["offset_seconds"] for span in found["spans"]] == sorted(
        span["offset_seconds"] for span in found["spans"]
    )


def test_a_request_has_its_lines_its_process_and_its_baseline(done: Filled) -> None:
    """What was logged in it is there as objects, and how its route does otherwise."""
    found = done.get(f"/requests/{done.ids['/proposals'][0]}")
    assert found.keys() >= KEPT
    assert "proposal written" in [line["event"] for line in found["lines"]]
    assert found["trace_id"]
    assert (found["path"], found["bytes_sent"], found["spans_dropped"], found["error"]) == ("/proposals", 2, 0, None)
    assert found["process"].endswith(f":{done.monitoring.background.flusher.process.split(':')[1]}")
    assert found["baseline"]["count"] == 4


def test_a_failed_request_opens_into_its_error(done: Filled) -> None:
    """The stack, with the line of the app that failed."""
    found = done.get(f"/requests/{done.ids['/crash'][0]}")
    error = found["error"]
    assert (error["message"], error["request_id"], error["route"]) == (
        "no such funder",
        found["request_id"],
        "/crash",
    )
    assert error["stack"][0]["frames"][-1]["function"] == "crash"


def test_a_request_that_was_not_kept_is_not_found(done: Filled) -> None:
    """The answer says what is kept."""
    response = done.api().get("/monitoring/api/v1/requests/unknown")
    assert response.status_code == 404
    expected = "The request unknown is not kept: only failed, slow and sampled ones are."
    assert response.json() == {"error": expected}


# Errors


def test_errors_are_grouped_and_counted(done: Filled) -> None:
    """One cause is one group, seen twice, and the series adds up to it."""
    found = done.get("/errors")
    (group,) = found["groups"]
    assert (group["count"], group["recent_count"], group["status"], group["type"]) == (2, 2, "open", "ValueError")
    assert group["culprit"].endswith("filled.crash")
    assert (group["level"], group["category"]) == ("error", "code")
    assert group["first_seen"] <= group["last_seen"]
    assert sum(found["series"]["count"]) == 2


@pytest.mark.parametrize(("status", "count"), [("open", 1), ("resolved", 0), ("all", 1)])
def test_errors_are_filtered_by_status(done: Filled, status: str, count: int) -> None:
    """An open group is not among the resolved ones."""
    assert len(done.get("/errors", status=status)["groups"]) == count


def test_errors_of_another_time_are_not_listed(done: Filled) -> None:
    """Only those that were seen in the time."""
    assert done.get("/errors", **{"from": "-2h", "to": "-1h"})["groups"] == []


def test_a_group_has_its_reasons_its_frequency_and_its_events(done: Filled) -> None:
    """Why it is a group, when it was seen, and the newest occurrences with their requests."""
    (group,) = done.get("/errors")["groups"]
    found = done.get(f"/errors/{group['id']}")
    assert found["why"]
    assert sum(found["frequency"]["count"]) == 2
    assert [event["request_id"] for event in found["events"]] == done.ids["/crash"][::-1]
    assert {name: found[name] for name in group} == group


def test_an_unknown_group_is_not_found(done: Filled) -> None:
    """The answer says where groups are listed."""
    response = done.api().get("/monitoring/api/v1/errors/unknown")
    assert (response.status_code, response.json()) == (
        404,
        {"error": "There is no error group unknown; /errors lists them."},
    )


# Language models


def test_models_have_their_tokens_their_cost_and_their_times(done: Filled) -> None:
    """A model without a price costs an unknown amount, which is not 0."""
    priced, unpriced = done.get("/llm")["models"]
    assert (priced["provider"], priced["model"], priced["operation"]) == ("openai", "gpt-4o", "chat")
    assert (priced["calls"], priced["input_tokens"], priced["output_tokens"]) == (5, 5_000, 1_250)
    assert (priced["cost_usd"], priced["unpriced_calls"]) == (pytest.approx(COST), 0)
    assert priced["p50_seconds"] == pytest.approx(0.4, rel=0.05)
    assert priced["first_chunk_p50_seconds"] == pytest.approx(0.1, rel=0.02)
    assert (unpriced["model"], unpriced["cost_usd"], unpriced["unpriced_calls"]) == ("llama-local", None, 1)


def test_a_stream_that_was_left_is_no_error(done: Filled) -> None:
    """Whoever reads a stream may stop: the model did not fail."""
    found = done.get("/llm")
    assert (found["totals"]["errors"], found["models"][0]["errors"]) == (0, 0)


def test_the_totals_and_the_series_are_of_all_models(done: Filled) -> None:
    """Each call is in one bucket."""
    found = done.get("/llm")
    assert found["totals"] == {
        "calls": LLM_CALLS,
        "errors": 0,
        "input_tokens": 6_000,
        "output_tokens": 1_500,
        "cost_usd": pytest.approx(COST),
        "unpriced_calls": 1,
        "usage_missing": 0,
    }
    series = found["series"]
    assert (sum(series["calls"]), sum(series["tokens"])) == (LLM_CALLS, 7_500)
    assert sum(series["cost_usd"]) == pytest.approx(COST)
    assert {after - before for before, after in zip(series["t"], series["t"][1:])} == {60}


def test_agents_have_what_was_used_inside_of_them(done: Filled) -> None:
    """The calls outside of any agent are nobody's."""
    (agent,) = done.get("/llm")["agents"]
    assert (agent["agent"], agent["runs"], agent["errors"], agent["llm_calls"]) == ("writer", 4, 0, 4)
    assert (agent["tokens"], agent["cost_usd"]) == (5_000, pytest.approx(0.05))
    durations = done.durations("agent")
    assert agent["p50_seconds"] == pytest.approx(exact(durations, 0.5), rel=0.02)
    assert agent["p95_seconds"] == pytest.approx(exact(durations, 0.95), rel=0.02)


def test_without_any_price_the_cost_is_unknown(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nowhere is an unknown cost shown as 0."""
    from tests.support import filled as support

    monkeypatch.setattr(support, "do_everything", lambda done: support.report_llm_call("llama-local", cost=None))
    with filled(tmp_path / "store") as done, done.monitoring.agent("writer"):
        support.report_llm_call("llama-local", cost=None)
    with filled(tmp_path / "store") as done:
        assert done.get("/overview")["llm"]["cost_usd"] is None
        found = done.get("/llm")
        assert found["totals"]["cost_usd"] is None
        assert [row["cost_usd"] for row in (*found["models"], *found["agents"])] == [None, None]


def llm_of(made: monitoring.Monitoring) -> Any:
    """Return what the API tells of language models."""
    with TestClient(made.dashboard_app()) as client:
        return client.get("/api/v1/llm", headers=BEARER).json()


def test_tools_have_their_calls_and_their_errors(tmp_path: Path) -> None:
    """The busiest first; those outside of agents, too."""
    with use(store=str(tmp_path), token=TOKEN) as made:
        for fails in (False, False, True):
            with contextlib.suppress(LookupError), monitoring.observe("search", tool=True):
                if fails:
                    raise LookupError
        with monitoring.agent("writer"), monitoring.observe("fetch", tool=True):
            pass
        made.flush()
        tools = [(one["tool"], one["calls"], one["errors"]) for one in llm_of(made)["tools"]]
    assert tools == [("search", 3, 1), ("fetch", 1, 0)]


def test_budgets_tell_how_they_stand(tmp_path: Path) -> None:
    """Users by their hash alone; an unknown cost is not 0, and calls without a price are counted."""
    budgets = [Budget(2, per="hour"), Budget(1, by="user", refuse=True), Budget(3, by="agent")]
    with use(store=str(tmp_path), budgets=budgets, token=TOKEN) as made:
        with monitoring.log_request("import"):
            monitoring.set_user("ada")
            for cost in ("0.5", "0.25", None):
                report_llm_call(cost=cost)
        with monitoring.agent("writer"):
            report_llm_call(cost=None)
        made.flush()
        found = llm_of(made)["budgets"]
    in_all, by_user, by_agent = found
    assert (in_all["name"], in_all["usd"], in_all["per"], in_all["by"], in_all["refuse"]) == (
        "all/hour",
        2,
        "hour",
        "",
        False,
    )
    assert (in_all["share"], in_all["calls"], in_all["unpriced_calls"]) == (0.375, 4, 2)
    assert in_all["until"] - in_all["since"] == 3_600
    (user,) = by_user["spent"]
    assert (user["spent_usd"], user["share"], len(user["value"])) == (0.75, 0.75, 16)
    assert user["value"] != "ada"
    assert by_agent["spent"] == [{"value": "writer", "spent_usd": None, "share": 0, "calls": 1, "unpriced_calls": 1}]


# Usage


def test_usage_counts_each_user_once(done: Filled) -> None:
    """Alice came three times and is one of three users; Carol is known by what was reported of her alone."""
    found = done.get("/usage")
    assert found["active_users"] == {"day": 3, "week": 3, "month": 3}
    series = found["active_series"]
    assert (len(series["t"]), len(series["users"])) == (30, 30)
    assert series["t"][-1] == datetime.now(UTC).date().isoformat()
    assert (series["users"][-1], sum(series["users"])) == (3, 3)


def test_features_and_events_are_counted(done: Filled) -> None:
    """By use, by user, and by the share of those who were active."""
    found = done.get("/usage")
    (feature,) = found["features"]
    today = datetime.now(UTC).date().isoformat()
    assert feature == {"feature": "search", "uses": 4, "users": 2, "share_of_active": 2 / 3, "first_used": today}
    assert found["events"] == [{"event": "export", "count": 2}]


def test_users_of_a_feature_are_those_of_the_days_that_are_asked_for(tmp_path: Any) -> None:
    """Whoever came later is in no past number."""
    noon = 1_800_057_600.0 + 43_200
    with use(store=str(tmp_path / "store")) as made:
        made.metrics.add(families.FEATURES, ("search",), 3.0)
        Periods(made).roll_up(noon)
        with made.open_database().writing() as connection:
            for day, user, feature in (
                ("2027-01-15", "ana", ""),
                ("2027-01-16", "ana", ""),
                ("2027-01-16", "ana", "search"),
                ("2027-01-16", "bob", ""),
                ("2027-01-17", "eve", ""),
                ("2027-01-17", "eve", "search"),
            ):
                connection.execute(schema.activity.insert().values(day=day, user=user, feature=feature, count=1))
        (feature,) = made.analytics.features(noon - 60, noon + 60)
    assert (feature.uses, feature.users, feature.share_of_active, feature.first_used) == (3, 1, 0.5, "2027-01-16")


def test_operations_have_their_outcomes_by_funder(done: Filled) -> None:
    """The success rate is of those that ended, the times are those of successful ones."""
    (operation,) = done.get("/usage")["operations"]
    assert (operation["operation"], operation["ok"], operation["failed"], operation["abandoned"]) == (
        "proposal.generate",
        3,
        2,
        0,
    )
    assert (operation["open"], operation["success_rate"]) == (0, pytest.approx(0.6))
    durations = done.durations("operation", outcome="ok")
    assert operation["p50_seconds"] == pytest.approx(exact(durations, 0.5), rel=0.02)
    by_funder = {row["value"]: (row["ok"], row["failed"]) for row in operation["dimensions"]["funder"]}
    assert by_funder == {"NSF": (FUNDERS.count("NSF"), 1), "NIH": (FUNDERS.count("NIH"), 1)}
    rates = {row["value"]: row["success_rate"] for row in operation["dimensions"]["funder"]}
    assert rates == {"NSF": pytest.approx(2 / 3), "NIH": 0.5}


def test_single_operations_lead_to_their_requests(done: Filled) -> None:
    """The newest first, each with the request it happened in."""
    rows = done.get("/operations", name="proposal.generate")["operations"]
    assert [row["outcome"] for row in rows] == ["failed", "failed", "ok", "ok", "ok"]
    assert [row["request_id"] for row in rows] == ["", *done.ids["/proposals"][::-1]]
    assert [row["reason"] for row in rows] == ["never mind", "too long", "", "", ""]
    fields = {"id", "name", "started_at", "outcome", "duration_seconds", "reason", "user", "dimensions", "request_id"}
    assert rows[0].keys() == fields


def test_single_operations_are_filtered_by_a_dimension(done: Filled) -> None:
    """Only those of one funder."""
    rows = done.get("/operations", name="proposal.generate", **{"value.funder": "NIH"})["operations"]
    assert [row["dimensions"] for row in rows] == [{"funder": "NIH"}, {"funder": "NIH"}]


# Health, alerts, system, search


def test_checks_have_their_history(tmp_path: Any) -> None:
    """How each stands, how it stood, and the share of the day in which it did not fail."""
    now = time.time()
    with filled(tmp_path / "store") as done:
        with done.monitoring.open_database().writing() as connection:
            for since, until, status in ((now - 400, now - 100, "pass"), (now - 100, now, "fail")):
                health.note(connection, [CheckState("database", since, until, status, True, 0.25, "gone")])
        found = done.get("/health")
    (check,) = found["checks"]
    assert (found["status"], check["status"], check["critical"], check["output"]) == ("fail", "fail", True, "gone")
    assert (check["name"], check["duration_seconds"], check["checked_at"]) == ("database", 0.25, now)
    assert check["uptime_24h"] == check["uptime_365d"] == pytest.approx(0.75)
    assert check["times"]["30d"]["down"] == pytest.approx(100, abs=1)
    assert [span["status"] for span in check["history"]] == ["pass", "fail"]
    assert found["uptime_seconds"] >= 0


def test_a_check_has_a_timeline(tmp_path: Any) -> None:
    """Of minutes here, with the seconds in which it stood in each way; another name is not found."""
    now = time.time()
    with filled(tmp_path / "store") as done:
        with done.monitoring.open_database().writing() as connection:
            for since, until, status in ((now - 400, now - 100, "pass"), (now - 100, now, "fail")):
                health.note(connection, [CheckState("database", since, until, status, True, 0.25, "gone")])
        found = done.get("/health/database", **{"from": "-1h"})
        assert done.api().get("/monitoring/api/v1/health/other").status_code == 404
    assert found["resolution_seconds"] == 60
    assert sum(bucket["down"] for bucket in found["buckets"]) == pytest.approx(100, abs=1)


def test_alerts_list_the_rules_with_their_numbers(done: Filled) -> None:
    """The default rules, each with what its number is now."""
    found = done.get("/alerts")
    rules = {rule["name"]: rule for rule in found["rules"]}
    assert rules["error_rate"]["value"] == pytest.approx(ERRORS / COUNT)
    assert rules["new_errors"]["value"] == 1
    assert rules["operation_success_rate"]["value"] == pytest.approx(0.6)
    assert (found["open"], found["recent"], found["silences"], found["channels"]) == ([], [], [], [])


def test_an_unknown_alert_is_not_found(done: Filled) -> None:
    """The answer says where alerts are listed."""
    response = done.api().get("/monitoring/api/v1/alerts/unknown")
    assert (response.status_code, response.json()) == (404, {"error": "There is no alert unknown; /alerts lists them."})


def test_system_tells_of_the_machine_the_processes_and_the_store(done: Filled) -> None:
    """Numbers with their units, and every table of the store."""
    found = done.get("/system")
    assert 0 <= found["system"]["cpu_share"] <= 1
    assert 0 < found["system"]["memory_used_bytes"] < found["system"]["memory_total_bytes"]
    assert 0 < found["system"]["disk_used_bytes"] < found["system"]["disk_total_bytes"]
    tables = {table["name"]: table["rows"] for table in found["store"]["tables"]}
    assert (tables["request"], tables["error_event"], tables["event"], tables["operation"]) == (COUNT, 2, 2, 5)
    assert found["store"]["place"].endswith("monitoring.db")
    assert {row["name"]: row["value"] for row in found["own"]}["monitoring_facts_dropped_total"] == 0
    series = found["series"]
    assert len({len(values) for values in series.values()}) == 1
    assert max(value for value in series["memory_bytes"] if value is not None) > 1e6


@pytest.mark.parametrize("padding", ["", "  "])
def test_search_finds_a_request_and_a_group(done: Filled, padding: str) -> None:
    """By the exact ID, whatever spaces came along with it."""
    request_id = done.ids["/crash"][0]
    assert done.get("/search", q=f"{padding}{request_id}") == {"request_id": request_id, "error_group": None}
    (group,) = done.get("/errors")["groups"]
    assert done.get("/search", q=f"{padding}{group['id']}") == {"request_id": None, "error_group": group["id"]}


@pytest.mark.parametrize("text", ["", " ", "nothing", "%", "' OR 1=1 --"])
def test_search_finds_nothing_else(done: Filled, text: str) -> None:
    """Neither a part nor a pattern is an ID."""
    assert done.get("/search", q=text) == {"request_id": None, "error_group": None}


# The time that is asked for


@pytest.mark.parametrize("since", ["-15m", "-1h", "-24h", "-7d", "-30d", "-3600s", "an hour ago"])
def test_each_form_of_a_time_holds_all_requests(done: Filled, since: str) -> None:
    """Relative or absolute, short or long: no request is lost, and none is counted twice."""
    since = str(time.time() - 3600) if since == "an hour ago" else since
    assert done.get("/overview", **{"from": since, "to": "now"})["requests"]["count"] == COUNT


@pytest.mark.parametrize("path", ["/overview", "/routes", "/llm", "/usage"])
def test_a_time_in_which_nothing_happened_is_empty(done: Filled, path: str) -> None:
    """What is empty has no percentile, no rate and no row."""
    found = done.get(path, **{"from": "-3d", "to": "-2d"})
    rows = [found.get(name, []) for name in ("routes", "databases", "models", "agents", "features", "events")]
    assert not any(rows)
