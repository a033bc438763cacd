"""The check of an HTTP server: refused, slow, trickling, failing, redirecting, by TLS; and what is never told."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme

from monitoring.health.checks import http, patience, servers
from tests.health.checks.support import outcome, silent_server, status_of
from tests.support.processes import free_port


@dataclass
class Site:
    """An HTTP server: how it answers, and what it was asked."""

    port: int = 0
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/ready"


@contextlib.contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Site]:
    """Run a server for a block."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            self.send_response(site.status)
            for name, value in site.headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Be quiet about who hangs up in the handshake."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    site.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.mark.parametrize(
    ("status", "found"), [(200, "pass"), (204, "pass"), (302, "pass"), (404, "fail"), (500, "fail")]
)
def test_the_status_decides(site: Site, status: int, found: str) -> None:
    """From 200 to 399 it passes."""
    site.status = status
    assert status_of(http(site.url)) == found


def test_a_status_that_was_not_expected_is_told(site: Site) -> None:
    """With host and port."""
    site.status = 503
    assert outcome(http(site.url)).output == f"127.0.0.1:{site.port} answered 503"


def test_what_is_expected_can_be_said(site: Site) -> None:
    """Any container of numbers."""
    site.status = 401
    assert status_of(http(site.url, expect={401})) == "pass"
    assert status_of(http(site.url, expect={200})) == "fail"


def test_redirects_are_not_followed(site: Site) -> None:
    """The server is asked once."""
    site.status, site.headers = 302, {"location": "/elsewhere"}
    outcome(http(site.url))
    assert [path for path, _ in site.asked] == ["/ready"]


def test_proxies_of_the_environment_are_not_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead proxy does not matter."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    assert status_of(http(site.url)) == "pass"


def test_headers_query_and_credentials_are_sent(site: Site) -> None:
    """A user and password in the URL as basic authentication, decoded."""
    url = f"http://app:p%40ss@127.0.0.1:{site.port}/ready?token=1"
    outcome(http(url, headers={"x-own": "yes"}))
    ((path, headers),) = site.asked
    assert path == "/ready?token=1"
    assert headers["x-own"] == "yes"
    assert base64.b64decode(headers["authorization"].removeprefix("Basic ")) == b"app:p@ss"


def test_a_body_without_end_is_not_read() -> None:
    """The status is all that is asked for."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                while True:
                    connection.sendall(b"x" * 65536)

        thread = threading.Thread(target=answer)
        thread.start()
        assert status_of(http(f"http://127.0.0.1:{server.getsockname()[1]}/")) == "pass"
        thread.join(20)
        assert not thread.is_alive()


def test_a_server_that_refuses_fails() -> None:
    """Nobody listens."""
    found = outcome(http(f"http://127.0.0.1:{free_port()}/?token=hunter2"))
    assert (found.status, found.output.partition(":")[0]) == ("fail", "ConnectionRefusedError")


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After three seconds, here less."""
    monkeypatch.setattr(servers, "PATIENCE_SECONDS", 0.2)
    with silent_server() as port:
        assert outcome(http(f"http://127.0.0.1:{port}/")).output == "TimeoutError: timed out"


def test_a_server_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte now and then outwits a socket's time-out; the whole look has its limit."""
    cut_off = patience.cut_off
    monkeypatch.setattr(servers, "cut_off", lambda connection: cut_off(connection, 0.3))
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def trickle() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                while not over.wait(0.05):
                    connection.sendall(b"x")

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            found = outcome(http(f"http://127.0.0.1:{server.getsockname()[1]}/"))
            assert (found.status, found.output) == ("fail", "TimeoutError: no answer in 0.3 s")
        finally:
            over.set()
            thread.join(5)


def test_certificates_are_verified(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One of an authority that is not trusted fails, and passes when it is."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    with serving(context) as site:
        check = http(f"https://localhost:{site.port}/ready")
        assert outcome(check).output.startswith("SSLCertVerificationError")
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert status_of(check) == "pass"


@pytest.mark.parametrize(
    "url",
    ["ftp://hunter2/", "hunter2", "http:///hunter2", "http://h/hunter2 x", "http://h/hunter2\n", "http://h:hunter2/"],
)
def test_what_is_no_url_is_refused_and_not_repeated(url: str) -> None:
    """It may hold a secret."""
    with pytest.raises(ValueError, match="pass one such as https") as refusal:
        http(url)
    assert "hunter2" not in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_secrets_of_the_url_are_in_no_output_and_no_repr(site: Site) -> None:
    """Neither path, query nor credentials."""
    site.status = 500
    url = f"http://app:hunter2@127.0.0.1:{site.port}/hunter2?key=hunter2"
    assert "hunter2" not in outcome(http(url)).output
    target = servers._Get(*servers._target_of(url), {200}, {"authorization": "hunter2"})
    assert "hunter2" not in repr(target)
