"""Deliveries: every notice gets out once where it can, is tried again where it may, and every try is on record."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.alerting.channels import Channel, DeliveryError, Message, Notice
from monitoring.alerting.deliveries import LOCK_SECONDS, Deliveries, is_hopeless, wait_seconds
from monitoring.context import is_muted
from monitoring.store import alerts as table
from monitoring.store.alert_records import Attempt, NoticeKind, Notification, ordered_id
from monitoring.store.database import Database
from monitoring.testing import FakeClock

from ..support.receivers import Hooks, OwnChannel, hooks, webhook_to


@dataclass
class Outbox:
    """A store with notices, and a way to have them delivered."""

    database: Database
    clock: FakeClock
    pool: ThreadPoolExecutor

    def put(self, channel: str = "own", episode: str = "e1", kind: NoticeKind = "firing", seq: int = 1) -> str:
        now = self.clock()
        notice = Notice(kind=kind, at=now, episode=episode, rule="r", severity="warning", summary=episode)
        notification = Notification(
            id=ordered_id(now),
            channel=channel,
            episode=episode,
            kind=kind,
            seq=seq,
            body=orjson.dumps(notice).decode(),
            created_at=now,
            next_at=now,
        )
        with self.database.writing() as connection:
            table.add_notification(connection, notification)
        self.clock.advance(0.001)
        return notification.id

    def sender(self, *channels: Channel) -> Deliveries:
        return Deliveries(self.database, {channel.name: channel for channel in channels}, clock=self.clock)

    def deliver(self, *channels: Channel) -> int:
        """Let one round run to its end, by a sender that remembers nothing. Return the messages that were tried."""
        return sum(future.result() for future in self.sender(*channels).deliver_due(self.clock(), self.pool))

    def of(self, episode: str = "e1") -> list[tuple[Notification, tuple[Attempt, ...]]]:
        with self.database.reading() as connection:
            return table.notifications_of(connection, episode)

    def statuses(self, episode: str = "e1") -> list[str]:
        return [notification.status for notification, _ in self.of(episode)]


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    database = Database(str(tmp_path / "store"))
    with ThreadPoolExecutor(4) as pool:
        yield Outbox(database, FakeClock(), pool)
    database.close()


@pytest.fixture
def receiver() -> Iterator[Hooks]:
    with hooks() as got:
        yield got


def test_a_notice_is_sent_once_and_the_attempt_is_kept(outbox: Outbox) -> None:
    """After a success there is nothing due any more."""
    outbox.put()
    own = OwnChannel()
    assert (outbox.deliver(own), outbox.deliver(own)) == (1, 0)
    ((notification, attempts),) = outbox.of()
    assert notification.status == "sent"
    assert [(attempt.outcome, attempt.error) for attempt in attempts] == [("sent", "")]
    assert [notice.summary for notice in own.got[0].notices] == ["e1"]


def test_a_failed_notice_is_tried_again_later_under_the_same_id(outbox: Outbox, receiver: Hooks) -> None:
    """Not before its time, then with the same ID; both attempts are on record."""
    outbox.put("webhook")
    receiver.status = 500
    outbox.deliver(webhook_to(receiver))
    ((notification, _),) = outbox.of()
    assert notification.status == "queued"
    assert 5 <= notification.next_at - outbox.clock() <= 900
    assert outbox.deliver(webhook_to(receiver)) == 0
    receiver.status = 200
    outbox.clock.now = notification.next_at
    outbox.deliver(webhook_to(receiver))
    ((notification, attempts),) = outbox.of()
    assert [attempt.outcome for attempt in attempts] == ["failed", "sent"]
    assert attempts[0].error == "answered 500 Internal Server Error"
    assert set(receiver.ids) == {notification.id}


def test_a_refused_notice_is_dead(outbox: Outbox, receiver: Hooks) -> None:
    """A 400 is not tried again, and shows as refused."""
    outbox.put("webhook")
    receiver.status = 400
    outbox.deliver(webhook_to(receiver))
    ((notification, attempts),) = outbox.of()
    assert (notification.status, attempts[0].outcome) == ("dead", "refused")


def test_retry_after_is_honoured(outbox: Outbox, receiver: Hooks) -> None:
    """The receiver's own time counts when it is longer, up to 15 minutes."""
    outbox.put("webhook", "e1")
    outbox.put("webhook", "e2")
    receiver.status, receiver.headers = 429, {"retry-after": "600"}
    outbox.deliver(webhook_to(receiver))
    receiver.headers = {"retry-after": "86400"}
    outbox.deliver(webhook_to(receiver))
    waits = [outbox.of(episode)[0][0].next_at - outbox.clock() for episode in ("e1", "e2")]
    assert 600 <= waits[0] <= 900
    assert waits[1] == 900


def test_after_twelve_attempts_it_is_dead(outbox: Outbox) -> None:
    """Senders come and go; the count is in the store."""
    outbox.put()
    own = OwnChannel(failure=DeliveryError("not now"))
    for _ in range(20):
        outbox.clock.advance(900)
        outbox.deliver(own)
    assert len(own.got) == 12
    assert outbox.statuses() == ["dead"]
    assert [len(attempts) for _, attempts in outbox.of()] == [12]


def test_after_a_day_it_is_dead(outbox: Outbox) -> None:
    """Old news are not tried for ever."""
    outbox.put()
    outbox.clock.advance(86_400)
    outbox.deliver(OwnChannel(failure=DeliveryError("not now")))
    assert outbox.statuses() == ["dead"]


def test_a_bug_in_a_channel_is_a_failure_like_another(outbox: Outbox) -> None:
    """It is tried again; what the exception says may hold secrets and is not kept."""
    outbox.put()
    outbox.deliver(OwnChannel(failure=KeyError("sesame")))
    ((notification, attempts),) = outbox.of()
    assert notification.status == "queued"
    assert attempts[0].error == "the channel raised KeyError"


def test_two_senders_send_one_message(outbox: Outbox, receiver: Hooks) -> None:
    """While one is at it the other finds nothing to claim."""
    outbox.put("webhook")
    receiver.hold = threading.Event()
    first = outbox.sender(webhook_to(receiver)).deliver_due(outbox.clock(), outbox.pool)
    assert receiver.arrived.wait(10)
    assert outbox.deliver(webhook_to(receiver)) == 0
    receiver.hold.set()
    assert [future.result() for future in first] == [1]
    assert len(receiver.requests) == 1


def test_a_sender_that_died_is_succeeded(outbox: Outbox, receiver: Hooks) -> None:
    """What was claimed and never reported on is sent once more after the lock has run out, under the same ID."""
    outbox.put("webhook")
    with outbox.database.writing() as connection:
        (claimed,) = table.claim(connection, "webhook", outbox.clock(), outbox.clock() + LOCK_SECONDS, 1)
    assert outbox.deliver(webhook_to(receiver)) == 0
    outbox.clock.advance(LOCK_SECONDS)
    assert outbox.deliver(webhook_to(receiver)) == 1
    assert receiver.ids == [claimed.id]


def test_a_slow_channel_holds_nobody_up(outbox: Outbox, receiver: Hooks) -> None:
    """The caller has its thread back at once, other channels deliver, and the slow one gets no second thread."""
    own, slow = OwnChannel(), webhook_to(receiver)
    outbox.put("webhook")
    outbox.put("own")
    receiver.hold = threading.Event()
    sender = outbox.sender(own, slow)
    started = sender.deliver_due(outbox.clock(), outbox.pool)
    assert receiver.arrived.wait(10)
    done, running = wait(started, timeout=10, return_when="FIRST_COMPLETED")
    assert (len(done), len(running), len(own.got)) == (1, 1, 1)
    outbox.put("webhook", "e2")
    assert sender.deliver_due(outbox.clock(), outbox.pool) == []
    receiver.hold.set()
    wait(running)
    wait(sender.deliver_due(outbox.clock(), outbox.pool))
    assert len(receiver.requests) == 2


def test_many_notices_at_once_are_one_message(outbox: Outbox) -> None:
    """Six make a digest, in order, and all six are sent."""
    for number in range(6):
        outbox.put(episode=f"e{number}")
    own = OwnChannel()
    assert outbox.deliver(own) == 1
    assert [notice.episode for notice in own.got[0].notices] == [f"e{number}" for number in range(6)]
    assert [outbox.statuses(f"e{number}") for number in range(6)] == [["sent"]] * 6


def test_a_few_notices_are_messages_of_their_own(outbox: Outbox) -> None:
    """Five are five."""
    for number in range(5):
        outbox.put(episode=f"e{number}")
    own = OwnChannel()
    assert outbox.deliver(own) == 5
    assert all(not message.is_digest for message in own.got)


def test_a_failed_digest_stays_together(outbox: Outbox) -> None:
    """Its notices come up again at one moment."""
    for number in range(6):
        outbox.put(episode=f"e{number}")
    outbox.deliver(OwnChannel(failure=DeliveryError("not now")))
    assert len({outbox.of(f"e{number}")[0][0].next_at for number in range(6)}) == 1


def test_a_failing_channel_is_left_alone_until_the_next_round(outbox: Outbox) -> None:
    """When one message fails, the others are not thrown after it."""
    outbox.put(episode="e1")
    outbox.put(episode="e2")
    own = OwnChannel(failure=DeliveryError("not now"))
    assert (outbox.deliver(own), len(own.got)) == (1, 1)
    assert outbox.deliver(own) == 1
    assert [message.notices[0].episode for message in own.got] == ["e1", "e2"]


def test_a_later_notice_takes_the_place_of_one_that_waits(outbox: Outbox) -> None:
    """Fired and over before it could be told: one message, which says that it comes late."""
    outbox.put(kind="firing")
    own = OwnChannel(failure=DeliveryError("not now"))
    outbox.deliver(own)
    outbox.put(kind="resolved")
    own.failure = None
    outbox.clock.advance(3600)
    assert outbox.deliver(own) == 1
    assert outbox.statuses() == ["superseded", "sent"]
    assert [(notice.kind, notice.is_late) for notice in own.got[-1].notices] == [("resolved", True)]


def test_a_notice_that_fails_while_a_later_one_waits_is_superseded(outbox: Outbox, receiver: Hooks) -> None:
    """It is over while the firing notice is on its way: the end waits for it, then goes alone."""
    outbox.put("webhook", kind="firing")
    receiver.hold, receiver.status = threading.Event(), 500
    started = outbox.sender(webhook_to(receiver)).deliver_due(outbox.clock(), outbox.pool)
    assert receiver.arrived.wait(10)
    outbox.put("webhook", kind="resolved")
    assert outbox.deliver(webhook_to(receiver)) == 0
    receiver.hold.set()
    wait(started)
    receiver.status = 200
    outbox.deliver(webhook_to(receiver))
    assert outbox.statuses() == ["superseded", "sent"]
    assert receiver.types == ["alert.firing", "alert.resolved"]
    assert receiver.data()["is_late"] is True


def test_the_end_is_not_late_for_those_who_were_told(outbox: Outbox) -> None:
    """Firing got out, so resolved is only that."""
    own = OwnChannel()
    outbox.put(kind="firing")
    outbox.deliver(own)
    outbox.put(kind="resolved")
    outbox.deliver(own)
    assert own.got[-1].notices[0].is_late is False


def test_notices_of_a_channel_that_is_gone_disturb_nobody(outbox: Outbox) -> None:
    """They stay where they are; others are sent."""
    own = OwnChannel()
    outbox.put("removed")
    outbox.put("own")
    assert outbox.deliver(own) == 1
    assert sorted(outbox.statuses()) == ["queued", "sent"]


def test_sending_is_not_observed(outbox: Outbox) -> None:
    """What a channel does is muted: the pack does not watch itself."""
    seen = []

    class Watching(OwnChannel):
        def send(self, message: Message) -> None:
            seen.append(is_muted())

    outbox.put()
    outbox.deliver(Watching())
    assert seen == [True]


@given(st.integers(1, 12), st.none() | st.floats(0, 1e6))
def test_the_wait_is_never_short_of_what_is_asked_nor_beyond_fifteen_minutes(
    attempts: int, asked: float | None
) -> None:
    """Between 5 s and 15 min by chance; a receiver's wish counts up to 15 min."""
    failure = DeliveryError("x", retry_after_seconds=asked)
    assert min(max(5.0, asked or 0.0), 900.0) <= wait_seconds(attempts, failure) <= 900.0


def test_waits_grow() -> None:
    """The first wait is ten seconds at most; late ones are spread over a quarter of an hour."""
    assert all(wait_seconds(1, None) <= 10 for _ in range(100))
    assert max(wait_seconds(8, None) for _ in range(200)) > 450


@pytest.mark.parametrize(
    ("attempts", "age", "hopeless"), [(11, 0, False), (12, 0, True), (1, 86_399, False), (1, 86_400, True)]
)
def test_when_it_is_hopeless(attempts: int, age: float, hopeless: bool) -> None:
    """Twelve attempts, or a day."""
    assert is_hopeless(attempts, age) is hopeless
