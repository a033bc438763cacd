"""Alerts: rules are evaluated, episodes open and end, notices are queued and sent.

One process evaluates and delivers, the one that holds the store's lease; any process may read, acknowledge and
silence. All state is in the store, so whoever takes over goes on where the other stopped. What happened to an episode
and the notices about it are written in one transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from typing import Final

from sqlalchemy import Connection

from .alerting.channels import Channel
from .alerting.deliveries import Deliveries
from .alerting.notices import Links, Notices
from .alerting.reports import AlertReports
from .alerting.rules import (
    NO_DATA_LABELS,
    QUERIES,
    Numbers,
    Rule,
    Sample,
    default_rules,
    merged_rules,
    missing_data,
)
from .alerting.states import GAP_SECONDS, Present, Step, advance, begin, end, level_of
from .alerting.words import one_line
from .store import alerts as table
from .store.alert_records import AlertEvent, Episode, Silence, ordered_id
from .store.database import Database, StoreUnusable

__all__ = ["QUERIES", "AlertEngine", "Links", "Numbers", "Rule", "Sample", "default_rules", "merged_rules"]

WARM_UP_SECONDS: Final = 60.0
ACK_MINUTES: Final = 1440.0
LONGEST_MINUTES: Final = 30 * 1440.0
MARK_EVERY_SECONDS: Final = 60.0
"""How often a quiet evaluation leaves a trace in the store."""

_Seen = list[tuple[Rule, list[Sample]]]


class AlertEngine:
    """Evaluates rules and sends notices; acknowledges and silences. ``evaluate`` belongs to one thread, the rest to
    any.
    """

    def __init__(
        self,
        database: Database,
        numbers: Numbers,
        rules: Iterable[Rule] = (),
        channels: Iterable[Channel] = (),
        *,
        links: Links | None = None,
        clock: Callable[[], float] = time.time,
        warm_up_seconds: float | None = None,
    ) -> None:
        """``rules`` are added to the default ones, or replace those of the same name.

        No episode changes in the first ``warm_up_seconds``: by default 0, or 60 when rules were last evaluated more
        than an hour ago. Raise ValueError for two rules or channels of one name, and for a rule that names an
        unknown channel.
        """
        self.rules = {rule.name: rule for rule in merged_rules(rules)}
        self.channels = _by_name(channels)
        _check_channels(self.rules.values(), self.channels)
        self.reports = AlertReports(database, self._ask, self.rules, self.channels, clock)
        """The read side."""
        self._database = database
        self._numbers = numbers
        self._clock = clock
        self._notices = Notices(self.rules, self.channels, links or Links())
        self._deliveries = Deliveries(database, self.channels, clock=clock)
        self._warm_up_seconds = warm_up_seconds
        self._warm_at: float | None = None
        self._marked_at: float | None = None

    def evaluate(self, now: float) -> None:
        """Evaluate all rules once, and queue the notices that are due.

        Raise StoreUnusable when the store cannot be used: then nothing has changed. Any other failure to compute a
        number leaves its rule as it is, and is raised once the other rules are done.
        """
        seen, failures = self._look(now)
        if not self._is_quiet(seen, now):
            with self._database.writing() as connection:
                self._warm_up(connection, now)
                table.mark_evaluated(connection, now)
                if self._warm_at is not None and now >= self._warm_at:
                    self._advance(connection, seen, now)
            self._marked_at = now
        if failures:
            raise failures[0]

    def deliver_due(self, now: float, executor: Executor) -> list[Future[int]]:
        """Have ``executor`` send what is due, and return at once.

        The futures give the number of messages tried, and raise StoreUnusable when the store failed meanwhile. Raise
        StoreUnusable itself when the outbox cannot be read.
        """
        return self._deliveries.deliver_due(now, executor)

    def ack(self, episode: str, actor: str, note: str = "", minutes: float = ACK_MINUTES) -> bool:
        """Take a firing episode in hand: no repeats for ``minutes``, or until it ends. Those who were told hear of it.

        Return False when it does not fire any more. Raise ValueError for a bad actor or time, StoreUnusable.
        """
        actor, now = _checked_actor(actor), self._clock()
        until = now + _checked_minutes(minutes) * 60
        with self._database.writing() as connection:
            if not table.acknowledge(connection, episode, actor, one_line(note), now, until):
                return False
            table.add_events(connection, episode, [AlertEvent(now, "acknowledged", one_line(note), actor=actor)])
            acked = table.find_episode(connection, episode)
            if acked is not None:
                self._notices.queue(connection, acked, "ack", "", now)
            return True

    def unack(self, episode: str, actor: str) -> bool:
        """Give a firing episode out of hand: repeats go on. Return False when nobody had it, or it does not fire."""
        actor, now = _checked_actor(actor), self._clock()
        with self._database.writing() as connection:
            taken = table.drop_acknowledgement(connection, episode, now)
            if taken:
                table.add_events(connection, episode, [AlertEvent(now, "acknowledgement withdrawn", actor=actor)])
            return taken

    def silence(
        self, rule: str, minutes: float, author: str, comment: str = "", labels: Mapping[str, str] | None = None
    ) -> Silence:
        """Send no notices of a rule ("*": of any) with these labels for ``minutes``; evaluation goes on.

        Those who were told that something fires are still told that it is over. ``reports.silenced_by`` shows what it
        would match. Raise ValueError for an unknown rule or a bad time, StoreUnusable.
        """
        if rule != "*" and rule not in self.rules:
            raise ValueError(f"There is no rule {rule!r}; name one of {', '.join(sorted(self.rules))}, or '*' for all.")
        now = self._clock()
        silence = Silence(
            id=ordered_id(now),
            rule=rule,
            labels=labels or {},
            starts_at=now,
            ends_at=now + _checked_minutes(minutes) * 60,
            author=_checked_actor(author),
            comment=one_line(comment),
        )
        with self._database.writing() as connection:
            table.add_silence(connection, silence)
        return silence

    def end_silence(self, silence: str) -> bool:
        """End a silence now. Return False when it has ended already, or never was."""
        with self._database.writing() as connection:
            return table.end_silence(connection, silence, self._clock())

    def _look(self, now: float) -> tuple[_Seen, list[Exception]]:
        """Ask for the numbers of all rules, outside of any transaction."""
        seen: _Seen = []
        failures: list[Exception] = []
        for rule in self.rules.values():
            try:
                samples = list(self._ask(rule, now))
            except StoreUnusable:
                raise
            except Exception as error:
                failures.append(error)
            else:
                seen.append((rule, samples))
        return seen, failures

    def _ask(self, rule: Rule, now: float) -> Sequence[Sample]:
        if rule.query == "channel_broken":
            rows = self.reports.channels()
            return [Sample({"channel": row.name}, float(row.state == "broken"), 1, "#/alerts") for row in rows]
        return self._numbers.sample(rule.query, rule.labels, rule.window_seconds, now)

    def _is_quiet(self, seen: _Seen, now: float) -> bool:
        """Say whether there is nothing to write: nothing open, nothing breached, and a trace was left lately."""
        if self._marked_at is None or not 0 <= now - self._marked_at < MARK_EVERY_SECONDS:
            return False
        if any(level_of(rule, sample) == "breach" for rule, samples in seen for sample in samples):
            return False
        if any(rule.no_data == "alert" and not samples for rule, samples in seen):
            return False
        with self._database.reading() as connection:
            return not table.open_episodes(connection)

    def _warm_up(self, connection: Connection, now: float) -> None:
        """At the first evaluation, decide when the first transition may be."""
        if self._warm_at is not None:
            return
        seconds = self._warm_up_seconds
        if seconds is None:
            last = table.last_evaluated(connection)
            seconds = WARM_UP_SECONDS if last is not None and now - last > GAP_SECONDS else 0.0
        self._warm_at = now + seconds

    def _advance(self, connection: Connection, seen: _Seen, now: float) -> None:
        opened: dict[str, dict[str, Episode]] = {}
        for episode in table.lock_open_episodes(connection):
            opened.setdefault(episode.rule, {})[table.labels_key(episode.labels)] = episode
        silences = table.silences(connection, now)
        for rule, samples in seen:
            for labels, present in _instances(rule, samples, opened.get(rule.name, {}), silences, now):
                former = opened.get(rule.name, {}).get(table.labels_key(labels))
                self._store(connection, former, _step(former, present, labels), now)
        for name in opened.keys() - self.rules.keys():
            for episode in opened[name].values():
                self._store(connection, episode, end(episode, now, "the rule was removed"), now)

    def _store(self, connection: Connection, former: Episode | None, step: Step, now: float) -> None:
        """Write what happened and the notices about it."""
        if step.episode is None:
            return
        if former is None:
            table.add_episode(connection, step.episode)
        else:
            table.save_episode(connection, step.episode)
        table.add_events(connection, step.episode.id, step.events)
        if step.notice is not None:
            self._notices.queue(connection, step.episode, step.notice, step.why, now)


def _instances(
    rule: Rule, samples: Sequence[Sample], opened: Mapping[str, Episode], silences: Sequence[Silence], now: float
) -> Iterable[tuple[Mapping[str, str], Present]]:
    """Yield what a rule sees of each of its label sets: those there are numbers for, and those that are open."""
    found = {table.labels_key(sample.labels): sample for sample in samples}
    own_key = table.labels_key(NO_DATA_LABELS)
    for key in {**opened, **found}:
        if key == own_key:
            continue
        sample = found.get(key)
        labels = sample.labels if sample is not None else opened[key].labels
        yield labels, Present(rule, sample, now, _silence_of(rule, labels, silences), is_blind=not samples)
    if rule.no_data == "alert" or own_key in opened:
        own_rule, own_sample = missing_data(rule, not samples and rule.no_data == "alert")
        yield NO_DATA_LABELS, Present(own_rule, own_sample, now, _silence_of(rule, NO_DATA_LABELS, silences))


def _silence_of(rule: Rule, labels: Mapping[str, str], silences: Sequence[Silence]) -> Silence | None:
    return next((silence for silence in silences if silence.matches(rule.name, labels)), None)


def _step(former: Episode | None, present: Present, labels: Mapping[str, str]) -> Step:
    if former is None:
        return begin(present, labels, ordered_id(present.now))
    return advance(former, present)


def _by_name(channels: Iterable[Channel]) -> dict[str, Channel]:
    named: dict[str, Channel] = {}
    for channel in channels:
        if channel.name in named:
            raise ValueError(f"Two channels are named {channel.name!r}; give one of them another name.")
        named[channel.name] = channel
    return named


def _check_channels(rules: Iterable[Rule], channels: Mapping[str, Channel]) -> None:
    for rule in rules:
        for name in rule.channels:
            if name not in channels:
                known = ", ".join(channels) or "none"
                raise ValueError(f"Rule {rule.name!r} tells the channel {name!r}; the channels are: {known}.")


def _checked_minutes(minutes: float) -> float:
    if not 0 < minutes <= LONGEST_MINUTES:
        raise ValueError(f"minutes must be above 0 and at most {LONGEST_MINUTES:.0f} (30 days), got {minutes!r}.")
    return minutes


def _checked_actor(actor: str) -> str:
    name = one_line(actor)[:100]
    if not name:
        raise ValueError(f"The name of who does it must not be empty, got {actor!r}; give a name such as 'ana'.")
    return name
