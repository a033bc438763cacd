"""Usage analytics: who was active, what was used, and how business operations ended.

The sink counts in metric cells, so that numbers are exact over all workers, and keeps users and single operations as
facts; what is read comes from the store.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from . import families
from .families import CountsMetrics
from .observation import Kind, Observation, RequestRecord
from .outbox import Outbox
from .recorder import Fold, only_of_noted_requests
from .store.facts import ActivityFact, EventFact, OperationFact

if TYPE_CHECKING:
    from .store.database import Database
    from .store.usage import ActiveUsers, FeatureStats, OperationStats

DEADLINE_SECONDS: Final = 3600.0
"""Of an operation that has none of its own; so those whose process died end as abandoned, too."""

_SEEN_LIMIT: Final = 50_000
_SECONDS_A_DAY: Final = 86_400

Outcome = Literal["ok", "failed", "abandoned"]


class Analytics:
    """The sink of events, features and operations, and what is read of them. Thread-safe."""

    def __init__(
        self,
        outbox: Outbox,
        metrics: CountsMetrics,
        open_database: Callable[[], Database],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._outbox = outbox
        self._metrics = metrics
        self._open_database = open_database
        self._clock = clock
        self._seen: deque[tuple[float, str, str]] = deque(maxlen=_SEEN_LIMIT)

    def folds(self) -> Mapping[Kind, Fold]:
        """Return how each kind is counted and kept."""
        return {"request": self._fold_request, "event": self._fold_event, "operation": self._fold_operation}

    def start_anew(self) -> None:
        """Begin again in a forked child."""
        self._seen.clear()

    def flush(self) -> None:
        """Put the activity since the last time into the outbox; called by the flusher."""
        seen: Counter[tuple[float, str, str]] = Counter()
        while self._seen:
            seen[self._seen.popleft()] += 1
        for (day, user, feature), count in seen.items():
            self._outbox.put(ActivityFact(_date(day), user, feature, count))

    def abandon_overdue(self, now: float) -> None:
        """End the operations that are past their deadline; called by the process that holds the store's lease."""
        from .store import usage

        with self._open_database().writing() as connection:
            overdue = usage.end_overdue(connection, now)
        for operation in overdue:
            self._count(operation.name, "abandoned", operation.duration_seconds, operation.dimensions)

    def active_users(self) -> ActiveUsers:
        """Return how many users were active today, in seven days and in thirty. Raise StoreUnusable."""
        from .store import usage

        with self._open_database().reading() as connection:
            return usage.active_users(connection, self._clock())

    def active_by_day(self, days: int = 30) -> dict[str, int]:
        """Return the distinct users of each of the last days, by day. Raise StoreUnusable."""
        from .store import usage

        with self._open_database().reading() as connection:
            return usage.active_by_day(connection, self._clock(), days)

    def features(self, since: float, until: float) -> list[FeatureStats]:
        """Return the features used in a time (unix seconds), most used first. Raise StoreUnusable."""
        from .store import usage

        with self._open_database().reading() as connection:
            return usage.features(connection, since, until)

    def events(self, since: float, until: float) -> dict[str, int]:
        """Return how often each event was tracked in a time, most frequent first. Raise StoreUnusable."""
        from .store import usage

        with self._open_database().reading() as connection:
            return usage.events(connection, since, until)

    def operations(self, since: float, until: float) -> list[OperationStats]:
        """Return how operations ended in a time, with the values of their dimensions. Raise StoreUnusable."""
        from .store import usage

        with self._open_database().reading() as connection:
            return usage.operations(connection, since, until)

    def latest_operations(
        self, name: str, since: float, until: float, values: Mapping[str, str], limit: int = 100
    ) -> list[dict[str, Any]]:
        """Return the newest operations of a name, filtered by values of dimensions. Raise StoreUnusable."""
        from .store import usage

        with self._open_database().reading() as connection:
            return usage.latest_operations(connection, name, since, until, values, limit)

    @only_of_noted_requests
    def _fold_request(self, record: RequestRecord) -> None:
        if record.user_id:
            self._see(record.user_id)

    def _see(self, user: str, feature: str = "") -> None:
        if self._outbox.is_open:
            self._seen.append((self._clock() // _SECONDS_A_DAY, user, feature))

    def _fold_event(self, observation: Observation) -> None:
        attributes = observation.attributes or {}
        user = attributes.get("user", "")
        if attributes.get("feature"):
            self._metrics.add(families.FEATURES, (observation.name,), 1.0)
            if user:
                self._see(user, observation.name)
            return
        if user:
            self._see(user)
        self._metrics.add(families.EVENTS, (observation.name,), 1.0)
        self._outbox.put(
            EventFact(
                self._clock(),
                observation.name,
                user,
                attributes.get("value"),
                attributes.get("dimensions", {}),
                _request_id(observation),
            )
        )

    def _fold_operation(self, observation: Observation) -> None:
        attributes = observation.attributes or {}
        outcome = cast(Literal["", "ok", "failed", "abandoned"], observation.outcome)
        duration = observation.duration_seconds if outcome else None
        started_at = self._clock() - observation.duration_seconds
        deadline = attributes["deadline_seconds"] or DEADLINE_SECONDS
        if observation.duration_seconds > deadline and self._outbox.is_open:
            return  # it counts once, as abandoned: see abandon_overdue
        if outcome:
            self._count(observation.name, outcome, observation.duration_seconds, attributes["dimensions"])
            if attributes["user"]:
                self._see(attributes["user"])
        self._outbox.put(
            OperationFact(
                id=attributes["id"],
                name=observation.name,
                started_at=started_at,
                outcome=outcome,
                duration_seconds=duration,
                reason=attributes["reason"],
                user=attributes["user"],
                deadline_at=started_at + deadline,
                dimensions=attributes["dimensions"],
                request_id=_request_id(observation),
            ),
            important=True,
        )

    def _count(self, name: str, outcome: Outcome, duration_seconds: float, dimensions: Mapping[str, str]) -> None:
        self._metrics.observe(families.OPERATION_DURATION, (name, outcome), duration_seconds)
        for dimension, value in dimensions.items():
            labels = (name, dimension, value, outcome)
            self._metrics.observe(families.OPERATION_VALUE_DURATION, labels, duration_seconds)


def _request_id(observation: Observation) -> str:
    return observation.request.request_id if observation.request is not None else ""


def _date(day: float) -> str:
    return datetime.fromtimestamp(day * _SECONDS_A_DAY, UTC).date().isoformat()
