"""The probes: codes, bodies and headers, for strangers and for those who may know."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

import httpx
import jsonschema
import pytest

from monitoring import Config
from monitoring.health.results import Status
from monitoring.health_check import HealthChecks, Reading
from monitoring.health_endpoint import health_app

TOKEN = {"authorization": "Bearer secret-token"}

DRAFT: dict[str, Any] = {
    "type": "object",
    "required": ["status"],
    "properties": {
        "status": {"enum": ["pass", "warn", "fail"]},
        "version": {"type": "string"},
        "releaseId": {"type": "string"},
        "notes": {"type": "array", "items": {"type": "string"}},
        "output": {"type": "string"},
        "serviceId": {"type": "string"},
        "description": {"type": "string"},
        "links": {"type": "object", "additionalProperties": {"type": "string"}},
        "checks": {
            "type": "object",
            "propertyNames": {"pattern": "^[^:]+(:[^:]+)?$"},
            "additionalProperties": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "properties": {
                        "componentId": {"type": "string"},
                        "componentType": {"enum": ["component", "datastore", "system"]},
                        "observedUnit": {"type": "string"},
                        "status": {"enum": ["pass", "warn", "fail"]},
                        "affectedEndpoints": {"type": "array", "items": {"type": "string"}},
                        "time": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"},
                        "output": {"type": "string"},
                    },
                    "if": {"properties": {"status": {"const": "pass"}}},
                    "then": {"not": {"required": ["output"]}},
                },
            },
        },
    },
    "if": {"properties": {"status": {"const": "pass"}}},
    "then": {"not": {"required": ["output"]}},
}
"""The media type's own rules, by the draft's sections 3 and 4."""


@dataclass
class Life:
    """A process's life as a test wants it."""

    alive: tuple[Status, str] = ("pass", "")
    ready: tuple[Status, str] = ("pass", "")

    def liveness(self) -> tuple[Status, str]:
        """Return what was set."""
        return self.alive

    def readiness(self) -> tuple[Status, str]:
        """Return what was set."""
        return self.ready

    def drain(self, *, all_workers: bool = False) -> None:
        """Note it."""
        self.ready = ("fail", f"draining{' all' if all_workers else ''}")


def _fails() -> None:
    raise ConnectionError("the host db-7.internal is gone")


@pytest.fixture
def checks() -> HealthChecks:
    """Return checks of which a critical one fails, one warns and one passes."""
    made = HealthChecks("proposals")
    made.add("database", _fails, critical=True)
    made.add("disk", lambda: Reading("warn", "91 % full", 0.91, "ratio", "utilization", "system"))
    made.add("cache", lambda: None)
    made.report()
    return made


def ask(
    checks: HealthChecks, path: str, life: Life | None = None, method: str = "GET", **headers: str
) -> httpx.Response:
    """Ask the sub-app, and validate what says that it is health+json."""
    app = health_app(checks, Config(service="proposals", token="secret-token"), life or Life())

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, headers=headers)

    response = asyncio.run(send())
    checks.stop()
    if response.headers["content-type"] == "application/health+json" and method == "GET":
        jsonschema.validate(response.json(), DRAFT)
    return response


@pytest.mark.parametrize(
    ("path", "code", "body"),
    [
        ("/", 503, {"status": "fail"}),
        ("/live", 200, {"status": "pass"}),
        ("/ready", 503, {"status": "fail", "output": "starting"}),
        ("/startup", 503, {"status": "fail", "output": "starting"}),
        ("/?verbose", 503, {"status": "fail"}),
        ("/database", 503, {"status": "fail"}),
        ("/nothing", 503, {"status": "fail"}),
    ],
)
def test_strangers_get_the_bare_status(checks: HealthChecks, path: str, code: int, body: dict[str, str]) -> None:
    """Names, causes, numbers and times stay inside, and no path says which components there are."""
    response = ask(checks, path)
    assert (response.status_code, response.json()) == (code, body)
    assert response.headers["cache-control"] == "no-store"


def test_live_does_not_look_at_dependencies(checks: HealthChecks) -> None:
    """Only at the process: one that is broken fails."""
    assert ask(checks, "/live").status_code == 200
    broken = Life(alive=("fail", "the loop is stuck"))
    assert ask(checks, "/live", broken).json() == {"status": "fail"}
    assert ask(checks, "/live", broken).status_code == 503


def test_readiness_ignores_what_is_not_critical() -> None:
    """A lost extra does not take the app out of service."""
    checks = HealthChecks()
    checks.add("extra", _fails)
    checks.report()
    assert ask(checks, "/ready").json() == {"status": "pass"}
    assert ask(checks, "/").json() == {"status": "warn"}


def test_a_process_that_drains_says_so_to_all(checks: HealthChecks) -> None:
    """Not ready, with the connection closed; alive and started all the same."""
    made = HealthChecks()
    draining = Life(ready=("fail", "draining"))
    response = ask(made, "/ready", draining)
    assert (response.status_code, response.json()) == (503, {"status": "fail", "output": "draining"})
    assert (response.headers["connection"], response.headers["retry-after"]) == ("close", "5")
    assert ask(made, "/live", draining).status_code == 200
    assert ask(made, "/startup", draining).status_code == 200


def test_those_who_may_know_get_the_whole_document(checks: HealthChecks) -> None:
    """Each component with its status, time, age, measure and why it is not well."""
    document = ask(checks, "/?verbose", **TOKEN).json()
    assert (document["status"], document["serviceId"]) == ("fail", "proposals")
    (database,) = document["checks"]["database:responseTime"]
    assert (database["status"], database["critical"], database["observedUnit"]) == ("fail", True, "ms")
    assert database["output"] == "ConnectionError: the host db-7.internal is gone"
    assert database["ageMs"] >= 0
    (disk,) = document["checks"]["disk:utilization"]
    assert (disk["status"], disk["observedValue"], disk["componentType"]) == ("warn", 0.91, "system")
    (cache,) = document["checks"]["cache:responseTime"]
    assert "output" not in cache
    assert document["checks"]["uptime"][0]["observedUnit"] == "s"


def test_one_component_for_those_who_may_know(checks: HealthChecks) -> None:
    """With its own code; an unknown one is not found."""
    response = ask(checks, "/cache", **TOKEN)
    assert (response.status_code, list(response.json()["checks"])) == (200, ["cache:responseTime"])
    assert ask(checks, "/database", **TOKEN).status_code == 503
    assert ask(checks, "/nothing", **TOKEN).status_code == 404


def test_head_has_the_code_and_no_body(checks: HealthChecks) -> None:
    """With the length that a GET would have."""
    response = ask(checks, "/live", method="HEAD")
    assert (response.status_code, response.content, response.headers["content-length"]) == (200, b"", "18")


def test_other_methods_are_refused(checks: HealthChecks) -> None:
    """With those that are allowed."""
    response = ask(checks, "/live", method="POST")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")


def test_springs_form_is_spoken_when_asked_for(checks: HealthChecks) -> None:
    """By the query or the Accept header; its tools read up, down and out of service."""
    assert ask(checks, "/?format=spring").json() == {"status": "DOWN"}
    accept = {"accept": "application/vnd.spring-boot.actuator.v3+json"}
    response = ask(checks, "/?verbose", **TOKEN, **accept)
    assert response.headers["content-type"] == "application/vnd.spring-boot.actuator.v3+json"
    assert response.json()["components"]["cache"]["status"] == "UP"
    assert response.json()["components"]["database"]["status"] == "DOWN"
    draining = Life(ready=("fail", "draining"))
    assert ask(HealthChecks(), "/readiness?format=spring", draining).json() == {"status": "OUT_OF_SERVICE"}


def test_a_probe_answers_while_every_dependency_hangs() -> None:
    """From memory: the answer is there before the checks are."""
    release = threading.Event()
    checks = HealthChecks()
    for name in "abc":
        checks.add(name, lambda: release.wait(20) and None, critical=True)
    assert ask(checks, "/ready").json() == {"status": "fail", "output": "starting"}
    assert ask(checks, "/live").json() == {"status": "pass"}
    assert checks.known() == []
    release.set()


def test_a_probe_starts_the_checks() -> None:
    """Nobody else has to."""
    asked = threading.Event()
    checks = HealthChecks()
    checks.add("database", asked.set)
    app = health_app(checks, Config(), Life())

    async def send() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
            await client.get("/ready")

    asyncio.run(send())
    assert asked.wait(10)
    checks.stop()
