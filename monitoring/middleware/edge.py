"""What the middlewares need of an assembled ``Monitoring``, and which one is the process's current."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

from ..observation import UNMATCHED, Observation, RequestRecord, outcome_of_status
from ..recorder import Recorder
from .inbound import InboundPolicy

ASGIApp = Callable[[Any, Any, Any], Any]
WSGIApp = Callable[[Any, Any], Any]

RECORD_KEY = "monitoring.request"
"""Where a scope or environ holds the request's record; its presence says that an outer middleware already acts."""


@dataclass(frozen=True, slots=True)
class OwnApp:
    """A sub-app that the edge answers itself, in its two forms."""

    asgi: ASGIApp
    wsgi: WSGIApp


class Edge:
    """One Monitoring as its middlewares see it."""

    def __init__(
        self,
        policy: InboundPolicy,
        recorder: Recorder,
        request_id_header: str,
        change_active: Callable[[str, float], None],
        own_apps: Mapping[str, OwnApp],
    ) -> None:
        self.policy = policy
        self.recorder = recorder
        self.request_id_header = request_id_header.lower()
        self.request_id_header_bytes = self.request_id_header.encode()
        self.change_active = change_active
        """Raise or lower the number of requests in flight, by method."""
        self._own_apps = dict(own_apps)
        self.prefixes = tuple(own_apps)

    def own_app(self, path: str) -> tuple[str, OwnApp] | None:
        """Return the prefix and sub-app that answer ``path``, if one does."""
        for prefix, app in self._own_apps.items():
            if path == prefix or path.startswith(prefix + "/"):
                return prefix, app
        return None

    def step_aside(self, prefix: str) -> None:
        """Leave a prefix to the app, which owns it already."""
        self._own_apps.pop(prefix, None)
        self.prefixes = tuple(self._own_apps)

    def finish(self, record: RequestRecord, route: str, outcome: str = "") -> None:
        """Report a request that has ended; only the first report counts.

        ``outcome`` is by default that of the status.
        """
        if record.finished:
            return
        record.duration_seconds = perf_counter() - record.started
        record.finished = True
        record.route = route or UNMATCHED
        if not outcome:
            outcome = "ok" if record.status < 400 else outcome_of_status(record.status)
            if outcome == "server_error":
                _note_handled_exception(record)
        record.outcome = outcome
        self.change_active(record.method, -1.0)
        self.recorder.record(record)

    def report_background(self, record: RequestRecord, error: BaseException) -> None:
        """Report work that failed after its response was complete."""
        duration = perf_counter() - record.started
        self.recorder.record(Observation("background", record.route, "background_error", duration, record, error))


def _note_handled_exception(record: RequestRecord) -> None:
    """Attach the exception being handled now: an error handler sends its response from within ``except``."""
    error = sys.exc_info()[1]
    if record.exception is None and error is not None:
        record.exception = error
        mark(error, record)


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


def mark(exception: BaseException, record: RequestRecord) -> None:
    """Note on an exception in which request it happened, so that a line logged after the request still has its IDs."""
    try:
        exception.__monitoring_request__ = record  # type: ignore[attr-defined]
    except AttributeError:
        pass
