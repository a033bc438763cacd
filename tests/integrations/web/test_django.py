"""Django, both handlers: the seam, URL patterns, sync and async views, and own paths."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import types
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test.utils import override_settings
from django.urls import include, path, re_path
from django.views.decorators.http import require_GET
from starlette.testclient import TestClient
from werkzeug.test import Client

import monitoring
from monitoring import request_id
from monitoring.integrations.web.django import health_urls
from tests.integrations.web.installer import STEPS_ASIDE, Installer
from tests.support import django_settings

django_settings.set_up()


def sync_view(request: HttpRequest, **_: Any) -> HttpResponse:
    """Answer with the request's ID."""
    return HttpResponse(request_id() or "nothing")


async def async_view(request: HttpRequest, **_: Any) -> HttpResponse:
    """Answer with the request's ID, after a wait."""
    await asyncio.sleep(0)
    return HttpResponse(request_id() or "nothing")


def fail(request: HttpRequest) -> HttpResponse:
    """Fail."""
    raise RuntimeError("boom")


async def async_fail(request: HttpRequest) -> HttpResponse:
    """Fail."""
    raise RuntimeError("boom")


def with_own_header(request: HttpRequest) -> HttpResponse:
    """Answer with headers of the app."""
    response = HttpResponse("hello", headers={"X-Request-ID": "from-the-app"})
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response


def log_something(request: HttpRequest) -> HttpResponse:
    """Write lines and name a user."""
    logging.getLogger("app").warning("in the view")
    monitoring.set_user("u1")
    return HttpResponse()


def stream(request: HttpRequest) -> StreamingHttpResponse:
    """Answer in pieces."""

    def pieces() -> Iterator[str]:
        for _ in range(2):
            yield f"{request_id()} "

    return StreamingHttpResponse(pieces())


async def async_stream(request: HttpRequest) -> StreamingHttpResponse:
    """Answer in pieces that are made asynchronously."""

    async def pieces() -> AsyncIterator[str]:
        for _ in range(2):
            await asyncio.sleep(0)
            yield f"{request_id()} "

    return StreamingHttpResponse(pieces())


items = [path("items/<int:item>/", sync_view), re_path(r"^years/(?P<year>[0-9]{4})/$", sync_view)]

urlpatterns = [
    path("", sync_view),
    path("sync/<int:item>/", sync_view),
    path("async/<slug:name>/", async_view),
    re_path(r"^old/(?P<year>[0-9]{4})/$", sync_view),
    path("api/", include([path("v1/<str:tenant>/", include(items))])),
    path("get-only/", require_GET(sync_view)),
    path("fail/", fail),
    path("async-fail/", async_fail),
    path("own-header/", with_own_header),
    path("log/", log_something),
    path("stream/", stream),
    path("async-stream/", async_stream),
]


@pytest.fixture(autouse=True)
def site() -> Iterator[None]:
    """Serve the URLs above."""
    with override_settings(ROOT_URLCONF=__name__):
        yield


@pytest.fixture(params=[WSGIHandler, ASGIHandler])
def handler(request: pytest.FixtureRequest) -> Any:
    """A handler of each kind, as ``get_wsgi_application`` and ``get_asgi_application`` make them."""
    return request.param()


def ask(handler: Any, url: str, method: str = "GET", **environ: str) -> Any:
    """Send one request to the handler by its protocol, and read the whole response."""
    if isinstance(handler, WSGIHandler):
        return Client(handler).open(url, method=method, buffered=True, environ_overrides=environ)
    return TestClient(handler).request(method, url)


def values(response: Any, name: str) -> list[str]:
    """Return all values of a header."""
    headers = response.headers
    return [value.strip() for value in (headers.getlist if hasattr(headers, "getlist") else headers.get_list)(name)]


# The seam


def test_the_handler_keeps_its_type_and_answers_with_the_id(install: Installer, handler: Any) -> None:
    """``install`` works in place; sync and async views run under both handlers."""
    kind = type(handler)
    install(handler)
    assert type(handler) is kind
    for url in ("/sync/7/", "/async/a/"):
        response = ask(handler, url)
        assert values(response, "x-request-id") == [response.text]
    assert install.requests == [("/sync/<int:item>/", 200, "ok"), ("/async/<slug:name>/", 200, "ok")]


def test_installed_twice_is_once(install: Installer, handler: Any) -> None:
    """The same Monitoring, one ID, one observation."""
    first = install(handler)
    assert monitoring.install(handler) is first
    assert len(values(ask(handler, "/"), "x-request-id")) == 1
    assert install.routes == ["/"]


def test_the_asgi_handler_is_still_known_as_one(install: Installer) -> None:
    """Servers tell ASGI 3 from 2 by asking whether the call is a coroutine function."""
    handler = ASGIHandler()
    install(handler)
    assert inspect.iscoroutinefunction(handler.__call__)


def test_a_handler_that_was_not_installed_is_left_alone(install: Installer, handler: Any) -> None:
    """The seam is in the class; it acts for installed handlers only."""
    other = type(handler)()
    install(handler)
    assert values(ask(other, "/"), "x-request-id") == []
    assert install.requests == []


@pytest.mark.parametrize("kind", [WSGIHandler, ASGIHandler])
def test_a_subclass_is_wired(install: Installer, kind: Any) -> None:
    """A handler is recognised by its base classes."""
    own = type("Own", (kind,), {})()
    install(own)
    response = ask(own, "/sync/7/")
    assert values(response, "x-request-id") == [response.text]
    assert install.routes == ["/sync/<int:item>/"]


def test_a_handler_that_another_tool_wrapped_is_wired(install: Installer) -> None:
    """Other tools patch ``__call__`` with ``functools.wraps``, too: theirs still runs, and ours does."""
    calls: list[str] = []

    class Traced(WSGIHandler):
        """As a tracer leaves it."""

        @functools.wraps(WSGIHandler.__call__)
        def __call__(self, environ: Any, start_response: Any) -> Any:
            calls.append(environ["PATH_INFO"])
            return WSGIHandler.__call__(self, environ, start_response)

    handler = Traced()
    install(handler)
    response = ask(handler, "/sync/7/")
    assert calls == ["/sync/7/"]
    assert values(response, "x-request-id") == [response.text]
    assert install.routes == ["/sync/<int:item>/"]


def test_a_handler_with_a_call_of_its_own_is_wired(install: Installer) -> None:
    """A subclass that does something before Django's own call runs once, also beside a plain installed handler."""

    class Own(WSGIHandler):
        """The user's own."""

        def __call__(self, environ: Any, start_response: Any) -> Any:
            environ["HTTP_X_OWN"] = "1"
            return super().__call__(environ, start_response)

    install(WSGIHandler())
    handler = Own()
    install(handler)
    response = ask(handler, "/sync/7/")
    assert values(response, "x-request-id") == [response.text]
    assert install.routes == ["/sync/<int:item>/"]


def test_the_app_s_headers_stay_and_its_id_is_replaced(install: Installer, handler: Any) -> None:
    """Two cookies survive; Django keeps the spelling of header names, and still there is one ID."""
    install(handler)
    response = ask(handler, "/own-header/")
    assert [cookie.partition(";")[0] for cookie in values(response, "set-cookie")] == ["a=1", "b=2"]
    (value,) = values(response, "x-request-id")
    assert value != "from-the-app"


# Routes


def test_patterns_are_names(install: Installer, handler: Any) -> None:
    """path, re_path and nested includes, whatever the values."""
    install(handler)
    for url in ("/", "/old/1999/", "/old/2001/", "/api/v1/acme/items/7/", "/api/v1/acme/years/1999/"):
        assert ask(handler, url).status_code == 200
    assert install.routes == [
        "/",
        "/old/(?P<year>[0-9]{4})/$",
        "/old/(?P<year>[0-9]{4})/$",
        "/api/v1/<str:tenant>/items/<int:item>/",
        "/api/v1/<str:tenant>/years/(?P<year>[0-9]{4})/$",
    ]


def test_what_no_pattern_matches_is_unmatched(install: Installer, handler: Any) -> None:
    """At the top and below an include; the path is on the line and no label."""
    install(handler)
    for url in ("/nowhere/", "/api/v1/acme/nowhere/"):
        ask(handler, url)
    assert install.requests == [("(unmatched)", 404, "client_error")] * 2
    assert [line["path"] for line in install.lines("request")] == ["/nowhere/", "/api/v1/acme/nowhere/"]


def test_a_method_that_a_view_does_not_take_keeps_its_name(install: Installer, handler: Any) -> None:
    """405 is an answer of the view."""
    install(handler)
    ask(handler, "/get-only/", "POST")
    assert install.requests == [("/get-only/", 405, "client_error")]


def test_below_a_script_name_patterns_are_found(install: Installer) -> None:
    """A server may mount Django somewhere."""
    handler = WSGIHandler()
    install(handler)
    response = ask(handler, "/sync/7/", SCRIPT_NAME="/site")
    assert response.status_code == 200
    assert install.routes == ["/site/sync/<int:item>/"]


# Errors and lines


@pytest.mark.parametrize("url", ["/fail/", "/async-fail/"])
def test_an_unhandled_500_carries_the_id_and_its_line_has_the_same_one(
    install: Installer, handler: Any, url: str
) -> None:
    """Django makes the page itself; the error's line and the request's line name its ID."""
    install(handler)
    response = ask(handler, url)
    (error,), (request,) = install.lines("unhandled exception"), install.lines("request")
    assert [error["request_id"], request["request_id"]] == values(response, "x-request-id") * 2
    assert error["exception"][0]["type"] == "RuntimeError"
    assert install.requests == [(url, 500, "server_error")]


def test_lines_of_the_view_have_the_id_and_its_user_is_on_the_request_s(install: Installer, handler: Any) -> None:
    """Also where a sync view runs in a thread under the ASGI handler."""
    install(handler)
    response = ask(handler, "/log/")
    assert [line["request_id"] for line in install.lines("in the view")] == values(response, "x-request-id")
    assert [line.get("user_id") for line in install.lines("request")] == ["u1"]


@override_settings(MIDDLEWARE=[f"{__name__}.note_ids"])
def test_a_middleware_of_django_sees_the_id(install: Installer, handler: Any) -> None:
    """Before and after the view."""
    handler.load_middleware(is_async=isinstance(handler, ASGIHandler))
    install(handler)
    response = ask(handler, "/sync/7/")
    assert values(response, "x-seen") == [f"{response.text} {response.text}"]


def note_ids(get_response: Any) -> Any:
    """Return a middleware that says which IDs it saw."""

    def middleware(request: HttpRequest) -> HttpResponse:
        before = request_id()
        response: HttpResponse = get_response(request)
        response["X-Seen"] = f"{before} {request_id()}"
        return response

    return middleware


# Streams


@pytest.mark.parametrize(("kind", "url"), [(WSGIHandler, "/stream/"), (ASGIHandler, "/async-stream/")])
def test_a_stream_is_observed_to_its_end(install: Installer, kind: Any, url: str) -> None:
    """It has its name, its bytes, and the request's context in each piece."""
    handler = kind()
    install(handler)
    response = ask(handler, url)
    assert response.text.split() == values(response, "x-request-id") * 2
    assert install.requests == [(url, 200, "ok")]
    assert [line["bytes"] for line in install.lines("request")] == [66]


# Own paths


def test_own_paths_are_answered(install: Installer, handler: Any) -> None:
    """In the form that the handler's protocol needs, and not observed."""
    install(handler, metrics_public=True)
    assert ask(handler, "/health/live").text == '{"status": "pass"}'
    assert "monitoring_series" in ask(handler, "/metrics").text
    assert install.requests == []


own_health = types.ModuleType("own_health")
own_health.urlpatterns = [path("health/", sync_view)]  # type: ignore[attr-defined]
regex_health = types.ModuleType("regex_health")
regex_health.urlpatterns = [re_path(r"^health/$", sync_view), re_path(r"^metrics$", sync_view)]  # type: ignore[attr-defined]
included_health = types.ModuleType("included_health")
included_health.urlpatterns = [path("", include([path("health/", sync_view)]))]  # type: ignore[attr-defined]
catch_all = types.ModuleType("catch_all")
catch_all.urlpatterns = [re_path(r"^.*$", sync_view)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("urls", [own_health, regex_health, included_health], ids=lambda module: module.__name__)
def test_the_app_s_own_health_stays_the_app_s(install: Installer, handler: Any, urls: types.ModuleType) -> None:
    """The edge steps aside and says so; also below an include without a path, as many sites have it."""
    with override_settings(ROOT_URLCONF=urls):
        install(handler)
        response = ask(handler, "/health/")
        assert [response.text] == values(response, "x-request-id")
        assert install.routes == ["/health/$" if urls is regex_health else "/health/"]
        (line,) = install.lines(STEPS_ASIDE)
        assert line["level"] == "warning"


def test_a_pattern_without_a_slash_is_the_app_s_own(install: Installer, handler: Any) -> None:
    """An expression for exactly ``metrics`` leaves that path to the app."""
    with override_settings(ROOT_URLCONF=regex_health):
        install(handler)
        response = ask(handler, "/metrics")
        assert [response.text] == values(response, "x-request-id")


def test_own_paths_are_answered_even_with_a_catch_all_route(install: Installer, handler: Any) -> None:
    """A pattern for everything does not count as the app's own health."""
    with override_settings(ROOT_URLCONF=catch_all):
        install(handler)
        assert ask(handler, "/health").text == '{"status": "pass"}'
        assert install.lines(STEPS_ASIDE) == []


mounted_health = types.ModuleType("mounted_health")
mounted_health.urlpatterns = [*health_urls(), path("ops/", include(health_urls("probes")))]  # type: ignore[attr-defined]


def test_mounted_probes_answer_where_they_are_mounted(install: Installer, handler: Any) -> None:
    """At the prefix with and without a slash, and below an include; for the Monitoring of the process."""
    with override_settings(ROOT_URLCONF=mounted_health):
        made = monitoring.configure(store=None)
        made.lifecycle.mark_broken("the model is gone")
        for url in ("/health", "/health/", "/health/live", "/health/live/", "/ops/probes/live"):
            response = ask(handler, url)
            assert (response.status_code, response.text) == (503, '{"status": "fail"}'), url
        made.lifecycle.close()


def test_mounted_probes_are_not_the_app_s_own(install: Installer, handler: Any) -> None:
    """With ``install`` the edge answers its own prefix as before, outside everything, and does not step aside."""
    with override_settings(ROOT_URLCONF=mounted_health, MIDDLEWARE=[f"{__name__}.refuse_everybody"]):
        handler.load_middleware(is_async=isinstance(handler, ASGIHandler))
        install(handler)
        assert ask(handler, "/health/live").status_code == 200
        assert ask(handler, "/ops/probes/live").status_code == 400
        assert install.lines(STEPS_ASIDE) == []


def refuse_everybody(get_response: Any) -> Any:
    """Return a middleware that lets nobody in, as the one for host headers does with strangers."""
    return lambda request: HttpResponse(status=400)
