"""The rungs of the ladder: the bare app, ours, and the peers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

from .apps import APPS, WSGI
from .harness import Evidence, Subject
from .peers import MakeApp, assembled_stack, correlation_id, instrumentator, opentelemetry_metrics, sentry
from .scratch import count_lines, in_memory, on_disk


@dataclass(frozen=True, slots=True)
class Rung:
    """One row of the ladder: its label, what has to be importable, and how it is built around a new bare app."""

    label: str
    build: Callable[[MakeApp], Subject]
    needs: tuple[str, ...] = ()
    ours: bool = False

    def missing(self) -> list[str]:
        """Return the modules that this rung needs and that are not installed."""
        return [name for name in self.needs if not _importable(name)]


def _importable(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def builder(framework: str, key: str) -> Callable[[], Subject]:
    """Return what a worker process calls to build the rung `key` on `framework`."""
    return partial(_build, framework, key)


def _build(framework: str, key: str) -> Subject:
    ladder = WSGI_LADDER if framework in WSGI else {**ROOMS, **ASGI_LADDER}
    return ladder[key].build(APPS[framework])


# --- the bare app, and middleware that does nothing -------------------------------------------------------------------


def bare(make: MakeApp, wsgi: bool = False) -> Subject:
    """Leave the app alone."""
    return Subject(make(), wsgi=wsgi)


class NoOp:
    """A pure ASGI middleware that only passes on."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


class NoOpSend:
    """The same, and `send` wrapped: the least that anything which sees a response can cost."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def wrapped(message: Any) -> None:
            await send(message)

        await self.app(scope, receive, wrapped)


def no_op(make: MakeApp, middleware: type) -> Subject:
    """The app under one of the two."""
    app = make()
    app.add_middleware(middleware)
    return Subject(app)


# --- ours -------------------------------------------------------------------------------------------------------------


def ours_unconfigured(make: MakeApp) -> Subject:
    """Our middleware with nothing set up: it records nothing."""
    from monitoring import MonitoringMiddleware

    app = make()
    app.add_middleware(MonitoringMiddleware)
    return Subject(app)


EVERY_ROOM = ("Metrics", "RequestLog", "ErrorTracker", "Analytics", "KeptRequests")
"""The sinks of requests, in the order in which the ladder of rooms switches them on."""


def ours(make: MakeApp, wsgi: bool = False, rooms: tuple[str, ...] = EVERY_ROOM, store: bool = True) -> Subject:
    """Everything on: ID (taken over from the peer, as the others do), context, metrics, percentiles, line to a file,
    errors, usage, kept requests, store. With fewer ``rooms`` only those sinks fold requests.
    """
    import monitoring

    log = on_disk("ours.log")
    app = make()
    monitor = monitoring.install(
        app,
        service="bench",
        log_destination=str(log),
        cells_folder=str(in_memory("cells")),
        trusted_proxies=("127.0.0.1",),
        store=str(on_disk("store")) if store else None,
    )
    folds = monitor.recorder._folds
    folds["request"] = tuple(fold for fold in folds["request"] if fold.__qualname__.partition(".")[0] in rooms)
    monitor.recorder._arrange_request_folds()

    def drain() -> None:
        """Write what waits. Roll-ups are no such work: they cost the same every five seconds, whatever the traffic."""
        monitor.log_lines.writer.flush()
        if store and (flusher := monitor.background.flusher):
            with flusher._work:
                flusher._write_facts()

    def evidence() -> Evidence:
        metrics = monitor.metrics.snapshot()
        requests = metrics["http_server_request_duration_seconds"].series if "Metrics" in rooms else ()
        dropped = metrics.get("monitoring_log_lines_dropped_total")
        if rooms != EVERY_ROOM:
            return {}
        return {
            "lines": count_lines(log, "request"),
            "counted": int(sum(series.count for series in requests)),
            "series": len(requests),
            "dropped": int(sum(series.value for series in dropped.series)) if dropped else 0,
            "failures": sum(monitor.recorder.failures.values()),
        }

    return Subject(app, wsgi=wsgi, drain=drain, evidence=evidence)


CORRELATION_ID = ("asgi_correlation_id",)
STACK = ("asgi_correlation_id", "structlog", "prometheus_fastapi_instrumentator")
OPENTELEMETRY = ("opentelemetry.instrumentation.asgi", "opentelemetry.sdk.metrics")

ASGI_LADDER = {
    "bare": Rung("bare", bare),
    "again": Rung("bare again (the noise)", bare),
    "no-op": Rung("no-op middleware", partial(no_op, middleware=NoOp)),
    "no-op-send": Rung("no-op middleware that wraps send", partial(no_op, middleware=NoOpSend)),
    "ours-off": Rung("monitoring, nothing configured", ours_unconfigured, ("monitoring",), ours=True),
    "ours": Rung("monitoring, everything on", ours, ("monitoring",), ours=True),
    "correlation-id": Rung("asgi-correlation-id", partial(correlation_id, sentry_hook=False), CORRELATION_ID),
    "correlation-id-sentry": Rung(
        "asgi-correlation-id, sentry-sdk installed",
        partial(correlation_id, sentry_hook=True),
        (*CORRELATION_ID, "sentry_sdk"),
    ),
    "instrumentator": Rung("prometheus-fastapi-instrumentator", instrumentator, STACK[2:]),
    "opentelemetry": Rung("opentelemetry, metrics", opentelemetry_metrics, OPENTELEMETRY),
    "sentry": Rung("sentry-sdk, errors", sentry, ("sentry_sdk",)),
    "stack": Rung("the assembled stack, without sentry", partial(assembled_stack, errors=False), STACK),
    "stack-sentry": Rung("the assembled stack", partial(assembled_stack, errors=True), (*STACK, "sentry_sdk")),
}

ROOMS = {
    "bare": Rung("bare", bare),
    "edge": Rung("the edge: ID, context, clocks", partial(ours, rooms=(), store=False), ours=True),
    "metrics": Rung("+ metrics and percentiles", partial(ours, rooms=EVERY_ROOM[:1], store=False), ours=True),
    "line": Rung("+ the canonical line", partial(ours, rooms=EVERY_ROOM[:2], store=False), ours=True),
    "errors": Rung("+ errors", partial(ours, rooms=EVERY_ROOM[:3], store=False), ours=True),
    "usage": Rung("+ usage", partial(ours, rooms=EVERY_ROOM[:4], store=False), ours=True),
    "kept": Rung("+ kept requests", partial(ours, store=False), ours=True),
    "ours": Rung("+ the store: everything on", ours, ours=True),
    "correlation-id": ASGI_LADDER["correlation-id"],
}
"""The same ladder from the inside: what each room adds to the one before."""

INSTALLED_LADDER = {key: ASGI_LADDER[key] for key in ("bare", "again", "ours")}

WSGI_LADDER = {
    "bare": Rung("bare", partial(bare, wsgi=True)),
    "again": Rung("bare again (the noise)", partial(bare, wsgi=True)),
    "ours": Rung("monitoring, everything on", partial(ours, wsgi=True), ("monitoring",), ours=True),
}
