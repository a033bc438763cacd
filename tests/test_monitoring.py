"""The whole pack, end to end: a real server, a client in another process, and every number against the client's
ledger.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.load import Ledger, Target
from tests.support.processes import poll
from tests.support.service import Line, Service, serve, uvicorn

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
