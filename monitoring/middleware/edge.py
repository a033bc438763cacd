"""What the middlewares need of an assembled ``Monitoring``, and which one is the process's current."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

from ..health.lifecycle import Lifecycle
from ..observation import UNMATCHED, Observation, RequestRecord, outcome_of_status
from ..recorder import Recorder
from ..utils.ids import new_ids_at
from .consumers import Consumers
from .inbound import InboundPolicy
from .methods import METHODS, OTHER_METHOD

ASGIApp = Callable[[Any, Any, Any], Any]
WSGIApp = Callable[[Any, Any], Any]

CLIENT_CLOSED = 499
"""Status of a request that ended before its response started, without an error of the app."""

RECORD_KEY = "monitoring.request"
"""Where a scope or environ holds the request's record; its presence says that an outer middleware already acts."""


@dataclass(frozen=True, slots=True)
class OwnApp:
    """A sub-app that the edge answers itself, in its two forms."""

    asgi: ASGIApp
    wsgi: WSGIApp


class SupportsCells(Protocol):
    """Finds the cell of a method."""

    def __getitem__(self, method: str, /) -> Any:
        """Return something whose first item is a number that can be changed in place."""
        ...


class Edge:
    """One Monitoring as its middlewares see it."""

    def __init__(
        self,
        policy: InboundPolicy,
        recorder: Recorder,
        request_id_header: str,
        active: SupportsCells,
        own_apps: Mapping[str, OwnApp],
        life: Lifecycle,
        at_end: Callable[[], None] = lambda: None,
        consumers: Consumers | None = None,
    ) -> None:
        self.policy = policy
        self.recorder = recorder
        self.request_id_header = request_id_header.lower()
        self.request_id_header_bytes = self.request_id_header.encode()
        self.active = active
        """Requests in flight: the cell of a method, whose first item is their number."""
        self.life = life
        self.at_end = at_end
        """Write what waits: the server is about to end."""
        self.consumers = consumers
        """Who names the consumers of requests; None where the app does not ask for them."""
        self._own_apps = dict(own_apps)
        self.settle: Callable[[], None] = lambda: None
        """Called before an own path is answered, when all routes of the app are known: it may step aside."""
        self.prefixes = tuple(own_apps)

    def own_app(self, path: str) -> tuple[str, OwnApp] | None:
        """Return the prefix and sub-app that answer ``path``, if one does."""
        self.settle()
        for prefix, app in self._own_apps.items():
            if path == prefix or path.startswith(prefix + "/"):
                self.life.serve()
                return prefix, app
        return None

    def step_aside(self, prefix: str) -> None:
        """Leave a prefix to the app, which owns it already."""
        self._own_apps.pop(prefix, None)
        self.prefixes = tuple(self._own_apps)

    def begin(
        self,
        method: str | None,
        path: str,
        headers: Mapping[str, str] | None = None,
        peer: str | None = None,
        in_flight: bool = True,
    ) -> RequestRecord:
        """Return the record of a request that begins now, counted as in flight unless it is a websocket's.

        ``headers`` are those that the policy reads, None where there are none. Raise InvalidRequestId when the policy
        is to reject.
        """
        record = RequestRecord()
        record.started = moment = perf_counter()
        record.method = method = METHODS.get(method, OTHER_METHOD)
        record.path = path
        record.request_id, record.span_id = new_ids_at(moment)
        record.trace_id = record.request_id
        record.bytes_sent = 0
        record.noted = record.called = record.finished = False
        record.calls = None
        if headers is not None:
            self.policy.take_over(record, headers, peer)
        if in_flight:
            try:
                self.active[method][0] += 1.0
            except Exception as error:
                self.recorder.failed("active requests", error)
        return record

    def name_consumer(self, name: Callable[[RequestRecord, Any], None], record: RequestRecord, request: Any) -> None:
        """Have a request's consumer named. Never raises."""
        try:
            name(record, request)
        except Exception as error:
            self.recorder.failed("consumer", error)

    def finish(self, record: RequestRecord, route: str, outcome: str = "") -> None:
        """Report a request that has ended; only the first report counts.

        ``route`` is by default what the record has, ``outcome`` that of the status.
        """
        if record.finished:
            return
        record.finished = True
        record.duration_seconds = perf_counter() - record.started
        if route:
            record.route = route
        elif not record.route:
            record.route = UNMATCHED
            record.noted = True
        if record.method == "HEAD":
            record.bytes_sent = 0
        if not outcome:
            outcome = "ok" if record.status < 400 else _outcome_of_failure(record)
        record.outcome = outcome
        try:
            self.active[record.method][0] -= 1.0
        except Exception as error:
            self.recorder.failed("active requests", error)
        self.recorder.record_request(record)
        if record.noted and record.exception is not None:
            record.exception = None  # its frames hold the record: as a cycle both would be the garbage collector's

    def finish_websocket(self, record: RequestRecord, route: str, outcome: str = "") -> None:
        """Report a websocket that has ended. ``outcome`` is by default that of its exception, or of its status."""
        record.finished = True
        record.route = route or record.route or UNMATCHED
        if not outcome:
            outcome = "server_error" if record.exception is not None else outcome_of_status(record.status)
        duration = perf_counter() - record.started
        self.recorder.record(Observation("websocket", record.route, outcome, duration, record, record.exception))
        record.exception = None

    def report_background(self, record: RequestRecord, error: BaseException) -> None:
        """Report work that failed after its response was complete."""
        duration = perf_counter() - record.started
        self.recorder.record(Observation("background", record.route, "background_error", duration, record, error))


def _outcome_of_failure(record: RequestRecord) -> str:
    """Return the outcome of a status from 400 on.

    With it goes the exception that is being handled now: an error handler sends its response from within ``except``.
    """
    outcome = outcome_of_status(record.status)
    if outcome == "client_error":
        return outcome
    error = record.exception or sys.exc_info()[1]
    if error is None:
        return outcome
    if is_client_gone(error):
        record.status = CLIENT_CLOSED
        return "client_disconnected"
    attach(error, record)
    return outcome


def is_client_gone(error: BaseException) -> bool:
    """Say whether an exception is Starlette's way of telling that the client left."""
    return type(error).__name__ == "ClientDisconnect"


class HasEdge(Protocol):
    """A Monitoring, as far as a middleware knows it."""

    @property
    def edge(self) -> Edge | None:
        """Return what the middlewares act on, or None to pass every request through."""
        ...


_current: Edge | None = None


def current_edge() -> Edge | None:
    """Return the edge of the process's current Monitoring."""
    return _current


def set_current_edge(edge: Edge | None) -> None:
    """Make this edge the one of middlewares that were given no Monitoring."""
    global _current
    _current = edge


def attach(exception: BaseException, record: RequestRecord) -> None:
    """Note on a request that an exception ended it, and on the exception in which request it happened."""
    record.exception = exception
    record.noted = True
    mark(exception, record)


def mark(exception: BaseException, record: RequestRecord) -> None:
    """Note on an exception in which request it happened, so that a line logged after the request still has its IDs."""
    try:
        exception.__monitoring_request__ = record  # type: ignore[attr-defined]
    except AttributeError:
        pass


def is_marked(exception: BaseException, record: RequestRecord) -> bool:
    """Say whether an exception was noted as this request's already."""
    return getattr(exception, "__monitoring_request__", None) is record
