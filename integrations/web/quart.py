"""Quart. The seam: ``asgi_app``. Quart answers when the context of its request is gone already, so rules and exceptions
are taken from its signals.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from monitoring.context import current_record
from monitoring.middleware import MonitoringMiddleware
from monitoring.middleware.edge import attach, mark
from monitoring.monitor import Monitoring


def install(app: Any, monitoring: Monitoring) -> None:
    """Wrap ``app.asgi_app`` and listen for what Quart matches and for the exceptions that it turns into a 500."""
    from quart.signals import (
        got_background_exception,
        got_request_exception,
        got_websocket_exception,
        request_started,
        websocket_started,
    )

    async def report_background(sender: Any, exception: BaseException, **_: Any) -> None:
        record = current_record.get()
        if record is not None and monitoring.edge is not None:
            mark(exception, record)
            monitoring.edge.report_background(record, exception)

    app.asgi_app = MonitoringMiddleware(app.asgi_app, monitoring)
    request_started.connect(_note_rule_of_request, app)
    websocket_started.connect(_note_rule_of_websocket, app)
    got_request_exception.connect(_note_exception, app)
    got_websocket_exception.connect(_note_exception, app)
    got_background_exception.connect(report_background, app, weak=False)


def owned_paths(app: Any) -> Iterator[str]:
    """Yield the rules of the app."""
    return (rule.rule for rule in app.url_map.iter_rules())


# Coroutines all: Quart would run functions in a thread.


async def _note_rule_of_request(sender: Any, **_: Any) -> None:
    from quart import request

    _note_rule(request)


async def _note_rule_of_websocket(sender: Any, **_: Any) -> None:
    from quart import websocket

    _note_rule(websocket)


def _note_rule(matched: Any) -> None:
    record = current_record.get()
    if record is not None:
        record.route = str(getattr(matched.url_rule, "rule", ""))


async def _note_exception(sender: Any, exception: BaseException, **_: Any) -> None:
    record = current_record.get()
    if record is not None:
        attach(exception, record)
