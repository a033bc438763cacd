"""Batches by HTTP: one POST of gzip each, over a connection of its own."""

from __future__ import annotations

import gzip
import http.client
import re
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from ...utils.headers import is_plain, seconds_of_retry_after
from .connections import cut
from .retries import NotDelivered, Refused
from .tls import wrapped

_PASSING: Final = frozenset({408, 425, 429})
"""4xx answers that ask for another try."""
_AWAY: Final = frozenset({502, 503, 504})
"""5xx answers that say nothing about what was sent."""
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TOO_LARGE: Final = 413
_LONGEST_ANSWER: Final = 64 * 1024


@dataclass(frozen=True)
class Endpoint:
    """Where batches are posted, and what with. ``str`` shows the host only."""

    is_secure: bool
    host: str
    port: int
    target: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.is_secure else 'http'}://{host}:{self.port}/***"

    @property
    def id(self) -> str:
        """Return what tells it from others, whatever the credentials."""
        return f"{self.host}:{self.port}{self.target.partition('?')[0]}"


def endpoint(owner: str, url: str, path: str, headers: Mapping[str, str]) -> Endpoint:
    """Return the endpoint at a URL, which may end in ``path`` already. A user in the URL becomes Basic credentials.

    Raise ValueError, in the name of ``owner``, for what cannot be used; it does not show the URL or a header.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except (ValueError, AttributeError):
        parts, port = urlsplit(""), None
    is_usable = parts.scheme in ("http", "https") and parts.hostname and port != 0 and not parts.fragment
    if not is_usable or not is_plain(url) or " " in url:
        raise ValueError(f"url of {owner} must be a plain http or https URL such as 'https://logs.example.org'.")
    if not all(is_plain(name) and _NAME.fullmatch(name) and is_plain(value) for name, value in headers.items()):
        raise ValueError(f"headers of {owner} must be names such as 'x-team' with printable ASCII; remove what is not.")
    assert parts.hostname is not None
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers = {"authorization": f"Basic {b64encode(user).decode()}", **headers}
    headers = {name.lower(): value for name, value in headers.items()}
    is_secure = parts.scheme == "https"
    target = f"{parts.path.rstrip('/').removesuffix(path)}{path}{parts.query and f'?{parts.query}'}"
    return Endpoint(is_secure, parts.hostname, port or (443 if is_secure else 80), target, headers)


class HttpTransport:
    """Posts batches as JSON. Redirects are not followed, and proxies of the environment are not used."""

    def __init__(
        self,
        place: Endpoint,
        encode: Callable[[Sequence[bytes]], bytes],
        refused_by: Callable[[bytes], int],
        timeout_seconds: float,
        tls: ssl.SSLContext | None,
    ) -> None:
        """``refused_by`` reads from the answer to a batch how many of its lines were refused."""
        self._place = place
        self._encode = encode
        self._refused_by = refused_by
        self._timeout_seconds = timeout_seconds
        self._tls = tls
        self._socket: socket.socket | None = None
        self._is_aborted = False

    def send(self, lines: Sequence[bytes]) -> int:
        """Post lines; those that are too much for the receiver in halves. See ``Transport``."""
        body = gzip.compress(self._encode(lines), 5, mtime=0)
        try:
            answer, content = self._post(body)
        except (http.client.HTTPException, OSError) as error:
            raise NotDelivered(f"{type(error).__name__}: {error}") from error
        if 200 <= answer.status < 300:
            return self._refused_by(content)
        if answer.status == _TOO_LARGE and len(lines) > 1:
            return self._send_halves(lines)
        raise _failure(answer)

    def abort(self) -> None:
        """Cut the connection that is in use; later sends fail."""
        self._is_aborted = True
        cut(self._socket)

    def close(self) -> None:
        """Close the connection that is in use."""
        connected, self._socket = self._socket, None
        if connected is not None:
            connected.close()

    def _send_halves(self, lines: Sequence[bytes]) -> int:
        half = len(lines) // 2
        refused = self._send_part(lines[:half])
        try:
            return refused + self._send_part(lines[half:])
        except NotDelivered as error:
            error.delivered += half
            error.refused += refused
            raise

    def _send_part(self, lines: Sequence[bytes]) -> int:
        try:
            return self.send(lines)
        except Refused:
            return len(lines)

    def _post(self, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection(self._place.host, self._place.port, timeout=self._timeout_seconds)
        connection.default_port = 443 if self._place.is_secure else 80
        connection.sock = self._connected()
        try:
            connection.request("POST", self._place.target, body, self._headers())
            answer = connection.getresponse()
            return answer, answer.read(_LONGEST_ANSWER)
        finally:
            self._socket = None
            connection.close()

    def _headers(self) -> dict[str, str]:
        return {
            "content-type": "application/json",
            "content-encoding": "gzip",
            "user-agent": "monitoring-kit",
            "connection": "close",
            **self._place.headers,
        }

    def _connected(self) -> socket.socket:
        connected = socket.create_connection((self._place.host, self._place.port), self._timeout_seconds)
        if self._tls is not None:
            connected = wrapped(connected, self._tls, self._place.host)
        self._socket = connected
        try:
            if self._is_aborted:
                raise ConnectionAbortedError("the outlet is closed")
            if isinstance(connected, ssl.SSLSocket):
                connected.do_handshake()
        except BaseException:
            self.close()
            raise
        return connected


def _failure(answer: http.client.HTTPResponse) -> NotDelivered | Refused:
    reason = f"answered {answer.status} {''.join(filter(str.isprintable, answer.reason))[:100]}"
    if answer.status < 500 and answer.status not in _PASSING:
        return Refused(reason)
    return NotDelivered(
        reason,
        retry_after_seconds=seconds_of_retry_after(answer.headers["retry-after"]) or 0.0,
        has_failed=answer.status >= 500 and answer.status not in _AWAY,
    )
