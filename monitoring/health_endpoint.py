"""The ``/health`` routes that probes ask: one pure answer, and its ASGI and WSGI forms.

An answer is made from memory: no check, no query and no lock on its way. Live never looks outside the process. Ready
fails only for checks that the app calls critical. Strangers learn the bare status.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import parse_qs

from asgiref.sync import sync_to_async

from .access import Scope, may_see, may_see_now
from .config import Config
from .health.documents import MEDIA_TYPE, SPRING_MEDIA_TYPE, Standing, draft, draft_of_one, spring
from .health.lifecycle import DRAINING, STARTING
from .health.results import CheckResult, Status
from .health_check import HealthChecks
from .middleware.edge import ASGIApp, WSGIApp
from .wsgi_form import phrase, scope_of

_STATUS_CODE: Final[Mapping[Status, int]] = {"pass": 200, "warn": 200, "fail": 503}


class Life(Protocol):
    """What is known of the life of this process."""

    def serve(self) -> None:
        """Note that a server calls the app: the checks begin to run."""
        ...

    def liveness(self) -> tuple[Status, str]:
        """Return whether the process works, and why not."""
        ...

    def readiness(self) -> tuple[Status, str]:
        """Return whether it takes requests, as far as its own life says, and why not."""
        ...

    def drain(self, *, all_workers: bool = False) -> None:
        """Stop being ready, here or in all workers of this host."""
        ...


class HealthAnswer(NamedTuple):
    """What a probe is answered. The names of the headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Probes:
    """Answers what probes ask. Thread-safe.

    ``name`` is the path below the mount: "" (all checks), ``live``, ``ready``, ``startup`` or, for those who may know,
    that of a component. ``?verbose`` tells them more; ``?format=spring`` speaks as Spring Boot's actuator does. ``POST
    drain`` drains the workers of this host, for a preStop hook. Both methods raise what the app's ``authorize`` raises.
    """

    def __init__(self, checks: HealthChecks, config: Config, life: Life) -> None:
        self._checks = checks
        self._config = config
        self._life = life

    def answer(self, scope: Scope, name: str) -> HealthAnswer:
        """Answer one request in this thread. An async ``authorize`` is waited for, outside event loops only."""
        self._life.serve()
        asked = _Question.of(scope, name)
        return self._tell(asked, asked.needs_leave and may_see_now(scope, self._config))

    async def answer_async(self, scope: Scope, name: str) -> HealthAnswer:
        """Answer one request; what writes, and a sync ``authorize``, runs in a thread."""
        self._life.serve()
        asked = _Question.of(scope, name)
        allowed = asked.needs_leave and await may_see(scope, self._config)
        if asked.drains:
            return await sync_to_async(self._tell, thread_sensitive=False)(asked, allowed)
        return self._tell(asked, allowed)

    def _tell(self, asked: _Question, allowed: bool) -> HealthAnswer:
        if asked.drains:
            return self._drain(allowed)
        if not asked.reads:
            return _answer(405, "Use GET or HEAD.", {"allow": "GET, HEAD"})
        answer = self._look(asked, allowed)
        return answer._replace(body=b"") if asked.method == "HEAD" else answer

    def _look(self, asked: _Question, allowed: bool) -> HealthAnswer:
        if asked.name not in _PROBES and allowed:
            return self._component(self._checks.of(asked.name))
        standing = _PROBES.get(asked.name, _all)(self._checks, self._life)
        body = spring(standing, allowed) if asked.wants_spring else draft(standing, allowed, self._config.service)
        headers = {"content-type": SPRING_MEDIA_TYPE if asked.wants_spring else MEDIA_TYPE, **_headers_of(standing)}
        return _answer(_STATUS_CODE[standing.status], json.dumps(body), headers)

    def _component(self, result: CheckResult | None) -> HealthAnswer:
        if result is None:
            return _answer(404, "There is no such component. Ask ?verbose for all of them.", {})
        body = draft_of_one(result, self._config.service)
        return _answer(_STATUS_CODE[result.status], json.dumps(body), {"content-type": MEDIA_TYPE})

    def _drain(self, allowed: bool) -> HealthAnswer:
        if not allowed:
            return _answer(403, "Draining needs the token, as Authorization: Bearer.", {})
        self._life.drain(all_workers=True)
        return _answer(200, json.dumps({"status": "fail", "output": DRAINING}), {"content-type": MEDIA_TYPE})


def health_app(probes: Probes) -> ASGIApp:
    """Return an ASGI app that answers probes relative to its mount."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        status, headers, body = await probes.answer_async(scope, _name_below_mount(scope))
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": body})

    return answer


def health_wsgi_app(probes: Probes) -> WSGIApp:
    """Return a WSGI app that answers probes relative to its mount, without an event loop."""

    def answer(environ: Any, start_response: Any) -> Iterable[bytes]:
        scope = scope_of(environ)
        status, headers, body = probes.answer(scope, _name_below_mount(scope))
        start_response(f"{status} {phrase(status)}", list(headers.items()))
        return [body]

    return answer


def asked_by_hand(
    method: str, path: str, query: str, headers: Mapping[str, str], client: str | None
) -> tuple[Scope, str]:
    """Return, for ``Probes.answer``, the scope and the name of what some server or framework was asked."""
    pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    scope = {
        "type": "http",
        "method": method.upper(),
        "path": "/" + path.strip("/"),
        "root_path": "",
        "query_string": query.removeprefix("?").encode("latin-1", "replace"),
        "headers": pairs,
        "client": (client, 0) if client else None,
    }
    return scope, path.strip("/")


@dataclass(frozen=True, slots=True)
class _Question:
    method: str
    name: str
    wants_more: bool
    wants_spring: bool

    @classmethod
    def of(cls, scope: Scope, name: str) -> _Question:
        wants = parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        wants_spring = wants.get("format") == ["spring"] or _accepts(scope, SPRING_MEDIA_TYPE)
        return cls(scope["method"], name, "verbose" in wants or name not in _PROBES, wants_spring)

    @property
    def reads(self) -> bool:
        return self.method in ("GET", "HEAD")

    @property
    def drains(self) -> bool:
        return self.method == "POST" and self.name == "drain"

    @property
    def needs_leave(self) -> bool:
        return self.drains or (self.reads and self.wants_more)


def _all(checks: HealthChecks, life: Life) -> Standing:
    report = checks.standing()
    alive, output = life.liveness()
    return Standing("fail", output, report) if alive == "fail" else Standing(report.status, "", report)


def _live(checks: HealthChecks, life: Life) -> Standing:
    return Standing(*life.liveness())


def _ready(checks: HealthChecks, life: Life) -> Standing:
    status, output = life.readiness()
    if status == "fail":
        return Standing(status, output)
    if not checks.has_started():
        return Standing("fail", STARTING)
    return Standing(checks.readiness(), "", checks.standing())


def _startup(checks: HealthChecks, life: Life) -> Standing:
    status, output = life.readiness()
    if (status == "fail" and output == STARTING) or not checks.has_started():
        return Standing("fail", STARTING)
    return Standing("pass")


_PROBES: Final[Mapping[str, Callable[[HealthChecks, Life], Standing]]] = {
    "": _all,
    "live": _live,
    "liveness": _live,
    "ready": _ready,
    "readiness": _ready,
    "startup": _startup,
}


def _headers_of(standing: Standing) -> dict[str, str]:
    if standing.status != "fail":
        return {}
    return {"retry-after": "5", **({"connection": "close"} if standing.output == DRAINING else {})}


def _answer(status: int, text: str, headers: Mapping[str, str]) -> HealthAnswer:
    body = text.encode()
    plain = {"content-type": "text/plain; charset=utf-8", "cache-control": "no-store", "content-length": str(len(body))}
    return HealthAnswer(status, {**plain, **headers}, body)


def _accepts(scope: Scope, media_type: str) -> bool:
    return any(name == b"accept" and media_type.encode() in value for name, value in scope["headers"])


def _name_below_mount(scope: Scope) -> str:
    return str(scope["path"]).removeprefix(scope.get("root_path", "")).strip("/")
