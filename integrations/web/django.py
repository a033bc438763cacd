"""Django, WSGI and ASGI. The seam: the handler's call, which is patched once per class and acts for installed
instances only.

A handler keeps its type, which Django's signals carry. The matched route is read where the handler resolves it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from asgiref.sync import async_to_sync

from monitoring.context import current_record
from monitoring.integrations.caches.django import observe_caches
from monitoring.integrations.databases.django import observe_all_databases
from monitoring.middleware import MonitoringMiddleware, WSGIMonitoringMiddleware
from monitoring.middleware.edge import attach
from monitoring.monitor import Monitoring, current
from monitoring.wsgi_form import scope_of

_OUTERMOST = "_monitoring_outermost"
_originals: dict[type[Any], Any] = {}
"""The call of each patched class as it was."""


def install(app: Any, monitoring: Monitoring) -> None:
    """Make calls of this handler go through the middleware."""
    from django.core.handlers.asgi import ASGIHandler
    from django.core.signals import got_request_exception

    is_asgi = isinstance(app, ASGIHandler)
    _patch_call(type(app), is_asgi=is_asgi)
    handler = _Handler(app)
    outermost = (
        MonitoringMiddleware(handler.asgi, monitoring)
        if is_asgi
        else WSGIMonitoringMiddleware(handler.wsgi, monitoring)
    )
    vars(app)[_OUTERMOST] = outermost
    app.resolve_request = _noting_route(app.resolve_request)
    got_request_exception.connect(_note_exception, dispatch_uid="monitoring")
    _observe_databases_and_caches(monitoring)


def _observe_databases_and_caches(monitoring: Monitoring) -> None:
    """Observe those of the settings for the current Monitoring: they belong to the process, not to a handler."""
    for observe in (observe_all_databases, observe_caches):
        try:
            observe()
        except Exception as error:
            monitoring.recorder.failed(observe.__name__, error)


def health_urls(prefix: str = "health", monitoring: Monitoring | None = None) -> list[Any]:
    """Return URL patterns that answer probes, for ``urlpatterns = [*health_urls(), ...]``.

    They work under either handler, without ``install``, and inside Django's middlewares, those that look at the host
    header among them. ``monitoring`` is by default the process's current one at the time of each request.
    """
    from django.db import connections, transaction
    from django.urls import path

    view = _HealthView(monitoring)
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    prefix = prefix.strip("/")
    return [path(below, view) for below in (prefix, f"{prefix}/", f"{prefix}/<path:name>")]


def owned_paths(app: Any) -> Iterator[str]:
    """Yield the routes of the URL configuration, as far as they are written without parameters."""
    from django.urls import get_resolver

    yield from _paths(get_resolver().url_patterns, "/")


def _paths(patterns: Iterable[Any], prefix: str) -> Iterator[str]:
    for pattern in patterns:
        path = prefix + str(pattern.pattern).lstrip("^").rstrip("$")
        if hasattr(pattern, "url_patterns"):
            yield from _paths(pattern.url_patterns, path)
        elif not isinstance(pattern.callback, _HealthView):
            yield path


class _HealthView:
    """Answers probes in the thread of a sync view: no session, no transaction, no user."""

    csrf_exempt = True
    login_required = False

    def __init__(self, monitoring: Monitoring | None) -> None:
        self._monitoring = monitoring

    def __call__(self, request: Any, name: str = "") -> Any:
        """Answer one probe."""
        from django.http import HttpResponse

        monitoring = self._monitoring or current()
        scope = getattr(request, "scope", None)
        if scope is not None:
            async_to_sync(_serve)(monitoring)  # in the server's event loop
        status, headers, body = monitoring.probes.answer(scope or scope_of(request.environ), name.strip("/"))
        return HttpResponse(body, status=status, headers=headers)


async def _serve(monitoring: Monitoring) -> None:
    """Have the loop that runs here watched, and async checks run in it."""
    monitoring.lifecycle.serve()


class _Handler:
    """The handler as Django made it, behind the middleware."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._call = _originals[type(app)]

    def wsgi(self, environ: Any, start_response: Any) -> Any:
        """Call the WSGI handler."""
        return self._call(self._app, environ, start_response)

    async def asgi(self, scope: Any, receive: Any, send: Any) -> Any:
        """Call the ASGI handler."""
        return await self._call(self._app, scope, receive, send)


def _patch_call(kind: type[Any], *, is_asgi: bool) -> None:
    """Let calls of this class go through the middleware of an instance that has one; a subclass's are left alone."""
    if kind in _originals:
        return
    original = _originals[kind] = kind.__call__

    def target(self: Any) -> Any:
        outermost = vars(self).get(_OUTERMOST) if type(self) is kind else None
        return functools.partial(original, self) if outermost is None else outermost

    if is_asgi:

        @functools.wraps(original)
        async def call(self: Any, *args: Any) -> Any:
            return await target(self)(*args)

    else:

        @functools.wraps(original)
        def call(self: Any, *args: Any) -> Any:
            return target(self)(*args)

    kind.__call__ = call


def _noting_route(resolve: Any) -> Any:
    @functools.wraps(resolve)
    def resolve_and_note(request: Any) -> Any:
        match = resolve(request)
        record = current_record.get()
        if record is not None:
            record.route = "/" + str(match.route).lstrip("^")
        return match

    return resolve_and_note


def _note_exception(sender: Any, **_: Any) -> None:
    record, exception = current_record.get(), sys.exc_info()[1]
    if record is not None and exception is not None:
        attach(exception, record)
