"""Assembly: a config becomes a recorder with its sinks, the readers, and the edge that the middlewares act on."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from .agent_log import AgentLog
from .agent_runs import AgentRuns
from .analytics import Analytics
from .background import Background
from .budgets import Budgets, checked
from .call_metrics import CallMetrics
from .cells import CellFolder, CellRegistry, Merge, NullRegistry, default_folder
from .config import Config, ConfigError, with_settings
from .consumers import ConsumerRequests
from .context import bind, outbound_headers, request_id, set_consumer, set_user
from .error_tracker import Errors, ErrorSettings, ErrorTracker, Level, capture_exception, capture_message
from .families import STORE_FAILURES
from .health.lifecycle import Lifecycle
from .health.traffic import RECENT
from .health_check import HealthChecks
from .kept_requests import KeptRequests
from .logging_config import configure_logging, get_logger, make_lines, restore_logging
from .metrics import (
    Counter,
    Gauge,
    Histogram,
    Metrics,
    counter_declaration,
    gauge_declaration,
    histogram_declaration,
)
from .middleware.consumers import Consumers, hashing_key
from .middleware.edge import ASGIApp, Edge, OwnApp, WSGIApp, set_current_edge
from .middleware.inbound import InboundPolicy
from .operations import Operation, feature_decorator, report_event
from .outbox import Outbox
from .polled import Polled
from .propagation import Propagation
from .query_patterns import QueryPatterns
from .recorder import NullRecorder, OnFailure, Recorder, Sink
from .request_log import RequestLog
from .spans import Span
from .task_metrics import TaskMetrics
from .termination import AtSigterm

if TYPE_CHECKING:
    from .alerts import AlertEngine
    from .flusher import Flusher
    from .health_endpoint import HealthAnswer, Probes
    from .performance_tracker import PerformanceTracker
    from .store.database import Database
    from .system_resources import SystemResources
    from .utils.redaction import Scrubber

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class Monitoring:
    """One app's monitoring: the verbs of the package as methods, and the read side.

    Everything starts lazily; thread-safe.
    """

    get_logger = staticmethod(get_logger)
    bind = bind
    request_id = staticmethod(request_id)
    set_user = staticmethod(set_user)
    set_consumer = staticmethod(set_consumer)

    def __init__(self, config: Config, *, sinks: Sequence[Sink] = (), on_failure: OnFailure | None = None) -> None:
        self.config = config
        self.registry = CellRegistry(
            lambda: folder_of(config),
            max_series=config.max_series,
            max_label_values=config.max_label_values,
            on_degraded=self._say_degraded,
        )
        self.metrics = Metrics(self.registry)
        scrubber = _scrubber(config)
        self.health = self._make_health(scrubber)
        self.log_lines = make_lines(config, scrubber, self._shared_folder, self._count_dropped_lines)
        self.lifecycle = self._make_lifecycle(config)
        self.outbox = Outbox() if config.store is not None else Outbox(capacity=0)
        self.errors = Errors(self.open_database)
        self.error_tracker = ErrorTracker(
            self.outbox, self.metrics.count_error, self.background_failed, _error_settings(config, scrubber)
        )
        self.analytics = Analytics(self.outbox, self.metrics, self.open_database)
        self.budgets = self._make_budgets(config)
        self._kept = _kept_requests(config, scrubber, self.outbox, self._start_background)
        self.recorder = Recorder(
            [*self._own_sinks(), *sinks],
            on_failure,
            count_failure=self.metrics.count_failure,
            metrics=self.metrics,
        )
        self.recorder.before_llm_call = self.budgets.admit
        self.polled = Polled(self.metrics, self.recorder, self.background_failed)
        self.background = Background(self._make_flusher, on_failure=self.background_failed, on_fork=self._after_fork)
        self._read_side = _ReadSide()
        self.propagation = Propagation(config.propagate_to, config.request_id_header) if config.propagate_to else None
        """What outgoing requests carry on; None where nothing."""
        self.edge: Edge | None = Edge(
            InboundPolicy(config),
            self.recorder,
            config.request_id_header,
            self.metrics.active,
            self._own_apps(),
            self.lifecycle,
            self._before_end,
            self._make_consumers(),
        )
        self._check_alerts_and_store()
        _made.add(self)

    @property
    def performance(self) -> PerformanceTracker:
        """Return the read side of rates, errors and percentiles."""
        from .performance_tracker import PerformanceTracker

        return PerformanceTracker(self.open_database, minutes_days=self.config.keep_minutes_days)

    @property
    def alerts(self) -> AlertEngine:
        """Return the rules, what they raised, and what can be done about it."""
        engine: AlertEngine = self._read_side.get("alerts", self._make_alerts)
        return engine

    @property
    def probes(self) -> Probes:
        """Return what answers probes, in every form of the health routes."""
        from .health_endpoint import Probes

        return Probes(self.health, self.config, self.lifecycle)

    @property
    def resources(self) -> SystemResources:
        """Return what reads the use of the host and the processes."""
        resources: SystemResources = self._read_side.get("resources", self._make_resources)
        return resources

    def open_database(self) -> Database:
        """Return the store's database. Raise ConfigError when there is none."""
        database: Database = self._read_side.get("database", self._make_database)
        return database

    def observe(self, name: str, **attributes: Any) -> Span:
        """Time a piece of code under ``name``: a ``with`` block, or a decorator of def, async def and generators."""
        return Span(lambda: self.recorder, name, attributes)

    def agent(self, name: str, **attributes: Any) -> Span:
        """Time an agent, or a step of one: LLM calls inside it are attributed to it."""
        return Span(lambda: self.recorder, name, attributes, "agent")

    def wrap(self, client: T, *, name: str | None = None) -> T:
        """Instrument a client in place, for this Monitoring, and return it. Twice is once; see ``monitoring.wrap``."""
        from .integrations import wrap

        return wrap(client, name=name, recorder_of=lambda: self.recorder)

    def unwrap(self, client: T) -> T:
        """Put back what ``wrap`` replaced in a client, and return it."""
        from .integrations import unwrap

        return unwrap(client)

    def operation(
        self,
        name: str,
        *,
        user: object = None,
        id: str | None = None,
        deadline_seconds: float | None = None,
        **dimensions: Any,
    ) -> Operation:
        """Follow a business operation to its one outcome: a ``with`` block, or a decorator of def and async def."""
        return Operation(
            lambda: self.recorder, name, user=user, id=id, deadline_seconds=deadline_seconds, dimensions=dimensions
        )

    def track(self, event: str, *, user: object = None, value: float | None = None, **dimensions: Any) -> None:
        """Report a usage event."""
        report_event(self.recorder, event, user, value, dimensions)

    def feature(self, name: str) -> Callable[[F], F]:
        """Return a decorator that counts each call as a use of the feature ``name``."""
        return feature_decorator(lambda: self.recorder, name)

    def capture_exception(
        self,
        exc: BaseException | None = None,
        *,
        fingerprint: str | Sequence[str] | None = None,
        level: Level | None = None,
        **context: Any,
    ) -> str:
        """Report an exception, by default the one being handled, and return its group's ID."""
        return capture_exception(self.recorder, exc, fingerprint=fingerprint, level=level, context=context)

    def capture_message(
        self, text: str, level: Level = "error", *, fingerprint: str | Sequence[str] | None = None, **context: Any
    ) -> str:
        """Report a text as an error and return its group's ID."""
        return capture_message(self.recorder, text, level, fingerprint=fingerprint, context=context)

    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> Counter:
        """Declare a counter, exact over all worker processes. Its name ends in ``_total``."""
        declaration = counter_declaration(name, help, labels)
        self.metrics.declare(declaration)
        return Counter(declaration, lambda: self.metrics)

    def gauge(self, name: str, help: str, labels: Sequence[str] = (), *, merge: Merge = "sum") -> Gauge:
        """Declare a gauge; those of the living workers are merged by ``sum``, ``max`` or ``min``."""
        declaration = gauge_declaration(name, help, labels, merge)
        self.metrics.declare(declaration)
        return Gauge(declaration, lambda: self.metrics)

    def histogram(
        self, name: str, help: str, labels: Sequence[str] = (), *, buckets: Sequence[float] | None = None
    ) -> Histogram:
        """Declare a histogram with the exposed ``buckets``; percentiles are within 2 % whatever they are."""
        declaration = histogram_declaration(name, help, labels, buckets)
        self.metrics.declare(declaration)
        return Histogram(declaration, lambda: self.metrics)

    def check(
        self, name: str, *, critical: bool = False, timeout_seconds: float = 0.8, interval_seconds: float = 10.0
    ) -> Callable[[F], F]:
        """Register the decorated function, sync or async, as a health check: it passes when it returns."""

        def register(function: F) -> F:
            self.health.add(
                name,
                function,
                critical=critical,
                timeout_seconds=timeout_seconds,
                interval_seconds=interval_seconds,
            )
            return function

        return register

    def outbound_headers(self) -> dict[str, str]:
        """Return the headers that carry the running request to another service."""
        return outbound_headers(self.config.request_id_header)

    def health_app(self) -> ASGIApp:
        """Return the health routes as an ASGI app, for mounting by hand."""
        from .health_endpoint import health_app

        return health_app(self.probes)

    def health_answer(
        self,
        method: str,
        path: str,
        query: str = "",
        headers: Mapping[str, str] = MappingProxyType({}),
        client: str | None = None,
    ) -> HealthAnswer:
        """Return status, headers and body for what a probe asks, for frameworks and servers of other kinds.

        ``path`` is relative to where it is mounted: "" or "/ready". ``client`` is the caller's address. Answered from
        memory; the names of the headers are in lower case. Raise what the app's ``authorize`` raises.
        """
        from .health_endpoint import asked_by_hand

        return self.probes.answer(*asked_by_hand(method, path, query, headers, client))

    def metrics_app(self) -> ASGIApp:
        """Return the Prometheus exposition as an ASGI app, for mounting by hand."""
        from .metrics_endpoint import metrics_app

        return metrics_app(self.metrics, self.config, self.polled.read)

    def dashboard_app(self) -> ASGIApp:
        """Return the dashboard and its API as an ASGI app, for mounting by hand."""
        from .dashboard import dashboard_app

        return dashboard_app(self)

    def dashboard_wsgi_app(self) -> WSGIApp:
        """Return the dashboard and its API as a WSGI app."""
        return _to_wsgi(self.dashboard_app())

    def health_wsgi_app(self) -> WSGIApp:
        """Return the health routes as a WSGI app."""
        from .health_endpoint import health_wsgi_app

        return health_wsgi_app(self.probes)

    def metrics_wsgi_app(self) -> WSGIApp:
        """Return the Prometheus exposition as a WSGI app."""
        return _to_wsgi(self.metrics_app())

    def drain(self, *, all_workers: bool = False) -> None:
        """Stop being ready while requests are served as before; with ``all_workers`` in all workers of this host."""
        self.lifecycle.drain(all_workers=all_workers)

    def flush(self) -> None:
        """Write what waits to the log and the store now, in this thread."""
        self.log_lines.flush()
        self.polled.read()
        if self.config.store is not None:
            self.background.flush()

    def set_log_level(self, level: str | None, logger: str = "", *, seconds: float = 900.0) -> None:
        """Change the level of a logger and those below it ("" for all) for a while, in all workers of this host.

        None takes a change back. They follow within a second or two. Raise ValueError for an unknown level and for
        ``seconds`` that are not a positive number.
        """
        self.log_lines.levels.set(level, logger, seconds=seconds)

    def explain_log(self, logger: str = "", level: str = "info") -> list[str]:
        """Return, as sentences, where a line of this logger and level would go, and why.

        Raise ValueError for an unknown level.
        """
        from .logs.explain import explain

        return explain(self.log_lines, logger, level)

    def close(self) -> None:
        """Write what waits and hand this process's counts over to the living. What is observed later starts anew."""
        self.lifecycle.close()
        self._end_background()
        self.polled.read()
        self.log_lines.close()
        self.registry.release()
        if "database" in self._read_side:
            self.open_database().close()

    def _before_end(self) -> None:
        """Write what waits: a server is about to end this process."""
        self.lifecycle.close()
        self.write_what_waits()

    def write_what_waits(self) -> None:
        """Write what waits and end our threads; the next request or job begins anew."""
        self._end_background()
        self.log_lines.flush()
        self.log_lines.writer.stop_queue()

    def _end_background(self) -> None:
        self.health.stop()
        self.background.stop()
        self._kept.start_anew()

    def _start_background(self) -> None:
        if self.config.store is not None:
            self.background.start()

    def _after_fork(self) -> None:
        self.log_lines.start_anew()
        self.outbox.start_anew()
        self.error_tracker.start_anew()
        self.analytics.start_anew()
        self.budgets.start_anew()
        self._kept.start_anew()
        self.lifecycle.start_anew()
        self._read_side = _ReadSide()

    def background_failed(self, part: str, error: Exception) -> None:
        """Count a failure of the background work."""
        if part == "store":
            self.metrics.add(STORE_FAILURES, (), 1.0)
        self.recorder.failed(part, error)

    def _make_database(self) -> Database:
        from .store.database import Database

        if self.config.store is None:
            raise ConfigError("store is None, so nothing is kept; set it to a folder or a database's URL.")
        return Database(self.config.store)

    def _make_resources(self) -> SystemResources:
        from .system_resources import SystemResources

        return SystemResources(self.config.store if self.config.store and "://" not in self.config.store else ".")

    def _check_alerts_and_store(self) -> None:
        """Refuse at the start what would fail in the background; only where there is a need: it imports SQLAlchemy."""
        config = self.config
        if config.store is None:
            return
        try:
            if "://" in config.store:
                self.open_database()
            if config.rules or config.channels:
                self.alerts  # noqa: B018 - made now
        except ConfigError:
            raise
        except (ValueError, TypeError) as error:
            raise ConfigError(str(error)) from None

    def _make_alerts(self) -> AlertEngine:
        from .alerts import AlertEngine, Links
        from .numbers import StoreNumbers

        config = self.config
        return AlertEngine(
            self.open_database(),
            StoreNumbers(self.open_database),
            config.rules,
            config.channels,
            links=Links(config.base_url, config.dashboard_path or "", config.service, config.environment),
        )

    def _own_sinks(self) -> list[Sink]:
        return [
            self.error_tracker,  # first: it names the group that the line of a request shows
            self.metrics,
            CallMetrics(self.metrics),
            AgentRuns(self.metrics),  # before those that tell of runs
            self.budgets,
            QueryPatterns(
                self.metrics,
                self.log_lines,
                self.error_tracker.is_in_app,
                repeated=self.config.repeated_queries,
                slow_seconds=self.config.slow_query_seconds,
            ),
            ConsumerRequests(self.metrics),
            TaskMetrics(self.metrics),
            RECENT,
            self.analytics,
            RequestLog(self.log_lines),
            AgentLog(self.log_lines),
            self._kept,  # last: it keeps the lines, too
        ]

    def _make_budgets(self, config: Config) -> Budgets:
        try:
            budgets = list(checked(config.budgets))
        except ValueError as error:
            raise ConfigError(str(error)) from None
        return Budgets(
            budgets,
            self.metrics,
            hash_users=config.hash_users,
            on_first=self._start_background,
            on_failure=self.background_failed,
        )

    def _make_health(self, scrubber: Scrubber | None) -> HealthChecks:
        return HealthChecks(
            self.config.service,
            folder=self._shared_folder,
            clean=scrubber.scrub_text if scrubber is not None else str,
            on_failure=self.background_failed,
        )

    def _make_lifecycle(self, config: Config) -> Lifecycle:
        return Lifecycle(
            drain_seconds=config.drain_seconds,
            stuck_seconds=config.stuck_seconds,
            folder=self._shared_folder,
            say=lambda level, event, fields: self.log_lines.emit(level, "monitoring", event, fields),
            on_serving=self._at_serving,
            on_failure=self.background_failed,
        )

    def _at_serving(self) -> None:
        self.health.use_loop()
        if self.health.start():
            self._start_background()  # which keeps their history
        if self.config.drain_seconds:
            _at_sigterm.watch(in_front=True)

    def _make_flusher(self) -> Flusher:
        from .jobs import make_flusher

        return make_flusher(self)

    def _own_apps(self) -> dict[str, OwnApp]:
        apps = {}
        dashboard_path = self.config.dashboard_path if self.config.store is not None else None
        for prefix, make, make_wsgi in (
            (self.config.health_path, self.health_app, self.health_wsgi_app),
            (self.config.metrics_path, self.metrics_app, self.metrics_wsgi_app),
            (dashboard_path, self.dashboard_app, self.dashboard_wsgi_app),
        ):
            if prefix is not None:
                apps[prefix] = OwnApp(_made_at_first_use(make), _made_at_first_use(make_wsgi))
        return apps

    def _make_consumers(self) -> Consumers | None:
        consumer, token = self.config.consumer, self.config.token
        return None if consumer is None else Consumers(consumer, lambda: hashing_key(token, self._folders))

    def _folders(self) -> tuple[Path | None, ...]:
        """Return where what lasts is kept: in the store's folder, or in that of the cells, for as long as they do."""
        store = self.config.store
        return Path(store) if store is not None and "://" not in store else None, self._shared_folder()

    def _count_dropped_lines(self, reason: str, lines: int) -> None:
        self.metrics.count_dropped_lines(reason, lines)
        self.log_lines.count_dropped(reason, lines)

    def _shared_folder(self) -> Path | None:
        folder = self.registry.folder()
        return folder.path if folder is not None else None

    def _say_degraded(self, reason: str) -> None:
        self.log_lines.emit("warning", "monitoring", "metric cells are degraded", {"reason": reason})


def _scrubber(config: Config) -> Scrubber | None:
    if not config.scrub:
        return None
    from .utils.redaction import DEFAULT

    if not config.scrub_rules and not config.scrub_without:
        return DEFAULT
    try:
        return DEFAULT.extended(*config.scrub_rules).without(*config.scrub_without)
    except ValueError as error:
        raise ConfigError(f"scrub_without: {error}") from None


def _error_settings(config: Config, scrubber: Scrubber | None) -> ErrorSettings:
    from .utils.redaction import Scrubber

    return ErrorSettings(
        scrubber=scrubber or Scrubber((), ()),
        project_root=config.project_root,
        in_app_include=config.in_app_include,
        in_app_exclude=config.in_app_exclude,
        categorize=config.categorize,
    )


def _kept_requests(
    config: Config, scrubber: Scrubber | None, outbox: Outbox, on_first: Callable[[], None]
) -> KeptRequests:
    return KeptRequests(
        outbox,
        slow_seconds=config.slow_request_seconds,
        sample_rate=config.sample_rate,
        max_per_second=config.kept_per_second,
        clean=scrubber.scrub_text if scrubber is not None else str,
        on_first=on_first,
    )


class _ReadSide:
    """What is made at first use, because it imports SQLAlchemy; once, whichever thread asks."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}
        self._lock = threading.RLock()

    def __contains__(self, name: str) -> bool:
        return name in self._made

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what ``make`` made at the first call for this name."""
        with self._lock:
            if name not in self._made:
                self._made[name] = make()
            return self._made[name]


class _Inactive(Monitoring):
    """Records nothing and has nothing to read: what the verbs act on before ``configure``.

    Checks registered with it are kept for the configured one.
    """

    def __init__(self) -> None:
        self.config = Config()
        self.registry = NullRegistry()
        self.metrics = Metrics(self.registry)
        self.health = HealthChecks()
        self.lifecycle = Lifecycle(stuck_seconds=None)
        self.outbox = Outbox(capacity=0)
        self.recorder = NullRecorder()
        self.polled = Polled(self.metrics, self.recorder, self.background_failed)
        self.errors = Errors(self.open_database)
        self.analytics = Analytics(self.outbox, self.metrics, self.open_database)
        self.budgets = Budgets((), self.metrics)
        self.background = Background(self._make_flusher, on_failure=self.background_failed)
        self._read_side = _ReadSide()
        self.propagation = None
        self.edge = None

    def open_database(self) -> Database:
        """Raise ConfigError: there is none."""
        raise ConfigError(
            "Monitoring is not set up, so nothing is stored; call monitoring.install(app) or configure()."
        )

    def set_log_level(self, level: str | None, logger: str = "", *, seconds: float = 900.0) -> None:
        """Do nothing: the levels are structlog's and logging's own."""

    def explain_log(self, logger: str = "", level: str = "info") -> list[str]:
        """Return that nothing is set up."""
        return ["Monitoring is not set up: lines go where structlog and logging send them by default."]

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


_inactive = _Inactive()
_current: Monitoring = _inactive


def current() -> Monitoring:
    """Return the process's current Monitoring; before ``configure`` one that records nothing."""
    return _current


def configure(config: Config | None = None, **settings: Any) -> Monitoring:
    """Set up the process's Monitoring and its logging, and return it. ``settings`` are fields of ``Config`` and win
    over it.

    Without a config the ``MONITORING_*`` environment variables are read. Checks registered so far go with it, and the
    former Monitoring is closed. Raise ConfigError.
    """
    monitoring = Monitoring(with_settings(config, settings))
    former = make_current(monitoring)
    monitoring.health.adopt(former.health)
    configure_logging(monitoring.log_lines, monitoring.config)
    former.close()  # when no line comes to it any more
    _at_sigterm.watch(in_front=monitoring.config.drain_seconds > 0)
    if monitoring.config.drain_seconds:
        _at_sigterm.watch_hypercorn()
    return monitoring


def make_current(monitoring: Monitoring) -> Monitoring:
    """Make ``monitoring`` the process's current one and return the former."""
    global _current
    former, _current = _current, monitoring
    set_current_edge(monitoring.edge)
    return former


def shutdown() -> None:
    """Write what waits, close, and go back to recording nothing."""
    global _current
    former, _current = _current, _inactive
    set_current_edge(None)
    former.close()
    if former is not _inactive:
        restore_logging()
    _at_sigterm.remove()


_made: weakref.WeakSet[Monitoring] = weakref.WeakSet()


def _leave() -> float:
    return max((monitoring.lifecycle.leave() for monitoring in list(_made)), default=0.0)


_at_sigterm = AtSigterm(_leave, lambda: _current.close())


def _close_at_exit() -> None:
    for monitoring in list(_made):
        monitoring.close()


atexit.register(_close_at_exit)


def import_for_children() -> None:
    """Import what the background work needs, so that children that are forked from now on have it already.

    For parents of many short-lived processes: each of them would take up to a second for it.
    """
    for monitoring in list(_made):
        if monitoring.config.store is not None:
            from . import jobs  # noqa: F401

            monitoring.open_database().url.get_dialect()


def write_what_waits() -> None:
    """Write what waits and end our threads in this process, which ends past ``atexit``, or is about to fork."""
    for monitoring in list(_made):
        monitoring.write_what_waits()


def folder_of(config: Config) -> CellFolder:
    """Return the folder of a config's cells. Raise OSError or FolderUnusable."""
    if config.cells_folder is not None:
        return CellFolder(Path(config.cells_folder))
    return default_folder(config.service, config.store or os.getcwd())


def _made_at_first_use(make: Callable[[], Any]) -> Callable[..., Any]:
    """Return a callable that makes its app at the first call, so that what serves it is imported only then."""
    made: list[Any] = []

    def call(*args: Any) -> Any:
        if not made:
            made.append(make())
        return made[0](*args)

    return call


def _to_wsgi(app: ASGIApp) -> WSGIApp:
    from .wsgi_form import to_wsgi

    return to_wsgi(app)
