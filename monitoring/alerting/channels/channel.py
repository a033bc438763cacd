"""What a channel is. One of your own needs a name, a kind and ``send``."""

from __future__ import annotations

from typing import Protocol

from .messages import Message


class DeliveryError(Exception):
    """A message that was not delivered, and why. Its text is stored and shown: it must hold no secret."""

    def __init__(self, reason: str, *, permanent: bool = False, retry_after_seconds: float | None = None) -> None:
        """``permanent`` when another try would fail too; ``retry_after_seconds`` when the receiver asked for it."""
        super().__init__(reason)
        self.permanent = permanent
        self.retry_after_seconds = retry_after_seconds


class Channel(Protocol):
    """Delivers messages to somebody. It is called from threads, for one message at a time.

    ``repr`` must hold no secret.
    """

    @property
    def name(self) -> str:
        """Name that rules and the dashboard know it by."""
        ...

    @property
    def kind(self) -> str:
        """What it is: ``email``, ``webhook``..."""
        ...

    def send(self, message: Message) -> None:
        """Deliver within seconds. Raise DeliveryError when that failed; any other exception is tried again too."""
        ...
