"""The outbox: facts on their way to the store. Bounded; what no longer fits is counted, not waited for."""

from __future__ import annotations

from collections import deque

from .store.facts import Fact

CAPACITY = 20_000
RESERVED = 5_000
"""Places on top of the capacity that only errors and slow requests may take."""


class Outbox:
    """A bounded queue between the request's thread and the flusher's. Thread-safe, without a lock."""

    def __init__(self, *, capacity: int = CAPACITY) -> None:
        """With a capacity of 0 nothing is kept, and nothing counts as dropped: there is no store."""
        self.dropped = 0
        """Facts that found no place."""
        self._capacity = capacity
        self._reserve = capacity * RESERVED // CAPACITY
        self._facts: deque[Fact] = deque()

    @property
    def is_open(self) -> bool:
        """Say whether facts put here lead to a store."""
        return self._capacity > 0

    def put(self, fact: Fact, *, important: bool = False) -> None:
        """Queue a fact; ``important`` ones (errors, slow requests) have places of their own."""
        if len(self._facts) >= self._capacity + (self._reserve if important else 0):
            self.dropped += self._capacity > 0
            return
        self._facts.append(fact)

    def take(self, limit: int) -> list[Fact]:
        """Remove and return the oldest facts, ``limit`` at most."""
        taken: list[Fact] = []
        while len(taken) < limit:
            try:
                taken.append(self._facts.popleft())
            except IndexError:
                break
        return taken

    def start_anew(self) -> None:
        """Forget everything: a forked child's facts are its parent's to write."""
        self._facts = deque()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._facts)
