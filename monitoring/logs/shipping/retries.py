"""What goes wrong between here and a receiver, and when to try again."""

from __future__ import annotations

from typing import Final

from tenacity import RetryCallState, wait_random_exponential

LONGEST_ASKED_SECONDS: Final = 3600.0
"""Longest pause that a receiver is granted, whatever it asks for."""
_FIRST_SECONDS: Final = 0.5


class NotDelivered(Exception):
    """Lines that the receiver did not take, and may take later. The text is shown: it must hold no secret."""

    def __init__(
        self, reason: str, *, delivered: int = 0, retry_after_seconds: float = 0.0, has_failed: bool = False
    ) -> None:
        """``delivered`` counts the first lines that were taken; ``retry_after_seconds`` is what the receiver asks for.

        ``has_failed`` when the receiver is there and these lines may be what it fails of.
        """
        super().__init__(reason)
        self.delivered = delivered
        self.retry_after_seconds = retry_after_seconds
        self.has_failed = has_failed
        self.refused = 0
        """How many of those that were delivered were refused for good."""


class Refused(Exception):
    """Lines that the receiver will never take. The text is shown: it must hold no secret."""


def pause_seconds(failures: int, longest_seconds: float) -> float:
    """Return how long to wait after so many failures in a row: by chance, and longer each time."""
    wait = wait_random_exponential(multiplier=_FIRST_SECONDS, max=longest_seconds)
    state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
    state.attempt_number = failures
    return wait(state)
