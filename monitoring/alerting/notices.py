"""Queuing notices: to whom, with which facts, in the transaction of what they tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson
from sqlalchemy import Connection

from ..store import alerts as table
from ..store.alert_records import Episode, NoticeKind, Notification, ordered_id
from .channels import Channel, Notice
from .rules import QUERIES, Rule

_DAY_SECONDS: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Links:
    """Where the dashboard is that notices link to, and whose notices they are. Raise ValueError for an unusable URL."""

    base_url: str = ""
    """Scheme and host of the app as people reach it, such as ``https://app.example.org``; "" for no links."""
    dashboard_path: str = "/monitoring"
    service: str = "app"
    environment: str = ""

    def __post_init__(self) -> None:
        if self.base_url and not self.base_url.startswith(("https://", "http://")):
            raise ValueError(f"base_url must be a URL such as 'https://app.example.org' or '', got {self.base_url!r}.")

    def url(self, fragment: str) -> str:
        """Return the URL of a place on the dashboard, "" when there is none."""
        if not self.base_url or not fragment:
            return ""
        return f"{self.base_url.rstrip('/')}{self.dashboard_path.rstrip('/')}/{fragment}"


class Notices:
    """Queues notices for the channels that are to have them."""

    def __init__(self, rules: Mapping[str, Rule], channels: Mapping[str, Channel], links: Links) -> None:
        self._rules = rules
        self._channels = channels
        self._links = links

    def queue(self, connection: Connection, episode: Episode, kind: NoticeKind, why: str, now: float) -> None:
        """Queue a notice about an episode that is stored already as it is now."""
        channels = self._addressed(connection, episode, kind)
        if not channels:
            return
        body = orjson.dumps(self._notice(connection, episode, kind, why, now)).decode()
        seq = _seq(connection, episode, kind)
        for channel in channels:
            notification = Notification(
                id=ordered_id(now),
                channel=channel,
                episode=episode.id,
                kind=kind,
                seq=seq,
                body=body,
                created_at=now,
                next_at=now,
            )
            table.add_notification(connection, notification)

    def _addressed(self, connection: Connection, episode: Episode, kind: NoticeKind) -> Iterable[str]:
        """Say who is to have it: those who heard that it fires hear the rest."""
        if kind == "resolved":
            return table.channels_with(connection, episode.id, "queued", "sending", "sent")
        if kind == "ack":
            return table.channels_with(connection, episode.id, "sending", "sent")
        rule = self._rules.get(episode.rule)
        named = rule.channels if rule is not None and rule.channels else tuple(self._channels)
        waiting = table.channels_waiting(connection, episode.id)
        return [channel for channel in named if channel not in waiting]

    def _notice(self, connection: Connection, episode: Episode, kind: NoticeKind, why: str, now: float) -> Notice:
        rule = self._rules.get(episode.rule)
        return Notice(
            kind=kind,
            at=now,
            episode=episode.id,
            rule=episode.rule,
            severity=episode.severity,
            summary=episode.summary,
            description=rule.description if rule is not None else "",
            labels=episode.labels,
            unit=QUERIES[rule.query].unit if rule is not None else "count",
            value=episode.value,
            threshold=episode.threshold,
            fired_at=episode.fired_at,
            resolved_at=episode.resolved_at,
            acked_by=episode.acked_by,
            ack_note=episode.ack_note,
            acked_until=episode.acked_until,
            count=episode.notices,
            recurrence=table.count_fired(connection, episode.rule, episode.labels, now - _DAY_SECONDS),
            why=why,
            url=self._links.url(f"#/alerts/{episode.id}"),
            numbers_url=self._links.url(episode.link),
            runbook=rule.runbook if rule is not None else "",
            service=self._links.service,
            environment=self._links.environment,
        )


def _seq(connection: Connection, episode: Episode, kind: NoticeKind) -> int:
    """Number a notice among those of its kind, so that one that is queued twice collides."""
    if kind == "ack":
        return table.next_seq(connection, episode.id, kind)
    return episode.notices if kind == "repeat" else 1
