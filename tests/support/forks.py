"""Forks beside threads: a thread learns when a fork waits for it."""

from __future__ import annotations

import threading

import pytest

from monitoring.utils import forks


class TellingGate(forks._Gate):
    """The gate of forks, which tells when one comes to it."""

    def __init__(self) -> None:
        super().__init__()
        self.fork_is_near = threading.Event()

    def shut(self, seconds: float) -> bool:
        """Tell, and do as ever."""
        self.fork_is_near.set()
        return super().shut(seconds)


def telling_gate(monkeypatch: pytest.MonkeyPatch) -> TellingGate:
    """Put such a gate in the place of the one that is there."""
    gate = TellingGate()
    monkeypatch.setattr(forks, "_gate", gate)
    return gate
