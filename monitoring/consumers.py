"""The sink that counts the requests of the app's consumers, for those that are named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .families import CONSUMER_REQUESTS, CountsMetrics
from .middleware.consumers import HASHED
from .observation import Kind, RequestRecord
from .recorder import Fold, only_of_noted_requests

UNKNOWN: Final = "(unknown)"
"""Whoever sends a key that no request has succeeded with: keys that are guessed take no consumer's place."""
_KNOWN: Final = 1_000


class ConsumerRequests:
    """Counts requests by consumer, route and status. Thread-safe."""

    def __init__(self, metrics: CountsMetrics) -> None:
        self._metrics = metrics
        self._known: set[str] = set()

    def folds(self) -> Mapping[Kind, Fold]:
        """Return how requests are counted."""
        return {"request": self._fold}

    @only_of_noted_requests
    def _fold(self, record: RequestRecord) -> None:
        consumer = record.consumer
        if not consumer:
            return
        if consumer.startswith(HASHED) and consumer not in self._known:
            if record.status >= 400:
                consumer = UNKNOWN
            elif len(self._known) < _KNOWN:
                self._known.add(consumer)
        self._metrics.add(CONSUMER_REQUESTS, (consumer, record.route, str(record.status)), 1.0)
