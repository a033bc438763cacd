"""Route templates of ASGI apps, read after the app ran: nothing is matched a second time.

Duck-typed: Starlette and FastAPI leave the matched route in the scope, without the templates of the mounts (and, in
FastAPI, of the included routers) above it. Those are found once per route by walking the app, then looked up by
identity.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableMapping
from typing import Any, Final

_REMEMBERED: Final = 5000
_PARAMETER: Final = re.compile(r"\\{[^{}]*\\}")


class RouteTemplates:
    """The templates of one app's routes."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._known: dict[int, tuple[Any, str | list[str]]] = {}

    def of(self, scope: MutableMapping[str, Any]) -> str:
        """Return the template of the route that served this scope, or "" when none did."""
        route = scope.get("route")
        if route is None:
            template = scope.get("path_template")  # Litestar
            return template if isinstance(template, str) else ""
        fastapi = scope.get("fastapi")
        if fastapi is not None:
            route = fastapi.get("effective_route_context") or route
        known = self._known.get(id(route))
        if known is None or known[0] is not route:
            known = self._learn(route)
        template = known[1]
        return template if isinstance(template, str) else _by_mount(template, scope)

    def _learn(self, route: Any) -> tuple[Any, str | list[str]]:
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        own = _own_template(route)
        candidates = [prefix + own for prefix in _prefixes_above(route, _routes_of(self._app), "")] if own else [""]
        templates: str | list[str] = candidates if len(candidates) > 1 else (candidates or [own])[0]
        known = self._known[id(route)] = (route, templates)
        return known


def _own_template(route: Any) -> str:
    path = getattr(route, "path_format", None) or getattr(route, "path", "")
    if not hasattr(route, "routes"):
        return str(path)
    if route.routes:  # a mount or router whose own routes did not match: the path is unknown to the app
        return ""
    return f"{getattr(route, 'path', '')}/{{path}}"


def _prefixes_above(wanted: Any, routes: list[Any], prefix: str) -> Iterator[str]:
    for route in routes:
        if route is wanted:
            yield prefix
        elif hasattr(route, "effective_route_contexts"):  # a router included in a FastAPI app
            if any(context is wanted for context in route.effective_route_contexts()):
                yield prefix
        elif inner := _routes_of(route):
            yield from _prefixes_above(wanted, inner, prefix + getattr(route, "path", ""))


def _routes_of(app: Any) -> list[Any]:
    """Return the routes of an app, looking through the middlewares that wrap it."""
    for _ in range(100):
        routes = getattr(app, "routes", None)
        if routes is not None:
            return list(routes)
        app = getattr(app, "app", None)
        if app is None:
            break
    return []


def _by_mount(candidates: list[str], scope: MutableMapping[str, Any]) -> str:
    """Choose among the templates of a route that is mounted at several places: the one that this path has."""
    path = scope["path"].removeprefix(scope.get("app_root_path", ""))
    for template in candidates:
        if re.fullmatch(_PARAMETER.sub(".+", re.escape(template)), path):
            return template
    return candidates[0]
