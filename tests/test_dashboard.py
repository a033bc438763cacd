"""The dashboard: who may see it, where it can be mounted, what its answers carry, and what it does without a store."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from werkzeug.test import Client as WSGIClient

import monitoring
from monitoring import Config, Monitoring
from monitoring.access import COOKIE, login_cookie
from monitoring.dashboard import CLOSED, STATIC, dashboard_app
from monitoring.store.database import FILE_NAME
from monitoring.testing import use
from tests.support.filled import BEARER, GUARD, TOKEN, filled, read

OVERVIEW = "/api/v1/overview"
UNGUARDED = "A change needs the header 'X-Monitoring: 1', which no other site's form can send."
SECURITY = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Monitoring]:
    """A Monitoring in production, with a token and an empty store."""
    with use(store=str(tmp_path / "store"), token=TOKEN) as made:
        yield made


def client_of(
    app: Any, *, peer: str = "203.0.113.9", url: str = "https://app.example.org", **headers: str
) -> TestClient:
    """Return a client at an address, which follows no redirect."""
    return TestClient(app, base_url=url, client=(peer, 4711), follow_redirects=False, headers=headers)


def status_of(made: Monitoring, **headers: str) -> int:
    """Return how the overview answers a stranger who sends these headers."""
    return client_of(made.dashboard_app()).get(OVERVIEW, headers=headers).status_code


def assert_secure(headers: Mapping[str, str]) -> None:
    """Look for what every answer carries."""
    assert SECURITY.items() <= dict(headers).items()
    policy = headers["content-security-policy"]
    for rule in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert rule in policy


# Who may see it


def test_production_is_closed_to_strangers(made: Monitoring) -> None:
    """Status 401, and one sentence each on what to send and where the token is from."""
    response = client_of(made.dashboard_app()).get(OVERVIEW)
    assert (response.status_code, response.json()) == (401, {"error": CLOSED})
    assert response.headers["www-authenticate"] == "Bearer"


def test_production_without_a_token_is_closed_to_everybody(tmp_path: Path) -> None:
    """Not even loopback comes in."""
    with use(store=str(tmp_path / "store")) as made:
        client = client_of(made.dashboard_app(), peer="127.0.0.1", url="http://127.0.0.1:8000")
        assert client.get(OVERVIEW).status_code == 401
        refusal = client.post("/api/v1/login", json={"token": ""})
        assert (refusal.status_code, "No token is set" in refusal.json()["error"]) == (401, True)


@pytest.mark.parametrize("path", [OVERVIEW, "/api/v1/openapi.json", "/api/v1/requests/any", "/api/v1/system"])
def test_everything_of_the_api_is_closed(made: Monitoring, path: str) -> None:
    """The description as well."""
    assert client_of(made.dashboard_app()).get(path).status_code == 401


def test_the_page_itself_is_open(made: Monitoring) -> None:
    """It is the same for everybody, and shows the login form to those who may see nothing."""
    response = client_of(made.dashboard_app()).get("/")
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer  {TOKEN}", 200),
        (f"Bearer {TOKEN}x", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        ("Bearer ", 401),
        ("Bearer", 401),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
    ],
)
def test_the_bearer_of_the_token_sees_it(made: Monitoring, authorization: str, status: int) -> None:
    """The whole token, and as a bearer."""
    assert status_of(made, authorization=authorization) == status


@pytest.mark.parametrize("form", ["data", "json"])
def test_who_logs_in_gets_a_cookie_that_opens_it(made: Monitoring, form: str) -> None:
    """By form or by JSON; the cookie is out of reach of scripts and of other sites."""
    client = client_of(made.dashboard_app())
    response = client.post("/api/v1/login", **{form: {"token": TOKEN}})
    assert (response.status_code, response.content) == (204, b"")
    cookie = response.headers["set-cookie"]
    parts = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert parts == {"httponly", "samesite=strict", "secure", "max-age=2592000"}
    assert TOKEN not in cookie
    assert client.get(OVERVIEW).status_code == 200


def test_without_tls_the_cookie_is_not_for_tls_alone(made: Monitoring) -> None:
    """Else a browser would not send it back; a proxy that ends TLS is believed."""
    app = made.dashboard_app()
    plain = client_of(app, url="http://app.example.org").post("/api/v1/login", json={"token": TOKEN})
    assert "secure" not in plain.headers["set-cookie"].lower()
    behind = {"x-forwarded-proto": "https"}
    proxied = client_of(app, url="http://app.example.org").post("/api/v1/login", json={"token": TOKEN}, headers=behind)
    assert "secure" in proxied.headers["set-cookie"].lower()


@pytest.mark.parametrize("given", [{"token": "wrong"}, {"token": ""}, {}, {"token": 7}, {"token": [TOKEN]}])
def test_another_token_logs_nobody_in(made: Monitoring, given: Any) -> None:
    """Status 401 and no cookie."""
    response = client_of(made.dashboard_app()).post("/api/v1/login", json=given)
    assert (response.status_code, "set-cookie" in response.headers) == (401, False)
    assert response.json() == {"error": "This is not the token; it is the setting MONITORING_TOKEN of the app."}


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"x" * 70_000])
def test_a_login_that_is_no_object_is_a_bad_question(made: Monitoring, body: bytes) -> None:
    """Also without a token nobody can make it read much."""
    response = client_of(made.dashboard_app()).post("/api/v1/login", content=body)
    assert response.status_code == 400
    assert response.json()["error"].startswith("The body must ")


def test_logging_out_takes_the_cookie_back(made: Monitoring) -> None:
    """Afterwards the API is closed again."""
    client = client_of(made.dashboard_app(), **GUARD)
    client.post("/api/v1/login", json={"token": TOKEN})
    assert client.get(OVERVIEW).status_code == 200
    assert client.post("/api/v1/logout").status_code == 204
    assert client.get(OVERVIEW).status_code == 401


def test_no_other_site_logs_anybody_out(made: Monitoring) -> None:
    """It needs the guard's header."""
    response = client_of(made.dashboard_app()).post("/api/v1/logout")
    assert (response.status_code, response.json()) == (403, {"error": UNGUARDED})


def test_a_login_ends_by_itself(made: Monitoring) -> None:
    """The time is part of what is signed."""
    over = login_cookie(TOKEN, TOKEN, time.time() - 1)
    lasting = login_cookie(TOKEN, TOKEN, time.time() + 60)
    assert status_of(made, cookie=f"{COOKIE}={over}") == 401
    assert status_of(made, cookie=f"other=1; {COOKIE}={lasting}") == 200


@pytest.mark.parametrize(
    "forged", ["", ".", "9999999999", "9999999999.", "9999999999.abc", "x.y.z", "\u00b2.\u00e9", TOKEN]
)
def test_a_forged_cookie_opens_nothing(made: Monitoring, forged: str) -> None:
    """Neither a guess nor anything that is no cookie of ours makes the answer fail."""
    client = client_of(made.dashboard_app())
    response = client.get(OVERVIEW, headers=[("cookie", f"{COOKIE}={forged}".encode("latin-1"))])
    assert response.status_code == 401


def test_a_cookie_that_was_prolonged_opens_nothing(made: Monitoring) -> None:
    """Its signature is of another time."""
    cookie = login_cookie(TOKEN, TOKEN, time.time() - 1)
    assert cookie is not None
    prolonged = f"{int(time.time()) + 999}.{cookie.partition('.')[2]}"
    assert status_of(made, cookie=f"{COOKIE}={prolonged}") == 401


def test_a_cookie_of_another_token_opens_nothing(made: Monitoring) -> None:
    """Changing the token ends all logins."""
    cookie = login_cookie("former-token", "former-token", time.time() + 60)
    assert status_of(made, cookie=f"{COOKIE}={cookie}") == 401


# The app's own say


async def says_yes_later(scope: Any) -> bool:
    """Say yes to who is named so."""
    return (b"x-user", b"ana") in scope["headers"]


def says_yes(scope: Any) -> bool:
    """Say yes to who is named so."""
    return (b"x-user", b"ana") in scope["headers"]


class SaysYes:
    """An object whose call is async."""

    async def __call__(self, scope: Any) -> bool:
        """Say yes to who is named so."""
        return says_yes(scope)


@pytest.mark.parametrize("authorize", [says_yes, says_yes_later, SaysYes()])
def test_the_app_itself_may_say_yes(tmp_path: Path, authorize: Any) -> None:
    """A function of the scope, sync or async."""
    with use(store=str(tmp_path / "store"), authorize=authorize) as made:
        assert status_of(made, **{"x-user": "ana"}) == 200
        assert status_of(made, **{"x-user": "bob"}) == 401


def test_the_apps_no_counts_in_development_too(tmp_path: Path) -> None:
    """Who set ``authorize`` decides; only the token goes past it."""
    settings: dict[str, Any] = {"authorize": says_yes, "environment": "development", "token": TOKEN}
    with use(store=str(tmp_path / "store"), **settings) as made:
        client = client_of(made.dashboard_app(), peer="127.0.0.1", url="http://127.0.0.1:8000")
        assert client.get(OVERVIEW).status_code == 401
        assert client.get(OVERVIEW, headers=BEARER).status_code == 200


def test_where_the_apps_say_fails_nobody_comes_in(tmp_path: Path) -> None:
    """The answer is one sentence, the failure is counted, and the server sees no exception."""

    def fails(scope: Any) -> bool:
        raise LookupError("no session")

    made = Monitoring(Config(store=str(tmp_path / "store"), authorize=fails, log_destination=str(tmp_path / "log")))
    response = client_of(made.dashboard_app()).get(OVERVIEW)
    assert (response.status_code, response.json()) == (
        500,
        {"error": "The answer failed with LookupError; the log of the app says where."},
    )
    assert_secure(response.headers)
    assert made.recorder.failures == {"dashboard: LookupError": 1}
    made.close()


# Development


def local_status(tmp_path: Path, *, peer: str = "127.0.0.1", host: str = "localhost:8000", **headers: str) -> int:
    """Return how the overview answers in development."""
    with use(store=str(tmp_path / "store"), environment="development") as made:
        client = client_of(made.dashboard_app(), peer=peer, url=f"http://{host}")
        return int(client.get(OVERVIEW, headers=headers).status_code)


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "LOCALHOST:1", "127.0.0.1:8000", "[::1]:8000", "[::1]"]
)
def test_in_development_this_machine_needs_no_token(tmp_path: Path, host: str) -> None:
    """By each of its local names."""
    assert local_status(tmp_path, host=host) == 200


def test_in_development_other_machines_do(tmp_path: Path) -> None:
    """Whatever name they use."""
    assert local_status(tmp_path, peer="192.0.2.7") == 401


@pytest.mark.parametrize(
    "header", ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-anything"]
)
def test_in_development_a_proxys_callers_do(tmp_path: Path, header: str) -> None:
    """A proxy on this machine makes every caller local."""
    assert local_status(tmp_path, **{header: "for=192.0.2.7"}) == 401


@pytest.mark.parametrize("host", ["app.example.org", "localhost.example.org", "127.0.0.1.example.org:8000"])
def test_in_development_a_foreign_host_does(tmp_path: Path, host: str) -> None:
    """A page of another site reaches this machine under its own name."""
    assert local_status(tmp_path, host=host) == 401


# Changes


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/silences"), ("DELETE", "/silences/1"), ("POST", "/errors/1/resolve"), ("POST", "/alerts/1/ack")],
)
def test_a_change_needs_the_guards_header(made: Monitoring, method: str, path: str) -> None:
    """No form of another site can send it, whoever is logged in."""
    response = client_of(made.dashboard_app(), **BEARER).request(method, f"/api/v1{path}")
    assert (response.status_code, response.json()) == (403, {"error": UNGUARDED})
    guarded = client_of(made.dashboard_app(), **BEARER, **GUARD).request(method, f"/api/v1{path}")
    assert guarded.status_code in (200, 400, 404)


def test_a_change_needs_the_token_first(made: Monitoring) -> None:
    """The header alone opens nothing."""
    response = client_of(made.dashboard_app(), **GUARD).post("/api/v1/silences", json={"rule": "*"})
    assert response.status_code == 401


# What answers carry


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/static/index.html", 200),
        ("GET", "/static/nothing.js", 404),
        ("GET", "/nothing", 404),
        ("GET", "/api/v1/nothing", 404),
        ("POST", "/", 405),
        ("PUT", OVERVIEW, 405),
        ("GET", OVERVIEW, 200),
        ("GET", f"{OVERVIEW}?from=soon", 400),
        ("GET", "/api/v1/requests/unknown", 404),
        ("GET", "/api/v1/openapi.json", 200),
        ("POST", "/api/v1/login", 401),
        ("POST", "/api/v1/logout", 204),
        ("POST", "/api/v1/errors/unknown/resolve", 404),
    ],
)
def test_every_answer_is_secure(made: Monitoring, method: str, path: str, status: int) -> None:
    """Whatever is asked; and a refusal is JSON with one sentence."""
    response = client_of(made.dashboard_app(), **BEARER, **GUARD).request(method, path)
    assert response.status_code == status
    assert_secure(response.headers)
    if status >= 400:
        assert response.json()["error"].endswith(".")
        assert response.headers["cache-control"] == "no-store"


def test_a_method_that_is_not_possible_is_told_which_are(made: Monitoring) -> None:
    """In the header that is for it."""
    response = client_of(made.dashboard_app(), **BEARER, **GUARD).delete(OVERVIEW)
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}


def test_files_are_kept_for_ever_and_the_page_is_not(made: Monitoring) -> None:
    """The files' names change with what is in them; the page names the files."""
    client = client_of(made.dashboard_app())
    assert client.get("/").headers["cache-control"] == "no-store"
    assert client.get("/static/index.html").headers["cache-control"] == "no-store"
    names = [path.name for path in STATIC.iterdir() if path.name != "index.html"]
    assert {name.rpartition(".")[2] for name in names} >= {"js", "css"}
    for name in names:
        response = client.get(f"/static/{name}")
        assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert response.content == (STATIC / name).read_bytes()


def test_the_pages_own_urls_are_relative(made: Monitoring) -> None:
    """So it works under any prefix."""
    page = client_of(made.dashboard_app()).get("/").text
    assert 'src="static/' in page
    assert 'src="/' not in page
    assert 'href="/' not in page


@pytest.mark.parametrize(
    "name",
    [
        "..%2fdashboard.py",
        "%2e%2e%2fdashboard.py",
        "..%5cdashboard.py",
        "../dashboard.py",
        "....//dashboard.py",
        "%2e%2e",
        "%00",
        "%2fetc%2fpasswd",
        "index.html%00.js",
    ],
)
def test_no_other_file_is_served(made: Monitoring, name: str) -> None:
    """Neither one above the folder nor one beside it."""
    response = client_of(made.dashboard_app()).get(f"/static/{name}")
    assert response.status_code == 404
    assert "import" not in response.text


# ETags


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}'])
def test_an_answer_that_is_known_already_is_not_sent_again(made: Monitoring, method: str, form: str) -> None:
    """By its ETag, also where a proxy made it a weak one."""
    client = client_of(made.dashboard_app(), **BEARER)
    first = client.get("/api/v1/llm?from=1800000000&to=1800003600")
    tag = first.headers["etag"]
    again = client.request(
        method, "/api/v1/llm?from=1800000000&to=1800003600", headers={"if-none-match": form.format(tag)}
    )
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert_secure(again.headers)


def test_another_answer_has_another_etag(tmp_path: Path) -> None:
    """What changed is sent."""
    with filled(tmp_path / "store") as done:
        first = done.api().get("/monitoring/api/v1/routes", params={"from": "-1d"})
        done.ask("GET", "/missing", "/missing")
        done.monitoring.flush()
        again = done.api().get(
            "/monitoring/api/v1/routes", params={"from": "-1d"}, headers={"if-none-match": first.headers["etag"]}
        )
        assert (again.status_code, again.headers["etag"] != first.headers["etag"]) == (200, True)


def test_answers_are_for_one_reader_and_asked_for_again(made: Monitoring) -> None:
    """No cache between keeps what the token opened."""
    response = client_of(made.dashboard_app(), **BEARER).get(OVERVIEW)
    assert response.headers["cache-control"] == "no-cache, private"


def test_head_answers_like_get(made: Monitoring) -> None:
    """With the same headers."""
    client = client_of(made.dashboard_app(), **BEARER)
    asked = "/api/v1/llm?from=1800000000&to=1800003600"
    assert client.head(asked).headers["etag"] == client.get(asked).headers["etag"]
    assert client.head("/").status_code == 200


# Where it is mounted


def asgi_app(made: Monitoring) -> Any:
    """Return an app with the dashboard mounted by hand."""
    return Starlette(routes=[Mount("/ops", made.dashboard_app()), Route("/proposals/{id}", read)])


def test_mounted_by_hand_it_is_below_its_prefix(made: Monitoring) -> None:
    """Page, files, API and login."""
    client = client_of(asgi_app(made))
    assert client.get("/ops/").status_code == 200
    assert client.get("/ops/static/index.html").status_code == 200
    assert client.post("/ops/api/v1/login", data={"token": TOKEN}).status_code == 204
    assert client.get(f"/ops{OVERVIEW}").status_code == 200
    assert client.get("/ops").headers["location"].endswith("/ops/")


def test_mounted_below_a_mount_it_works_as_well(made: Monitoring) -> None:
    """However deep."""
    client = client_of(Starlette(routes=[Mount("/a", routes=[Mount("/b", made.dashboard_app())])]), **BEARER)
    assert client.get("/a/b/").status_code == 200
    assert client.get(f"/a/b{OVERVIEW}").status_code == 200


def test_the_current_monitorings_dashboard_is_mounted_with_the_packages_function(made: Monitoring) -> None:
    """As the README does it."""
    client = client_of(Starlette(routes=[Mount("/ops", monitoring.dashboard_app())]), **BEARER)
    assert client.get(f"/ops{OVERVIEW}").json()["meta"]["service"] == made.config.service


def test_behind_a_proxy_that_cuts_a_prefix_the_login_is_for_the_path_that_the_browser_sees(made: Monitoring) -> None:
    """The cookie names no path, so the browser takes the folder that it asked: the API's."""
    response = client_of(made.dashboard_app()).post("/api/v1/login", json={"token": TOKEN})
    assert "path=" not in response.headers["set-cookie"].lower()


def test_installed_it_is_at_monitoring(tmp_path: Path) -> None:
    """With and without the slash; the one leads to the other."""
    app = Starlette(routes=[Route("/proposals/{id}", read)])
    monitoring.install(app, store=str(tmp_path / "store"), token=TOKEN, log_destination=str(tmp_path / "log"))
    client = client_of(app, **BEARER)
    moved = client.get("/monitoring")
    assert (moved.status_code, moved.headers["location"]) == (307, "/monitoring/")
    assert_secure(moved.headers)
    assert client.get("/monitoring/").status_code == 200
    assert client.get(f"/monitoring{OVERVIEW}").status_code == 200
    assert client.get("/monitoringx").status_code == 404


def test_installed_below_a_root_path_it_is_below_it(tmp_path: Path) -> None:
    """As with ``uvicorn --root-path``."""
    app = Starlette(routes=[Route("/proposals/{id}", read)])
    monitoring.install(app, store=str(tmp_path / "store"), token=TOKEN, log_destination=str(tmp_path / "log"))
    client = TestClient(app, root_path="/apps/one", headers=BEARER, follow_redirects=False)
    assert client.get("/apps/one/monitoring/").status_code == 200
    assert client.get(f"/apps/one/monitoring{OVERVIEW}").status_code == 200
    assert client.get("/apps/one/monitoring").headers["location"].endswith("/apps/one/monitoring/")


def wsgi_client(app: Any) -> WSGIClient:
    """Return a client of a WSGI app."""
    return WSGIClient(app)


def test_in_flask_it_is_at_monitoring(tmp_path: Path) -> None:
    """Page, files, login, API and a change, through WSGI."""
    app = Flask("flask")
    monitoring.install(app, store=str(tmp_path / "store"), token=TOKEN, log_destination=str(tmp_path / "log"))
    client = wsgi_client(app)
    assert client.get("/monitoring").headers["location"].endswith("/monitoring/")
    assert client.get("/monitoring/").status_code == 200
    assert client.get(f"/monitoring{OVERVIEW}").status_code == 401
    assert client.post("/monitoring/api/v1/login", data={"token": TOKEN}).status_code == 204
    answer = client.get(f"/monitoring{OVERVIEW}")
    assert (answer.status_code, answer.get_json()["meta"]["environment"]) == (200, "production")
    assert_secure({name.lower(): value for name, value in answer.headers.items()})
    silenced = client.post("/monitoring/api/v1/silences", json={"rule": "*"}, headers=GUARD)
    assert (silenced.status_code, silenced.get_json()["done"]) == (200, True)


def test_in_a_wsgi_app_it_is_mounted_by_hand(made: Monitoring) -> None:
    """Below the prefix that the server or a dispatcher took off."""
    client = wsgi_client(made.dashboard_wsgi_app())
    asked = {"base_url": "http://localhost/ops/", "headers": BEARER}
    assert client.get("/", **asked).status_code == 200
    assert client.get(OVERVIEW, **asked).status_code == 200
    assert client.get(f"{OVERVIEW}?from=-15m", **asked).get_json()["sentence"].count("15 min") == 1


def test_wsgi_answers_head_without_a_body(made: Monitoring) -> None:
    """A server may send whatever it is given."""
    told: list[Any] = []
    environ = {"REQUEST_METHOD": "HEAD", "PATH_INFO": "/", "wsgi.input": None, "wsgi.url_scheme": "http"}
    body = made.dashboard_wsgi_app()(environ, lambda status, headers: told.append((status, dict(headers))))
    assert list(body) == []
    assert told[0][0] == "200 OK"
    assert int(told[0][1]["content-length"]) > 0


def test_wsgi_reads_no_more_of_a_body_than_is_wanted(made: Monitoring) -> None:
    """A stranger cannot fill the memory through the login."""

    class Endless:
        taken = 0

        def read(self, size: int) -> bytes:
            self.taken += size
            return b"x" * size

    body, told = Endless(), []
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/api/v1/login",
        "CONTENT_LENGTH": str(10**12),
        "CONTENT_TYPE": "application/json",
        "wsgi.input": body,
        "wsgi.url_scheme": "http",
    }
    made.dashboard_wsgi_app()(environ, lambda status, headers: told.append(status))
    assert told == ["400 Bad Request"]
    assert body.taken < 1_000_000


def test_wsgi_reads_on_until_the_body_is_whole(made: Monitoring) -> None:
    """A slow client's bytes come one by one."""

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(1)

    body, told = json.dumps({"token": TOKEN}).encode(), []
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/api/v1/login",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": Slow(body),
        "wsgi.url_scheme": "http",
    }
    made.dashboard_wsgi_app()(environ, lambda status, headers: told.append(status))
    assert told == ["204 No Content"]


@pytest.mark.parametrize("length", ["", "-1", "much", "\u00b2"])
def test_wsgi_takes_a_length_that_is_none_for_no_body(made: Monitoring, length: str) -> None:
    """Servers pass on what they were sent."""
    told: list[str] = []
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/api/v1/login", "CONTENT_LENGTH": length, "wsgi.input": None}
    made.dashboard_wsgi_app()(environ, lambda status, headers: told.append(status))
    assert told == ["401 Unauthorized"]


# Without a store


def break_store(folder: Path) -> None:
    """Put a folder where the database was."""
    for file in folder.iterdir():
        file.unlink()
    (folder / FILE_NAME).mkdir()


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[Any]:
    """A filled store that cannot be used any more."""
    with filled(tmp_path / "store") as done:
        done.monitoring.background.stop()  # its next round would fail, and failures are raised in tests
        done.monitoring.open_database().close()
        break_store(tmp_path / "store")
        yield done
        shutil.rmtree(tmp_path / "store")


@pytest.mark.parametrize(
    "path",
    ["/routes", "/route?route=/x", "/requests", "/errors", "/llm", "/usage", "/health", "/alerts", "/search?q=x"],
)
def test_without_the_store_the_answer_is_one_sentence(broken: Any, path: str) -> None:
    """Status 503, why, and when to come again."""
    response = broken.api().get(f"/monitoring/api/v1{path}")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    message = response.json()["error"]
    assert message.startswith("The store cannot be read now: ")
    assert message.endswith(".")
    assert not message.endswith("..")
    assert_secure(response.headers)


def test_without_the_store_the_overview_still_says_what_is_wrong(broken: Any) -> None:
    """It is critical, and there are no numbers that would look like those of a quiet hour."""
    found = broken.get("/overview")
    assert found["state"] == "critical"
    assert found["sentence"].startswith("The store cannot be read now: ")
    assert found["sentence"] in found["meta"]["degraded"]
    assert (found["requests"]["error_rate"], found["requests"]["p95_seconds"]) == (None, None)
    assert (found["series"]["t"], found["meta"]["service"]) == ([], "proposals")


def test_without_the_store_the_machine_is_still_shown(broken: Any) -> None:
    """What is read from the machine itself needs no store."""
    found = broken.get("/system")
    assert found["system"]["memory_total_bytes"] > 0
    assert (found["store"]["tables"], found["series"]["t"]) == ([], [])
    assert len(found["meta"]["degraded"]) == 1


def test_without_the_store_a_change_is_refused_in_one_sentence(broken: Any) -> None:
    """Nothing is done, and it is said."""
    response = broken.api().post("/monitoring/api/v1/silences", json={"rule": "*"})
    assert (response.status_code, response.json()["error"].count("The store cannot be ")) == (503, 1)


def test_where_no_store_is_wanted_the_answer_says_which_setting(tmp_path: Path) -> None:
    """The dashboard was mounted by hand, and there is nothing it could show."""
    with use(store=None, token=TOKEN) as made:
        response = client_of(made.dashboard_app(), **BEARER).get(OVERVIEW)
    assert (response.status_code, response.json()) == (
        503,
        {"error": "store is None, so nothing is kept; set it to a folder or a database's URL."},
    )


def test_a_failure_of_the_pack_is_one_sentence_and_no_exception(tmp_path: Path) -> None:
    """The server and the app go on; the first failure is in the log."""
    made = Monitoring(Config(store=str(tmp_path / "store"), token=TOKEN, log_destination=str(tmp_path / "log")))

    class Broken:
        """A Monitoring whose metrics cannot be read."""

        def __getattr__(self, name: str) -> Any:
            if name == "metrics":
                raise RuntimeError("bug")
            return getattr(made, name)

    response = client_of(dashboard_app(Broken()), **BEARER).get(OVERVIEW)  # type: ignore[arg-type]
    assert (response.status_code, response.json()) == (
        500,
        {"error": "The answer failed with RuntimeError; the log of the app says where."},
    )
    assert made.recorder.failures == {"dashboard: RuntimeError": 1}
    made.close()


# It does not watch itself


def test_its_own_requests_are_in_no_number(tmp_path: Path) -> None:
    """Neither those of the page nor the queries of the API, whichever way it is mounted."""
    with filled(tmp_path / "store") as done:
        before = len(done.sink.observations)
        for path in ("/overview", "/routes", "/requests", "/alerts", "/system"):
            done.get(path)
        done.api().get("/monitoring/")
        done.api().get("/monitoring/static/nothing")
        client_of(done.monitoring.dashboard_app()).get(OVERVIEW)
        assert len(done.sink.observations) == before
        done.monitoring.flush()
        assert done.get("/overview")["requests"]["count"] == 27


def test_mounted_by_hand_inside_an_observed_app_it_is_a_route_like_any_other(tmp_path: Path) -> None:
    """Its requests are those of the app's own mount; its queries and calls are none of the app's."""
    sink = monitoring.testing.MemorySink()
    with use(sink, store=str(tmp_path / "store"), token=TOKEN) as made:
        app = Starlette(
            routes=[Mount("/ops", made.dashboard_app())], middleware=[Middleware(monitoring.MonitoringMiddleware)]
        )
        assert client_of(app, **BEARER).get(f"/ops{OVERVIEW}").status_code == 200
        assert {one.kind for one in sink.observations} <= {"request"}
