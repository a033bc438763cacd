"""Route templates of ASGI apps, read after the app ran: nothing is matched a second time.

Duck-typed: Starlette and FastAPI leave the matched route in the scope, without the templates of the mounts (and, in
FastAPI, of the included routers) above it. Those are found once per route by walking the app, then looked up by
identity. Litestar leaves the whole template.
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
        self._known: dict[int, str] = {}
        """Templates by the identity of the route, which is held below and so belongs to no other."""
        self._several: dict[int, list[str]] = {}
        """Those of routes that stand at several places, whose path decides."""
        self._held: list[Any] = []

    def of(self, scope: MutableMapping[str, Any]) -> str:
        """Return the template of the route that served this scope, or "" when none did."""
        served_by = scope.get("route")
        if "fastapi" in scope:
            served_by = scope["fastapi"].get("effective_route_context") or served_by
        template = self._known.get(id(served_by))
        return template if template is not None else self._of_unknown(served_by, scope)

    def _of_unknown(self, served_by: Any, scope: MutableMapping[str, Any]) -> str:
        if served_by is None:
            served_by = scope.get("endpoint")  # FastAPI leaves no more of a plain Starlette route
            if served_by is None:
                return self._of_litestar(scope) if "path_template" in scope else ""
        templates: str | list[str] | None = self._known.get(id(served_by))
        if templates is None:
            templates = self._several.get(id(served_by)) or self._learn(served_by)
        return templates if isinstance(templates, str) else _by_path(templates, scope)

    def _of_litestar(self, scope: MutableMapping[str, Any]) -> str:
        """Return the template that Litestar leaves in the scope.

        It leaves none for mounts, and older ones none for routes without parameters, whose path is the template.
        """
        handler = scope["route_handler"]
        if not (getattr(handler, "is_mount", False) or getattr(handler, "is_static", False)):
            return str(scope["path_template"] or scope["path"])
        known = self._known.get(id(handler))
        if known is None:
            mounts = [route.path for route in scope["app"].routes if getattr(route, "route_handler", None) is handler]
            known = self._remember(handler, f"{mounts[0].rstrip('/')}/{{path}}" if mounts else "")
        return known

    def _learn(self, served_by: Any) -> str | list[str]:
        candidates = [template for marker, template in _walk(_routes_of(self._app), "") if marker is served_by]
        if len(candidates) > 1:
            self._hold(served_by)
            self._several[id(served_by)] = candidates
            return candidates
        return self._remember(served_by, candidates[0] if candidates else _own_template(served_by))

    def _remember(self, served_by: Any, template: str) -> str:
        self._hold(served_by)
        self._known[id(served_by)] = template
        return template

    def _hold(self, served_by: Any) -> None:
        if len(self._held) >= _REMEMBERED:
            for remembered in (self._known, self._several, self._held):
                remembered.clear()
        self._held.append(served_by)


def _walk(routes: list[Any], prefix: str) -> Iterator[tuple[Any, str]]:
    """Yield what a scope may show of each route (itself, its endpoint, FastAPI's context of it), with its template."""
    for route in routes:
        contexts = getattr(route, "effective_route_contexts", None)
        if contexts is not None:  # a router included in a FastAPI app
            for context in contexts():
                yield context, prefix + (context.path_format or _own_template(context.starlette_route))
                if context.starlette_route is not None:
                    yield from _walk([context.starlette_route], prefix)
        elif inner := _routes_of(route):
            yield from _walk(inner, prefix + getattr(route, "path", ""))
        else:
            template = prefix + _own_template(route)
            yield route, template
            yield getattr(route, "endpoint", None) or getattr(route, "app", None), template


def _own_template(route: Any) -> str:
    if not hasattr(route, "routes"):
        return str(getattr(route, "path_format", None) or getattr(route, "path", ""))
    if route.routes:  # a mount or router whose own routes did not match: the path is unknown to the app
        return ""
    return f"{getattr(route, 'path', '')}/{{path}}"


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


def _by_path(candidates: list[str], scope: MutableMapping[str, Any]) -> str:
    """Choose among the templates of a route that stands at several places: the one that this path has."""
    path = scope["path"].removeprefix(scope.get("app_root_path", ""))
    for template in candidates:
        if re.fullmatch(_PARAMETER.sub(".+", re.escape(template)), path):
            return template
    return candidates[0]
