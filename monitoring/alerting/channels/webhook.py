"""Notices as signed JSON, by HTTP."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar, Final
from urllib.parse import SplitResult, urlsplit

import orjson

from ...utils.headers import is_plain, seconds_of_retry_after
from .addresses import AddressRefused, connect
from .channel import DeliveryError
from .messages import Message
from .signatures import key_of, signature_headers

TIMEOUT_SECONDS: Final = 5.0
_PASSING: Final = frozenset({408, 425, 429})
"""4xx answers that ask for another try."""


@dataclass(frozen=True)
class Webhook:
    """Posts each message as JSON, with the headers of Standard Webhooks, signed when there is a secret. Thread-safe.

    A 2xx answer within 5 s is a delivery. Redirects are not followed and proxies of the environment are not used.
    Raise ValueError for a setting that cannot be used.
    """

    kind: ClassVar[str] = "webhook"

    url: str = field(repr=False)
    _: KW_ONLY
    secret: str | None = field(default=None, repr=False)
    """Signs the body: ``whsec_`` and Base64, or any text. Receivers check with ``monitoring.verify_webhook``."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    allow_private: bool = False
    """Let it reach addresses that are not public. Those where clouds hand out credentials stay closed."""
    allow_http: bool = False
    """Let it go without TLS."""
    name: str = "webhook"

    def __post_init__(self) -> None:
        if not is_plain(self.url) or " " in self.url or not self._is_url_allowed():
            raise ValueError(
                f"url of Webhook {self.name!r} must be a plain https URL (http with allow_http=True), without a user."
            )
        if not all(map(is_plain, (*self.headers, *self.headers.values()))):
            raise ValueError(f"headers of Webhook {self.name!r} must be printable ASCII; remove what is not.")
        if self.secret is not None and not key_of(self.secret):
            raise ValueError(f"secret of Webhook {self.name!r} must not be empty; leave it out for no signature.")

    def _is_url_allowed(self) -> bool:
        try:
            parts = self._parts
            has_place = bool(parts.hostname) and parts.port != 0
        except ValueError:
            return False
        return has_place and not parts.username and parts.scheme in ("https", *(("http",) if self.allow_http else ()))

    def __repr__(self) -> str:
        parts = self._parts
        return f"Webhook({parts.scheme}://{parts.hostname}/***, name={self.name!r})"

    def send(self, message: Message) -> None:
        """Post a message. Raise DeliveryError: permanent for 3xx and for 4xx other than 408, 425 and 429."""
        body = orjson.dumps(message.payload(), option=orjson.OPT_NON_STR_KEYS)
        try:
            status, reason, retry_after = self._post(body, message.id)
        except AddressRefused as error:
            raise DeliveryError(str(error), permanent=True) from error
        except (http.client.HTTPException, OSError) as error:
            raise DeliveryError(f"{type(error).__name__}: {error}") from error
        if not 200 <= status < 300:
            permanent = status < 500 and status not in _PASSING
            raise DeliveryError(
                f"answered {status} {reason}",
                permanent=permanent,
                retry_after_seconds=seconds_of_retry_after(retry_after),
            )

    def _post(self, body: bytes, message_id: str) -> tuple[int, str, str | None]:
        headers = {
            "content-type": "application/json",
            "user-agent": "monitoring-kit",
            **self.headers,
            **signature_headers(self.secret, message_id, body, time.time()),
        }
        connection = self._connected()
        try:
            connection.request("POST", self._target, body, headers)
            answer = connection.getresponse()
            return answer.status, "".join(filter(str.isprintable, answer.reason))[:100], answer.headers["retry-after"]
        finally:
            connection.close()

    def _connected(self) -> http.client.HTTPConnection:
        parts = self._parts
        is_secure, host = parts.scheme == "https", parts.hostname or ""
        port = parts.port or (443 if is_secure else 80)
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
        if is_secure:
            connection.default_port = 443  # so that the Host header leaves it out
        connection.sock = connect(host, port, TIMEOUT_SECONDS, allow_private=self.allow_private)
        if is_secure:
            try:
                connection.sock = ssl.create_default_context().wrap_socket(connection.sock, server_hostname=host)
            except BaseException:
                connection.close()
                raise
        return connection

    @property
    def _target(self) -> str:
        parts = self._parts
        return f"{parts.path or '/'}{parts.query and f'?{parts.query}'}"

    @property
    def _parts(self) -> SplitResult:
        return urlsplit(self.url)
