"""Notices as mail, by SMTP."""

from __future__ import annotations

import contextlib
import html
import re
import smtplib
import ssl
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field
from email.message import EmailMessage
from email.utils import formatdate
from typing import ClassVar, Final, Literal, get_args

from .channel import DeliveryError
from .messages import Message, Notice

Security = Literal["starttls", "tls", "none"]

_ADDRESS: Final = re.compile(r"[!-~]+@[!-~]+")
"""Printable ASCII without spaces: nothing that could begin another header."""


@dataclass(frozen=True)
class Email:
    """Sends each message as one mail, text and HTML, threaded by episode. Thread-safe.

    ``to`` is one address or several. A server that takes it for one recipient has taken it: the others are not tried
    again. Raise ValueError for a setting that cannot be used.
    """

    kind: ClassVar[str] = "email"

    host: str
    port: int
    sender: str
    to: str | tuple[str, ...]
    _: KW_ONLY
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    security: Security = "starttls"
    """``starttls`` (mostly port 587), ``tls`` from the first byte (465), or ``none``. Certificates are verified."""
    timeout_seconds: float = 10.0
    """Longest wait for each answer of the server."""
    name: str = "email"

    def __post_init__(self) -> None:
        if not self.host or not 0 < self.port < 65536:
            raise ValueError(f"Email must have a host and a port such as 587, got {self.host!r} and {self.port!r}.")
        for address in (self.sender, *self.recipients):
            if not _ADDRESS.fullmatch(address):
                raise ValueError(f"Email needs plain addresses such as 'ops@example.org', got {address!r}.")
        if not self.recipients:
            raise ValueError("Email must have at least one recipient in 'to', got none.")
        if self.security not in get_args(Security):
            raise ValueError(f"security of Email must be 'starttls', 'tls' or 'none', got {self.security!r}.")
        if (self.username is None) != (self.password is None):
            raise ValueError("Email must have both username and password or neither; give the other one too.")
        if not 0 < self.timeout_seconds <= 60:
            raise ValueError(f"timeout_seconds of Email must be between 0 and 60, got {self.timeout_seconds!r}.")

    @property
    def recipients(self) -> tuple[str, ...]:
        """Return the addresses it is sent to."""
        return (self.to,) if isinstance(self.to, str) else tuple(self.to)

    def send(self, message: Message) -> None:
        """Send a message as a mail. Raise DeliveryError: permanent for the server's 5xx answers."""
        try:
            server = self._connected()
            try:
                server.send_message(self._mail(message), self.sender, self.recipients)
                with contextlib.suppress(smtplib.SMTPException, OSError):  # the mail is taken, whatever comes now
                    server.quit()
            finally:
                server.close()
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            raise DeliveryError(f"all recipients refused: {codes}", permanent=min(codes) >= 500) from error
        except smtplib.SMTPResponseException as error:
            raise DeliveryError(_answer(error), permanent=error.smtp_code >= 500) from error
        except smtplib.SMTPNotSupportedError as error:
            raise DeliveryError(f"the server cannot do it: {error}", permanent=True) from error
        except (smtplib.SMTPException, OSError) as error:
            raise DeliveryError(f"{type(error).__name__}: {error}") from error

    def _connected(self) -> smtplib.SMTP:
        context = ssl.create_default_context()
        if self.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(self.host, self.port, timeout=self.timeout_seconds, context=context)
        else:
            server = smtplib.SMTP(self.host, self.port, timeout=self.timeout_seconds)
        try:
            if self.security == "starttls":
                server.starttls(context=context)
            if self.username is not None and self.password is not None:
                server.login(self.username, self.password)
        except BaseException:
            server.close()
            raise
        return server

    def _mail(self, message: Message) -> EmailMessage:
        first = message.notices[0]
        domain = self.sender.rpartition("@")[2]
        mail = EmailMessage()
        mail["Subject"] = message.title
        mail["From"] = self.sender
        mail["To"] = ", ".join(self.recipients)
        mail["Date"] = formatdate(first.at)
        mail["Auto-Submitted"] = "auto-generated"
        mail["Message-ID"] = f"<{message.id}@{domain}>"
        if not message.is_digest:
            # The episode's own ID begins the thread; no mail has it, and clients thread by it all the same.
            mail["In-Reply-To"] = mail["References"] = f"<{first.episode}@{domain}>"
        mail.set_content(message.text, cte="quoted-printable")
        mail.add_alternative(_html(message), subtype="html", cte="quoted-printable")
        return mail


def _answer(error: smtplib.SMTPResponseException) -> str:
    text = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
    return f"the server answered {error.smtp_code}: {' '.join(text.split())[:200]}"


def _html(message: Message) -> str:
    blocks = "<hr>".join("".join(_block(notice)) for notice in message.notices)
    return f'<!DOCTYPE html><html lang="en"><body>{blocks}</body></html>'


def _block(notice: Notice) -> Iterator[str]:
    yield f"<h2>{html.escape(notice.headline)}</h2><table>"
    for name, text in notice.rows():
        yield f'<tr><th align="left">{html.escape(name)}</th><td>{html.escape(text)}</td></tr>'
    yield "</table>"
    for name, url in notice.links():
        if url.startswith(("https://", "http://")):
            yield f'<p><a href="{html.escape(url)}">{html.escape(name)}</a></p>'
