"""Whether an HTTP server answers as it should. Standard library only."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPSConnection
from typing import Final
from urllib.parse import unquote, urlsplit

from ..results import Reading
from .patience import PATIENCE_SECONDS, cut_off
from .telling import Answer, telling

_PRINTABLE: Final = re.compile(r"[!-~]*")


def http(
    url: str, *, expect: Container[int] = range(200, 400), headers: Mapping[str, str] | None = None
) -> Callable[[], Answer]:
    """Check that ``GET url`` is answered with a status of ``expect``, in three seconds.

    Redirects are not followed, proxies of the environment not used, certificates verified, bodies not read. Of the URL
    only host and port are ever told. A user and password in it are sent as basic authentication. Raise ValueError for
    what is no URL of http or https.
    """
    return telling(_Get(*_target_of(url), expect, dict(headers or {})))


@dataclass(frozen=True, slots=True)
class _Get:
    secure: bool
    host: str
    port: int
    target: str = field(repr=False)
    credentials: str = field(repr=False)
    expect: Container[int]
    headers: Mapping[str, str] = field(repr=False)

    def __call__(self) -> Answer:
        status = self._status()
        if status in self.expect:
            return None
        return Reading("fail", f"{self.host}:{self.port} answered {status}")

    def _status(self) -> int:
        kind = HTTPSConnection if self.secure else HTTPConnection
        connection = kind(self.host, self.port, timeout=PATIENCE_SECONDS)
        try:
            connection.connect()
            with cut_off(lambda: connection.sock):
                connection.request("GET", self.target, headers=self._all_headers())
                return connection.getresponse().status
        finally:
            connection.close()

    def _all_headers(self) -> dict[str, str]:
        own = {"User-Agent": "monitoring-health", "Connection": "close", "Accept": "*/*"}
        if self.credentials:
            own["Authorization"] = f"Basic {base64.b64encode(self.credentials.encode()).decode()}"
        return {**own, **self.headers}


def _target_of(url: str) -> tuple[bool, str, int, str, str]:
    """Take a URL apart: whether it is https, host, port, what is asked for, ``user:password``."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or not _PRINTABLE.fullmatch(url):
        raise ValueError("http() was given what is no URL; pass one such as https://example.org/ready, encoded.")
    secure = parts.scheme == "https"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    user = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""
    return secure, parts.hostname, port or (443 if secure else 80), target, user
