"""Dependencies that stop in every way, seen through the probes of a real service: each change is told in time, and no
probe waits for anything that hangs. Probers with Kubernetes' rules ask all the time, a hundred times as often as it.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import pytest

from tests.support.dependencies import Dependencies, dependencies
from tests.support.prober import Prober
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

APP = "tests.support.apps.dependent:app"
WSGI_APP = "tests.support.apps.dependent:wsgi_app"
PROBE_SECONDS = 1.0
"""What Kubernetes waits for a probe, by default."""
WAITED_SECONDS = 0.25
"""Half the time that a check of the app is given: a probe that waited for one would take longer."""
COMPONENTS = ("database", "cache", "server")
MOST_NEW_THREADS = 6
"""One for each check and the database's own; a server may have had some of its own to start."""
OTHER_SERVERS = [
    pytest.param(gunicorn_asgi("-w", "2", app=APP), id="gunicorn-uvicorn-worker"),
    pytest.param(hypercorn("-w", "1", app=APP), id="hypercorn"),
    pytest.param(granian("--workers", "1", app=APP), id="granian"),
    pytest.param(gunicorn_wsgi("-w", "1", app=WSGI_APP), id="gunicorn-gthread"),
]


class World:
    """A service with its dependencies, and two probers."""

    def __init__(self, service: Service, needs: Dependencies, live: Prober, ready: Prober) -> None:
        self.service = service
        self.needs = needs
        self.live = live
        self.ready = ready

    def probe(self, path: str, *, details: bool = False) -> tuple[int, dict[str, Any]]:
        """Ask a probe as Kubernetes does: no answer within a second is a failure."""
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=PROBE_SECONDS)
        try:
            headers = {"Authorization": f"Bearer {TOKEN}"} if details else {}
            connection.request("GET", f"/health{path}", headers=headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def statuses(self) -> dict[str, str]:
        """Return how each component stands."""
        found = self.probe("?verbose", details=True)[1]["checks"]
        return {name.partition(":")[0]: one[0]["status"] for name, one in found.items() if name != "uptime"}

    def wait_until(self, status: str, *names: str) -> None:
        """Wait until components stand so."""
        poll(lambda: {self.statuses()[name] for name in names} == {status}, f"{names} to be {status}")

    def threads(self) -> int:
        """Return the number of threads of the service, all its processes together."""
        server = psutil.Process(self.service.process.pid)
        return sum(process.num_threads() for process in [server, *server.children(recursive=True)])

    @contextmanager
    def no_probe_waits(self) -> Iterator[None]:
        """See that probes take no longer within the block, which has a fault around it."""
        began = time.monotonic()
        yield
        for prober in (self.live, self.ready):
            assert median(answer.seconds for answer in prober.answers if answer.at > began) < WAITED_SECONDS

    def assert_no_false_restart(self) -> None:
        """Liveness has passed every time, and readiness was always answered within the second."""
        assert {answer.status for answer in self.live.answers} == {200}
        assert {answer.status for answer in self.ready.answers} <= {200, 503}


@pytest.fixture(scope="module")
def needs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dependencies]:
    """Run a real PostgreSQL, a real Redis and a server of our own; each test leaves them well."""
    with dependencies(tmp_path_factory.mktemp("needs")) as made:
        yield made


@contextmanager
def in_world(command: Command, needs: Dependencies, folder: Path) -> Iterator[World]:
    """Serve the app, with all that it needs well and known to be."""
    with (
        serve(command, folder, env=needs.settings) as service,
        Prober(service.port, "/health/live") as live,
        Prober(service.port, "/health/ready") as ready,
    ):
        made = World(service, needs, live, ready)
        made.wait_until("pass", *COMPONENTS)
        poll(lambda: ready.answers and ready.answers[-1].passes, "the service to be ready")
        yield made


@pytest.fixture
def world(needs: Dependencies, tmp_path: Path) -> Iterator[World]:
    """Serve the app by uvicorn."""
    with in_world(uvicorn(app=APP), needs, tmp_path) as made:
        yield made


def test_a_database_that_hangs_takes_the_app_out_of_service_until_it_goes_on(world: World) -> None:
    """It is critical. No probe waits for it, and no thread is started again and again."""
    before = world.threads()
    with world.needs.database_hangs(), world.no_probe_waits():
        world.wait_until("fail", "database")
        assert world.probe("/ready")[0] == 503
        poll(lambda: not world.ready.passes, "Kubernetes to take it out of service")
        assert world.service.get("/hello")[0] == 200
        assert world.threads() <= before + 4  # one for each check, and the database's own
    world.wait_until("pass", "database")
    assert world.probe("/ready") == (200, {"status": "pass"})
    poll(lambda: world.ready.passes, "Kubernetes to bring it back")
    world.assert_no_false_restart()


def test_a_cache_that_hangs_or_is_killed_is_told_and_takes_nothing_out_of_service(world: World) -> None:
    """It is not critical: the whole is warned of."""
    with world.needs.cache_hangs(), world.no_probe_waits():
        world.wait_until("fail", "cache")
        assert (world.probe("")[1], world.probe("/ready")[0]) == ({"status": "warn"}, 200)
    world.wait_until("pass", "cache")
    world.needs.cache.kill()
    world.wait_until("fail", "cache")
    world.needs.cache.come_back()
    world.wait_until("pass", "cache")
    assert world.ready.passes
    world.assert_no_false_restart()


def test_a_server_that_is_slow_or_refuses_is_told_until_it_is_back(world: World) -> None:
    """Within a few seconds either way."""
    world.needs.server.is_slow.set()
    with world.no_probe_waits():
        world.wait_until("fail", "server")
    world.needs.server.is_slow.clear()
    world.wait_until("pass", "server")
    world.needs.server.refuse()
    world.wait_until("fail", "server")
    world.needs.server.come_back()
    world.wait_until("pass", "server")
    assert world.ready.passes
    world.assert_no_false_restart()


@pytest.mark.parametrize("command", OTHER_SERVERS)
def test_everything_that_stops_at_once_restarts_no_container(
    command: Command, needs: Dependencies, tmp_path: Path
) -> None:
    """All hang, go on, are killed and come back: Kubernetes takes the service out and brings it back, no more."""
    with in_world(command, needs, tmp_path) as world:
        before = world.threads()
        for fault in (needs.all_hang, needs.all_gone):
            with fault(), world.no_probe_waits():
                world.wait_until("fail", *COMPONENTS)
                poll(lambda: not world.ready.passes, "Kubernetes to take it out of service")
                assert world.service.get("/hello")[0] == 200
                assert world.threads() <= before + MOST_NEW_THREADS
            world.wait_until("pass", *COMPONENTS)
            poll(lambda: world.ready.passes, "Kubernetes to bring it back")
        world.assert_no_false_restart()


def test_probes_are_in_no_line_and_no_number(world: World) -> None:
    """However often they ask, and whatever the checks do."""
    for _ in range(20):
        world.probe("/ready")
    assert not any("/health" in str(line.get("route")) for line in world.service.lines(event="request"))
    scraped = world.service.scrape()
    assert not any(route.startswith("/health") for route, _ in scraped.requests_by_route())
    assert scraped.total("db_client_operation_duration_seconds_count") == 0
