"""Starlette and FastAPI. The seam: ``build_middleware_stack``, whose result is wrapped, so that even
ServerErrorMiddleware is inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from monitoring.middleware import MonitoringMiddleware
from monitoring.monitor import Monitoring


def install(app: Any, monitoring: Monitoring) -> None:
    """Wrap the app's middleware stack, whether it is built already or not."""
    build = app.build_middleware_stack

    def build_observed() -> Any:
        return MonitoringMiddleware(build(), monitoring)

    app.build_middleware_stack = build_observed
    if app.middleware_stack is not None:
        app.middleware_stack = MonitoringMiddleware(app.middleware_stack, monitoring)


def owned_paths(app: Any) -> Iterator[str]:
    """Yield the templates of the app's routes and mounts."""
    for route in app.routes:
        contexts = getattr(route, "effective_route_contexts", None)
        if contexts is not None:
            yield from (context.path_format for context in contexts())
        else:
            yield getattr(route, "path", "")
