"""Web frameworks: which seam of an app the middleware goes into. One module per framework, found by the app's class."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, Final, Protocol, cast

from monitoring.middleware import Edge
from monitoring.monitor import Monitoring, configure

_MODULES: Final[Mapping[str, str]] = {
    "starlette.applications.Starlette": "starlette",
    "litestar.app.Litestar": "litestar",
    "quart.app.Quart": "quart",
    "aiohttp.web_app.Application": "aiohttp",
    "flask.app.Flask": "flask",
    "django.core.handlers.wsgi.WSGIHandler": "django",
    "django.core.handlers.asgi.ASGIHandler": "django",
}
"""Classes by their full name, so that no framework is imported to recognise one; FastAPI's app is a Starlette."""

_INSTALLED: Final = "_monitoring"


class WebIntegration(Protocol):
    """What the module of a framework provides; where not every app can be installed into, also ``refuse(app)``, which
    raises TypeError for one that cannot.
    """

    def install(self, app: Any, monitoring: Monitoring) -> None:
        """Put the middleware outside everything in ``app``, in place."""
        ...

    def owned_paths(self, app: Any) -> Iterable[str]:
        """Return the paths that the app routes itself, as templates."""
        ...


def install_into(app: Any, settings: Mapping[str, Any]) -> Monitoring:
    """Configure a Monitoring and wire ``app`` with it; an app that has one keeps it."""
    integration = _integration_for(app)
    noted = _notes_of(app)
    known = noted.get(_INSTALLED)
    if isinstance(known, Monitoring):
        return known
    if hasattr(integration, "refuse"):
        integration.refuse(app)
    monitoring = configure(**settings)
    integration.install(app, monitoring)
    noted[_INSTALLED] = monitoring
    edge = monitoring.edge
    if edge is not None:

        def settle() -> None:
            _step_aside(edge, integration.owned_paths(app))

        settle()
        edge.settle = settle
    return monitoring


def _notes_of(app: Any) -> MutableMapping[str, Any]:
    """Return where an app carries what is noted about it: its attributes or, of Litestar's slotted one, its state."""
    return cast(MutableMapping[str, Any], vars(app) if hasattr(app, "__dict__") else app.state)


def _integration_for(app: Any) -> WebIntegration:
    for kind in type(app).__mro__:
        name = _MODULES.get(f"{kind.__module__}.{kind.__qualname__}")
        if name is not None:
            return cast(WebIntegration, importlib.import_module(f"{__name__}.{name}"))
    raise TypeError(
        f"install() got an app of type {type(app).__module__}.{type(app).__qualname__}; it wires FastAPI, Starlette, "
        "Litestar, Quart, aiohttp.web, Flask and Django apps. Wrap any other ASGI app in MonitoringMiddleware(app), "
        "any other WSGI app in WSGIMonitoringMiddleware(app)."
    )


def _step_aside(edge: Edge, owned_paths: Iterable[str]) -> None:
    """Leave the prefixes that the app owns to the app, and say so."""
    owned = list(owned_paths)
    for prefix in edge.prefixes:
        if any(path == prefix or path.startswith(prefix + "/") for path in owned):
            edge.step_aside(prefix)
            logging.getLogger("monitoring").warning(
                "the app serves %s itself, so monitoring does not; set another path, or None, to say which is meant",
                prefix,
            )
