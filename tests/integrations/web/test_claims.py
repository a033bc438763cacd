"""One list of claims about ``install``, run over the frameworks of the kits: seam, routes, errors, own paths."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import monitoring
from tests.integrations.web.installer import STEPS_ASIDE, Installer
from tests.integrations.web.kits.kit import Client, Kit
from tests.integrations.web.kits.of_aiohttp import AiohttpKit
from tests.integrations.web.kits.of_litestar import LitestarKit
from tests.integrations.web.kits.of_quart import QuartKit
from tests.integrations.web.kits.of_starlette import StarletteKit
from tests.support.processes import poll

TOKEN = "secret-of-the-test"
BEARER = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(params=[StarletteKit(), LitestarKit(), QuartKit(), AiohttpKit()], ids=lambda kit: kit.name)
def kit(request: pytest.FixtureRequest) -> Kit:
    """Each of the frameworks."""
    kit: Kit = request.param
    return kit


@pytest.fixture
def client(kit: Kit, install: Installer) -> Iterator[Client]:
    """A client of the standard app, with the pack installed."""
    app = kit.app()
    install(app, service="proposals", token=TOKEN)
    with kit.serving(app) as client:
        yield client


# The seam


def test_the_app_keeps_its_type_and_answers_with_the_id(kit: Kit, install: Installer) -> None:
    """``install`` works in place."""
    app = kit.app()
    kind = type(app)
    install(app)
    assert type(app) is kind
    with kit.serving(app) as client:
        answer = client.ask("/items/7")
    assert answer.request_id == answer.text
    assert install.requests == [(kit.names["item"], 200, "ok")]


def test_installed_twice_is_once(kit: Kit, install: Installer) -> None:
    """The second call returns the same Monitoring, and a request is observed once."""
    app = kit.app()
    first = install(app)
    assert monitoring.install(app, service="another") is first
    assert monitoring.current() is first
    with kit.serving(app) as client:
        assert client.ask("/items/7").request_id
    assert len(install.requests) == 1


def test_a_subclass_is_wired(kit: Kit, install: Installer) -> None:
    """An app is recognised by its base classes."""
    app = kit.subclass()
    install(app)
    with kit.serving(app) as client:
        assert client.ask("/").request_id
    assert type(app).__name__ == "Own"


def test_a_setting_that_cannot_be_used_leaves_the_app_alone(kit: Kit) -> None:
    """The error comes before anything is wired."""
    app = kit.app()
    with pytest.raises(monitoring.ConfigError, match="log_level must be"):
        monitoring.install(app, log_level="loud")
    with kit.serving(app) as client:
        assert client.ask("/items/7").values("x-request-id") == []


def test_two_apps_have_a_monitoring_each(kit: Kit, install: Installer, tmp_path: Path) -> None:
    """Each observes its own requests; the one that was installed last is the current one."""
    first, second = kit.app(), kit.app()
    former = install(first)
    settings = {"log_destination": str(tmp_path / "other"), "cells_folder": str(tmp_path / "other cells")}
    other = monitoring.install(second, **settings)
    assert monitoring.current() is other
    for app in (first, second):
        with kit.serving(app) as client:
            client.ask("/items/1")
    assert len(install.requests) == 1
    former.close()


def test_hooks_of_the_app_s_life_run_as_before(kit: Kit, install: Installer) -> None:
    """Once each, and the app is ready in between."""
    hooks: list[str] = []
    app = kit.hooked(hooks)
    made = install(app)
    with kit.serving(app) as client:
        assert hooks == ["startup"]
        assert made.lifecycle.readiness() == ("pass", "")
        assert client.ask("/health/ready").text == '{"status": "pass"}'
    assert hooks == ["startup", "shutdown"]


# Routes


def test_routes_that_are_declared_after_install_are_known(kit: Kit, install: Installer) -> None:
    """``install`` right after the app is made is the usual place."""
    app = kit.bare()
    install(app)
    kit.add(app, "/late")
    with kit.serving(app) as client:
        client.ask("/late")
    assert install.routes == ["/late"]


def test_two_paths_of_a_route_are_one_name(kit: Kit, client: Client, install: Installer) -> None:
    """Its template."""
    client.ask("/items/1")
    client.ask("/items/2")
    assert install.routes == [kit.names["item"]] * 2


def test_nested_groups_of_routes_are_part_of_the_name(kit: Kit, client: Client, install: Installer) -> None:
    """With prefixes nested twice."""
    answer = client.ask("/api/v1/acme/items/7")
    assert answer.request_id == answer.text
    assert install.routes == [kit.names["nested"]]


def test_what_no_route_matches_is_unmatched(client: Client, install: Installer) -> None:
    """At the top and inside a group; the path is on the line and no label."""
    for path in ("/nowhere", "/api/nowhere", "/items/seven"):
        assert client.ask(path).request_id
    assert install.requests == [("(unmatched)", 404, "client_error")] * 3
    assert [line["path"] for line in install.lines("request")] == ["/nowhere", "/api/nowhere", "/items/seven"]


def test_a_method_that_a_route_does_not_take_is_a_client_error(kit: Kit, client: Client, install: Installer) -> None:
    """Named where the framework names it."""
    client.ask("/items/7", method="DELETE")
    assert install.requests == [(kit.names["item"] if kit.names_405 else "(unmatched)", 405, "client_error")]


# Outcomes and errors


def test_what_the_app_answers_is_the_outcome(client: Client, install: Installer) -> None:
    """Redirects, refusals and empty answers keep their route."""
    for path in ("/redirect", "/teapot", "/empty"):
        assert client.ask(path).request_id
    assert install.requests == [("/redirect", 302, "ok"), ("/teapot", 418, "client_error"), ("/empty", 204, "ok")]


def test_the_answer_to_head_is_ok_and_has_no_bytes(kit: Kit, install: Installer) -> None:
    """Whatever the app says to it."""
    app = kit.app()
    install(app)
    with kit.serving(app) as client:
        client.ask("/redirect", method="HEAD")
    (line,) = install.lines("request")
    assert (line["method"], line["bytes"]) == ("HEAD", 0)


def test_an_unhandled_500_carries_the_id_and_its_line_has_the_same_one(
    kit: Kit, client: Client, install: Installer
) -> None:
    """The page, the error's line and the request's line name one ID."""
    answer = client.ask("/fail/now")
    (error,), (line,) = install.lines("unhandled exception"), install.lines("request")
    assert answer.status == 500
    assert error["request_id"] == line["request_id"] == answer.request_id
    assert error["exception"][0]["type"] == "RuntimeError"
    assert (line["route"], line["error_type"]) == (kit.names["fail"], "RuntimeError")
    assert install.requests == [(kit.names["fail"], 500, "server_error")]
    assert line["bytes"] == len(answer.text)


def test_an_unhandled_exception_is_kept_with_its_stack(client: Client, install: Installer) -> None:
    """Down to the view that raised it."""
    client.ask("/fail/now")
    (one,) = [error for error in install.sink.of_kind("request") if error.exception is not None]
    assert one.exception is not None
    frames, here = [], one.exception.__traceback__
    while here is not None:
        frames.append(here.tb_frame.f_code.co_name)
        here = here.tb_next
    assert frames[-1] == "fail"


def test_an_error_that_the_app_handles_is_its_status(client: Client, install: Installer) -> None:
    """An error handler makes a response of it."""
    assert client.ask("/handled").text == "later"
    assert install.requests == [("/handled", 503, "server_error")]


def test_the_level_of_a_request_s_line_is_that_of_its_outcome(client: Client, install: Installer) -> None:
    """Success is info, what the client did wrong a warning, what the server did an error."""
    for path in ("/items/7", "/nowhere", "/fail/now"):
        client.ask(path)
    assert [line["level"] for line in install.lines("request")] == ["info", "warning", "error"]


def test_nothing_is_in_flight_when_all_is_answered(client: Client, install: Installer) -> None:
    """Whatever way it went."""
    for path in ("/items/7", "/nowhere", "/fail/now", "/stream/a", "/broken", "/empty", "/teapot"):
        client.ask(path)
    assert install.monitoring is not None
    series = install.monitoring.metrics.snapshot()["http_server_active_requests"].series
    assert [one.value for one in series] == [0.0] * len(series)
    assert len(install.requests) == 7


# Context and lines


def test_lines_of_the_view_have_the_request_s_id(client: Client, install: Installer) -> None:
    """structlog and stdlib alike, with the fields that were bound."""
    answer = client.ask("/log")
    (structlog_line,), (stdlib_line,) = install.lines("by structlog"), install.lines("by stdlib")
    for line in (structlog_line, stdlib_line):
        assert (line["request_id"], line["funder"]) == (answer.request_id, "NSF")


def test_the_line_of_a_request_tells_what_happened(client: Client, install: Installer) -> None:
    """One line, with the names of the contract; a late user is on it."""
    answer = client.ask("/log")
    (line,) = install.lines("request")
    expected = {
        "level": "info",
        "logger": "monitoring.request",
        "service": "proposals",
        "request_id": answer.request_id,
        "method": "GET",
        "route": "/log",
        "status": 200,
        "outcome": "ok",
        "user_id": "u1",
        "bytes": len("logged"),
        "db_calls": 0,
    }
    assert {key: line.get(key) for key in expected} == expected
    assert line["duration_ms"] > 0


def test_a_middleware_of_the_app_sees_the_id(client: Client) -> None:
    """Before and after the view."""
    answer = client.ask("/items/7")
    assert answer.values("x-seen") == [f"{answer.text} {answer.text}"]


def test_the_app_s_headers_stay_and_its_id_is_replaced(client: Client) -> None:
    """Two cookies survive, and there is one ID."""
    answer = client.ask("/own-header")
    assert [cookie.partition(";")[0] for cookie in answer.values("set-cookie")] == ["a=1", "b=2"]
    assert answer.request_id != "from-the-app"


def test_a_trusted_proxy_s_id_is_taken_over_and_its_trace_continued(kit: Kit, install: Installer) -> None:
    """The policy is the same for all."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    app = kit.app()
    install(app, trusted_proxies=("*",))
    headers = {"x-request-id": "from-the-proxy", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    with kit.serving(app) as client:
        answer = client.ask("/items/7", headers=headers)
    assert answer.request_id == answer.text == "from-the-proxy"
    assert [line["trace_id"] for line in install.lines("request")] == [trace]


def test_a_client_s_id_is_noted_and_not_taken_over(client: Client, install: Installer) -> None:
    """Nobody is trusted by default."""
    answer = client.ask("/items/7", headers={"x-request-id": "from-the-client"})
    assert answer.request_id != "from-the-client"
    assert [line["client_request_id"] for line in install.lines("request")] == ["from-the-client"]


def test_an_invalid_id_can_be_rejected(kit: Kit, install: Installer) -> None:
    """With 400, which is counted like any other answer."""
    app = kit.app()
    install(app, on_invalid_request_id="reject")
    with kit.serving(app) as client:
        answer = client.ask("/items/7", headers={"x-request-id": "not usable"})
    assert (answer.status, "send 1 to 128 of" in answer.text) == (400, True)
    assert [line["request_id"] for line in install.lines("request")] == [answer.request_id]
    assert install.requests == [("(unmatched)", 400, "client_error")]


# Streams


def test_a_stream_is_observed_to_its_end(kit: Kit, client: Client, install: Installer) -> None:
    """It has its route, its bytes, and the request's context in each piece and each line."""
    answer = client.ask("/stream/a")
    assert answer.text.split() == [answer.request_id] * 2
    assert install.requests == [(kit.names["stream"], 200, "ok")]
    assert [line["request_id"] for line in install.lines("in the stream")] == [answer.request_id] * 2
    (line,) = install.lines("request")
    assert line["bytes"] == 66
    assert line["first_byte_ms"] <= line["duration_ms"]


def test_a_stream_that_fails_is_an_error_after_the_start(client: Client, install: Installer) -> None:
    """The exception's line has the request's ID."""
    answer = client.ask("/broken")
    poll(lambda: install.requests, "the request's end")
    (error,), (line,) = install.lines("unhandled exception"), install.lines("request")
    assert install.requests == [("/broken", 200, "error_after_start")]
    assert error["request_id"] == line["request_id"] == answer.request_id


# Websockets


def test_a_websocket_has_its_id_and_its_route(kit: Kit, client: Client, install: Installer) -> None:
    """It is no request of the metrics, and the handshake carries the ID."""
    answer = client.converse("/room/blue", "hello")
    assert answer.request_id == answer.text
    poll(lambda: install.sink.of_kind("websocket"), "the websocket's end")
    (one,) = install.sink.of_kind("websocket")
    assert (one.name, one.outcome) == (kit.names["room"], "ok")
    assert install.requests == []


def test_a_websocket_that_fails_is_a_server_error(kit: Kit, client: Client, install: Installer) -> None:
    """With its exception, also where the framework handles that."""
    client.converse("/room/blue", "fail")
    poll(lambda: install.sink.of_kind("websocket"), "the websocket's end")
    (one,) = install.sink.of_kind("websocket")
    assert (one.name, one.outcome, str(one.exception)) == (kit.names["room"], "server_error", "boom")


def test_a_websocket_that_nobody_serves_is_a_client_error(client: Client, install: Installer) -> None:
    """And unmatched."""
    client.converse("/nowhere", "hello")
    poll(lambda: install.sink.of_kind("websocket"), "the websocket's end")
    (one,) = install.sink.of_kind("websocket")
    assert (one.name, one.outcome) == ("(unmatched)", "client_error")


# Own paths


def test_own_paths_are_answered_even_with_a_catch_all_route(kit: Kit, install: Installer) -> None:
    """The edge answers them itself, and does not observe them."""
    app = kit.bare()
    kit.add(app, "/{rest}")
    install(app, metrics_public=True)
    with kit.serving(app) as client:
        health = client.ask("/health/live")
        metrics = client.ask("/metrics")
        assert client.ask("/health/live", method="HEAD").text == ""
        assert client.ask("/anything/else").request_id
    assert (health.status, json.loads(health.text)) == (200, {"status": "pass"})
    assert health.values("content-type") == ["application/health+json"]
    assert health.values("x-request-id") == []
    assert metrics.values("content-type")[0].startswith("text/plain; version=")
    assert "monitoring_series" in metrics.text
    assert len(install.requests) == 1


def test_a_failing_check_shows(kit: Kit, install: Installer) -> None:
    """Status and headers pass."""
    app = kit.bare()
    made = install(app)

    @made.check("database", critical=True)
    def database_answers() -> None:
        raise ConnectionError("down")

    with kit.serving(app) as client:
        made.health.report()
        answer = client.ask("/health")
    assert (answer.status, json.loads(answer.text)) == (503, {"status": "fail"})
    assert answer.values("retry-after") == ["5"]


def test_metrics_need_the_token_and_count_the_requests_of_the_app(kit: Kit, client: Client) -> None:
    """What ``/metrics`` says is what was served."""
    for item in range(3):
        client.ask(f"/items/{item}")
    assert client.ask("/metrics").status == 401
    lines = client.ask("/metrics", headers=BEARER).text.splitlines()
    route = kit.names["item"]
    labels = f'http_request_method="GET",http_route="{route}",http_response_status_code="200",error_type=""'
    assert f"http_server_request_duration_seconds_count{{{labels}}} 3.0" in lines


def test_the_dashboard_is_answered_with_its_page_its_api_and_its_login(
    kit: Kit, install: Installer, tmp_path: Path
) -> None:
    """Also what is sent to it with a body."""
    app = kit.bare()
    install(app, token=TOKEN, store=str(tmp_path / "store"))
    with kit.serving(app) as client:
        assert client.ask("/monitoring").values("location")[0].endswith("/monitoring/")
        assert client.ask("/monitoring/").text.startswith("<!doctype html>")
        assert client.ask("/monitoring/api/v1/openapi.json").status == 401
        assert "openapi" in json.loads(client.ask("/monitoring/api/v1/openapi.json", headers=BEARER).text)
        login = json.dumps({"token": TOKEN}).encode()
        headers = {"content-type": "application/json"}
        answer = client.ask("/monitoring/api/v1/login", method="POST", body=login, headers=headers)
    assert (answer.status, len(answer.values("set-cookie"))) == (204, 1)
    assert install.requests == []


def test_the_app_s_own_health_stays_the_app_s(kit: Kit, install: Installer) -> None:
    """The edge steps aside for it, says so in one line, and observes it like any other route."""
    app = kit.bare()
    kit.add(app, "/health")
    install(app)
    with kit.serving(app) as client:
        answer = client.ask("/health")
        assert answer.text == answer.request_id
        assert client.ask("/metrics").status == 401
    assert install.routes == ["/health"]
    (line,) = install.lines(STEPS_ASIDE)
    assert (line["level"], line["logger"]) == ("warning", "monitoring")


def test_a_health_that_the_app_declares_after_install_stays_the_app_s(kit: Kit, install: Installer) -> None:
    """``install`` may come first in a file, before the routes; what the app declares then is not shadowed."""
    app = kit.bare()
    install(app)
    kit.add(app, "/health")
    with kit.serving(app) as client:
        answer = client.ask("/health")
    assert answer.text == answer.request_id


def test_a_path_that_only_looks_like_an_own_one_is_not_one(kit: Kit, install: Installer) -> None:
    """``/healthy`` and ``/api/health`` do not make the edge step aside."""
    app = kit.bare()
    kit.add(app, "/healthy")
    kit.add(app, "/api/health")
    install(app)
    with kit.serving(app) as client:
        assert json.loads(client.ask("/health").text) == {"status": "pass"}
        assert client.ask("/healthy").request_id
    assert install.lines(STEPS_ASIDE) == []
    assert install.routes == ["/healthy"]
