"""The probes: codes, bodies and headers, for strangers and for those who may know."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType, ModuleType, SimpleNamespace
from typing import Any

import httpx
import jsonschema
import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.test.utils import override_settings
from django.utils.deprecation import MiddlewareMixin

from monitoring import Config
from monitoring.health.results import Status
from monitoring.health_check import HealthChecks, Reading
from monitoring.health_endpoint import Probes, asked_by_hand, health_app, health_wsgi_app
from monitoring.integrations.web.django import health_urls
from tests.support import django_settings

django_settings.set_up()

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
    at_serving: Callable[[], object] = lambda: None
    loops: list[asyncio.AbstractEventLoop] = field(default_factory=list)

    def serve(self) -> None:
        """Note the event loop that runs."""
        self.at_serving()
        with contextlib.suppress(RuntimeError):
            self.loops.append(asyncio.get_running_loop())

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


class LoginNeeded(MiddlewareMixin):
    """Lets strangers in only where a view says so, as Django's LoginRequiredMiddleware does."""

    def process_view(self, request: HttpRequest, view: Any, *_: Any) -> HttpResponse | None:
        """Ask the view."""
        return HttpResponse(status=403) if getattr(view, "login_required", True) else None


GUARDS = ["django.middleware.csrf.CsrfViewMiddleware", f"{__name__}.LoginNeeded"]


class Forms:
    """Each way to ask the same probes, of one request: ``Forms(probes, life).asgi(request)``."""

    def __init__(self, probes: Probes, life: Life) -> None:
        self.probes = probes
        self.life = life

    def asgi(self, request: httpx.Request) -> httpx.Response:
        """Ask the ASGI app."""
        return _ask_asgi(health_app(self.probes), request)

    def wsgi(self, request: httpx.Request) -> httpx.Response:
        """Ask the WSGI app."""
        return _ask_wsgi(health_wsgi_app(self.probes), request)

    def django_wsgi(self, request: httpx.Request) -> httpx.Response:
        """Ask Django's WSGI handler."""
        with self._site():
            return _ask_wsgi(WSGIHandler(), _below("/health", request))

    def django_asgi(self, request: httpx.Request) -> httpx.Response:
        """Ask Django's ASGI handler."""
        with self._site():
            return _ask_asgi(ASGIHandler(), _below("/health", request))

    def function(self, request: httpx.Request) -> httpx.Response:
        """Ask the bare function."""
        query, headers = request.url.query.decode(), dict(request.headers.items())
        asked = asked_by_hand(request.method, request.url.path, query, headers, "127.0.0.1")
        status, answered, body = self.probes.answer(*asked)
        return httpx.Response(status, headers=dict(answered), content=body)

    @contextmanager
    def _site(self) -> Iterator[None]:
        """Have Django serve the probes, where it refuses forged requests and strangers, and opens transactions."""
        monitoring: Any = SimpleNamespace(probes=self.probes, lifecycle=self.life)
        urls = ModuleType("urls")
        urls.urlpatterns = health_urls(monitoring=monitoring)  # type: ignore[attr-defined]
        default = connections.settings["default"]
        with override_settings(ROOT_URLCONF=urls, MIDDLEWARE=GUARDS):
            default["ATOMIC_REQUESTS"] = True
            try:
                yield
            finally:
                default["ATOMIC_REQUESTS"] = False


def _ask_asgi(app: Any, request: httpx.Request) -> httpx.Response:
    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app)) as client:
            return await client.send(request)

    return asyncio.run(send())


def _ask_wsgi(app: Any, request: httpx.Request) -> httpx.Response:
    with httpx.Client(transport=httpx.WSGITransport(app=app)) as client:
        return client.send(request)


def _below(prefix: str, request: httpx.Request) -> httpx.Request:
    url = request.url.copy_with(path=prefix + request.url.path)
    return httpx.Request(request.method, url, headers=request.headers)


Ask = Callable[..., httpx.Response]


@pytest.fixture(params=["asgi", "wsgi", "django_wsgi", "django_asgi", "function"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Return what asks the probes in one of their forms, and validates what says that it is health+json."""

    def answer(
        checks: HealthChecks,
        path: str,
        life: Life | None = None,
        method: str = "GET",
        settings: Mapping[str, Any] = MappingProxyType({"token": "secret-token"}),
        **headers: str,
    ) -> httpx.Response:
        life = life or Life()
        forms = Forms(Probes(checks, Config(service="proposals", **settings), life), life)
        response: httpx.Response = getattr(forms, request.param)(
            httpx.Request(method, f"http://test{path}", headers=headers)
        )
        checks.stop()
        if response.headers["content-type"] == "application/health+json" and method == "GET":
            jsonschema.validate(response.json(), DRAFT)
        return response

    return answer


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
def test_strangers_get_the_bare_status(
    ask: Ask, checks: HealthChecks, path: str, code: int, body: dict[str, str]
) -> None:
    """Names, causes, numbers and times stay inside, and no path says which components there are."""
    response = ask(checks, path)
    assert (response.status_code, response.json()) == (code, body)
    assert response.headers["cache-control"] == "no-store"


def test_live_does_not_look_at_dependencies(ask: Ask, checks: HealthChecks) -> None:
    """Only at the process: one that is broken fails."""
    assert ask(checks, "/live").status_code == 200
    broken = Life(alive=("fail", "the loop is stuck"))
    assert ask(checks, "/live", broken).json() == {"status": "fail"}
    assert ask(checks, "/live", broken).status_code == 503


def test_readiness_ignores_what_is_not_critical(ask: Ask) -> None:
    """A lost extra does not take the app out of service."""
    checks = HealthChecks()
    checks.add("extra", _fails)
    checks.report()
    assert ask(checks, "/ready").json() == {"status": "pass"}
    assert ask(checks, "/").json() == {"status": "warn"}


def test_a_process_that_drains_says_so_to_all(ask: Ask, checks: HealthChecks) -> None:
    """Not ready, with the connection closed; alive and started all the same."""
    made = HealthChecks()
    draining = Life(ready=("fail", "draining"))
    response = ask(made, "/ready", draining)
    assert (response.status_code, response.json()) == (503, {"status": "fail", "output": "draining"})
    assert (response.headers["connection"], response.headers["retry-after"]) == ("close", "5")
    assert ask(made, "/live", draining).status_code == 200
    assert ask(made, "/startup", draining).status_code == 200


def test_those_who_may_know_get_the_whole_document(ask: Ask, checks: HealthChecks) -> None:
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


def test_one_component_for_those_who_may_know(ask: Ask, checks: HealthChecks) -> None:
    """With its own code; an unknown one is not found."""
    response = ask(checks, "/cache", **TOKEN)
    assert (response.status_code, list(response.json()["checks"])) == (200, ["cache:responseTime"])
    assert ask(checks, "/database", **TOKEN).status_code == 503
    assert ask(checks, "/nothing", **TOKEN).status_code == 404


def test_head_has_the_code_and_no_body(ask: Ask, checks: HealthChecks) -> None:
    """With the length that a GET would have."""
    response = ask(checks, "/live", method="HEAD")
    assert (response.status_code, response.content, response.headers["content-length"]) == (200, b"", "18")


def test_other_methods_are_refused(ask: Ask, checks: HealthChecks) -> None:
    """With those that are allowed."""
    response = ask(checks, "/live", method="POST")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")


def test_springs_form_is_spoken_when_asked_for(ask: Ask, checks: HealthChecks) -> None:
    """By the query or the Accept header; its tools read up, down and out of service."""
    assert ask(checks, "/?format=spring").json() == {"status": "DOWN"}
    accept = {"accept": "application/vnd.spring-boot.actuator.v3+json"}
    response = ask(checks, "/?verbose", **TOKEN, **accept)
    assert response.headers["content-type"] == "application/vnd.spring-boot.actuator.v3+json"
    assert response.json()["components"]["cache"]["status"] == "UP"
    assert response.json()["components"]["database"]["status"] == "DOWN"
    draining = Life(ready=("fail", "draining"))
    assert ask(HealthChecks(), "/readiness?format=spring", draining).json() == {"status": "OUT_OF_SERVICE"}


def test_a_hook_drains_all_workers_if_it_may(ask: Ask) -> None:
    """With the token; and it needs no token against forged requests."""
    life = Life()
    refused = ask(HealthChecks(), "/drain", life, "POST")
    assert (refused.status_code, life.ready) == (403, ("pass", ""))
    accepted = ask(HealthChecks(), "/drain", life, "POST", **TOKEN)
    assert (accepted.status_code, accepted.json()) == (200, {"status": "fail", "output": "draining"})
    assert life.ready == ("fail", "draining all")


async def _says_yes(scope: Any) -> bool:
    await asyncio.sleep(0)
    return (b"x-from", b"office") in list(scope["headers"]) and scope["query_string"] == b"verbose"


@pytest.mark.parametrize(
    "authorize", [_says_yes, lambda scope: _says_yes(scope), lambda scope: asyncio.run(_says_yes(scope))]
)
def test_the_app_may_say_who_learns_more(ask: Ask, checks: HealthChecks, authorize: Any) -> None:
    """By a function of the scope, sync or async, in every form."""
    settings = {"authorize": authorize}
    assert "checks" in ask(checks, "/?verbose", settings=settings, **{"x-from": "office"}).json()
    assert ask(checks, "/?verbose", settings=settings).json() == {"status": "fail"}


@pytest.mark.parametrize("form", ["asgi", "django_asgi"])
def test_the_loop_of_the_server_is_known_by_its_first_probe(form: str) -> None:
    """Async checks run in it, and it is watched."""
    life = Life()
    forms = Forms(Probes(HealthChecks(), Config(), life), life)
    getattr(forms, form)(httpx.Request("GET", "http://test/live"))
    assert len(set(life.loops)) == 1


def test_a_probe_answers_while_every_dependency_hangs(ask: Ask) -> None:
    """From memory: the answer is there before the checks are."""
    release = threading.Event()
    checks = HealthChecks()
    for name in "abc":
        checks.add(name, lambda: release.wait(20) and None, critical=True)
    life = Life(at_serving=checks.start)
    assert ask(checks, "/ready", life).json() == {"status": "fail", "output": "starting"}
    assert ask(checks, "/live", life).json() == {"status": "pass"}
    assert checks.known() == []
    release.set()


def test_a_probe_starts_the_checks(ask: Ask) -> None:
    """Nobody else has to."""
    asked = threading.Event()
    checks = HealthChecks()
    checks.add("database", asked.set)
    ask(checks, "/ready", Life(at_serving=checks.start))
    assert asked.wait(10)
