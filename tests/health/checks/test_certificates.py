"""The check of a certificate's days, on TLS servers with certificates of chosen expiry."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from monitoring.health.checks import certificate, certificates
from monitoring.health.checks.certificates import expiry_of
from tests.health.checks.support import outcome, silent_server, status_of
from tests.support.processes import free_port

AUTHORITY = trustme.CA()


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Trust the authority."""
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))


def lasting(days: float) -> trustme.LeafCert:
    """Return a certificate of localhost that has so many days left."""
    now = datetime.now(UTC)
    end = now + timedelta(days=days)
    return AUTHORITY.issue_cert("localhost", not_before=now - timedelta(days=400), not_after=end)


@contextlib.contextmanager
def showing(leaf: trustme.LeafCert) -> Iterator[int]:
    """Run a TLS server with a certificate for a block."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    leaf.configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as own:
                    own.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(5)


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(("days", "status"), [(90, "pass"), (22, "pass"), (20, "warn"), (2, "fail")])
def test_days_that_are_left_decide(days: int, status: str) -> None:
    """It warns from 21 on and fails from 3 on."""
    with showing(lasting(days)) as port:
        found = outcome(certificate("localhost", port))
    assert found.status == status
    assert (found.value, found.unit, found.measurement) == (
        pytest.approx(days, abs=0.1),
        "days",
        "certificate_expiry",
    )
    assert found.output == "" or found.output.startswith("the certificate expires in ")


@pytest.mark.usefixtures("trusted")
def test_one_that_has_expired_fails() -> None:
    """Verified or not; the latter knows since when."""
    with showing(lasting(-5)) as port:
        assert "expired" in outcome(certificate("localhost", port)).output
        assert outcome(certificate("localhost", port, verify=False)).output == "the certificate expired 5.0 days ago"


def test_one_that_is_not_trusted_fails_unless_that_is_allowed() -> None:
    """The days are read all the same."""
    with showing(lasting(90)) as port:
        assert outcome(certificate("localhost", port)).output.startswith("SSLCertVerificationError")
        assert status_of(certificate("localhost", port, verify=False)) == "pass"


@pytest.mark.usefixtures("trusted")
def test_one_of_another_host_fails() -> None:
    """It names localhost, and not the address."""
    with showing(lasting(90)) as port:
        assert outcome(certificate("127.0.0.1", port)).output.startswith("SSLCertVerificationError")


def test_without_a_limit_to_fail_it_only_warns() -> None:
    """Also long after."""
    with showing(lasting(-5)) as port:
        assert status_of(certificate("localhost", port, verify=False, fail_days=None)) == "warn"


def test_who_is_gone_or_silent_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handshake that does not come is given up."""
    assert outcome(certificate("127.0.0.1", free_port())).output.startswith("ConnectionRefusedError")
    monkeypatch.setattr(certificates, "PATIENCE_SECONDS", 0.2)
    with silent_server() as port:
        assert status_of(certificate("127.0.0.1", port)) == "fail"


def test_the_end_is_read_as_ssl_itself_reads_it(tmp_path: Path) -> None:
    """Of this century and, in the other format, of the second half of it."""
    for year in (2031, 2049, 2050, 2099):
        leaf = AUTHORITY.issue_cert("localhost", not_after=datetime(year, 2, 3, 4, 5, 6, tzinfo=UTC))
        der = ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())
        assert expiry_of(der) == datetime(year, 2, 3, 4, 5, 6, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("length", [0, 1, 2, 5, 30, 60])
def test_what_is_no_certificate_is_refused(length: int) -> None:
    """Cut off anywhere."""
    der = ssl.PEM_cert_to_DER_cert(AUTHORITY.cert_pem.bytes().decode())
    with pytest.raises(ValueError, match="no certificate that can be read"):
        expiry_of(der[:length])


def test_limits_the_wrong_way_round_are_refused() -> None:
    """With what to pass."""
    with pytest.raises(ValueError, match="pass fail_days <= warn_days"):
        certificate("localhost", warn_days=1, fail_days=2)
