"""What is stored of what happened: small frozen records that sinks put into the outbox and the store writes.

Times are unix seconds. User ids are as the app gave them; the store hashes them on the way in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class SpanFact:
    """One call or block of a kept request. ``parent`` is the index of the block it happened in, -1 for none."""

    kind: str
    name: str
    outcome: str
    offset_seconds: float
    """From the start of the request."""
    duration_seconds: float
    parent: int = -1
    detail: Mapping[str, Any] = field(default_factory=dict)
    """What its kind has besides: statement, rows, hits, tokens, cost, status."""


@dataclass(frozen=True, slots=True)
class FindingFact:
    """What is odd about the database statements of a kept request: one is ``repeated``, or ``slow``."""

    kind: str
    name: str
    statement: str
    place: str
    times: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RequestFact:
    """One request that is kept whole."""

    at: float
    """Of its start."""
    request_id: str
    trace_id: str
    method: str
    route: str
    path: str
    status: int
    outcome: str
    duration_seconds: float
    reason: str
    """Why it is kept: ``error``, ``slow`` or ``sampled``."""
    user: str = ""
    error_group: str = ""
    bytes_sent: int = 0
    db_calls: int = 0
    db_seconds: float = 0.0
    cache_hits: int = 0
    cache_misses: int = 0
    llm_calls: int = 0
    llm_tokens: int = 0
    llm_cost_usd: float = 0.0
    spans: tuple[SpanFact, ...] = ()
    spans_dropped: int = 0
    lines: tuple[bytes, ...] = ()
    """The log lines written in it; what its canonical line says is in the fields above."""
    findings: tuple[FindingFact, ...] = ()


@dataclass(frozen=True, slots=True)
class ErrorFact:
    """One captured error. ``keys`` are the group's: whichever is known already decides, the others become aliases."""

    at: float
    keys: tuple[str, ...]
    category: str
    level: Literal["warning", "error", "critical"]
    type: str
    title: str
    """Type and first line of the message, scrubbed."""
    culprit: str
    """Where: ``module.function`` of the last frame of the app."""
    why: tuple[str, ...] = ()
    """The readable parts that the key was made of."""
    count: int = 1
    """How many occurrences this one stands for: of a storm only the first are kept whole."""
    message: str = ""
    stack: tuple[Mapping[str, Any], ...] = ()
    """The chain, outermost first: type, message, frames with source lines."""
    request_id: str = ""
    route: str = ""
    user: str = ""
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EventFact:
    """One usage event."""

    at: float
    name: str
    user: str = ""
    value: float | None = None
    dimensions: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class OperationFact:
    """One business operation: as opened (outcome "") or as ended. The same ``id`` again replaces it."""

    id: str
    name: str
    started_at: float
    outcome: Literal["", "ok", "failed", "abandoned"] = ""
    duration_seconds: float | None = None
    reason: str = ""
    user: str = ""
    deadline_at: float | None = None
    dimensions: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class ActivityFact:
    """A user was active on a day: in a feature, or, with ``feature`` "", at all."""

    day: str
    """``YYYY-MM-DD``, UTC."""
    user: str
    feature: str = ""
    count: int = 1


Fact = RequestFact | ErrorFact | EventFact | OperationFact | ActivityFact
