"""The metrics of calls, agents and business: their names, labels and buckets, and what counts in them.

Names follow OpenTelemetry's semantic conventions (v1.44, and those for generative AI) in Prometheus spelling, caches
follow Micrometer's. ``error_type`` is "" where there was no error, so that a metric has one label set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from .cells import Declaration, HistogramSeries, Merge, Nowhere, Table, scale

_DB_LABELS: Final = ("db_system_name", "db_operation_name", "db_query_summary", "error_type")
_CACHE_LABELS: Final = ("cache", "cache_system")
_LLM_LABELS: Final = ("gen_ai_provider_name", "gen_ai_request_model", "gen_ai_operation_name")
_LLM_LIMITS: Final = {"gen_ai_request_model": 100}
_PER_SECOND: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
_AGENT: Final = ("gen_ai_agent_name",)
_AGENT_LIMITS: Final = {"gen_ai_agent_name": 200}
_CALLS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
_POOL: Final = "db_client_connection_pool_name"
_POOL_LIMITS: Final = {_POOL: 50}
_HTTP_CLIENT: Final = (
    "http_request_method",
    "server_address",
    "server_port",
    "http_response_status_code",
    "url_template",
)
_HTTP_CLIENT_LIMITS: Final = {"server_address": 200, "url_template": 200}


class CountsMetrics(Protocol):
    """Where values are counted, as far as the sinks of calls and of usage need it."""

    def add(self, declaration: Declaration, values: tuple[str, ...], amount: float) -> None:
        """Add to a counter."""
        ...

    def set(self, declaration: Declaration, values: tuple[str, ...], value: float) -> None:
        """Set a gauge of this process."""
        ...

    def observe(self, declaration: Declaration, values: tuple[str, ...], value: float) -> None:
        """Count a value in a histogram."""
        ...


class KeepsSeries(CountsMetrics, Protocol):
    """The same for a sink that counts so often that it keeps its own look-ups."""

    def cells(self, declaration: Declaration) -> Table[Any]:
        """Return the cells of a counter or gauge by label values."""
        ...

    def histograms(self, declaration: Declaration) -> Table[HistogramSeries | Nowhere]:
        """Return the series of a histogram by label values."""
        ...

    def table(self, make: Callable[[Any], tuple[Any, bool]]) -> Table[Any]:
        """Return a look-up of what ``make`` returns for a key, and whether that stands for the key alone."""
        ...


def _histogram(
    name: str, help: str, labels: tuple[str, ...], le: tuple[float, ...], **more: dict[str, int]
) -> Declaration:
    return Declaration(name=name, kind="histogram", help=help, labels=labels, le=le, limits=more.get("limits", {}))


def _counter(name: str, help: str, labels: tuple[str, ...], **more: dict[str, int]) -> Declaration:
    return Declaration(name=name, kind="counter", help=help, labels=labels, limits=more.get("limits", {}))


def _per_run(what: str, help: str) -> Declaration:
    return Declaration(
        name=f"gen_ai_invoke_agent_{what}_calls",
        kind="histogram",
        help=help,
        labels=_AGENT,
        unit="quantity",
        le=_CALLS,
        limits=_AGENT_LIMITS,
    )


def _quota(name: str, help: str, merge: Merge) -> Declaration:
    return Declaration(
        name=name,
        kind="gauge",
        help=help,
        labels=("server_address", "limit"),
        merge=merge,
        limits={"server_address": 200, "limit": 50},
    )


DB_DURATION: Final = _histogram(
    "db_client_operation_duration_seconds", "Time of database statements.", _DB_LABELS, scale.DB_SECONDS
)

DB_CONNECTIONS: Final = Declaration(
    name="db_client_connections_open",
    kind="gauge",
    help="Connections of a pool that are open, by state: used or idle.",
    labels=(_POOL, "state"),
    limits=_POOL_LIMITS,
)
DB_CONNECTION_WAIT: Final = _histogram(
    "db_client_connection_wait_time_seconds",
    "Time to obtain a connection from a pool.",
    (_POOL,),
    scale.DB_SECONDS,
    limits=_POOL_LIMITS,
)
DB_CONNECTION_USE: Final = _histogram(
    "db_client_connection_use_time_seconds",
    "Time from obtaining a connection to giving it back.",
    (_POOL,),
    scale.DB_SECONDS,
    limits=_POOL_LIMITS,
)
DB_CONNECTION_CREATE: Final = _histogram(
    "db_client_connection_create_time_seconds",
    "Time to open a connection.",
    (_POOL,),
    scale.DB_SECONDS,
    limits=_POOL_LIMITS,
)
DB_CONNECTION_TIMEOUTS: Final = _counter(
    "db_client_connection_timeouts_total",
    "Waits for a connection that ended without one.",
    (_POOL,),
    limits=_POOL_LIMITS,
)
DB_TRANSACTION: Final = _histogram(
    "db_client_transaction_duration_seconds",
    "Time of database transactions, by outcome: commit or rollback.",
    ("db_system_name", _POOL, "outcome"),
    scale.DB_SECONDS,
    limits=_POOL_LIMITS,
)
DB_SLOW_QUERIES: Final = _counter(
    "db_client_slow_queries_total",
    "Database statements that took longer than slow_query_seconds.",
    ("db_system_name", "db_operation_name"),
)
DB_REPEATED_QUERIES: Final = _counter(
    "db_client_repeated_queries_total",
    "Requests and jobs that read the same thing repeated_queries times or more, by statement.",
    ("http_route", "db_query_summary"),
)
DB_QUERIES_PER_REQUEST: Final = Declaration(
    name="db_client_queries_per_request",
    kind="histogram",
    help="Database statements of the requests and jobs that sent any.",
    labels=("http_route",),
    unit="quantity",
    le=(1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0),
)

CACHE_GETS: Final = _counter(
    "cache_gets_total", "Keys looked up in a cache, by result: hit or miss.", (*_CACHE_LABELS, "result")
)
CACHE_DURATION: Final = _histogram(
    "cache_operation_duration_seconds",
    "Time of cache commands.",
    (*_CACHE_LABELS, "operation", "error_type"),
    scale.CACHE_SECONDS,
)
CACHE_PREFIX_GETS: Final = _counter(
    "cache_prefix_gets_total",
    "Keys looked up in a cache, by the kind of key: what stands before its first colon.",
    ("cache", "key_prefix", "result"),
    limits={"key_prefix": 1_000},
)
CACHE_PUTS: Final = _counter("cache_puts_total", "Entries stored in a cache.", _CACHE_LABELS)
CACHE_REMOVALS: Final = _counter("cache_removals_total", "Entries removed from a cache on request.", _CACHE_LABELS)
CACHE_EVICTIONS: Final = _counter(
    "cache_evictions_total", "Entries that a cache in memory gave up: for want of room, or too old.", _CACHE_LABELS
)
CACHE_SIZE: Final = Declaration(
    name="cache_size", kind="gauge", help="Size of the caches in the processes' own memory.", labels=_CACHE_LABELS
)
CACHE_PIPELINE_COMMANDS: Final = _counter(
    "cache_pipeline_commands_total", "Commands sent to a cache in pipelines.", (*_CACHE_LABELS, "operation")
)
HTTP_CLIENT_DURATION: Final = _histogram(
    "http_client_request_duration_seconds",
    "Time of outgoing HTTP requests until the response began.",
    (*_HTTP_CLIENT, "error_type"),
    scale.HTTP_SECONDS,
    limits=_HTTP_CLIENT_LIMITS,
)
HTTP_CLIENT_RESPONSE_DURATION: Final = _histogram(
    "http_client_response_duration_seconds",
    "Time of outgoing HTTP requests until the response's body was read, closed or dropped.",
    (*_HTTP_CLIENT, "outcome"),
    scale.HTTP_SECONDS,
    limits=_HTTP_CLIENT_LIMITS,
)
HTTP_CLIENT_RESENDS: Final = _counter(
    "http_client_resends_total",
    "Outgoing HTTP requests that were sent again, by reason: retry or redirect.",
    ("server_address", "reason"),
    limits={"server_address": 200},
)
RATE_LIMIT_REMAINING: Final = _quota(
    "http_client_rate_limit_remaining",
    "What is left of a quota at an API by its last answer, the least of what the workers were told.",
    "min",
)
RATE_LIMIT_LIMIT: Final = _quota("http_client_rate_limit_limit", "Size of a quota at an API by its last answer.", "max")
RATE_LIMIT_USED: Final = _quota(
    "http_client_rate_limit_used_ratio", "Share of a quota at an API that is used up by its last answer.", "max"
)
RETRY_AFTER: Final = Declaration(
    name="http_client_retry_after_seconds",
    kind="gauge",
    help="Seconds that an API's last answer asked to wait; 0 once it answers without that.",
    labels=("server_address",),
    merge="max",
    limits={"server_address": 200},
)

LLM_DURATION: Final = _histogram(
    "gen_ai_client_operation_duration_seconds",
    "Time of calls to language models, until the last chunk of a stream.",
    (*_LLM_LABELS, "error_type"),
    scale.LLM_SECONDS,
    limits=_LLM_LIMITS,
)
LLM_FIRST_CHUNK: Final = _histogram(
    "gen_ai_client_operation_time_to_first_chunk_seconds",
    "Time to the first chunk of streamed answers.",
    _LLM_LABELS,
    scale.LLM_SECONDS,
    limits=_LLM_LIMITS,
)
LLM_CHUNK: Final = _histogram(
    "gen_ai_client_operation_time_per_output_chunk_seconds",
    "Mean time from one chunk of a streamed answer to the next, once per stream.",
    _LLM_LABELS,
    scale.LLM_SECONDS,
    limits=_LLM_LIMITS,
)
LLM_SPEED: Final = Declaration(
    name="gen_ai_client_output_tokens_per_second",
    kind="histogram",
    help="Output tokens per second: of streams since the first chunk, of others in all.",
    labels=(*_LLM_LABELS, "streamed"),
    unit="quantity",
    le=_PER_SECOND,
    limits=_LLM_LIMITS,
)


def _tokens(what: str, help: str) -> Declaration:
    return _counter(f"gen_ai_client_inference_usage_{what}_tokens_total", help, _LLM_LABELS, limits=_LLM_LIMITS)


LLM_INPUT_TOKENS: Final = _tokens("input", "Tokens sent to language models, cached ones included.")
LLM_OUTPUT_TOKENS: Final = _tokens("output", "Tokens that language models answered, reasoning included.")
LLM_CACHE_READ_TOKENS: Final = _tokens("cache_read_input", "Input tokens that came from the provider's cache.")
LLM_CACHE_WRITE_TOKENS: Final = _tokens("cache_write_input", "Input tokens written to the provider's cache.")
LLM_REASONING_TOKENS: Final = _tokens("reasoning_output", "Output tokens spent on reasoning.")
LLM_COST: Final = _counter(
    "gen_ai_client_cost_usd_total",
    "Cost of calls whose price is known, in US dollars.",
    _LLM_LABELS,
    limits=_LLM_LIMITS,
)
LLM_UNPRICED: Final = _counter(
    "gen_ai_client_unpriced_operations_total", "Calls whose price is not known.", _LLM_LABELS, limits=_LLM_LIMITS
)
LLM_USAGE_MISSING: Final = _counter(
    "gen_ai_client_usage_missing_total",
    "Calls that may have used tokens whose provider did not tell the counts.",
    _LLM_LABELS,
    limits=_LLM_LIMITS,
)

LLM_USAGE_INCONSISTENT: Final = _counter(
    "gen_ai_client_usage_inconsistent_total",
    "Calls whose token counts contradict each other; their parts were cut to fit.",
    _LLM_LABELS,
    limits=_LLM_LIMITS,
)
LLM_FINISH_REASONS: Final = _counter(
    "gen_ai_client_finish_reasons_total",
    "Answers by the reason for which they ended.",
    (*_LLM_LABELS, "gen_ai_response_finish_reason"),
    limits={**_LLM_LIMITS, "gen_ai_response_finish_reason": 20},
)
LLM_TOOL_CALLS: Final = _counter(
    "gen_ai_client_tool_calls_total", "Calls to tools that models asked for.", _LLM_LABELS, limits=_LLM_LIMITS
)
LLM_RETRIES: Final = _counter(
    "gen_ai_client_retries_total",
    "Attempts that clients repeated, by the reason: a status, or connection.",
    (*_LLM_LABELS, "reason"),
    limits={**_LLM_LIMITS, "reason": 20},
)
LLM_RATE_LIMIT: Final = Declaration(
    name="gen_ai_client_rate_limit_remaining",
    kind="gauge",
    help="What a provider last said was left of a limit.",
    labels=("gen_ai_provider_name", "limit"),
    merge="min",
    limits={"limit": 20},
)

AGENT_DURATION: Final = _histogram(
    "gen_ai_invoke_agent_duration_seconds",
    "Time of agents and their steps.",
    (*_AGENT, "error_type"),
    scale.LLM_SECONDS,
    limits=_AGENT_LIMITS,
)
AGENT_CALLS: Final = _counter(
    "monitoring_agent_llm_calls_total", "LLM calls, by the nearest agent around them.", _AGENT, limits=_AGENT_LIMITS
)
AGENT_TOKENS: Final = _counter(
    "monitoring_agent_tokens_total", "Tokens used, by the nearest agent around the call.", _AGENT, limits=_AGENT_LIMITS
)
AGENT_COST: Final = _counter(
    "monitoring_agent_cost_usd_total",
    "Known cost of LLM calls, by the nearest agent around them.",
    _AGENT,
    limits=_AGENT_LIMITS,
)
AGENT_INFERENCE_CALLS: Final = _per_run("inference", "LLM calls in a run of an agent, those of its steps among them.")
AGENT_TOOL_CALLS: Final = _per_run("tool", "Calls to tools in a run of an agent, those of its steps among them.")
TOOL_DURATION: Final = _histogram(
    "gen_ai_execute_tool_duration_seconds",
    "Time of tools, inside of agents and elsewhere.",
    ("gen_ai_tool_name", "error_type"),
    scale.LLM_SECONDS,
    limits={"gen_ai_tool_name": 200},
)

BUDGET_SPENT: Final = Declaration(
    name="monitoring_budget_spent_ratio",
    kind="gauge",
    help="Share of a budget that is spent in its hour or day; of one by user, feature or agent, the highest share.",
    labels=("budget",),
    merge="max",
)
BUDGET_UNPRICED: Final = _counter(
    "monitoring_budget_unpriced_calls_total", "LLM calls on a budget whose price is not known.", ("budget",)
)
BUDGET_REFUSALS: Final = _counter(
    "monitoring_budget_refusals_total", "LLM calls that were not sent because a budget was spent.", ("budget",)
)

OPERATION_DURATION: Final = _histogram(
    "monitoring_operation_duration_seconds",
    "Time to complete business operations, by outcome: ok, failed or abandoned.",
    ("operation", "outcome"),
    scale.LLM_SECONDS,
)
OPERATION_VALUE_DURATION: Final = _histogram(
    "monitoring_operation_value_duration_seconds",
    "Time to complete business operations, by the value of one of their dimensions.",
    ("operation", "dimension", "value", "outcome"),
    scale.LLM_SECONDS,
)
EVENTS: Final = _counter("monitoring_events_total", "Usage events.", ("event",))
FEATURES: Final = _counter("monitoring_feature_uses_total", "Uses of features.", ("feature",))

CONSUMER_REQUESTS: Final = _counter(
    "http_server_consumer_requests_total",
    "Requests by who called, of callers that are named.",
    ("consumer", "http_route", "http_response_status_code"),
    limits={"consumer": 200},
)

_TASK_LABELS: Final = ("messaging_system", "messaging_destination_name", "task")
_TASK_LIMITS: Final = {"messaging_destination_name": 100, "task": 500}

TASK_DURATION: Final = _histogram(
    "messaging_process_duration_seconds",
    "Time that attempts at tasks ran, by how they ended.",
    (*_TASK_LABELS, "outcome", "error_type"),
    scale.LLM_SECONDS,
    limits=_TASK_LIMITS,
)
TASK_QUEUE_WAIT: Final = _histogram(
    "monitoring_task_queue_wait_seconds",
    "Time from being queued, or due, to the start of a task, by the wall clocks of both hosts.",
    _TASK_LABELS,
    scale.LLM_SECONDS,
    limits=_TASK_LIMITS,
)
TASKS_SENT: Final = _counter(
    "messaging_client_sent_messages_total", "Tasks handed to their queue.", _TASK_LABELS, limits=_TASK_LIMITS
)
TASK_RETRIES: Final = _counter(
    "monitoring_task_retries_total",
    "Attempts at tasks after which they are tried again.",
    (*_TASK_LABELS, "error_type"),
    limits=_TASK_LIMITS,
)
TASKS_IN_PROGRESS: Final = Declaration(
    name="monitoring_tasks_in_progress",
    kind="gauge",
    help="Tasks that run now.",
    labels=_TASK_LABELS,
    limits=_TASK_LIMITS,
)

STORE_FAILURES: Final = _counter("monitoring_store_failures_total", "Rounds in which the store could not be used.", ())
FACTS_DROPPED: Final = _counter(
    "monitoring_facts_dropped_total", "Facts for the store that found no place in the queue.", ()
)

ALL: Final = tuple(value for value in list(globals().values()) if isinstance(value, Declaration))
