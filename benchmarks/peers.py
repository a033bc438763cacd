"""The tools that monitoring replaces, each set up as its own README shows it, and the stack people assemble of them."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .harness import Evidence, Subject
from .scratch import count_lines, on_disk

MakeApp = Callable[[], Any]


def correlation_id(make: MakeApp, sentry_hook: bool) -> Subject:
    """Tag requests with asgi-correlation-id; it looks for sentry-sdk by itself, so to go without hides it."""
    if not sentry_hook:
        sys.modules["sentry_sdk"] = None  # type: ignore[assignment]
    from asgi_correlation_id import CorrelationIdMiddleware

    app = make()
    app.add_middleware(CorrelationIdMiddleware)
    return Subject(app)


def instrumentator(make: MakeApp) -> Subject:
    """Count with prometheus-fastapi-instrumentator as its README shows it."""
    from prometheus_fastapi_instrumentator import Instrumentator

    app = make()
    Instrumentator().instrument(app)
    return Subject(app, evidence=_instrumentator_evidence)


def _instrumentator_evidence() -> Evidence:
    from prometheus_client import REGISTRY

    samples = [sample for metric in REGISTRY.collect() for sample in metric.samples]
    requests = [sample.value for sample in samples if sample.name == "http_requests_total"]
    return {"counted": int(sum(requests)), "series": len(requests)}


def opentelemetry_metrics(make: MakeApp) -> Subject:
    """Measure with OpenTelemetry's ASGI middleware and the metrics SDK, read in memory, no traces."""
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.trace import NoOpTracerProvider

    reader = InMemoryMetricReader()
    app = make()
    app.add_middleware(
        OpenTelemetryMiddleware,
        meter_provider=MeterProvider(metric_readers=[reader]),
        tracer_provider=NoOpTracerProvider(),
    )

    def evidence() -> Evidence:
        data: Any = reader.get_metrics_data()
        metrics = [m for resource in data.resource_metrics for scope in resource.scope_metrics for m in scope.metrics]
        points = [p for m in metrics if m.name.endswith("duration") for p in m.data.data_points]
        return {"counted": sum(point.count for point in points), "series": len(points)}

    return Subject(app, evidence=evidence)


def sentry(make: MakeApp) -> Subject:
    """Report errors with sentry-sdk, through a transport that throws them away."""
    drain, evidence = _start_sentry()
    return Subject(make(), drain=drain, evidence=evidence)


def _start_sentry() -> tuple[Callable[[], None], Callable[[], Evidence]]:
    import sentry_sdk
    from sentry_sdk.transport import Transport

    class Discard(Transport):
        errors = 0

        def capture_envelope(self, envelope: Any) -> None:
            Discard.errors += envelope.get_event() is not None

    sentry_sdk.init(dsn="http://key@127.0.0.1:9/1", transport=Discard)
    return sentry_sdk.flush, lambda: {"errors sent": Discard.errors}


class AccessLog:
    """The access log that structlog's users write: bind the ID, time the request, one JSON line."""

    def __init__(self, app: Any) -> None:
        import structlog
        from asgi_correlation_id import correlation_id

        self.app = app
        self.current_id = correlation_id
        self.access = structlog.stdlib.get_logger("api.access")
        self.errors = structlog.stdlib.get_logger("api.error")
        self.context = structlog.contextvars

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self.context.clear_contextvars()
        self.context.bind_contextvars(request_id=self.current_id.get())
        status = 500
        started = time.perf_counter_ns()

        async def watch(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except Exception:
            self.errors.exception("Uncaught exception")
            raise
        finally:
            self.access.info(
                "request",
                http={"url": scope["path"], "status_code": status, "method": scope["method"]},
                network={"client": scope["client"]},
                duration=time.perf_counter_ns() - started,
            )


def _log_json_through_stdlib(path: Path) -> None:
    import structlog

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.FileHandler(path)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def assembled_stack(make: MakeApp, errors: bool) -> Subject:
    """The usual four together: correlation-id, structlog through stdlib, instrumentator and, with `errors`, sentry."""
    drain, sent = _start_sentry() if errors else (lambda: None, dict[str, int])
    from asgi_correlation_id import CorrelationIdMiddleware
    from prometheus_fastapi_instrumentator import Instrumentator

    log = on_disk("stack.log")
    _log_json_through_stdlib(log)
    app = make()
    Instrumentator().instrument(app)
    app.add_middleware(AccessLog)
    app.add_middleware(CorrelationIdMiddleware)

    def evidence() -> Evidence:
        return {"lines": count_lines(log, "request"), **_instrumentator_evidence(), **sent()}

    return Subject(app, drain=drain, evidence=evidence)
