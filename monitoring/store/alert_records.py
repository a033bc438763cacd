"""What is stored of alerts: small frozen records, one per row of its table, that the rules, the channels and the
readers share.

Times are unix seconds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

EpisodeState = Literal["pending", "firing", "resolved"]
NoticeKind = Literal["firing", "repeat", "resolved", "ack"]
NoticeStatus = Literal["queued", "sending", "sent", "superseded", "dead"]
Outcome = Literal["sent", "failed", "refused"]
"""What came of an attempt: ``failed`` ones are tried again, ``refused`` ones would be refused again."""


def ordered_id(now: float) -> str:
    """Return a fresh ID of 32 hex digits; IDs made later sort later."""
    return f"{max(0, int(now * 1000)):012x}{os.urandom(10).hex()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One time that a rule was breached for one label set, from the first breach to the end."""

    id: str
    rule: str
    rule_hash: str
    """Of the condition it was opened under: another condition is another episode."""
    labels: Mapping[str, str]
    severity: str
    summary: str
    state: EpisodeState
    active_since: float
    fired_at: float | None = None
    clear_since: float | None = None
    """Since when the value has been past the recovery threshold, while it fires."""
    resolved_at: float | None = None
    value: float | None = None
    """As last seen; None while there is no data."""
    threshold: float | None = None
    evaluated_at: float
    acked_by: str = ""
    ack_note: str = ""
    acked_at: float | None = None
    acked_until: float | None = None
    notified_at: float | None = None
    """When the last firing notice or repeat was queued; repeats count from here."""
    notices: int = 0
    """Firing notices and repeats so far."""
    silenced_by: str = ""
    link: str = ""
    """Where on the page the numbers behind it are, such as ``#/routes``."""


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """Something that happened to an episode."""

    at: float
    what: str
    why: str = ""
    value: float | None = None
    actor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """A time in which no notices of a rule ("*": of all rules) with these labels are sent."""

    id: str
    rule: str
    labels: Mapping[str, str] = field(default_factory=dict)
    starts_at: float
    ends_at: float
    author: str
    comment: str = ""

    def matches(self, rule: str, labels: Mapping[str, str]) -> bool:
        """Say whether an episode of this rule and these labels is silenced."""
        return self.rule in ("*", rule) and all(labels.get(name) == value for name, value in self.labels.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One notice on its way to one channel."""

    id: str
    channel: str
    episode: str
    kind: NoticeKind
    seq: int
    body: str
    """The notice as JSON."""
    status: NoticeStatus = "queued"
    attempts: int = 0
    created_at: float
    next_at: float
    locked_until: float | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to deliver a notice."""

    at: float
    outcome: Outcome
    error: str
    duration_seconds: float
