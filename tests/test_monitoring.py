"""The whole pack, end to end: a real server, a client in another process, and every number against the client's
ledger.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.dashboard.conftest import browser as browser
from tests.support.components import require
from tests.support.load import Ledger, Target
from tests.support.neighbours import LLMServer, Mailbox, mail_server, redis_server
from tests.support.processes import poll
from tests.support.service import TOKEN, Command, Line, Service, serve, uvicorn

expect = pytest.importorskip("playwright.sync_api").expect

TARGETS = [
    Target("/items/{n}", "/items/{id}"),
    Target("/outer/inner/leaf/x{n}", "/outer/inner/leaf/{name}"),
    Target("/busy", "/busy"),
    Target("/nothing/{n}", "(unmatched)"),
    Target("/custom/NSF", "/custom/{funder}"),
]
COUNT = 1_000


def _as_many(lines: list[Line], count: int) -> list[Line]:
    """Return the lines once there are ``count`` of them: the writers are up to a fifth of a second behind."""
    return lines if len(lines) == count else []


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Ledger]]:
    """Serve the app with two workers, send it traffic, and keep it up for the tests."""
    with serve(uvicorn("--workers", "2"), tmp_path_factory.mktemp("service")) as service:
        yield service, service.load(TARGETS, COUNT)


def test_the_client_was_answered_as_often_as_it_asked(traffic: tuple[Service, Ledger]) -> None:
    """The ledger that everything is compared with is whole."""
    _, ledger = traffic
    assert (ledger.total, ledger.cut) == (COUNT, 0)


def test_every_response_has_an_id_of_its_own(traffic: tuple[Service, Ledger]) -> None:
    """No request ID repeats over two workers, the 500s' among them."""
    _, ledger = traffic
    assert len(set(ledger.request_ids)) == COUNT


def test_metrics_count_each_route_and_status_as_the_client_did(traffic: tuple[Service, Ledger]) -> None:
    """Whichever worker answers, the sums are of both."""
    service, ledger = traffic
    for _ in range(4):
        assert service.scrape().requests_by_route() == ledger.complete


def test_each_request_has_one_canonical_line_with_the_id_the_client_saw(traffic: tuple[Service, Ledger]) -> None:
    """Lines and responses are the same set of IDs, with route, status and outcome."""
    service, ledger = traffic
    lines = poll(lambda: _as_many(service.lines(event="request"), COUNT), f"{COUNT} canonical lines")
    assert sorted(line["request_id"] for line in lines) == sorted(ledger.request_ids)
    outcomes = {(line["route"], line["status"]): line["outcome"] for line in lines}
    assert outcomes == {
        ("/items/{id}", 200): "ok",
        ("/outer/inner/leaf/{name}", 200): "ok",
        ("/busy", 503): "server_error",
        ("(unmatched)", 404): "client_error",
        ("/custom/{funder}", 200): "ok",
    }


def test_an_unhandled_exception_has_a_line_with_its_stack_and_the_requests_id(traffic: tuple[Service, Ledger]) -> None:
    """From a 500 that a client saw, its ID leads to the stack."""
    service, _ = traffic
    status, headers, _ = service.get("/fail")
    assert status == 500
    line = service.wait_for_line(logger="monitoring.error", request_id=headers["x-request-id"])
    assert line["exception"][0]["message"] == "the handler failed"
    assert line["exception"][0]["frames"][-1].endswith("in fail")


def test_health_answers_without_being_observed(traffic: tuple[Service, Ledger]) -> None:
    """The probes pass, and are in no number and no line."""
    service, _ = traffic
    for probe in ("", "/live", "/ready", "/startup"):
        status, headers, body = service.get(f"/health{probe}")
        assert (status, json.loads(body)) == (200, {"status": "pass"})
        assert "x-request-id" not in headers
    assert not any(route.startswith("/health") for route, _ in service.scrape().requests_by_route())


def test_custom_metrics_are_summed_over_the_workers(traffic: tuple[Service, Ledger]) -> None:
    """A business counter is as exact as the requests."""
    service, ledger = traffic
    expected = ledger.complete[("/custom/{funder}", 200)]
    assert service.scrape().total("proposals_total", funder="NSF") == expected


def test_lines_are_whole_json_objects(traffic: tuple[Service, Ledger]) -> None:
    """Two workers append to one file, and no line is torn."""
    service, _ = traffic
    text = (service.folder / "lines.log").read_text()
    for line in text.splitlines():
        assert {"timestamp", "level", "logger", "event", "service"} <= json.loads(line).keys()


# --- the whole way: from the socket to the browser --------------------------------------------------------------------

WHOLE_APP = "tests.support.apps.proposals:app"
FUNDERS = ("NSF", "ERC", "DFG")
TOKENS = 133
PROPOSALS = [Target(f"/propose/{funder}", "/propose/{funder}") for funder in FUNDERS]
LLM_ANSWERS = [
    {
        "match": {"userMessage": "hello"},
        "response": {
            "content": "We propose to look.",
            "usage": {"prompt_tokens": 111, "completion_tokens": 22, "total_tokens": TOKENS},
        },
    }
]


@dataclass(frozen=True, slots=True)
class World:
    """The app with everything around it."""

    service: Service
    llm: LLMServer
    mailbox: Mailbox

    def api(self, path: str, body: object = None) -> Any:
        """Ask the dashboard's API, as whoever has the token."""
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=15)
        headers = {"Authorization": f"Bearer {TOKEN}", "X-Monitoring": "1", "Connection": "close"}
        try:
            method = "GET" if body is None else "POST"
            connection.request(method, f"/monitoring/api/v1{path}", json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        finally:
            connection.close()
        assert response.status == 200, answer
        return answer


def whole_app(*options: str) -> Command:
    """Return the command of uvicorn with the app that uses the whole pack."""
    return lambda port: [require("uvicorn"), WHOLE_APP, "--port", str(port), "--no-access-log", *options]


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str], LLMServer, Mailbox]]:
    """Run what the app needs: Redis, a language model, a mail server."""
    folder = tmp_path_factory.mktemp("whole")
    llm = LLMServer(folder, LLM_ANSWERS)
    llm.start()
    with redis_server(folder) as redis_port, mail_server() as (smtp_port, mailbox):
        settings = {
            "DATABASE": str(folder / "app.sqlite"),
            "REDIS_PORT": str(redis_port),
            "LLM_PORT": str(llm.port),
            "SMTP_PORT": str(smtp_port),
            "MONITORING_STORE": str(folder / "store"),
        }
        yield folder, settings, llm, mailbox
    llm.stop()


@pytest.fixture
def world(surroundings: tuple[Path, dict[str, str], LLMServer, Mailbox]) -> Iterator[World]:
    """Serve the app with two workers over the same store as the test before."""
    folder, settings, llm, mailbox = surroundings
    with serve(whole_app("--workers", "2"), folder, env=settings) as service:
        yield World(service, llm, mailbox)


def _shown(world: World, requests: int) -> Any:
    """Return the routes that the dashboard shows, once it shows so many requests."""

    def routes() -> Any:
        answer = world.api("/routes?from=-6h")
        return answer if sum(route["count"] for route in answer["routes"]) >= requests else None

    return poll(routes, f"{requests} requests on the dashboard", limit_seconds=20)


def test_the_dashboard_equals_the_ledger_after_a_kill_and_a_restart(
    surroundings: tuple[Path, dict[str, str], LLMServer, Mailbox],
) -> None:
    """Requests, errors, tokens and operations by funder: what the client received, and at most what the kill cut."""
    folder, settings, llm, mailbox = surroundings
    with serve(whole_app("--workers", "2"), folder, env=settings) as service:
        killed = service.load(
            [*PROPOSALS, Target("/disaster/NIH", "/disaster/{funder}")],
            120,
            requests_per_connection=10,
            at_half_way=lambda: os.kill(service.busiest_worker(), signal.SIGKILL),
        )
    with serve(whole_app("--workers", "2"), folder, env=settings) as service:
        restarted = service.load(PROPOSALS, 60)
        world = World(service, llm, mailbox)
        complete = killed.complete + restarted.complete
        routes = {route["route"]: route for route in _shown(world, complete.total())["routes"]}
        usage, models = world.api("/usage?from=-6h"), world.api("/llm?from=-6h")

    proposed, failed = complete["/propose/{funder}", 200], complete["/disaster/{funder}", 500]
    assert proposed <= routes["/propose/{funder}"]["count"] <= proposed + killed.cut
    assert failed <= routes["/disaster/{funder}"]["errors"] <= failed + killed.cut
    (operation,) = usage["operations"]
    assert proposed <= operation["ok"] <= proposed + killed.cut
    assert failed <= operation["failed"] <= failed + killed.cut
    by_funder = {row["value"]: row["ok"] for row in operation["dimensions"]["funder"]}
    assert sum(by_funder.values()) == operation["ok"]
    assert max(by_funder[funder] for funder in FUNDERS) - min(by_funder[funder] for funder in FUNDERS) <= killed.cut + 1
    answered = proposed + failed
    tokens = models["totals"]["input_tokens"] + models["totals"]["output_tokens"]
    assert answered * TOKENS <= tokens <= (answered + killed.cut) * TOKENS


def test_from_a_number_to_its_cause_in_the_browser(world: World, browser: Any) -> None:
    """From the overview to the route, to the slow request, to its query, its LLM call with tokens and cost, its cache
    miss, its log line and its error group.
    """
    status, headers, _ = world.service.get("/disaster/NSF")
    assert status == 500
    request_id = headers["x-request-id"]
    poll(lambda: request_id in str(world.api("/requests?status=5xx&limit=100")), "the request in the store")
    _shown(world, 1)

    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.goto(f"http://127.0.0.1:{world.service.port}/monitoring/")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="GET /disaster/{funder}").first.click()
    expect(page.get_by_text("Slowest and newest requests")).to_be_visible()
    page.locator(f"a[href*='{request_id}']").first.click()

    page.get_by_text("Where the time went").wait_for()
    shown = page.locator("main").inner_text()
    for text in ("proposal.generate", "writer", "SELECT", "chat gpt-4o", "133 tokens", "$0.0005", "over budget"):
        assert text in shown, f"{text!r} is not on the page:\n{shown}"
    assert "1 misses" in shown or "1 miss" in shown
    page.get_by_role("link", name="Its group").click()
    expect(page.get_by_text("NSF has no money left").first).to_be_visible()
    page.close()


def test_a_stopped_dependency_raises_an_alert_by_mail_until_it_is_back(world: World) -> None:
    """Health turns, a mail comes and is repeated; acknowledged, the repeats stop; recovered, it is resolved."""
    world.service.get("/propose/NSF")  # the background work of the new process begins with its first request
    world.llm.stop()
    try:
        poll(lambda: json.loads(world.service.get("/health")[2])["status"] == "warn", "health to turn")
        poll(lambda: len(_about_llm(world)) >= 2, "a mail and its repeat", limit_seconds=40)
        (episode,) = [row for row in world.api("/alerts")["open"] if row["rule"] == "check_failed"]
        assert world.api(f"/alerts/{episode['id']}/ack", {"note": "on it"})["done"] is True
        poll(lambda: any("acknowledged" in subject for subject in _about_llm(world)), "the notice of it")
        told = len(_about_llm(world))
        assert world.api(f"/alerts/{episode['id']}")["acked_by"]
    finally:
        world.llm.start()
    poll(lambda: any("resolved" in subject.lower() for subject in _about_llm(world)), "the end", limit_seconds=40)
    assert len(_about_llm(world)) == told + 1, _about_llm(world)
    poll(lambda: json.loads(world.service.get("/health")[2])["status"] == "pass", "health to turn back")


def _about_llm(world: World) -> list[str]:
    return [subject for subject in world.mailbox.subjects() if "llm" in subject]
