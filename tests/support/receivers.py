"""Receivers of notices, real ones on loopback: an HTTP server that answers as it is told, a mail server; and a channel
that keeps.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from monitoring.alerting.channels import Email, Message, Webhook

from .processes import free_port


@dataclass
class Hooks:
    """What an HTTP receiver got, and how it is to answer."""

    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hold: threading.Event | None = None
    """Answers only once this is set."""
    arrived: threading.Event = field(default_factory=threading.Event)
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def types(self) -> list[str]:
        """Return the types of the payloads, in order."""
        return [json.loads(body)["type"] for _, body in self.requests]

    @property
    def ids(self) -> list[str]:
        """Return the message IDs, in order."""
        return [headers["webhook-id"] for headers, _ in self.requests]

    def data(self, number: int = -1) -> dict[str, Any]:
        """Return what a payload says."""
        return dict(json.loads(self.requests[number][1])["data"])


@dataclass
class OwnChannel:
    """A channel of one's own, as an app would write it: it keeps what it is given."""

    name: str = "own"
    kind: str = "own"
    failure: Exception | None = None
    got: list[Message] = field(default_factory=list)

    def send(self, message: Message) -> None:
        """Keep a message, and raise what it was told to."""
        self.got.append(message)
        if self.failure is not None:
            raise self.failure

    @property
    def kinds(self) -> list[str]:
        """Return the kinds of the notices it was given, in order."""
        return [notice.kind for message in self.got for notice in message.notices]


def webhook_to(receiver: Hooks, **settings: Any) -> Webhook:
    """Return a webhook to a receiver on loopback."""
    return Webhook(receiver.url, **{"allow_http": True, "allow_private": True, **settings})


def mail_to(server: Mails, **settings: Any) -> Email:
    """Return a channel to a mail server on loopback."""
    settings = {"to": "ops@example.org", "security": "none", **settings}
    return Email("localhost", server.port, "mon@example.org", **settings)


@contextlib.contextmanager
def hooks(tls: ssl.SSLContext | None = None) -> Iterator[Hooks]:
    """Run an HTTP receiver for a block."""
    got = Hooks()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            got.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
            got.arrived.set()
            if got.hold is not None:
                got.hold.wait(30)
            with contextlib.suppress(OSError):  # who asked may have gone
                self.send_response(got.status)
                for name, value in got.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    scheme, host = ("https", "localhost") if tls is not None else ("http", "127.0.0.1")
    got.url = f"{scheme}://{host}:{server.server_port}/hooks/secret-path"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield got
    finally:
        if got.hold is not None:
            got.hold.set()
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Mails:
    """What a mail server got, and how it answers."""

    port: int = 0
    answer: str = "250 OK"
    refused: frozenset[str] = frozenset()
    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, _: list[str]) -> str:  # noqa: N802
        """Take or refuse a recipient."""
        if address in self.refused:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        """Keep a mail, unless told to answer otherwise."""
        if self.answer.startswith("250"):
            mail = message_from_bytes(envelope.content, policy=default)
            assert isinstance(mail, EmailMessage)
            self.mails.append(mail)
            self.recipients.append(list(envelope.rcpt_tos))
        return self.answer


@contextlib.contextmanager
def mail_server(**options: Any) -> Iterator[Mails]:
    """Run a mail server for a block; ``options`` are those of ``aiosmtpd.controller.Controller``."""
    got = Mails(port=free_port())
    controller = Controller(got, hostname="127.0.0.1", port=got.port, **options)
    controller.start()
    try:
        yield got
    finally:
        controller.stop()


def password_is(password: bytes) -> Any:
    """Return an authenticator that takes one password."""

    def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=data.password == password, handled=False)

    return authenticate
