"""Flask: the seam, rules through blueprints, its 500 page, streams, and own paths in their WSGI form."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Blueprint, Flask, Response, abort, redirect, request, stream_with_context
from werkzeug.test import Client

import monitoring
from monitoring import request_id
from tests.integrations.web.installer import STEPS_ASIDE, Installer


def make_app() -> Flask:
    """Return an app with one view, which answers with the request's ID."""
    app = Flask("tests")

    @app.get("/items/<int:item>")
    def show(item: int) -> str:
        return request_id() or "nothing"

    return app


def test_the_app_keeps_its_type_and_answers_with_the_id(install: Installer) -> None:
    """``install`` works in place, for a server and for Flask's own test client."""
    app = make_app()
    install(app)
    assert type(app) is Flask
    for client in (Client(app), app.test_client()):
        response = client.get("/items/7")
        assert response.headers.getlist("x-request-id") == [response.text]
    assert install.requests == [("/items/<int:item>", 200, "ok")] * 2


def test_installed_twice_is_once(install: Installer) -> None:
    """The same Monitoring, one ID, one observation."""
    app = make_app()
    first = install(app)
    assert monitoring.install(app) is first
    assert len(app.test_client().get("/items/7").headers.getlist("x-request-id")) == 1
    assert len(install.requests) == 1


def test_a_subclass_is_wired(install: Installer) -> None:
    """An app is recognised by its base classes."""

    class Own(Flask):
        """The user's own."""

    app = Own("tests")
    install(app)
    assert app.test_client().get("/").headers["x-request-id"]
    assert type(app) is Own


def test_routes_that_are_declared_after_install_are_known(install: Installer) -> None:
    """``install`` right after the app is made is the usual place."""
    app = Flask("tests")
    install(app)

    @app.get("/late/<name>")
    def late(name: str) -> str:
        return name

    app.test_client().get("/late/one")
    assert install.routes == ["/late/<name>"]


def test_blueprints_are_part_of_the_name(install: Installer) -> None:
    """With prefixes nested twice."""
    inner, outer, app = Blueprint("inner", "tests"), Blueprint("outer", "tests"), Flask("tests")

    @inner.get("/items/<int:item>")
    def show(tenant: str, item: int) -> str:
        return f"{tenant} {item}"

    outer.register_blueprint(inner, url_prefix="/shop/<tenant>")
    app.register_blueprint(outer, url_prefix="/api")
    install(app)
    assert app.test_client().get("/api/shop/acme/items/7").text == "acme 7"
    assert install.routes == ["/api/shop/<tenant>/items/<int:item>"]


def test_what_no_rule_matches_is_unmatched(install: Installer) -> None:
    """404, and 405, for which Flask has no rule either; the path is on the line and no label."""
    app = make_app()
    install(app)
    app.test_client().get("/nowhere")
    app.test_client().post("/items/7")
    assert install.requests == [("(unmatched)", 404, "client_error"), ("(unmatched)", 405, "client_error")]
    assert [line["path"] for line in install.lines("request")] == ["/nowhere", "/items/7"]


def test_what_the_view_answers_is_the_outcome(install: Installer) -> None:
    """Redirects, aborts, handled errors and empty answers keep their rule."""
    app = Flask("tests")
    app.add_url_rule("/redirect", view_func=lambda: redirect("/elsewhere"), endpoint="redirect")
    app.add_url_rule("/abort", view_func=lambda: abort(403), endpoint="abort")
    app.add_url_rule("/empty", view_func=lambda: ("", 204), endpoint="empty")
    install(app)
    for path in ("/redirect", "/abort", "/empty"):
        app.test_client().get(path)
    assert install.requests == [("/redirect", 302, "ok"), ("/abort", 403, "client_error"), ("/empty", 204, "ok")]


def test_the_answer_to_head_is_ok(install: Installer) -> None:
    """Without a body nothing was cut short."""
    app = make_app()
    install(app)
    app.test_client().head("/items/7")
    assert install.requests == [("/items/<int:item>", 200, "ok")]


def test_an_unhandled_500_carries_the_id_and_its_line_has_the_same_one(install: Installer) -> None:
    """The page, the error's line and the request's line name one ID."""
    app = Flask("tests")

    @app.get("/fail/<name>")
    def fail(name: str) -> str:
        raise RuntimeError("boom")

    install(app)
    response = app.test_client().get("/fail/now")
    (error,), (line,) = install.lines("unhandled exception"), install.lines("request")
    assert error["request_id"] == line["request_id"] == response.headers["x-request-id"]
    assert error["exception"][0]["type"] == "RuntimeError"
    assert (line["route"], line["error_type"]) == ("/fail/<name>", "RuntimeError")
    assert install.requests == [("/fail/<name>", 500, "server_error")]


def test_an_exception_that_flask_lets_through_is_a_server_error(install: Installer) -> None:
    """With PROPAGATE_EXCEPTIONS it reaches the server, and is observed once."""
    app = Flask("tests")
    app.config["PROPAGATE_EXCEPTIONS"] = True

    @app.get("/fail")
    def fail() -> str:
        raise RuntimeError("boom")

    install(app)
    with pytest.raises(RuntimeError):
        app.test_client().get("/fail")
    assert install.requests == [("/fail", 500, "server_error")]


def test_an_error_that_the_app_handles_is_its_status(install: Installer) -> None:
    """An error handler makes a response of it."""
    app = Flask("tests")

    @app.get("/fail")
    def fail() -> str:
        raise RuntimeError("boom")

    @app.errorhandler(RuntimeError)
    def handle(error: Exception) -> tuple[str, int]:
        return "later", 503

    install(app)
    app.test_client().get("/fail")
    assert install.requests == [("/fail", 503, "server_error")]


def test_a_stream_is_observed_to_its_end(install: Installer) -> None:
    """It has its rule, its bytes, and the request's context in each piece and each line."""
    app = Flask("tests")

    @app.get("/stream/<name>")
    def stream(name: str) -> Response:
        def pieces() -> Iterator[str]:
            for _ in range(2):
                logging.getLogger("app").info("in the stream")
                yield f"{request_id()} "

        return Response(pieces())

    install(app)
    response = app.test_client().get("/stream/a")
    the_id = response.headers["x-request-id"]
    assert response.text.split() == [the_id] * 2
    assert install.requests == [("/stream/<name>", 200, "ok")]
    assert [line["request_id"] for line in install.lines("in the stream")] == [the_id] * 2
    assert [line["bytes"] for line in install.lines("request")] == [66]


def test_a_stream_with_flask_s_context_works(install: Installer) -> None:
    """``stream_with_context`` keeps Flask's request, too."""
    app = Flask("tests")

    @app.get("/stream")
    def stream() -> Response:
        def pieces() -> Iterator[str]:
            yield f"{request.path} {request_id()}"

        return Response(stream_with_context(pieces()))

    install(app)
    response = app.test_client().get("/stream")
    assert response.text == f"/stream {response.headers['x-request-id']}"
    assert install.routes == ["/stream"]


def test_a_stream_that_is_closed_early_is_aborted(install: Installer) -> None:
    """And keeps its rule."""
    app = Flask("tests")

    @app.get("/stream")
    def stream() -> Response:
        return Response(iter(["first", "second"]))

    install(app)
    response = app.test_client().get("/stream", buffered=False)
    assert next(response.iter_encoded()) == b"first"
    response.close()
    assert install.requests == [("/stream", 200, "aborted")]


def test_a_stream_that_fails_is_an_error_after_the_start(install: Installer) -> None:
    """The exception's line has the request's ID."""
    app = Flask("tests")

    @app.get("/stream")
    def stream() -> Response:
        def pieces() -> Iterator[str]:
            yield "first"
            raise RuntimeError("boom")

        return Response(pieces())

    install(app)
    with pytest.raises(RuntimeError):
        _ = app.test_client().get("/stream").data
    assert install.requests == [("/stream", 200, "error_after_start")]
    (error,), (line,) = install.lines("unhandled exception"), install.lines("request")
    assert error["request_id"] == line["request_id"]


def test_hooks_and_lines_of_the_view_have_the_request_s_id(install: Installer) -> None:
    """Before, in and after the view; a user that a hook sets is on the request's line."""
    app = make_app()

    @app.before_request
    def before() -> None:
        monitoring.set_user("u1")
        monitoring.get_logger("app").info("before")

    @app.teardown_request
    def teardown(error: BaseException | None) -> None:
        app.logger.warning("teardown")

    install(app)
    the_id = app.test_client().get("/items/7").headers["x-request-id"]
    lines = [*install.lines("before"), *install.lines("teardown")]
    assert [line.get("request_id") for line in lines] == [the_id] * 2
    assert [line.get("user_id") for line in install.lines("request")] == ["u1"]


def test_own_paths_are_answered_even_with_a_catch_all_route(install: Installer) -> None:
    """In their WSGI form, which is the ASGI one through asgiref."""
    app = Flask("tests")
    app.add_url_rule("/<path:path>", view_func=lambda path: path, endpoint="page")
    install(app, metrics_public=True)
    client = app.test_client()
    health = client.get("/health/live")
    assert (health.status_code, health.json) == (200, {"status": "pass"})
    assert health.headers["content-type"] == "application/health+json"
    metrics = client.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=")
    assert "monitoring_series" in metrics.text
    assert install.requests == []
    assert client.get("/anything").text == "anything"


def test_metrics_need_the_token(install: Installer) -> None:
    """The WSGI form asks for it like the ASGI one."""
    app = make_app()
    install(app, token="secret-of-the-test")
    client = app.test_client()
    assert client.get("/metrics").status_code == 401
    client.get("/items/7")
    text = client.get("/metrics", headers={"authorization": "Bearer secret-of-the-test"}).text
    labels = 'http_request_method="GET",http_route="/items/<int:item>",http_response_status_code="200",error_type=""'
    assert f"http_server_request_duration_seconds_count{{{labels}}} 1.0" in text.splitlines()


def test_a_failing_check_shows_in_the_wsgi_form(install: Installer) -> None:
    """Status and headers pass."""
    app = make_app()
    monitoring_ = install(app)

    @monitoring_.check("database", critical=True)
    def database_answers() -> None:
        raise ConnectionError("down")

    monitoring_.health.report()
    response = app.test_client().get("/health")
    assert (response.status_code, response.json) == (503, {"status": "fail"})
    assert response.headers["retry-after"] == "5"


def test_the_app_s_own_health_stays_the_app_s(install: Installer) -> None:
    """The edge steps aside, says so in one line, and observes it like any other route."""
    app = Flask("tests")
    app.add_url_rule("/health", view_func=lambda: "of the app", endpoint="health")
    install(app)
    assert app.test_client().get("/health").text == "of the app"
    assert install.routes == ["/health"]
    (line,) = install.lines(STEPS_ASIDE)
    assert (line["level"], line["logger"]) == ("warning", "monitoring")


def test_a_health_that_the_app_declares_after_install_stays_the_app_s(install: Installer) -> None:
    """``install`` right after the app is made does not shadow what is declared then."""
    app = Flask("tests")
    install(app)
    app.add_url_rule("/health", view_func=lambda: "of the app", endpoint="health")
    assert app.test_client().get("/health").text == "of the app"


def test_two_apps_have_a_monitoring_each(install: Installer, tmp_path: Path) -> None:
    """Each observes its own requests; the one that was installed last is the current one."""
    first, second = make_app(), make_app()
    former = install(first)
    settings = {"log_destination": str(tmp_path / "other"), "cells_folder": str(tmp_path / "other cells")}
    other = monitoring.install(second, **settings)
    assert monitoring.current() is other
    first.test_client().get("/items/1")
    second.test_client().get("/items/2")
    assert len(install.requests) == 1
    former.close()
