"""What the API answers, as records: their fields are the JSON's, and OpenAPI's schemas are made of them.

Times are unix seconds, durations end in ``_seconds``, money in ``_usd``; None is a number that is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..alerting.reports import EpisodeRow, NotificationRow
from ..store.alert_records import AlertEvent
from ..store.errors import ErrorEvent, Frequency, GroupRow
from ..store.facts import FindingFact, SpanFact
from ..store.requests import KeptRequest
from ..system_resources import HostUse, ProcessUse

HealthStatus = Literal["pass", "warn", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsShape:
    """How often something happened, how often it failed, and how long it took."""

    count: int
    rate_per_second: float
    errors: int
    error_rate: float | None
    mean_seconds: float | None
    p50_seconds: float | None
    p95_seconds: float | None
    p99_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PointsShape:
    """A time series as parallel lists; ``t`` is the start of each bucket."""

    t: Sequence[int]
    count: Sequence[int]
    errors: Sequence[int]
    p50_seconds: Sequence[float | None]
    p95_seconds: Sequence[float | None]
    p99_seconds: Sequence[float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueriesShape:
    """Database statements of those requests of a route, of all methods, that sent any; ``repeated`` counts findings."""

    requests: int
    mean: float | None
    p50: int | None
    p95: int | None
    repeated: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatedShape:
    """A statement that requests of a route repeated, and how many of them did."""

    name: str
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteShape(StatsShape):
    """One route and method."""

    method: str
    route: str
    status: Mapping[str, int]
    bytes_sent: int
    queries: QueriesShape


@dataclass(frozen=True, slots=True, kw_only=True)
class CallShape(StatsShape):
    """One statement or one host."""

    kind: str
    name: str
    system: str
    operation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementShape(CallShape):
    """One statement; how many of its calls were slow, and how many requests repeated it."""

    slow: int
    repeated: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixShape:
    """One kind of key, named by what stands before the first colon."""

    prefix: str
    hits: int
    misses: int
    hit_rate: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheShape(StatsShape):
    """One cache. A cache in memory tells no commands, so that its ``count`` is 0."""

    cache: str
    system: str
    hits: int
    misses: int
    hit_rate: float | None
    prefixes: Sequence[PrefixShape]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestsShape:
    """A list of kept requests; ``truncated`` when there are more."""

    requests: Sequence[KeptRequest]
    truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupsShape:
    """The groups of a time and how often any of them was seen; ``truncated`` when there are more groups."""

    groups: Sequence[GroupRow]
    truncated: bool
    series: Frequency


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaShape:
    """The pack's own state, as the answering process sees it."""

    service: str
    environment: str
    version: str
    now: float
    workers: int
    leader: str
    last_flush_seconds: float | None
    facts_dropped: int
    lines_dropped: int
    store_bytes: int
    degraded: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUseShape:
    """All language models together; ``cost_usd`` is what is known of it, None where no price is known."""

    calls: int
    tokens: int
    cost_usd: float | None
    errors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthStatusShape:
    """The worst of all checks."""

    status: HealthStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class OverviewShape:
    """The first page: how it goes, in one sentence and in numbers."""

    sentence: str
    state: Literal["ok", "warning", "critical"]
    requests: StatsShape
    previous: StatsShape
    series: PointsShape
    routes: Sequence[RouteShape]
    slowest: Sequence[KeptRequest]
    error_groups: Sequence[GroupRow]
    alerts: Sequence[EpisodeRow]
    llm: ModelUseShape
    health: HealthStatusShape
    meta: MetaShape


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutesShape:
    """Every route, and what routes wait for; ``truncated`` when there are more of any of them."""

    routes: Sequence[RouteShape]
    databases: Sequence[StatementShape]
    caches: Sequence[CacheShape]
    http: Sequence[CallShape]
    truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteDetailShape:
    """One route, with the requests behind its numbers."""

    route: str
    method: str
    stats: StatsShape
    previous: StatsShape
    series: PointsShape
    status: Mapping[str, int]
    queries: QueriesShape
    repeated: Sequence[RepeatedShape]
    requests: Sequence[KeptRequest]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """One language model."""

    provider: str
    model: str
    operation: str
    calls: int
    errors: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    unpriced_calls: int
    usage_missing: int
    p50_seconds: float | None
    p95_seconds: float | None
    first_chunk_p50_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentShape:
    """One agent."""

    agent: str
    runs: int
    errors: int
    p50_seconds: float | None
    p95_seconds: float | None
    llm_calls: int
    tokens: int
    cost_usd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolShape:
    """One tool."""

    tool: str
    calls: int
    errors: int
    p50_seconds: float | None
    p95_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpentShape:
    """What calls of one user, feature or agent cost in the running hour or day; None where no price is known."""

    value: str
    """A user as the store has it; "" of a budget of all calls."""
    spent_usd: float | None
    share: float
    calls: int
    unpriced_calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetShape:
    """One budget as it stands now, within two seconds. ``share`` is that of who spent most."""

    name: str
    usd: float
    per: str
    by: str
    refuse: bool
    since: float
    until: float
    share: float
    calls: int
    unpriced_calls: int
    spent: Sequence[SpentShape]
    """The dearest first, 100 at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMTotalsShape:
    """All models together; ``cost_usd`` is what is known of it, None where no price is known."""

    calls: int
    errors: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    unpriced_calls: int
    usage_missing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMSeriesShape:
    """Calls, tokens and known cost over time."""

    t: Sequence[int]
    calls: Sequence[int]
    tokens: Sequence[int]
    cost_usd: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMShape:
    """Language models, agents, their tools, and the budgets as they stand now."""

    totals: LLMTotalsShape
    series: LLMSeriesShape
    models: Sequence[ModelShape]
    agents: Sequence[AgentShape]
    tools: Sequence[ToolShape]
    budgets: Sequence[BudgetShape]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomesShape:
    """How operations with one value of a dimension ended."""

    value: str
    ok: int
    failed: int
    abandoned: int
    success_rate: float | None
    p50_seconds: float | None
    p95_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationShape:
    """How operations of one name ended."""

    operation: str
    ok: int
    failed: int
    abandoned: int
    open: int
    success_rate: float | None
    p50_seconds: float | None
    p95_seconds: float | None
    dimensions: Mapping[str, Sequence[OutcomesShape]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureShape:
    """Use of one feature."""

    feature: str
    uses: int
    users: int
    share_of_active: float | None
    first_used: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveUsersShape:
    """Distinct users of today, of seven days and of thirty days."""

    day: int
    week: int
    month: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveSeriesShape:
    """Distinct users of each of the last thirty days; ``t`` is the day in UTC, ``YYYY-MM-DD``."""

    t: Sequence[str]
    users: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventShape:
    """How often an event was tracked."""

    event: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageShape:
    """Who was active, what was used, and how business operations ended."""

    active_users: ActiveUsersShape
    active_series: ActiveSeriesShape
    features: Sequence[FeatureShape]
    events: Sequence[EventShape]
    operations: Sequence[OperationShape]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunShape:
    """One operation; its ``outcome`` is empty while it is open."""

    id: str
    name: str
    started_at: float
    outcome: str
    duration_seconds: float | None
    reason: str
    user: str
    dimensions: Mapping[str, str]
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationsShape:
    """The newest operations of a name; ``truncated`` when there are more."""

    operations: Sequence[RunShape]
    truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckShape:
    """One health check with its history of a day, and how long it stood in each way in longer times.

    ``times`` are those of the last ``24h``, ``30d`` and ``365d``: seconds up, warned of, down and unknown.
    """

    name: str
    status: HealthStatus
    critical: bool
    duration_seconds: float
    checked_at: float
    output: str
    uptime_24h: float | None
    uptime_30d: float | None
    uptime_365d: float | None
    times: Mapping[str, Mapping[str, float]]
    history: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckTimelineShape:
    """How long a check stood in each way in every minute, hour or day of a time."""

    name: str
    resolution_seconds: int
    buckets: Sequence[Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthShape:
    """All checks; ``uptime_seconds`` is None where no process of the service is known."""

    status: HealthStatus
    uptime_seconds: float | None
    checks: Sequence[CheckShape]


@dataclass(frozen=True, slots=True, kw_only=True)
class UseSeriesShape:
    """What the service's processes use together over time: ``cpu_share`` is of one core."""

    t: Sequence[int]
    cpu_share: Sequence[float | None]
    memory_bytes: Sequence[float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableShape:
    """A table of the store, and when its oldest row is of."""

    name: str
    rows: int
    oldest: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreShape:
    """The store: its folder or its URL without the password."""

    place: str
    bytes: int
    tables: Sequence[TableShape]


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterShape:
    """One of the pack's own counters."""

    name: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemShape:
    """What the service and its host use, and how the pack itself is."""

    meta: MetaShape
    processes: Sequence[ProcessUse]
    system: HostUse
    series: UseSeriesShape
    store: StoreShape
    own: Sequence[CounterShape]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundShape:
    """What a search found."""

    request_id: str | None = None
    error_group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DoneShape:
    """That an action took effect; ``note`` says why it did not."""

    done: bool
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorShape:
    """Why there is no answer, in one sentence."""

    error: str = field(default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestDetailShape:
    """What is known of a kept request besides its row."""

    trace_id: str
    path: str
    bytes_sent: int
    process: str
    spans: Sequence[SpanFact]
    spans_dropped: int
    lines: Sequence[Mapping[str, Any]]
    findings: Sequence[FindingFact]
    error: ErrorEvent | None
    baseline: StatsShape


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDetailShape:
    """What is known of a group besides its row."""

    why: Sequence[str]
    frequency: Frequency
    events: Sequence[ErrorEvent]


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeDetailShape:
    """What is known of an episode besides its row."""

    events: Sequence[AlertEvent]
    notifications: Sequence[NotificationRow]
