"""Starlette and FastAPI. The seam: ``build_middleware_stack``, whose result is wrapped, so that even
ServerErrorMiddleware is inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from monitoring.integrations.tasks.starlette import observe_background_tasks
from monitoring.middleware import MonitoringMiddleware
from monitoring.monitor import Monitoring


def install(app: Any, monitoring: Monitoring) -> None:
    """Wrap the app's middleware stack, whether it is built already or not, and see its background tasks."""
    observe_background_tasks()
    build = app.build_middleware_stack

    def build_observed() -> Any:
        return MonitoringMiddleware(build(), monitoring, routes_of=app)

    app.build_middleware_stack = build_observed
    if app.middleware_stack is not None:
        app.middleware_stack = MonitoringMiddleware(app.middleware_stack, monitoring, routes_of=app)


def owned_paths(app: Any) -> Iterator[str]:
    """Yield the templates of the app's routes and mounts."""
    yield from _paths(app.routes, "")


def _paths(routes: Iterable[Any], prefix: str) -> Iterator[str]:
    for route in routes:
        contexts = getattr(route, "effective_route_contexts", None)
        path = prefix + getattr(route, "path", "")
        if contexts is not None:
            yield from (f"{prefix}{context.path_format}" for context in contexts())
        elif getattr(route, "routes", None):
            yield from _paths(route.routes, path)
        else:
            yield path
