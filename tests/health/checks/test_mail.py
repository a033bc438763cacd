"""The check of a mail server: plain, by STARTTLS and by TLS, with a password, silent and gone. It sends nothing."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from monitoring.health.checks import mail, smtp
from tests.health.checks.support import outcome, silent_server, status_of
from tests.support.processes import free_port
from tests.support.receivers import mail_server, password_is


@pytest.fixture
def server_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ssl.SSLContext:
    """Return the server's side of TLS; its authority is trusted here."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    return context


def test_a_mail_server_passes_and_gets_no_mail() -> None:
    """EHLO and NOOP are all."""
    with mail_server() as server:
        check = smtp("127.0.0.1", server.port)
        assert [status_of(check), status_of(check)] == ["pass", "pass"]
        assert (server.mails, server.recipients) == ([], [])


def test_a_mail_server_that_is_gone_fails() -> None:
    """Nobody listens."""
    assert outcome(smtp("127.0.0.1", free_port())).output.startswith("ConnectionRefusedError")


def test_a_mail_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After three seconds, here less."""
    monkeypatch.setattr(mail, "PATIENCE_SECONDS", 0.2)
    with silent_server() as port:
        assert outcome(smtp("127.0.0.1", port)).status == "fail"


def test_starttls_is_spoken_and_verified(server_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """It passes with an authority that is trusted, and fails with one that is not."""
    with mail_server(tls_context=server_tls, require_starttls=True) as server:
        check = smtp("localhost", server.port, starttls=True)
        assert status_of(check) == "pass"
        monkeypatch.delenv("SSL_CERT_FILE")
        assert outcome(check).output.startswith("SSLCertVerificationError")


def test_a_server_without_starttls_fails_where_it_is_asked_for() -> None:
    """A password would go in the clear."""
    with mail_server() as server:
        assert outcome(smtp("127.0.0.1", server.port, starttls=True)).output.startswith("SMTPNotSupportedError")


def test_tls_from_the_start(server_tls: ssl.SSLContext) -> None:
    """As on port 465."""
    with mail_server(ssl_context=server_tls) as server:
        assert status_of(smtp("localhost", server.port, tls=True)) == "pass"


def test_a_wrong_password_fails_and_is_not_told(server_tls: ssl.SSLContext) -> None:
    """The right one passes."""
    options = {"authenticator": password_is(b"right"), "auth_require_tls": True, "tls_context": server_tls}
    with mail_server(**options) as server:
        right = smtp("localhost", server.port, starttls=True, user="app", password="right")
        wrong = smtp("localhost", server.port, starttls=True, user="app", password="hunter2secret")
        assert status_of(right) == "pass"
        found = outcome(wrong)
    assert found.output.startswith("SMTPAuthenticationError")
    assert "hunter2secret" not in found.output


def test_starttls_and_tls_together_are_refused() -> None:
    """With what to pass."""
    with pytest.raises(ValueError, match="pass one"):
        smtp("localhost", starttls=True, tls=True)
