"""A handler for tests that keeps what it gets."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from monitoring.logs.outlets import OnDropped


@dataclass(frozen=True)
class Kept:
    """A handler whose outlet keeps the lines in a list."""

    level: str = "debug"
    raw: list[tuple[bytes, bool]] = field(default_factory=list, repr=False)
    calls: list[str] = field(default_factory=list, repr=False)

    def open(self, service: str, on_dropped: OnDropped) -> Kept:
        """Return itself: it is its own outlet."""
        return self

    def write(self, line: bytes, urgent: bool = False) -> None:
        """Keep a line."""
        self.raw.append((line, urgent))

    def flush(self, seconds: float = 5.0) -> None:
        """Note the call."""
        self.calls.append("flush")

    def close(self, seconds: float = 5.0) -> None:
        """Note the call."""
        self.calls.append("close")

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Return the lines as they read."""
        return [json.loads(line) for line, _ in self.raw]
