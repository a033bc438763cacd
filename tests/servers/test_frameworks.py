"""Litestar, Quart and aiohttp.web on real servers: counts, lines, probes, clients that leave, and the end."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.support.load import Target
from tests.support.processes import poll
from tests.support.raw import RawClient
from tests.support.service import (
    LITESTAR_APP,
    QUART_APP,
    Command,
    Service,
    aiohttp_web,
    gunicorn_aiohttp,
    hypercorn,
    serve,
    uvicorn,
)

BRACES, ANGLES = "/items/{id}", "/items/<int:id>"
REQUESTS = 400


@pytest.mark.parametrize(
    ("command", "item", "workers"),
    [
        pytest.param(uvicorn("--workers", "2", app=LITESTAR_APP), BRACES, 2, id="litestar-uvicorn-workers"),
        pytest.param(hypercorn("-w", "1", app=QUART_APP), ANGLES, 1, id="quart-hypercorn"),
        pytest.param(gunicorn_aiohttp("-w", "2"), BRACES, 2, id="aiohttp-gunicorn"),
        pytest.param(aiohttp_web(), BRACES, 1, id="aiohttp-own-runner"),
    ],
)
def test_a_service_is_watched_from_its_first_request_to_its_end(
    command: Command, item: str, workers: int, tmp_path: Path
) -> None:
    """Metrics are what the client received, each request has one line, probes are answered, SIGTERM loses nothing."""
    targets = (*(Target("/items/{n}", item),) * 8, Target("/nowhere/{n}", "(unmatched)"))
    with serve(command, tmp_path) as service:
        asked = _ask_until_all_answered(service, workers)
        left = _leave_mid_stream(service)
        service.wait_for_line(event="request", request_id=left)
        ledger = service.load(targets, REQUESTS, requests_per_connection=20)
        counted = service.scrape().requests_by_route()
        ready = service.get("/health/ready")[0]
        failed, headers, _ = service.get("/fail")
        ended_with = service.process.stop()

    lines = {line["request_id"]: line for line in service.lines(event="request")}
    assert ended_with == 0, service.process.log_tail()
    assert counted == ledger.complete + Counter({(item, 200): len(asked), ("/stream", 200): 1})
    assert sorted(lines) == sorted([*asked, *ledger.request_ids, headers["x-request-id"], left])
    assert len(service.lines(event="request")) == len(lines)
    assert (ready, failed) == (200, 500)
    failure = lines[headers["x-request-id"]]
    assert (failure["route"], failure["status"], failure["outcome"]) == ("/fail", 500, "server_error")
    assert "the handler failed" in str(service.lines(request_id=headers["x-request-id"], level="error"))
    assert (lines[left]["route"], lines[left]["outcome"]) == ("/stream", "client_disconnected")


def _ask_until_all_answered(service: Service, workers: int) -> list[str]:
    """Ask over connections of their own until each worker has answered, and return the IDs of the requests."""
    answers = []

    def all_answered() -> bool:
        answers.append(service.get("/items/1")[1])
        return len({headers["x-worker"] for headers in answers}) == workers

    poll(all_answered, f"answers of {workers} workers")
    return [headers["x-request-id"] for headers in answers]


def _leave_mid_stream(service: Service) -> str:
    """Read the start of the stream, go away, and return the ID of the request."""
    client = RawClient(service.port)
    client.get("/stream")
    _, headers = client.read_head()
    client.read_until(b"chunk\n")
    client.hang_up()
    return str(headers["x-request-id"])
