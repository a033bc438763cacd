"""Where notices of alerts go: a channel takes a message and delivers it, or raises ``DeliveryError``."""

from __future__ import annotations

from .channel import Channel, DeliveryError
from .mail import Email
from .messages import Message, Notice
from .signatures import InvalidSignature, verify_webhook
from .webhook import Webhook

__all__ = [
    "Channel",
    "DeliveryError",
    "Email",
    "InvalidSignature",
    "Message",
    "Notice",
    "Webhook",
    "verify_webhook",
]
