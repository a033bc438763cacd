"""Flask. The seam: ``wsgi_app``. The matched rule is read from the request that Werkzeug leaves in the environ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from monitoring.context import current_record
from monitoring.middleware import WSGIMonitoringMiddleware
from monitoring.middleware.edge import attach
from monitoring.monitor import Monitoring


def install(app: Any, monitoring: Monitoring) -> None:
    """Wrap ``app.wsgi_app`` and listen for the exceptions that Flask turns into a 500."""
    from flask import got_request_exception

    app.wsgi_app = WSGIMonitoringMiddleware(app.wsgi_app, monitoring)
    got_request_exception.connect(_note_exception, app)


def owned_paths(app: Any) -> Iterator[str]:
    """Yield the rules of the app."""
    return (rule.rule for rule in app.url_map.iter_rules())


def _note_exception(sender: Any, exception: BaseException, **_: Any) -> None:
    from flask import request

    record = current_record.get()
    if record is not None:
        attach(exception, record)
        record.route = record.route or str(getattr(request.url_rule, "rule", ""))
