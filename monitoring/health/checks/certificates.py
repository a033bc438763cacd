"""How long a server's TLS certificate is still good."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from ..results import Reading
from .limits import judged
from .patience import PATIENCE_SECONDS, cut_off
from .telling import Answer, telling

_UTC_TIME: Final = 0x17
_VERSION: Final = 0xA0
_FORMATS: Final = {0x17: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}


def certificate(
    host: str, port: int = 443, *, warn_days: float = 21, fail_days: float | None = 3, verify: bool = True
) -> Callable[[], Answer]:
    """Check the days until a server's certificate expires. One that is not trusted, or not the host's, fails.

    ``verify=False`` looks at the days only, such as for a self-signed one. Raise ValueError unless
    fail_days <= warn_days.
    """
    if fail_days is not None and fail_days > warn_days:
        raise ValueError(
            f"certificate() was given warn_days={warn_days!r} and fail_days={fail_days!r}; pass fail_days <= warn_days."
        )
    return telling(_Expiry(host, port, warn_days, fail_days, verify))


@dataclass(frozen=True, slots=True)
class _Expiry:
    host: str
    port: int
    warn_days: float
    fail_days: float | None
    verify: bool

    def __call__(self) -> Answer:
        days = (expiry_of(self._certificate()) - time.time()) / 86_400
        status = judged(-days, -self.warn_days, None if self.fail_days is None else -self.fail_days)
        output = "" if status == "pass" else _words(days)
        return Reading(status, output, round(days, 2), "days", "certificate_expiry")

    def _certificate(self) -> bytes:
        plain = socket.create_connection((self.host, self.port), PATIENCE_SECONDS)
        with self._secured(plain) as secured, cut_off(lambda: secured):
            secured.do_handshake()
            return secured.getpeercert(binary_form=True) or b""

    def _secured(self, plain: socket.socket) -> ssl.SSLSocket:
        """Return a socket that has taken over the plain one, before its handshake."""
        try:
            return self._context().wrap_socket(plain, server_hostname=self.host, do_handshake_on_connect=False)
        except BaseException:
            plain.close()
            raise

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _words(days: float) -> str:
    return (
        f"the certificate expires in {days:.1f} days" if days > 0 else f"the certificate expired {-days:.1f} days ago"
    )


def expiry_of(der: bytes) -> float:
    """Return the end of validity of a certificate (RFC 5280, 4.1), unix seconds; ``ssl`` has it of verified ones only.

    Raise ValueError for what is none.
    """
    try:
        inside = _children(_children(der)[0][1])[0][1]  # Certificate, then TBSCertificate
        fields = [field for field in _children(inside) if field[0] != _VERSION]
        tag, text = _children(fields[3][1])[1]  # after serial number, algorithm and issuer: validity, its second time
        when = datetime.strptime(text.decode("ascii"), _FORMATS[tag]).replace(tzinfo=UTC)
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise ValueError("the server showed no certificate that can be read") from error
    if tag == _UTC_TIME and when.year >= 2050:  # two digits of 50 and above are of the century before
        when = when.replace(year=when.year - 100)
    return when.timestamp()


def _children(content: bytes) -> list[tuple[int, bytes]]:
    """Return the tags and contents of the DER values that lie side by side."""
    found, place = [], 0
    while place < len(content):
        tag, size, place = content[place], content[place + 1], place + 2
        if size & 0x80:
            width = size & 0x7F
            size, place = int.from_bytes(content[place : place + width]), place + width
        found.append((tag, content[place : place + size]))
        place += size
    return found
