"""Batches by HTTP: what is sent, what answers mean, and that secrets stay secret."""

from __future__ import annotations

import contextlib
import gzip
import ssl
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from monitoring.logs.shipping import OTLP, Limits, Loki
from monitoring.logs.shipping.http import HttpTransport, endpoint
from monitoring.logs.shipping.retries import NotDelivered, Refused
from tests.support.log_lines import Drops, line
from tests.support.processes import free_port
from tests.support.receivers import Hooks, hooks

LINES = [b"1\n", b"2\n", b"3\n"]


def _transport(url: str, tls: ssl.SSLContext | None = None, headers: dict[str, str] | None = None) -> HttpTransport:
    place = endpoint("Test", url, "/push", headers or {})
    return HttpTransport(place, b"".join, lambda answer: 0, 5.0, tls)


@pytest.fixture
def receiver() -> Iterator[Hooks]:
    """Run a receiver on loopback."""
    with hooks() as got:
        yield got


def test_a_batch_is_one_post_of_gzip(receiver: Hooks) -> None:
    """To the path below the URL's own, with the caller's headers."""
    _transport(receiver.url, headers={"X-Team": "shop", "Content-Type": "text/plain"}).send(LINES)
    ((headers, body),) = receiver.requests
    assert gzip.decompress(body) == b"1\n2\n3\n"
    assert (headers["content-encoding"], headers["x-team"], headers["content-type"]) == ("gzip", "shop", "text/plain")


@pytest.mark.parametrize("status", [200, 202, 204, 299])
def test_2xx_is_a_delivery(receiver: Hooks, status: int) -> None:
    """Whatever it is called."""
    receiver.status = status
    assert _transport(receiver.url).send(LINES) == 0


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 410, 422])
def test_answers_that_stay_the_same_refuse_a_batch(receiver: Hooks, status: int) -> None:
    """Redirects too: lines go where they were meant to."""
    receiver.status = status
    receiver.headers = {"location": receiver.url}
    with pytest.raises(Refused, match=f"answered {status}"):
        _transport(receiver.url).send(LINES)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_answers_that_pass_ask_for_another_try(receiver: Hooks, status: int) -> None:
    """A server that fails of what it was sent is told from one that is away."""
    receiver.status = status
    with pytest.raises(NotDelivered, match=f"answered {status}") as raised:
        _transport(receiver.url).send(LINES)
    assert raised.value.has_failed == (status == 500)
    assert raised.value.retry_after_seconds == 0


def test_retry_after_is_read_as_seconds_and_as_a_date(receiver: Hooks) -> None:
    """What is neither counts as nothing."""
    receiver.status = 429
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    asked = []
    for value in ("17", in_a_minute, "soon"):
        receiver.headers = {"retry-after": value}
        with pytest.raises(NotDelivered) as raised:
            _transport(receiver.url).send(LINES)
        asked.append(raised.value.retry_after_seconds)
    assert asked[0] == 17
    assert 0 < asked[1] <= 60
    assert asked[2] == 0


def test_a_batch_that_is_too_large_is_sent_in_halves(receiver: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a line that is too large alone is refused."""
    got: list[bytes] = []

    def answer(transport: HttpTransport, body: bytes) -> tuple[Any, bytes]:
        text = gzip.decompress(body)
        receiver.status = 413 if len(text) > 4 else 200
        if receiver.status == 200:
            got.append(text)
        return post(transport, body)

    post = HttpTransport._post
    monkeypatch.setattr(HttpTransport, "_post", answer)
    assert _transport(receiver.url).send([b"1\n", b"2\n", b"too long\n", b"4\n", b"5\n"]) == 1
    assert got == [b"1\n2\n", b"4\n5\n"]


def test_of_halves_the_first_counts_when_the_second_fails(receiver: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not sent again, and what was refused of it is counted."""
    statuses = iter([413, 413, 413, 200, 503])

    def answer(transport: HttpTransport, body: bytes) -> tuple[Any, bytes]:
        receiver.status = next(statuses)
        return post(transport, body)

    post = HttpTransport._post
    monkeypatch.setattr(HttpTransport, "_post", answer)
    with pytest.raises(NotDelivered) as raised:
        _transport(receiver.url).send([b"1\n", b"2\n", b"3\n", b"4\n"])
    assert (raised.value.delivered, raised.value.refused) == (2, 1)


def test_nobody_there_is_not_a_refusal() -> None:
    """It may come back."""
    with pytest.raises(NotDelivered, match="ConnectionRefusedError"):
        _transport(f"http://127.0.0.1:{free_port()}").send(LINES)


def test_a_send_that_hangs_fails_when_it_is_aborted(receiver: Hooks) -> None:
    """And none is begun after that."""
    receiver.hold = threading.Event()
    transport = _transport(receiver.url)

    def abort() -> None:
        receiver.arrived.wait(15)
        transport.abort()

    aborter = threading.Thread(target=abort)
    aborter.start()
    with pytest.raises(NotDelivered):
        transport.send(LINES)
    aborter.join()
    with pytest.raises(NotDelivered, match="closed"):
        transport.send(LINES)
    assert len(receiver.requests) == 1


def test_a_send_by_tls_that_hangs_fails_when_it_is_aborted_too(tmp_path: Path) -> None:
    """Another thread cuts the connection while this one reads from it."""
    with _tls_receiver(tmp_path) as (receiver, ca_file):
        receiver.hold = threading.Event()
        transport = _transport(receiver.url, ssl.create_default_context(cafile=ca_file))

        def abort() -> None:
            receiver.arrived.wait(15)
            transport.abort()

        aborter = threading.Thread(target=abort)
        aborter.start()
        with pytest.raises(NotDelivered):
            transport.send(LINES)
        aborter.join()


@contextlib.contextmanager
def _tls_receiver(folder: Path) -> Iterator[tuple[Hooks, str]]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with hooks(context) as got:
        yield got, str(folder / "ca.pem")


@pytest.mark.parametrize("make", [Loki, OTLP])
def test_certificates_are_verified_against_the_authority_that_is_named(tmp_path: Path, make: type[Loki | OTLP]) -> None:
    """Without it nothing is sent to a stranger."""
    drops = Drops()
    with _tls_receiver(tmp_path) as (receiver, ca_file):
        stranger = make(receiver.url, limits=Limits(retry_seconds=0.05)).open("shop", drops)
        stranger.write(line(1))
        stranger.close(0.5)
        assert receiver.requests == []
        assert drops == {"undelivered": 1}
        known = make(receiver.url, ca_file=ca_file).open("shop", drops)
        known.write(line(1))
        known.close()
        assert len(receiver.requests) == 1


@pytest.mark.parametrize("make", [Loki, OTLP])
def test_secrets_are_in_no_repr_and_in_nothing_that_is_said(
    make: type[Loki | OTLP], capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither those of the URL, nor those of headers; the host is shown."""
    url = f"http://user:hunter2@127.0.0.1:{free_port()}/secret-path?token=hunter3"
    handler = make(url, headers={"authorization": "Bearer hunter4"}, limits=Limits(retry_seconds=0.05))
    outlet = handler.open("shop", Drops())
    outlet.write(line(1))
    outlet.close(0.2)
    said = repr(handler) + capfd.readouterr().err
    assert "127.0.0.1" in said
    assert "ConnectionRefusedError" in said
    assert not [secret for secret in ("hunter", "secret-path", "token", "user") if secret in said]


@pytest.mark.parametrize(
    "url",
    ["logs.example", "ftp://h", "https://", "http://h:0", "http://h:99999", "http://h/#x", "http://h/ x", "é"],
)
@pytest.mark.parametrize("make", [Loki, OTLP])
def test_a_url_that_cannot_be_used_is_told_in_one_sentence(make: type[Loki | OTLP], url: str) -> None:
    """Without showing it: a secret may be what is wrong with it."""
    with pytest.raises(ValueError, match=r"^url of (Loki|OTLP) must be a plain http or https URL .*\.$") as raised:
        make(url)
    assert url not in str(raised.value).replace("https://logs.example.org", "")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"headers": {"x": "a\r\nb"}}, "headers of .* must be names such as 'x-team' with printable ASCII"),
        ({"headers": {"x y": "a"}}, "headers of .* must be names such as 'x-team' with printable ASCII"),
        ({"headers": {"x": 1}}, "headers of .* must be names such as 'x-team' with printable ASCII"),
        ({"level": "loud"}, "level of .* must be one of debug, info, warning, error, critical, got 'loud'"),
        ({"ca_file": "/no/such.pem"}, "cannot use '/no/such.pem'"),
    ],
)
@pytest.mark.parametrize("make", [Loki, OTLP])
def test_settings_that_cannot_be_used_are_told_in_one_sentence(
    make: type[Loki | OTLP], settings: dict[str, Any], said: str
) -> None:
    """When they are given, not when the first line is lost."""
    with pytest.raises(ValueError, match=said):
        make("https://logs.example.org", **settings)


def test_a_user_in_the_url_becomes_basic_credentials(receiver: Hooks) -> None:
    """Percent signs are read; the URL that is asked for has no user."""
    _transport(receiver.url.replace("http://", "http://me:p%40ss@")).send(LINES)
    ((headers, _),) = receiver.requests
    assert headers["authorization"] == "Basic bWU6cEBzcw=="
    assert "me" not in headers["host"]


def _paths(urls: Sequence[str]) -> list[str]:
    return [endpoint("Test", url, "/v1/logs", {}).target for url in urls]


def test_the_path_is_added_once() -> None:
    """Whether the URL has it already, ends in a slash, or asks something."""
    assert _paths(["http://h", "http://h/", "http://h/v1/logs", "http://h/a/", "http://h/a?b=c"]) == [
        *["/v1/logs"] * 3,
        "/a/v1/logs",
        "/a/v1/logs?b=c",
    ]
