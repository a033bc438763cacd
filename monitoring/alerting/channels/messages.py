"""What notices say: the facts of one, and the words that channels send."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ...store.alert_records import NoticeKind
from ...utils.time import rfc3339
from ..words import Unit, moment, one_line, ordinal, readable, readable_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What is to be told about one episode. Times are unix seconds."""

    kind: NoticeKind
    at: float
    episode: str
    rule: str
    severity: str
    summary: str
    description: str = ""
    """The rule in words."""
    labels: Mapping[str, str] = field(default_factory=dict)
    unit: Unit = "count"
    value: float | None = None
    threshold: float | None = None
    fired_at: float | None = None
    resolved_at: float | None = None
    acked_by: str = ""
    ack_note: str = ""
    acked_until: float | None = None
    count: int = 1
    """Which firing notice of the episode it is: 3 for the second repeat."""
    recurrence: int = 1
    """Which episode of this rule and these labels within 24 hours it is about."""
    why: str = ""
    url: str = ""
    """Page of the episode, where it can be acknowledged."""
    numbers_url: str = ""
    """Page of the numbers behind it."""
    runbook: str = ""
    service: str = ""
    environment: str = ""
    is_late: bool = False
    """It is over, and its firing was never told because it could not be delivered."""

    @property
    def title(self) -> str:
        """Return one line: how bad, where, what."""
        return one_line(f"[{self._mark}] {self.service or 'app'}: {self.headline}")

    @property
    def headline(self) -> str:
        """Return what has happened, in one line."""
        if self.kind == "repeat":
            return f"{self.summary} (still firing for {self.lasted}, {ordinal(self.count)} notice)"
        if self.kind == "ack":
            return f"{self.summary} (acknowledged by {self.acked_by})"
        if self.kind == "resolved":
            late = ", notice delayed by delivery failure" if self.is_late else ""
            return f"{self.summary} (resolved after {self.lasted}{late})"
        return self.summary

    @property
    def lasted(self) -> str:
        """Return how long it has been firing."""
        until = self.at if self.resolved_at is None else self.resolved_at
        return readable_seconds(max(0.0, float(round(until - (self.fired_at or until)))))

    @property
    def _mark(self) -> str:
        return {"resolved": "resolved", "ack": "acknowledged"}.get(self.kind, self.severity)

    def rows(self) -> Iterator[tuple[str, str]]:
        """Yield the details, as names and texts."""
        yield "Rule", f"{self.rule} ({self.severity}): {self.description}".removesuffix(": ")
        yield "Value", readable(self.value, self.unit)
        if self.labels:
            yield "Labels", one_line(", ".join(f"{name}={value}" for name, value in sorted(self.labels.items())))
        if self.fired_at is not None:
            yield "Fired", moment(self.fired_at)
        if self.resolved_at is not None:
            yield "Resolved", moment(self.resolved_at)
        if self.recurrence > 1:
            yield "Again", f"{ordinal(self.recurrence)} time within 24 h"
        if self.acked_by:
            yield "Acknowledged", one_line(f"by {self.acked_by}{self.ack_note and f': {self.ack_note}'}")
        if self.why:
            yield "Because", one_line(self.why)
        if self.environment:
            yield "Environment", self.environment

    def links(self) -> Iterator[tuple[str, str]]:
        """Yield the links, as names and URLs."""
        if self.url:
            yield "Details" if self.kind == "resolved" else "Details and acknowledge", self.url
        if self.numbers_url:
            yield "Numbers", self.numbers_url
        if self.runbook:
            yield "Runbook", self.runbook

    def text(self) -> str:
        """Return headline, details and links as lines of plain text."""
        width = max(len(name) for name, _ in self.rows())
        details = [f"{name:<{width}}  {text}" for name, text in self.rows()]
        links = [f"{name}: {url}" for name, url in self.links()]
        return "\n".join([self.headline, "", *details, *([""] if links else []), *links])


@dataclass(frozen=True, slots=True)
class Message:
    """What a channel is asked to deliver: one notice, or several in one (a digest)."""

    id: str
    """The same at every try, so that a receiver can drop what it has already."""
    notices: tuple[Notice, ...]

    @property
    def is_digest(self) -> bool:
        """Say whether it stands for several notices."""
        return len(self.notices) > 1

    @property
    def title(self) -> str:
        """Return one line for a subject or a headline."""
        first = self.notices[0]
        if not self.is_digest:
            return first.title
        return one_line(f"[{self.severity}] {first.service or 'app'}: {len(self.notices)} notices")

    @property
    def severity(self) -> str:
        """Return the worst severity in it."""
        return "critical" if any(notice.severity == "critical" for notice in self.notices) else "warning"

    @property
    def text(self) -> str:
        """Return everything as plain text."""
        return "\n\n---\n\n".join(notice.text() for notice in self.notices)

    def payload(self) -> dict[str, Any]:
        """Return it as plain JSON values: ``type``, ``timestamp`` (RFC 3339) and ``data``; of a digest, the notices.

        ``type`` is ``alert.firing``, ``alert.repeat``, ``alert.resolved``, ``alert.ack`` or ``alert.digest``.
        """
        stamp = rfc3339(int(max(notice.at for notice in self.notices) * 1e9))
        payloads = [{"type": f"alert.{notice.kind}", "data": _data(notice)} for notice in self.notices]
        if self.is_digest:
            return {"type": "alert.digest", "timestamp": stamp, "data": {"notices": payloads}}
        return {"type": payloads[0]["type"], "timestamp": stamp, "data": payloads[0]["data"]}


def _data(notice: Notice) -> dict[str, Any]:
    return {name: value for name, value in asdict(notice).items() if name not in ("kind", "at")}
