"""What Kubernetes sees of a process that ends: it is not ready before its listener closes, and nobody is cut off."""

from __future__ import annotations

import http.client
import os
import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.prober import Answer, Prober
from tests.support.processes import poll
from tests.support.service import (
    TOKEN,
    Command,
    Service,
    granian,
    gunicorn_asgi,
    gunicorn_wsgi,
    hypercorn,
    serve,
    uvicorn,
)

DRAIN_SECONDS = 2
DRAINS = {"MONITORING_DRAIN_SECONDS": str(DRAIN_SECONDS), "MONITORING_STORE": ""}
DRAINS_LONG = {**DRAINS, "MONITORING_DRAIN_SECONDS": "30"}
DOES_NOT = {"MONITORING_STORE": ""}

GTHREAD = gunicorn_wsgi("-w", "1")

SERVERS = [
    pytest.param(uvicorn(), -signal.SIGTERM, id="uvicorn"),
    pytest.param(uvicorn("--workers", "2"), 0, id="uvicorn-workers"),
    pytest.param(gunicorn_asgi("-w", "2"), 0, id="gunicorn-uvicorn-worker"),
    pytest.param(GTHREAD, 0, id="gunicorn-gthread"),
    pytest.param(hypercorn("-w", "0"), 0, id="hypercorn-without-workers"),
    pytest.param(hypercorn("-w", "1"), 0, id="hypercorn"),
    pytest.param(granian("--workers", "2"), 0, id="granian"),
]


@pytest.mark.parametrize(("command", "exit_code"), SERVERS)
def test_a_server_that_is_told_to_end_is_seen_to_drain_and_cuts_nobody_off(
    command: Command, exit_code: int, tmp_path: Path
) -> None:
    """Not ready is seen while the listener is open, requests are answered, and it ends as it does without a drain."""
    with serve(command, tmp_path, env=DRAINS) as service, ExitStack() as probers:
        ready, live = (probers.enter_context(Prober(service.port, f"/health/{name}")) for name in ("ready", "live"))
        clients = [
            probers.enter_context(Prober(service.port, "/items/1", period_seconds=0.01, timeout_seconds=10))
            for _ in range(2)
        ]
        poll(lambda: len(ready.answers) > 3 and len(live.answers) > 3, "first answers")
        assert ready.passes
        slow = _InBackground(service, "/slow/1000")
        slow.start()
        poll(lambda: _in_flight(service), "the slow request to be there")
        told_at = time.monotonic()
        os.kill(service.process.pid, signal.SIGTERM)
        poll(lambda: not ready.passes, "the prober to find it not ready")
        poll(lambda: service.process.exit_code is not None, "the end of the server")
        poll(lambda: ready.answers[-1].is_refused, "the listener to be closed")
        slow.join()

    closed = next(answer.at for answer in ready.answers if answer.is_refused)
    seen = [answer for answer in ready.answers if answer.status == 503 and answer.at < closed]
    assert len(seen) >= 3, ready.answers
    assert closed >= told_at + DRAIN_SECONDS
    assert {answer.body for answer in seen} == {'{"status": "fail", "output": "draining"}'}
    if command is not GTHREAD:  # gunicorn's own workers leave an app's "Connection" out
        assert {answer.connection for answer in seen} == {"close"}
    for served in (live, *clients):
        during = [answer for answer in served.answers if seen[0].at < answer.at < told_at + DRAIN_SECONDS]
        assert during
        assert {answer.status for answer in during} == {200}
        assert {answer.status for answer in served.answers} <= {200, 0}
    assert slow.status == 200
    assert service.process.exit_code == exit_code, service.process.log_tail()


def test_without_drain_seconds_the_listener_closes_at_once(tmp_path: Path) -> None:
    """Nothing is put off, and no handler is in the way."""
    with serve(uvicorn(), tmp_path, env=DOES_NOT) as service, Prober(service.port, "/health/ready") as ready:
        poll(lambda: len(ready.answers) > 3, "first answers")
        os.kill(service.process.pid, signal.SIGTERM)
        poll(lambda: service.process.exit_code is not None, "the end of the server")
        poll(lambda: ready.answers[-1].is_refused, "the listener to be closed")

    assert {answer.status for answer in ready.answers} == {200, 0}
    assert service.process.exit_code == -signal.SIGTERM


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_drain(second: signal.Signals, tmp_path: Path) -> None:
    """Who does not want to wait says so again."""
    with serve(uvicorn(), tmp_path, env=DRAINS_LONG) as service, Prober(service.port, "/health/ready") as ready:
        os.kill(service.process.pid, signal.SIGTERM)
        poll(lambda: not ready.passes, "the drain to be seen")
        os.kill(service.process.pid, second)
        poll(lambda: service.process.exit_code is not None, "the end of the server")


def test_a_hook_before_the_stop_drains_all_workers(tmp_path: Path) -> None:
    """POST /health/drain needs the token, and reaches every worker; requests are served on."""
    with serve(gunicorn_asgi("-w", "2"), tmp_path, env=DRAINS) as service:
        poll(lambda: len(service.lines(event="Application startup complete.")) == 2, "two workers")
        refused = _post(service, "/health/drain")
        before = service.get("/health/ready")[0]
        accepted = _post(service, "/health/drain", TOKEN)
        poll(lambda: len(service.lines(event="draining: not ready any more")) == 2, "a line of each worker")
        with Prober(service.port, "/health/ready", period_seconds=0.01) as ready:
            poll(lambda: len(ready.answers) > 20, "some answers")
        item = service.get("/items/1")[0]

    assert (refused, before, accepted, item) == (403, 200, 200, 200)
    assert {answer.status for answer in ready.answers} == {503}
    assert service.process.exit_code == 0


def test_a_stuck_event_loop_is_told_with_its_stack_once(tmp_path: Path) -> None:
    """The probes of Kubernetes time out meanwhile; the line says where the loop stands."""
    with serve(uvicorn(), tmp_path, env={**DOES_NOT, "MONITORING_STUCK_SECONDS": "1"}) as service:
        with Prober(service.port, "/health/live", period_seconds=0.2) as live:
            poll(lambda: len(live.answers) > 2, "first answers")
            assert service.get("/block/4000")[0] == 200
            on = service.wait_for_line(event="event loop goes on", level="warning")
        stuck = service.lines(event="event loop is stuck", level="error")

    assert len(stuck) == 1
    assert "time.sleep(" in stuck[0]["stack"]
    assert on["seconds"] >= stuck[0]["seconds"] >= 1
    assert [answer.status for answer in live.answers].count(0) >= 3


@pytest.mark.parametrize(
    ("statuses", "turned_at"),
    [
        ((200, 503, 503, 200, 503, 503), None),
        ((200, 503, 0, 404), 3.0),
        ((503, 503, 503, 503, 302), None),
        ((503, 503, 503, 200, 503), None),
    ],
    ids=["never three in a row", "refused and 404 count", "one success turns back", "and it takes three again"],
)
def test_the_prober_goes_by_the_rules_of_kubernetes(statuses: tuple[int, ...], turned_at: float | None) -> None:
    """200 to 399 passes; three failures turn it over, one success back."""
    prober = Prober(0, "/")
    prober.answers += [Answer(float(at), status) for at, status in enumerate(statuses)]
    assert prober.turned_at() == turned_at


class _InBackground(threading.Thread):
    """One request in a thread of its own."""

    def __init__(self, service: Service, path: str) -> None:
        super().__init__()
        self._service, self._path = service, path
        self.status = 0

    def run(self) -> None:
        """Ask, and keep the status."""
        self.status = self._service.get(self._path)[0]


def _in_flight(service: Service) -> bool:
    return service.scrape().total("http_server_active_requests") > 0


def _post(service: Service, path: str, token: str = "") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=15)
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("POST", path, headers={**headers, "Connection": "close"})
        return connection.getresponse().status
    finally:
        connection.close()
