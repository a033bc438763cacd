"""What can be read of alerts, as frozen records with units. Times are unix seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection

from ..store import alerts as table
from ..store.alert_records import AlertEvent, Attempt, Episode, EpisodeState, NoticeKind, NoticeStatus, Silence
from ..store.database import Database
from .channels import Channel
from .rules import Rule, Sample, Severity

RuleState = Literal["ok", "pending", "firing", "no data"]
ChannelState = Literal["ok", "failing", "broken"]
Ask = Callable[[Rule, float], Sequence[Sample]]


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeRow:
    """One time that a rule was breached for one label set."""

    id: str
    rule: str
    labels: Mapping[str, str]
    severity: str
    summary: str
    state: EpisodeState
    active_since: float
    fired_at: float | None
    resolved_at: float | None
    value: float | None
    threshold: float | None
    acked_by: str
    ack_note: str
    acked_until: float | None
    silenced_by: str
    link: str


@dataclass(frozen=True, slots=True)
class NotificationRow:
    """One notice to one channel, with every attempt to deliver it."""

    channel: str
    kind: NoticeKind
    status: NoticeStatus
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class EpisodeReport:
    """An episode with its history, oldest first."""

    episode: EpisodeRow
    events: tuple[AlertEvent, ...]
    notifications: tuple[NotificationRow, ...]


@dataclass(frozen=True, slots=True)
class RuleRow:
    """A rule and how it stands now. ``value`` is the worst of its instances, in the query's unit."""

    name: str
    description: str
    severity: Severity
    state: RuleState
    value: float | None
    threshold: float


@dataclass(frozen=True, slots=True)
class ChannelRow:
    """A channel, by its latest attempt: it took it, it may take it later (``failing``), it refused it (``broken``)."""

    name: str
    kind: str
    state: ChannelState
    last_error: str


@dataclass(frozen=True, slots=True)
class AlertsReport:
    """Everything at a glance; lists are newest first and bounded."""

    open: tuple[EpisodeRow, ...]
    recent: tuple[EpisodeRow, ...]
    rules: tuple[RuleRow, ...]
    silences: tuple[Silence, ...]
    channels: tuple[ChannelRow, ...]


class AlertReports:
    """Reads alerts; writes nothing. Every method raises StoreUnusable when the store cannot be read. Thread-safe."""

    def __init__(
        self,
        database: Database,
        ask: Ask,
        rules: Mapping[str, Rule],
        channels: Mapping[str, Channel],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._ask = ask
        self._rules = rules
        self._channels = channels
        self._clock = clock

    def report(self) -> AlertsReport:
        """Return everything at a glance."""
        return AlertsReport(self.open(), self.recent(), self.rules(), self.silences(), self.channels())

    def open(self) -> tuple[EpisodeRow, ...]:
        """Return the pending and firing episodes."""
        with self._database.reading() as connection:
            return _rows(table.open_episodes(connection))

    def recent(self) -> tuple[EpisodeRow, ...]:
        """Return the latest resolved episodes that had fired."""
        with self._database.reading() as connection:
            return _rows(table.recent_episodes(connection))

    def episode(self, episode: str) -> EpisodeReport | None:
        """Return an episode with its history, None when there is none of this ID."""
        with self._database.reading() as connection:
            found = table.find_episode(connection, episode)
            if found is None:
                return None
            notifications = tuple(
                NotificationRow(notification.channel, notification.kind, notification.status, attempts)
                for notification, attempts in table.notifications_of(connection, episode)
            )
            return EpisodeReport(_row(found), tuple(table.events_of(connection, episode)), notifications)

    def rules(self) -> tuple[RuleRow, ...]:
        """Return the rules with what their numbers are now."""
        now = self._clock()
        with self._database.reading() as connection:
            states = _states(table.open_episodes(connection))
        return tuple(self._rule(rule, states.get(rule.name), now) for rule in self._rules.values())

    def silences(self) -> tuple[Silence, ...]:
        """Return the silences that have not ended."""
        with self._database.reading() as connection:
            return tuple(table.silences(connection, self._clock()))

    def silenced_by(self, rule: str, labels: Mapping[str, str] | None = None) -> tuple[EpisodeRow, ...]:
        """Return the open episodes that a silence of this rule ("*": all) and these labels would match."""
        silence = Silence(id="", rule=rule, labels=labels or {}, starts_at=0, ends_at=0, author="")
        return tuple(row for row in self.open() if silence.matches(row.rule, row.labels))

    def channels(self) -> tuple[ChannelRow, ...]:
        """Return the channels and whether they work."""
        with self._database.reading() as connection:
            return tuple(_channel(connection, channel) for channel in self._channels.values())

    def _rule(self, rule: Rule, state: RuleState | None, now: float) -> RuleRow:
        values = [sample.value for sample in self._ask(rule, now) if sample.value == sample.value]
        worst = None if not values else max(values) if rule.below is None else min(values)
        shown: RuleState = state or ("no data" if worst is None else "ok")
        return RuleRow(rule.name, rule.description, rule.severity, shown, worst, rule.threshold)


def _states(episodes: Iterable[Episode]) -> dict[str, RuleState]:
    states: dict[str, RuleState] = {}
    for episode in episodes:
        if episode.state == "firing":
            states[episode.rule] = "firing"
        else:
            states.setdefault(episode.rule, "pending")
    return states


def _channel(connection: Connection, channel: Channel) -> ChannelRow:
    last = table.last_attempt(connection, channel.name)
    if last is None or last.outcome == "sent":
        return ChannelRow(channel.name, channel.kind, "ok", "")
    return ChannelRow(channel.name, channel.kind, "broken" if last.outcome == "refused" else "failing", last.error)


def _rows(episodes: Iterable[Episode]) -> tuple[EpisodeRow, ...]:
    return tuple(map(_row, episodes))


def _row(episode: Episode) -> EpisodeRow:
    return EpisodeRow(**{name: getattr(episode, name) for name in EpisodeRow.__slots__})
