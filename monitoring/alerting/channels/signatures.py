"""Signed webhooks as Standard Webhooks has them: ``v1,`` and the Base64 of an HMAC-SHA256 of ``id.timestamp.body``."""

from __future__ import annotations

import base64
import binascii
import hmac
import time
from collections.abc import Mapping
from typing import Any, Final

import orjson

TOLERANCE_SECONDS: Final = 300.0
_PREFIX: Final = "whsec_"


class InvalidSignature(ValueError):
    """A webhook that is not from who has the secret, or is too old."""


def signature_headers(secret: str | None, message_id: str, body: bytes, now: float) -> dict[str, str]:
    """Return the headers that name, date and, with a secret, sign a body."""
    stamp = str(int(now))
    headers = {"webhook-id": message_id, "webhook-timestamp": stamp}
    if secret is not None:
        headers["webhook-signature"] = _signature(secret, message_id, stamp, body)
    return headers


def verify_webhook(
    body: bytes,
    headers: Mapping[str, str],
    secret: str,
    *,
    tolerance_seconds: float = TOLERANCE_SECONDS,
    now: float | None = None,
) -> Any:
    """Check a received webhook and return its JSON. ``body`` must be the bytes as they came.

    ``secret`` is the one given to ``Webhook``. ``now`` is the time in unix seconds, by default the present. Raise
    InvalidSignature when it was not signed with this secret, or more than ``tolerance_seconds`` ago or ahead.
    """
    given = {name.lower(): value for name, value in headers.items()}
    message_id, stamp = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    if not stamp.isascii() or not stamp.isdigit():
        raise InvalidSignature("The webhook has no timestamp; its header 'webhook-timestamp' must be unix seconds.")
    if abs((time.time() if now is None else now) - int(stamp)) > tolerance_seconds:
        raise InvalidSignature(f"The webhook is not of the last {tolerance_seconds:g} s; compare the clocks.")
    expected = _signature(secret, message_id, stamp, body).encode()
    signatures = given.get("webhook-signature", "").encode().split(b" ")
    if not any(hmac.compare_digest(expected, signature) for signature in signatures):
        raise InvalidSignature("The webhook was signed with another secret or was changed; compare the secrets.")
    return orjson.loads(body)


def key_of(secret: str) -> bytes:
    """Return the key that a secret stands for: what follows ``whsec_`` in Base64, or else its bytes.

    Raise ValueError when it is no Base64.
    """
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("A webhook's secret that begins with 'whsec_' must go on in Base64; copy it anew.") from None


def _signature(secret: str, message_id: str, stamp: str, body: bytes) -> str:
    signed = b".".join((message_id.encode(), stamp.encode(), body))
    return f"v1,{base64.b64encode(hmac.digest(key_of(secret), signed, 'sha256')).decode()}"
