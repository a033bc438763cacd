"""monitoring-kit: request IDs, JSON logs, metrics, health and more for Python web apps, in one line.

import monitoring

monitoring.install(app, service="proposals")
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from .budgets import Budget, BudgetExceeded
from .cells import Merge
from .config import Config, ConfigError
from .context import ContextExecutor, bind, carry_context, request_id, set_consumer, set_user
from .error_tracker import Level
from .logging_config import get_logger
from .metrics import (
    Counter,
    Gauge,
    Histogram,
    MetricError,
    counter_declaration,
    gauge_declaration,
    histogram_declaration,
)
from .middleware import MonitoringMiddleware, WSGIMonitoringMiddleware
from .middleware.edge import ASGIApp
from .monitor import F, Monitoring, configure, current, shutdown
from .operations import Operation, feature_decorator
from .spans import Span

T = TypeVar("T")

__version__ = "0.1.0"

__all__ = [
    "OTLP",
    "Budget",
    "BudgetExceeded",
    "Config",
    "ConfigError",
    "ContextExecutor",
    "Counter",
    "Email",
    "Filtered",
    "Gauge",
    "Histogram",
    "JSONFormatter",
    "LogFile",
    "Loki",
    "MetricError",
    "Monitoring",
    "MonitoringMiddleware",
    "Operation",
    "Rule",
    "Syslog",
    "WSGIMonitoringMiddleware",
    "Webhook",
    "agent",
    "bind",
    "capture_exception",
    "capture_message",
    "carry_context",
    "check",
    "configure",
    "counter",
    "current",
    "dashboard_app",
    "drain",
    "feature",
    "gauge",
    "get_logger",
    "health_answer",
    "health_app",
    "histogram",
    "install",
    "log_call",
    "log_context",
    "log_duration",
    "log_request",
    "metrics_app",
    "observe",
    "operation",
    "outbound_headers",
    "request_id",
    "set_consumer",
    "set_user",
    "settings_of_json_logger",
    "shutdown",
    "track",
    "verify_webhook",
]


if TYPE_CHECKING:
    from .alerting.channels import Email, Webhook, verify_webhook
    from .alerting.rules import Rule
    from .health_endpoint import HealthAnswer
    from .logs.files import LogFile
    from .logs.formatter import JSONFormatter, settings_of_json_logger
    from .logs.outlets import Filtered
    from .logs.shipping import OTLP, Loki, Syslog
    from .utils.logging_helpers import log_call, log_context, log_duration, log_request

_LAZY: Final[Mapping[str, str]] = {
    "Rule": "alerting.rules",
    "Email": "alerting.channels",
    "Webhook": "alerting.channels",
    "verify_webhook": "alerting.channels",
    "Filtered": "logs.outlets",
    "JSONFormatter": "logs.formatter",
    "LogFile": "logs.files",
    "Loki": "logs.shipping",
    "OTLP": "logs.shipping",
    "Syslog": "logs.shipping",
    "log_call": "utils.logging_helpers",
    "log_context": "utils.logging_helpers",
    "log_duration": "utils.logging_helpers",
    "log_request": "utils.logging_helpers",
    "settings_of_json_logger": "logs.formatter",
}
"""Names whose modules are imported when they are first asked for: together they take as long as all others."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)


def install(app: Any, **settings: Any) -> Monitoring:
    """Wire a FastAPI, Starlette, Litestar, Quart, aiohttp.web, Flask or Django app in place and return its Monitoring.
    Twice is once.

    The middleware goes outside everything, so that an unhandled 500 carries the request ID too; the app keeps its
    type. It also answers ``/health`` and ``/metrics``, unless the app owns them. ``settings`` are fields of
    ``Config``. Raise TypeError for an app of another kind, ConfigError for a setting that cannot be used.
    """
    from .integrations.web import install_into

    return install_into(app, settings)


def wrap(client: T, *, name: str | None = None) -> T:
    """Instrument a client in place and return it: the same object, of the same type. Twice is once.

    Knows database engines, connections and pools, caches, HTTP clients, language models, agents, and what sends and
    runs tasks; docs and integrations/README.md have the list. It may come before ``configure``. ``name`` tells caches
    and pools apart. Raise TypeError for a client of another kind, with the list of those that are known.
    """
    from .integrations import wrap

    return wrap(client, name=name)


def unwrap(client: T) -> T:
    """Take the instrumentation out of a client again, as if it had never been wrapped, and return it."""
    from .integrations import unwrap

    return unwrap(client)


def observe(name: str, **attributes: Any) -> Span:
    """Time a piece of code under ``name``: a ``with`` block, or a decorator of def, async def and generators."""
    return Span(lambda: current().recorder, name, attributes)


def agent(name: str, **attributes: Any) -> Span:
    """Time an agent, or a step of one, like ``observe``: LLM calls inside it are attributed to it. Nests."""
    return Span(lambda: current().recorder, name, attributes, "agent")


def operation(
    name: str,
    *,
    user: object = None,
    id: str | None = None,
    deadline_seconds: float | None = None,
    **dimensions: Any,
) -> Operation:
    """Follow a business operation to its one outcome: ok, failed or abandoned. A ``with`` block, or a decorator.

    ``dimensions`` are what it is broken down by, such as ``funder="NSF"``: values of few kinds, never free text.
    """
    return Operation(
        lambda: current().recorder,
        name,
        user=user,
        id=id,
        deadline_seconds=deadline_seconds,
        dimensions=dimensions,
    )


def track(event: str, *, user: object = None, value: float | None = None, **dimensions: Any) -> None:
    """Report a usage event. ``user`` is by default that of the running request."""
    current().track(event, user=user, value=value, **dimensions)


def feature(name: str) -> Callable[[F], F]:
    """Return a decorator that counts each call of a function as a use of the feature ``name``."""
    return feature_decorator(lambda: current().recorder, name)


def capture_exception(
    exc: BaseException | None = None,
    *,
    fingerprint: str | Sequence[str] | None = None,
    level: Level | None = None,
    **context: Any,
) -> str:
    """Report an exception, by default the one being handled, and return its group's ID; "" when there is none.

    One that the middleware sees again is counted once. ``fingerprint`` replaces the way it is grouped. Raise
    ValueError for what is no exception, no level or no fingerprint.
    """
    return current().capture_exception(exc, fingerprint=fingerprint, level=level, **context)


def capture_message(
    text: str, level: Level = "error", *, fingerprint: str | Sequence[str] | None = None, **context: Any
) -> str:
    """Report a text as an error and return its group's ID: texts that differ in numbers and names are one group."""
    return current().capture_message(text, level, fingerprint=fingerprint, **context)


def counter(name: str, help: str, labels: Sequence[str] = ()) -> Counter:
    """Declare a counter, exact over all worker processes. Its name ends in ``_total``."""
    declaration = counter_declaration(name, help, labels)
    current().metrics.declare(declaration)
    return Counter(declaration, lambda: current().metrics)


def gauge(name: str, help: str, labels: Sequence[str] = (), *, merge: Merge = "sum") -> Gauge:
    """Declare a gauge; those of the living workers are merged by ``sum``, ``max`` or ``min``."""
    declaration = gauge_declaration(name, help, labels, merge)
    current().metrics.declare(declaration)
    return Gauge(declaration, lambda: current().metrics)


def histogram(name: str, help: str, labels: Sequence[str] = (), *, buckets: Sequence[float] | None = None) -> Histogram:
    """Declare a histogram with the exposed ``buckets``; percentiles are within 2 % whatever they are."""
    declaration = histogram_declaration(name, help, labels, buckets)
    current().metrics.declare(declaration)
    return Histogram(declaration, lambda: current().metrics)


def check(
    name: str, *, critical: bool = False, timeout_seconds: float = 0.8, interval_seconds: float = 10.0
) -> Callable[[F], F]:
    """Register the decorated function, sync or async, as a health check: it passes when it returns."""
    return current().check(name, critical=critical, timeout_seconds=timeout_seconds, interval_seconds=interval_seconds)


def drain(*, all_workers: bool = False) -> None:
    """Stop being ready, so that no new requests are sent here, while those that come are served as before.

    ``all_workers`` of this host follow within two seconds, but not those that start later. Draining does not end.
    """
    current().drain(all_workers=all_workers)


def outbound_headers() -> dict[str, str]:
    """Return the headers that carry the running request to another service: request ID and W3C trace context."""
    return current().outbound_headers()


def dashboard_app() -> ASGIApp:
    """Return the current Monitoring's dashboard and API as an ASGI app, for mounting by hand."""
    return current().dashboard_app()


def health_answer(
    method: str,
    path: str,
    query: str = "",
    headers: Mapping[str, str] = MappingProxyType({}),
    client: str | None = None,
) -> HealthAnswer:
    """Return status, headers and body for what a probe asks, for frameworks and servers of other kinds.

    See ``Monitoring.health_answer``.
    """
    return current().health_answer(method, path, query, headers, client)


def health_app() -> ASGIApp:
    """Return the current Monitoring's health routes as an ASGI app, for mounting by hand."""
    return current().health_app()


def metrics_app() -> ASGIApp:
    """Return the current Monitoring's Prometheus exposition as an ASGI app, for mounting by hand."""
    return current().metrics_app()
