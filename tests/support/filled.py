"""A store filled through the real parts: a small app, its calls and its business, and the ledger of what they did.

What took how long is taken from the observations themselves, so that every number of the read side has something exact
to be compared with.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

import monitoring
from monitoring import Monitoring, MonitoringMiddleware
from monitoring.calls import CacheCall, DatabaseCall, HTTPCall, LLMCall
from monitoring.jobs import RollUps
from monitoring.logging_config import configure_logging, restore_logging
from monitoring.observation import Observation
from monitoring.store.leases import Lease
from monitoring.system_resources import SystemResources
from monitoring.testing import MemorySink, use

TOKEN = "a-token-for-tests"
BEARER = {"authorization": f"Bearer {TOKEN}"}
GUARD = {"x-monitoring": "1"}
FUNDERS = ("NSF", "NSF", "NIH")


def report_calls(failing: bool = False) -> None:
    """Report one call of each kind, as adapters do where a call ends."""
    record = monitoring.current().recorder.record
    error = TimeoutError("no answer") if failing else None
    database = DatabaseCall(perf_counter() - 0.02, error)
    database.name, database.operation, database.system = "SELECT funders", "SELECT", "sqlite"
    database.statement, database.rows = "SELECT * FROM funders WHERE id = ?", 3
    record(database)
    cache = CacheCall(perf_counter() - 0.001)
    cache.name, cache.cache, cache.system, cache.hits, cache.misses = "mget", "profiles", "redis", 3, 1
    cache.by_prefix = {"users": (2, 1)}
    record(cache)
    outgoing = HTTPCall(perf_counter() - 0.05, error)
    outgoing.name, outgoing.host, outgoing.status = "GET api.example.org", "api.example.org", 0 if failing else 200
    record(outgoing)


def report_llm_call(model: str = "gpt-4o", cost: str | None = "0.0125", outcome: str = "") -> None:
    """Report a call to a language model; without a cost its price is not known."""
    call = LLMCall(perf_counter() - 0.4, None, outcome)
    call.name, call.provider, call.model, call.response_model = f"chat {model}", "openai", model, model
    call.input_tokens, call.output_tokens, call.has_usage = 1_000, 250, True
    call.cost_usd = None if cost is None else Decimal(cost)
    call.streamed, call.first_chunk_seconds = True, 0.1
    monitoring.current().recorder.record(call)


async def read(request: Request) -> Response:
    """Answer."""
    return JSONResponse({"id": request.path_params["id"]})


async def write(request: Request) -> Response:
    """Do business: an operation by a user, an agent, a feature, and a call of each kind."""
    monitoring.set_user(request.query_params["user"])
    search()
    with monitoring.operation("proposal.generate", funder=request.query_params.get("funder")) as operation:
        with monitoring.agent("writer"):
            report_calls()
            report_llm_call()
        if "fail" in request.query_params:
            operation.fail("too long")
    monitoring.get_logger("app").info("proposal written", pages=12)
    return JSONResponse({}, 201)


async def crash(request: Request) -> Response:
    """Fail."""
    raise ValueError("no such funder")


async def missing(request: Request) -> Response:
    """Find nothing."""
    raise HTTPException(404)


def make_app() -> Starlette:
    """Return the app."""
    return Starlette(
        routes=[
            Route("/proposals/{id}", read),
            Route("/proposals", write, methods=["POST"]),
            Route("/crash", crash),
            Route("/missing", missing),
        ]
    )


@dataclass
class Filled:
    """A Monitoring over a store, what was done, and its dashboard."""

    monitoring: Monitoring
    sink: MemorySink = field(repr=False)
    app: Any = field(repr=False)
    ids: dict[str, list[str]] = field(default_factory=dict, repr=False)
    """Request IDs by route, in order."""

    def api(self) -> TestClient:
        """Return a client of the dashboard that has the token."""
        return TestClient(self.app, headers={**BEARER, **GUARD}, raise_server_exceptions=True)

    def get(self, path: str, **parameters: Any) -> Any:
        """Return what the API answers, which must be 200."""
        response = self.api().get(f"/monitoring/api/v1{path}", params=parameters)
        assert response.status_code == 200, response.text
        return response.json()

    def durations(self, kind: Any, **wanted: Any) -> list[float]:
        """Return how long what was observed took, exactly."""
        return sorted(one.duration_seconds for one in self.of(kind, **wanted))

    def of(self, kind: Any, **wanted: Any) -> list[Any]:
        """Return the observations of a kind with these attributes."""
        found: list[Observation] = self.sink.of_kind(kind)
        return [one for one in found if all(getattr(one, name) == value for name, value in wanted.items())]

    def ask(self, method: str, path: str, route: str, **parameters: Any) -> httpx.Response:
        """Send a request to the app, and note its ID."""
        client = TestClient(self.app, raise_server_exceptions=False)
        response: httpx.Response = client.request(method, path, params=parameters)
        self.ids.setdefault(route, []).append(response.headers["x-request-id"])
        return response


@contextlib.contextmanager
def filled(store: Path, **settings: Any) -> Iterator[Filled]:
    """Make a Monitoring with a store, serve the app in it, and let it do one round of everything."""
    sink = MemorySink()
    chosen = {
        "store": str(store),
        "cells_folder": f"{store}-cells",
        "log_destination": f"{store}.log",
        "token": TOKEN,
        "service": "proposals",
        "sample_rate": 1.0,
        "kept_per_second": 1_000.0,
    }
    with use(sink, **{**chosen, **settings}) as made:
        configure_logging(made.log_lines)
        try:
            done = Filled(made, sink, MonitoringMiddleware(make_app(), made))
            do_everything(done)
            made.flush()
            yield done
        finally:
            restore_logging()


def do_everything(done: Filled) -> None:
    """Do what the ledger of the tests counts."""
    for number in range(20):
        done.ask("GET", f"/proposals/{number}", "/proposals/{id}")
    for number, funder in enumerate(FUNDERS):
        done.ask("POST", "/proposals", "/proposals", funder=funder, user=("alice", "bob", "alice")[number])
    done.ask("POST", "/proposals", "/proposals", funder="NIH", user="alice", fail="1")
    for _ in range(2):
        done.ask("GET", "/crash", "/crash")
    done.ask("GET", "/missing", "/missing")
    report_calls(failing=True)
    report_llm_call("llama-local", cost=None)
    report_llm_call("gpt-4o", outcome="abandoned")
    with monitoring.operation("proposal.generate", user="carol", funder="NSF") as running:
        running.fail("never mind")
    monitoring.track("export", user="carol", format="pdf")
    monitoring.track("export", user="carol", format="docx")


@monitoring.feature("search")
def search() -> None:
    """Use a feature."""


class Periods:
    """Rolls a Monitoring's cells up at the times that a test gives."""

    def __init__(self, made: Monitoring) -> None:
        self.database = made.open_database()
        self._lease = Lease("host:test", f"test:{os.getpid()}")
        self._jobs = RollUps(self.database, made.metrics.totals, SystemResources(), "test")

    def roll_up(self, now: float) -> None:
        """Add what was gained since the last time to the minute of ``now``."""
        with self.database.writing() as connection:
            self._lease.acquire(connection, now)
        self._jobs.run(self._lease, now)
