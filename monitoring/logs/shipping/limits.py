"""How much waits, how much is sent at once, and how long for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of one destination in one process. Raise ValueError for one that is not above 0."""

    queue_lines: int = 20_000
    """Lines that wait in memory at most. Past that, lines below error are dropped first, and counted."""
    queue_bytes: int = 16 * 1024 * 1024
    """Bytes of these lines, at most."""
    batch_lines: int = 1_000
    """Lines that are sent at once, at most."""
    batch_bytes: int = 1024 * 1024
    """Bytes of these lines, at most; a longer line goes alone."""
    batch_seconds: float = 1.0
    """Longest wait of a line for others to be sent with."""
    timeout_seconds: float = 10.0
    """Longest wait for a receiver to connect, to take more, or to answer."""
    retry_seconds: float = 30.0
    """Longest pause between two tries. A pause is chance up to a bound that doubles, beginning at 0.5 s."""
    spool_bytes: int = 256 * 1024 * 1024
    """Bytes that the spool of a destination takes on disk, of all processes together, to a batch of each."""

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
            if not is_number or value <= 0:
                raise ValueError(f"{one.name} of Limits must be a number above 0, got {value!r}.")
