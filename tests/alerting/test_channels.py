"""Channels: what is sent, to whom, and what counts as delivered, against real servers."""

from __future__ import annotations

import base64
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import trustme

from monitoring.alerting.channels import (
    DeliveryError,
    Email,
    InvalidSignature,
    Message,
    Notice,
    Webhook,
    verify_webhook,
)
from monitoring.alerting.channels.addresses import is_allowed

from ..support.processes import free_port
from ..support.receivers import Hooks, Mails, hooks, mail_server, mail_to, password_is, webhook_to

NOW = 1_800_000_000.0
NOTICE = Notice(
    kind="firing",
    at=NOW,
    episode="e1",
    rule="error_rate",
    severity="critical",
    summary="10 % of requests fail",
    description="share of requests that failed above 5 %",
    labels={"route": "/x/{id}"},
    unit="share",
    value=0.1,
    threshold=0.05,
    fired_at=NOW,
    url="https://app.example.org/monitoring/#/alerts/e1",
    numbers_url="https://app.example.org/monitoring/#/routes",
    runbook="https://wiki.example.org/errors",
    service="proposals",
)
MESSAGE = Message("m1", (NOTICE,))


@pytest.fixture
def receiver() -> Iterator[Hooks]:
    with hooks() as got:
        yield got


@pytest.fixture
def server() -> Iterator[Mails]:
    with mail_server() as got:
        yield got


@pytest.fixture
def certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Return the context of a server on localhost whose authority is trusted."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({}, "[critical] proposals: 10 % of requests fail"),
        (
            {"kind": "repeat", "at": NOW + 7200, "count": 3},
            "[critical] proposals: 10 % of requests fail (still firing for 2 h, 3rd notice)",
        ),
        (
            {"kind": "resolved", "at": NOW + 1500, "resolved_at": NOW + 1500},
            "[resolved] proposals: 10 % of requests fail (resolved after 25 min)",
        ),
        (
            {"kind": "resolved", "resolved_at": NOW + 1500, "is_late": True},
            "[resolved] proposals: 10 % of requests fail (resolved after 25 min, notice delayed by delivery failure)",
        ),
        (
            {"kind": "ack", "acked_by": "ana"},
            "[acknowledged] proposals: 10 % of requests fail (acknowledged by ana)",
        ),
    ],
)
def test_the_title_says_how_it_stands(changes: dict[str, Any], title: str) -> None:
    """One line: how bad, which service, what, and since when."""
    assert replace(NOTICE, **changes).title == title


def test_the_text_has_the_facts_and_the_links() -> None:
    """Value, labels, moments and pages are there, each on a line of its own."""
    text = replace(NOTICE, acked_by="ana", ack_note="on it", recurrence=3, why="was silenced").text()
    for line in (
        "Value         10 %",
        "Labels        route=/x/{id}",
        "Fired         2027-01-15 08:00:00 UTC",
        "Again         3rd time within 24 h",
        "Acknowledged  by ana: on it",
        "Because       was silenced",
        "Details and acknowledge: https://app.example.org/monitoring/#/alerts/e1",
        "Runbook: https://wiki.example.org/errors",
    ):
        assert line in text.splitlines()


def test_a_digest_names_how_many_and_how_bad() -> None:
    """Several notices in one message: the worst severity, the number, and all of the texts."""
    warning = replace(NOTICE, severity="warning", summary="slow")
    digest = Message("m1", (warning, NOTICE))
    assert digest.title == "[critical] proposals: 2 notices"
    assert "slow" in digest.text
    assert "10 % of requests fail" in digest.text
    assert [notice["type"] for notice in digest.payload()["data"]["notices"]] == ["alert.firing", "alert.firing"]


# --- mail -------------------------------------------------------------------------------------------------------------


def test_a_mail_carries_text_and_html(server: Mails) -> None:
    """Both say the same, and the mail says that a machine wrote it."""
    mail_to(server, to=("ops@example.org", "ana@example.org")).send(MESSAGE)
    (got,) = server.mails
    assert got["Subject"] == NOTICE.title
    assert got["Auto-Submitted"] == "auto-generated"
    assert server.recipients == [["ops@example.org", "ana@example.org"]]
    plain, rich = got.get_body(("plain",)), got.get_body(("html",))
    assert plain is not None
    assert rich is not None
    assert plain.get_content().split() == MESSAGE.text.split()
    assert '<a href="https://app.example.org/monitoring/#/alerts/e1">' in rich.get_content()


def test_mails_of_an_episode_are_one_thread(server: Mails) -> None:
    """Every mail has an ID of its own, and answers the same one."""
    channel = mail_to(server)
    channel.send(MESSAGE)
    channel.send(Message("m2", (replace(NOTICE, kind="resolved"),)))
    assert [got["Message-ID"] for got in server.mails] == ["<m1@example.org>", "<m2@example.org>"]
    assert {got["In-Reply-To"] for got in server.mails} == {"<e1@example.org>"}


def test_nothing_in_a_notice_becomes_a_header_or_markup(server: Mails) -> None:
    """A route or a summary with line breaks and tags stays text."""
    evil = replace(NOTICE, summary="<script>x</script>\r\nBcc: all@example.org", labels={"route": "/a\nb<i>"})
    mail_to(server).send(Message("m1", (evil,)))
    (got,) = server.mails
    assert got["Bcc"] is None
    assert got["Subject"] == "[critical] proposals: <script>x</script> Bcc: all@example.org"
    rich = got.get_body(("html",))
    assert rich is not None
    assert "<script>" not in rich.get_content()
    assert "<i>" not in rich.get_content()


def test_only_web_pages_become_links(server: Mails) -> None:
    """A runbook of another scheme is shown in the text and linked nowhere."""
    mail_to(server).send(Message("m1", (replace(NOTICE, runbook="javascript:alert(1)"),)))
    rich = server.mails[0].get_body(("html",))
    assert rich is not None
    assert "javascript" not in rich.get_content()


def test_other_letters_arrive(server: Mails) -> None:
    """Text beyond ASCII survives subject and body."""
    mail_to(server).send(Message("m1", (replace(NOTICE, summary="zażółć 10 %"),)))
    assert "zażółć 10 %" in server.mails[0]["Subject"]


def test_a_mail_goes_over_starttls_with_a_login(certificates: ssl.SSLContext) -> None:
    """The certificate is verified, and the password only goes over TLS."""
    options = {"tls_context": certificates, "require_starttls": True, "auth_required": True}
    with mail_server(**options, authenticator=password_is(b"sesame")) as got:
        mail_to(got, security="starttls", username="mon", password="sesame").send(MESSAGE)
    assert len(got.mails) == 1


def test_a_mail_goes_over_tls_from_the_first_byte(certificates: ssl.SSLContext) -> None:
    """``security="tls"`` talks to an SMTPS port."""
    with mail_server(ssl_context=certificates) as got:
        mail_to(got, security="tls").send(MESSAGE)
    assert len(got.mails) == 1


def test_a_certificate_that_nobody_vouches_for_is_refused(
    certificates: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent to a server that cannot prove its name."""
    monkeypatch.delenv("SSL_CERT_FILE")
    with mail_server(tls_context=certificates, require_starttls=True) as got:
        with pytest.raises(DeliveryError, match="CERTIFICATE_VERIFY_FAILED"):
            mail_to(got, security="starttls").send(MESSAGE)
        assert got.mails == []


def test_a_wrong_password_is_permanent(certificates: ssl.SSLContext) -> None:
    """Trying again does not make it right; the error does not tell it."""
    options = {"tls_context": certificates, "require_starttls": True, "auth_required": True}
    with mail_server(**options, authenticator=password_is(b"sesame")) as got:
        with pytest.raises(DeliveryError, match="535") as caught:
            mail_to(got, security="starttls", username="mon", password="open").send(MESSAGE)
        assert caught.value.permanent
        assert "open" not in str(caught.value)


@pytest.mark.parametrize(("answer", "permanent"), [("554 not here", True), ("451 later", False)])
def test_the_servers_answer_decides_on_another_try(server: Mails, answer: str, permanent: bool) -> None:
    """5yz is for ever, 4yz is for now."""
    server.answer = answer
    with pytest.raises(DeliveryError, match=answer[:3]) as caught:
        mail_to(server).send(MESSAGE)
    assert caught.value.permanent is permanent


def test_a_mail_is_sent_when_one_recipient_takes_it(server: Mails) -> None:
    """Another try would send it twice to those who have it; when all refuse it is permanent."""
    server.refused = frozenset({"gone@example.org"})
    mail_to(server, to=("gone@example.org", "ops@example.org")).send(MESSAGE)
    assert server.recipients == [["ops@example.org"]]
    with pytest.raises(DeliveryError, match="all recipients refused") as caught:
        mail_to(server, to="gone@example.org").send(MESSAGE)
    assert caught.value.permanent


def test_a_server_without_starttls_is_permanent(server: Mails) -> None:
    """A setting is wrong: nothing goes in the clear instead."""
    with pytest.raises(DeliveryError, match="STARTTLS") as caught:
        mail_to(server, security="starttls").send(MESSAGE)
    assert caught.value.permanent
    assert server.mails == []


def test_a_server_that_is_not_there_is_tried_again() -> None:
    """A refused connection passes."""
    with pytest.raises(DeliveryError, match="ConnectionRefusedError") as caught:
        Email("127.0.0.1", free_port(), "mon@example.org", "ops@example.org").send(MESSAGE)
    assert not caught.value.permanent


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"port": 0}, "Email must have a host and a port such as 587"),
        ({"to": "ops@example.org\nBcc: x@example.org"}, "Email needs plain addresses"),
        ({"sender": "nobody"}, "Email needs plain addresses such as 'ops@example.org', got 'nobody'."),
        ({"to": ()}, "Email must have at least one recipient in 'to', got none."),
        ({"security": "ssl"}, "security of Email must be 'starttls', 'tls' or 'none', got 'ssl'."),
        ({"username": "mon"}, "Email must have both username and password or neither; give the other one too."),
        ({"timeout_seconds": 0}, "timeout_seconds of Email must be between 0 and 60, got 0."),
    ],
)
def test_a_bad_mail_setting_is_a_sentence(settings: dict[str, Any], sentence: str) -> None:
    """What was given, what is accepted."""
    good: dict[str, Any] = {"host": "h", "port": 587, "sender": "mon@example.org", "to": "ops@example.org"}
    with pytest.raises(ValueError, match=r"^(Email|security|timeout)") as caught:
        Email(**{**good, **settings})
    assert sentence in str(caught.value)


# --- webhooks ---------------------------------------------------------------------------------------------------------


def test_a_webhook_is_signed_json(receiver: Hooks) -> None:
    """A receiver checks it with the shared secret and reads the facts."""
    webhook_to(receiver, secret="s3cret").send(MESSAGE)
    ((headers, body),) = receiver.requests
    payload = verify_webhook(body, headers, "s3cret")
    assert (payload["type"], payload["timestamp"]) == ("alert.firing", "2027-01-15T08:00:00.000000Z")
    assert payload["data"]["labels"] == {"route": "/x/{id}"}
    assert headers["webhook-id"] == "m1"
    assert headers["content-type"] == "application/json"


def test_a_webhook_without_secret_is_unsigned(receiver: Hooks) -> None:
    """There is nothing to check, and nothing that looks as if there was."""
    webhook_to(receiver).send(MESSAGE)
    assert "webhook-signature" not in receiver.requests[0][0]


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example of the specification comes out."""
    headers = {
        "Webhook-Id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "Webhook-Timestamp": "1614265330",
        "Webhook-Signature": "v1,other v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert verify_webhook(b'{"test": 2432232314}', headers, secret, now=1614265330) == {"test": 2432232314}


def test_a_forged_or_old_webhook_is_refused(receiver: Hooks) -> None:
    """Another secret, another body, another time, or no signature at all."""
    webhook_to(receiver, secret="s3cret").send(MESSAGE)
    ((headers, body),) = receiver.requests
    at = float(headers["webhook-timestamp"])
    unsigned = {name: value for name, value in headers.items() if name != "webhook-signature"}
    for bad_body, bad_headers, secret, now in (
        (body, headers, "other", at),
        (body + b" ", headers, "s3cret", at),
        (body, {**headers, "webhook-id": "m2"}, "s3cret", at),
        (body, {**headers, "webhook-timestamp": "soon"}, "s3cret", at),
        (body, headers, "s3cret", at + 301),
        (body, headers, "s3cret", at - 301),
        (body, unsigned, "s3cret", at),
        (body, {**headers, "webhook-signature": "v1,\u00e9"}, "s3cret", at),
    ):
        with pytest.raises(InvalidSignature):
            verify_webhook(bad_body, bad_headers, secret, now=now)


@pytest.mark.parametrize(
    ("status", "permanent"),
    [(400, True), (404, True), (410, True), (302, True), (408, False), (429, False), (500, False)],
)
def test_the_status_decides_on_another_try(receiver: Hooks, status: int, permanent: bool) -> None:
    """What asks for patience is tried again, what refuses is not."""
    receiver.status = status
    with pytest.raises(DeliveryError, match=f"answered {status}") as caught:
        webhook_to(receiver).send(MESSAGE)
    assert caught.value.permanent is permanent


def test_redirects_are_not_followed(receiver: Hooks) -> None:
    """Whoever answers cannot send the notice somewhere else."""
    receiver.status, receiver.headers = 307, {"location": receiver.url}
    with pytest.raises(DeliveryError):
        webhook_to(receiver).send(MESSAGE)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(("value", "seconds"), [("120", 120.0), ("Fri, 01 Jan 2010 00:00:00 GMT", 0.0), ("soon", None)])
def test_retry_after_is_a_number_or_a_date(receiver: Hooks, value: str, seconds: float | None) -> None:
    """Both forms are read; anything else is as if it was not there."""
    receiver.status, receiver.headers = 503, {"retry-after": value}
    with pytest.raises(DeliveryError) as caught:
        webhook_to(receiver).send(MESSAGE)
    assert caught.value.retry_after_seconds == seconds


def test_a_receiver_that_does_not_answer_is_tried_again(receiver: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait without an answer ends."""
    monkeypatch.setattr("monitoring.alerting.channels.webhook.TIMEOUT_SECONDS", 0.05)
    receiver.hold = threading.Event()
    with pytest.raises(DeliveryError, match="TimeoutError") as caught:
        webhook_to(receiver).send(MESSAGE)
    assert not caught.value.permanent


def test_a_private_address_is_refused_before_it_is_connected_to(receiver: Hooks) -> None:
    """However the address is written, loopback is not reached unless it is allowed."""
    port = receiver.url.split(":")[2]
    for host in ("127.0.0.1", "localhost", "2130706433", "127.1", "[::ffff:127.0.0.1]"):
        with pytest.raises(DeliveryError, match="not public") as caught:
            Webhook(f"http://{host}:{port}", allow_http=True).send(MESSAGE)
        assert caught.value.permanent
    assert receiver.requests == []


def test_the_metadata_address_is_refused_even_when_private_ones_are_allowed() -> None:
    """Credentials of the cloud stay where they are."""
    with pytest.raises(DeliveryError, match="not public"):
        Webhook("http://169.254.169.254/latest", allow_http=True, allow_private=True).send(MESSAGE)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1", True),
        ("64:ff9b::808:808", True),
        ("10.0.0.1", False),
        ("100.64.0.1", False),
        ("192.0.0.8", False),
        ("224.0.0.1", False),
        ("0.0.0.0", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("::127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("2002:7f00:1::", False),
        ("fec0::1", False),
        ("fe80::1", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    """Inside is inside, however it is wrapped."""
    assert is_allowed(ipaddress.ip_address(address), allow_private=False) is public


def test_a_webhook_verifies_the_receivers_certificate(
    certificates: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS to a known authority works, to an unknown one it does not."""
    with hooks(certificates) as got:
        Webhook(got.url, allow_private=True).send(MESSAGE)
        assert got.requests[0][0]["host"] == got.url.split("/")[2]
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(DeliveryError, match="CERTIFICATE_VERIFY_FAILED"):
            Webhook(got.url, allow_private=True).send(MESSAGE)
        assert len(got.requests) == 1


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("http://example.org/", {}),
        ("ftp://example.org/", {"allow_http": True}),
        ("https://user:pass@example.org/", {}),
        ("https://example.org:0/", {}),
        ("https://example.org:x/", {}),
        ("https://exa mple.org/", {}),
        ("https://example.org/\r\nx: y", {}),
        ("https:///nowhere", {}),
        ("https://example.org/", {"headers": {"x": "a\r\nb: c"}}),
        ("https://example.org/", {"secret": ""}),
        ("https://example.org/", {"secret": "whsec_%%%"}),
    ],
)
def test_a_bad_webhook_setting_is_refused(url: str, settings: dict[str, Any]) -> None:
    """Plain HTTP, users in the URL, broken ports and headers, and empty secrets do not get in."""
    with pytest.raises(ValueError, match=r"^(url|headers|secret) of Webhook|^A webhook's secret"):
        Webhook(url, **settings)


def test_no_secret_is_shown() -> None:
    """Neither a password, a token in a URL or a header, nor a key is in a ``repr``."""
    secret = f"whsec_{base64.b64encode(b'key').decode()}"
    shown = repr(Webhook("https://example.org/hooks/T0KEN?k=T0KEN", secret=secret, headers={"x": "T0KEN"}))
    assert shown == "Webhook(https://example.org/***, name='webhook')"
    assert "T0KEN" not in repr(Email("h", 25, "a@b", "c@d", username="u", password="T0KEN"))


def test_a_payload_is_plain_json() -> None:
    """A value that JSON has no number for becomes null."""
    payload = Message("m1", (replace(NOTICE, value=float("inf")),)).payload()
    assert orjson.loads(orjson.dumps(payload))["data"]["value"] is None
