"""Litestar. The seam: ``asgi_handler``, whose own exception handler is inside. The lifespan goes past it, so that there
are hooks for its begin and its end.

The app is a slotted object: what is noted about it goes into its ``state``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from monitoring.context import current_record
from monitoring.middleware import MonitoringMiddleware
from monitoring.middleware.edge import attach
from monitoring.monitor import Monitoring


def install(app: Any, monitoring: Monitoring) -> None:
    """Wrap ``app.asgi_handler`` and add hooks for the lifespan and for the exceptions that end a websocket."""
    app.asgi_handler = MonitoringMiddleware(app.asgi_handler, monitoring)
    app.after_exception.append(_note_end_of_websocket)
    edge = monitoring.edge
    if edge is not None:
        app.on_startup.insert(0, edge.life.startup_begins)
        app.on_startup.append(edge.life.startup_ends)
        app.on_shutdown.append(edge.at_end)


def owned_paths(app: Any) -> Iterator[str]:
    """Yield the paths of the app's routes and mounts."""
    return (route.path for route in app.routes)


async def _note_end_of_websocket(error: Exception, scope: Any) -> None:
    """Note why a websocket ended: Litestar makes a close of every exception. Those of requests are seen at the edge."""
    record = current_record.get()
    if record is None or scope["type"] != "websocket":
        return
    if type(error).__name__ == "WebSocketDisconnect":
        record.disconnected = True
    elif getattr(error, "status_code", 500) >= 500 and not hasattr(error, "code"):
        attach(error, record)
