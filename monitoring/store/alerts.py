"""All SQL over the tables of alerts. Every function works in the transaction it is given.

A writer locks what it reads for changing, so that two evaluators, or an evaluator and somebody who acknowledges, go
one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Row, Select, func, insert, or_, select, update

from . import schema
from .alert_records import AlertEvent, Attempt, Episode, NoticeStatus, Notification, Silence

OPEN: Final = ("pending", "firing")
RECENT_LIMIT: Final = 50
OPEN_LIMIT: Final = 100
_EVALUATED: Final = "alerts_evaluated_at"

_episode: Final = schema.episode
_event: Final = schema.alert_event
_silence: Final = schema.silence
_notification: Final = schema.notification
_attempt: Final = schema.attempt


def labels_key(labels: Mapping[str, str]) -> str:
    """Return labels as they are stored: a JSON object with sorted keys."""
    return orjson.dumps(dict(labels), option=orjson.OPT_SORT_KEYS).decode()


# --- episodes ---------------------------------------------------------------------------------------------------------


def lock_open_episodes(connection: Connection) -> list[Episode]:
    """Return all pending and firing episodes, oldest first; others wait until this transaction ends."""
    query = select(_episode).where(_episode.c.state.in_(OPEN)).order_by(_episode.c.active_since)
    return _episodes(connection, query.with_for_update())


def open_episodes(connection: Connection) -> list[Episode]:
    """Return pending and firing episodes, newest first, 100 at most."""
    query = select(_episode).where(_episode.c.state.in_(OPEN)).order_by(_episode.c.active_since.desc())
    return _episodes(connection, query.limit(OPEN_LIMIT))


def recent_episodes(connection: Connection) -> list[Episode]:
    """Return resolved episodes that had fired, newest first, 50 at most."""
    fired = (_episode.c.state == "resolved") & _episode.c.fired_at.is_not(None)
    query = select(_episode).where(fired).order_by(_episode.c.active_since.desc()).limit(RECENT_LIMIT)
    return _episodes(connection, query)


def find_episode(connection: Connection, episode: str) -> Episode | None:
    """Return one episode, or None when there is none of this ID."""
    return next(iter(_episodes(connection, select(_episode).where(_episode.c.id == episode))), None)


def count_fired(connection: Connection, rule: str, labels: Mapping[str, str], since: float) -> int:
    """Return how many episodes of this rule and these labels have fired since a moment."""
    same = (_episode.c.rule == rule) & (_episode.c.labels == labels_key(labels)) & (_episode.c.fired_at >= since)
    return connection.scalar(select(func.count()).select_from(_episode).where(same)) or 0


def add_episode(connection: Connection, episode: Episode) -> None:
    """Store a new episode. IntegrityError when one of this rule and these labels is open already."""
    connection.execute(insert(_episode).values(_values(episode)))


def save_episode(connection: Connection, episode: Episode) -> None:
    """Store what became of an episode."""
    connection.execute(update(_episode).where(_episode.c.id == episode.id).values(_values(episode)))


def acknowledge(connection: Connection, episode: str, actor: str, note: str, at: float, until: float) -> bool:
    """Note who has an episode in hand, if it still fires. Return whether it did."""
    firing = (_episode.c.id == episode) & (_episode.c.state == "firing")
    values = {"acked_by": actor, "ack_note": note, "acked_at": at, "acked_until": until}
    return connection.execute(update(_episode).where(firing).values(values)).rowcount == 1


def drop_acknowledgement(connection: Connection, episode: str, now: float) -> bool:
    """Forget who has a firing episode in hand; repeats count from now. Return False when nobody had."""
    acked = (_episode.c.id == episode) & (_episode.c.state == "firing") & _episode.c.acked_at.is_not(None)
    values = {"acked_by": "", "ack_note": "", "acked_at": None, "acked_until": None, "notified_at": now}
    return connection.execute(update(_episode).where(acked).values(values)).rowcount == 1


def _values(episode: Episode) -> dict[str, Any]:
    values = {name: getattr(episode, name) for name in Episode.__slots__}
    return {**values, "labels": labels_key(episode.labels)}


def _episodes(connection: Connection, query: Select[Any]) -> list[Episode]:
    return [Episode(**{**row._mapping, "labels": orjson.loads(row.labels)}) for row in connection.execute(query)]


# --- events -----------------------------------------------------------------------------------------------------------


def add_events(connection: Connection, episode: str, events: Iterable[AlertEvent]) -> None:
    """Add to the history of an episode."""
    rows = [{name: getattr(event, name) for name in AlertEvent.__slots__} | {"episode": episode} for event in events]
    if rows:
        connection.execute(insert(_event), rows)


def events_of(connection: Connection, episode: str) -> list[AlertEvent]:
    """Return the history of an episode, oldest first."""
    columns = [_event.c[name] for name in AlertEvent.__slots__]
    query = select(*columns).where(_event.c.episode == episode).order_by(_event.c.id)
    return [AlertEvent(*row) for row in connection.execute(query)]


# --- the last evaluation ----------------------------------------------------------------------------------------------


def last_evaluated(connection: Connection) -> float | None:
    """Return when rules were last evaluated, to the minute; None for never."""
    found = connection.scalar(select(schema.meta.c.value).where(schema.meta.c.key == _EVALUATED))
    return None if found is None else float(found)


def mark_evaluated(connection: Connection, now: float) -> None:
    """Store that rules were evaluated."""
    changed = update(schema.meta).where(schema.meta.c.key == _EVALUATED).values(value=repr(now))
    if not connection.execute(changed).rowcount:
        connection.execute(insert(schema.meta).values(key=_EVALUATED, value=repr(now)))


# --- silences ---------------------------------------------------------------------------------------------------------


def silences(connection: Connection, now: float) -> list[Silence]:
    """Return the silences that have not ended, those that end last first."""
    query = select(_silence).where(_silence.c.ends_at > now).order_by(_silence.c.ends_at.desc())
    return [Silence(**{**row._mapping, "labels": orjson.loads(row.labels)}) for row in connection.execute(query)]


def add_silence(connection: Connection, silence: Silence) -> None:
    """Store a silence."""
    values = {name: getattr(silence, name) for name in Silence.__slots__}
    connection.execute(insert(_silence).values({**values, "labels": labels_key(silence.labels)}))


def end_silence(connection: Connection, silence: str, now: float) -> bool:
    """End a silence now. Return False when there is none of this ID that lasts."""
    lasting = (_silence.c.id == silence) & (_silence.c.ends_at > now)
    return connection.execute(update(_silence).where(lasting).values(ends_at=now)).rowcount == 1


# --- the outbox of notices --------------------------------------------------------------------------------------------


def add_notification(connection: Connection, notification: Notification) -> None:
    """Queue a notice in place of those for the same channel and episode that still wait."""
    waiting = _of_channel(notification.channel, notification.episode) & (_notification.c.status == "queued")
    connection.execute(update(_notification).where(waiting).values(status="superseded"))
    values = {name: getattr(notification, name) for name in Notification.__slots__}
    connection.execute(insert(_notification).values(values))


def channels_with(connection: Connection, episode: str, *statuses: NoticeStatus) -> list[str]:
    """Return the channels that have notices of an episode in one of these states."""
    wanted = (_notification.c.episode == episode) & _notification.c.status.in_(statuses)
    return list(connection.scalars(select(_notification.c.channel).where(wanted).distinct().order_by("channel")))


def channels_waiting(connection: Connection, episode: str) -> list[str]:
    """Return the channels that have yet to be told that an episode fires, or fires on."""
    waiting = (
        (_notification.c.episode == episode)
        & _notification.c.status.in_(("queued", "sending"))
        & _notification.c.kind.in_(("firing", "repeat"))
    )
    return list(connection.scalars(select(_notification.c.channel).where(waiting).distinct()))


def next_seq(connection: Connection, episode: str, kind: str) -> int:
    """Return the next free number among an episode's notices of one kind."""
    same = (_notification.c.episode == episode) & (_notification.c.kind == kind)
    return (connection.scalar(select(func.max(_notification.c.seq)).where(same)) or 0) + 1


def notifications_of(connection: Connection, episode: str) -> list[tuple[Notification, tuple[Attempt, ...]]]:
    """Return the notices of an episode with their attempts, oldest first."""
    query = select(_notification).where(_notification.c.episode == episode)
    found = [_to_notification(row) for row in connection.execute(query.order_by("created_at", "id"))]
    tried = attempts_of(connection, [notification.id for notification in found])
    return [(notification, tuple(tried.get(notification.id, ()))) for notification in found]


def due_channels(connection: Connection, now: float) -> list[str]:
    """Return the channels that have notices to be sent now."""
    query = select(_notification.c.channel).where(_is_due(now)).distinct().order_by("channel")
    return list(connection.scalars(query))


def release_stuck(connection: Connection, now: float) -> None:
    """Queue what somebody began to send and never reported on: its sender died."""
    stuck = (_notification.c.status == "sending") & (_notification.c.locked_until <= now)
    connection.execute(update(_notification).where(stuck).values(status="queued", locked_until=None))


def count_due(connection: Connection, channel: str, now: float) -> int:
    """Return how many notices of a channel are to be sent now."""
    due = _is_due(now) & (_notification.c.channel == channel)
    return connection.scalar(select(func.count()).select_from(_notification).where(due)) or 0


def claim(connection: Connection, channel: str, now: float, locked_until: float, limit: int) -> list[Notification]:
    """Take a channel's due notices, oldest first, so that nobody else sends them meanwhile.

    A notice waits while an earlier one of its episode is being sent to the channel.
    """
    query = select(_notification).where(
        _is_due(now), _notification.c.channel == channel, _notification.c.status == "queued"
    )
    being_sent = set(
        connection.scalars(
            select(_notification.c.episode).where(
                _notification.c.channel == channel, _notification.c.status == "sending"
            )
        )
    )
    found = connection.execute(query.order_by("created_at", "id").limit(limit).with_for_update(skip_locked=True))
    free = [_to_notification(row) for row in found if row.episode not in being_sent]
    return [notification for notification in free if _take(connection, notification, locked_until)]


def _take(connection: Connection, notification: Notification, locked_until: float) -> bool:
    queued = (_notification.c.id == notification.id) & (_notification.c.status == "queued")
    taken = update(_notification).where(queued).values(status="sending", locked_until=locked_until)
    return connection.execute(taken).rowcount == 1


def settle(connection: Connection, notification: Notification, attempt: Attempt) -> None:
    """Store what came of an attempt, and the notice as it is now (``attempts``, ``status``, ``next_at``).

    One that would be tried again is superseded when a later one of its episode waits for the channel.
    """
    number = notification.attempts
    values = {name: getattr(attempt, name) for name in Attempt.__slots__}
    connection.execute(insert(_attempt).values(values | {"notification": notification.id, "seq": number}))
    status = notification.status
    if status == "queued" and _has_successor(connection, notification):
        status = "superseded"
    mine = (_notification.c.id == notification.id) & (_notification.c.status == "sending")
    changed = {"status": status, "attempts": number, "next_at": notification.next_at, "locked_until": None}
    connection.execute(update(_notification).where(mine).values(changed))


def _has_successor(connection: Connection, notification: Notification) -> bool:
    waiting = _of_channel(notification.channel, notification.episode) & (_notification.c.status == "queued")
    return connection.scalar(select(_notification.c.id).where(waiting).limit(1)) is not None


def attempts_of(connection: Connection, notifications: Sequence[str]) -> dict[str, list[Attempt]]:
    """Return the attempts of each notice, in order."""
    query = select(_attempt).where(_attempt.c.notification.in_(notifications)).order_by("notification", "seq")
    tried: dict[str, list[Attempt]] = {}
    for row in connection.execute(query):
        tried.setdefault(row.notification, []).append(_to_attempt(row))
    return tried


def last_attempt(connection: Connection, channel: str) -> Attempt | None:
    """Return the latest attempt of a channel."""
    joined = select(_attempt).join(_notification, _notification.c.id == _attempt.c.notification)
    query = joined.where(_notification.c.channel == channel).order_by(_attempt.c.at.desc(), _attempt.c.seq.desc())
    row = connection.execute(query.limit(1)).one_or_none()
    return None if row is None else _to_attempt(row)


def _is_due(now: float) -> Any:
    waiting = (_notification.c.status == "queued") & (_notification.c.next_at <= now)
    stuck = (_notification.c.status == "sending") & (_notification.c.locked_until <= now)
    return or_(waiting, stuck)


def _of_channel(channel: str, episode: str) -> Any:
    return (_notification.c.channel == channel) & (_notification.c.episode == episode)


def _to_notification(row: Row[Any]) -> Notification:
    return Notification(**row._mapping)


def _to_attempt(row: Row[Any]) -> Attempt:
    return Attempt(row.at, row.outcome, row.error, row.duration_seconds)
