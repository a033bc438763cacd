"""Deliveries: queued notices are claimed, sent, tried again, and every attempt is stored.

At least once: a sender that dies between sending and saying so leaves a notice that is sent once more, under the same
ID. Never at the same time: a notice is claimed before it is sent.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import Final

import orjson
from tenacity import RetryCallState, stop_after_attempt, stop_after_delay, wait_random_exponential

from ..context import muted
from ..store import alerts as table
from ..store.alert_records import Attempt, NoticeStatus, Notification, Outcome
from ..store.database import Database
from .channels import Channel, DeliveryError, Message, Notice

DIGEST_ABOVE: Final = 5
"""More notices than this for one channel at a time are sent as one message."""
DIGEST_LIMIT: Final = 100
LOCK_SECONDS: Final = 120.0
"""How long a claimed notice is nobody else's: longer than a channel should take for one message."""
LONGEST_WAIT_SECONDS: Final = 900.0

_wait: Final = wait_random_exponential(multiplier=10, exp_base=3, min=5, max=LONGEST_WAIT_SECONDS)
_stop: Final = stop_after_attempt(12) | stop_after_delay(86_400)


class Deliveries:
    """Sends what is due, at most one message at a time per channel. Thread-safe."""

    def __init__(
        self, database: Database, channels: Mapping[str, Channel], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._channels = channels
        self._clock = clock
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    def deliver_due(self, now: float, executor: Executor) -> list[Future[int]]:
        """Have the due notices of every channel sent by ``executor`` and return at once.

        The futures give the number of messages tried. They raise StoreUnusable when the store failed: what was sent
        then may be sent once more. Raise StoreUnusable itself when the outbox cannot be read.
        """
        with self._database.reading() as connection:
            due = table.due_channels(connection, now)
        started = [channel for channel in due if channel in self._channels and self._occupy(channel)]
        return [executor.submit(self._deliver, self._channels[channel]) for channel in started]

    def _occupy(self, channel: str) -> bool:
        with self._lock:
            is_free = channel not in self._busy
            self._busy.add(channel)
            return is_free

    def _deliver(self, channel: Channel) -> int:
        """Send a channel's due notices until there are none, or until one fails: the next would fail too."""
        tried = 0
        try:
            with muted():
                while claimed := self._claim(channel.name):
                    tried += 1
                    if not self._send(channel, claimed):
                        break
        finally:
            with self._lock:
                self._busy.discard(channel.name)
        return tried

    def _claim(self, channel: str) -> list[Notification]:
        """Take the next notice, or all of them when they are many."""
        now = self._clock()
        with self._database.writing() as connection:
            table.release_stuck(connection, now)
            many = table.count_due(connection, channel, now) > DIGEST_ABOVE
            return table.claim(connection, channel, now, now + LOCK_SECONDS, DIGEST_LIMIT if many else 1)

    def _send(self, channel: Channel, claimed: Sequence[Notification]) -> bool:
        message = self._message(claimed)
        at, started = self._clock(), time.perf_counter()
        failure = _failure_of(channel, message)
        duration = time.perf_counter() - started
        outcome: Outcome = "sent" if failure is None else "refused" if failure.permanent else "failed"
        attempt = Attempt(at, outcome, str(failure or ""), duration)
        wait = wait_seconds(max(notification.attempts for notification in claimed) + 1, failure)
        with self._database.writing() as connection:
            for notification in claimed:
                tried = replace(notification, attempts=notification.attempts + 1, next_at=at + wait)
                table.settle(connection, replace(tried, status=_status_after(tried, attempt)), attempt)
        return failure is None

    def _message(self, claimed: Sequence[Notification]) -> Message:
        with self._database.reading() as connection:
            untold = {
                notification.id
                for notification in claimed
                if notification.kind == "resolved"
                and notification.channel not in table.channels_with(connection, notification.episode, "sent")
            }
        notices = tuple(_notice(notification, notification.id in untold) for notification in claimed)
        return Message(claimed[0].id, notices)


def wait_seconds(attempts: int, failure: DeliveryError | None) -> float:
    """Return how long to wait after so many failed attempts: 5 s to 15 min, by chance, and longer each time.

    What the receiver asks for counts where it is longer, up to 15 min.
    """
    asked = failure.retry_after_seconds if failure is not None else None
    return min(LONGEST_WAIT_SECONDS, max(_wait(_retry_state(attempts)), asked or 0.0))


def is_hopeless(attempts: int, age_seconds: float) -> bool:
    """Say whether a notice has been tried enough: 12 times, or for a day."""
    return _stop(_retry_state(attempts, age_seconds))


def _retry_state(attempts: int, age_seconds: float = 0.0) -> RetryCallState:
    state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
    state.attempt_number = attempts
    state.outcome_timestamp = state.start_time + age_seconds
    return state


def _failure_of(channel: Channel, message: Message) -> DeliveryError | None:
    """Send a message. Return why it failed, None when it did not; a channel's own bug is a failure like another."""
    try:
        channel.send(message)
    except DeliveryError as error:
        return error
    except Exception as error:
        return DeliveryError(f"the channel raised {type(error).__name__}")
    return None


def _status_after(notification: Notification, attempt: Attempt) -> NoticeStatus:
    if attempt.outcome == "sent":
        return "sent"
    age = max(0.0, attempt.at - notification.created_at)
    is_over = attempt.outcome == "refused" or is_hopeless(notification.attempts, age)
    return "dead" if is_over else "queued"


def _notice(notification: Notification, is_late: bool) -> Notice:
    return replace(Notice(**orjson.loads(notification.body)), is_late=is_late)
