"""Whether a mail server takes connections. No mail is sent."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from ..results import Reading
from .patience import PATIENCE_SECONDS, cut_off
from .telling import Answer, telling


def smtp(
    host: str,
    port: int = 25,
    *,
    starttls: bool = False,
    tls: bool = False,
    user: str | None = None,
    password: str | None = None,
) -> Callable[[], Answer]:
    """Check a mail server by EHLO and NOOP, after signing in where a user is given. Certificates are verified.

    Raise ValueError for ``starttls`` and ``tls`` together.
    """
    if starttls and tls:
        raise ValueError("smtp() was given starttls and tls; pass one: starttls for port 587, tls for port 465.")
    return telling(_Greeting(host, port, starttls, tls, user, password))


@dataclass(frozen=True, slots=True)
class _Greeting:
    host: str
    port: int
    starttls: bool
    tls: bool
    user: str | None
    password: str | None = field(repr=False)

    def __call__(self) -> Answer:
        with self._connected() as connection, cut_off(lambda: connection.sock):
            connection.ehlo_or_helo_if_needed()
            if self.starttls:
                connection.starttls(context=ssl.create_default_context())
            if self.user is not None:
                connection.login(self.user, self.password or "")
            code, _ = connection.noop()
        return None if code == 250 else Reading("fail", f"{self.host}:{self.port} answered {code} to NOOP")

    def _connected(self) -> smtplib.SMTP:
        if self.tls:
            context = ssl.create_default_context()
            return smtplib.SMTP_SSL(self.host, self.port, timeout=PATIENCE_SECONDS, context=context)
        return smtplib.SMTP(self.host, self.port, timeout=PATIENCE_SECONDS)
