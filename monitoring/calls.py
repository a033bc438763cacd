"""What the app asks of other components: one observation per query, cache look-up, LLM call and outgoing request.

Adapters make these when the answer is complete; none holds a statement's parameters, a key, a prompt or a body.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from time import perf_counter
from types import MappingProxyType
from typing import Any, Final

from .context import current_block, current_record, present_block
from .observation import Observation, outcome_of_exception

CONTENT_CHARACTERS: Final = 8_192
"""Characters of a prompt or an answer that are held for a kept request: half of that is kept, once it is scrubbed, so
that nothing is kept of a secret that the bound cuts in two.
"""
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Call(Observation):
    """A call that has ended. Make it where it ended: it takes the time, the request and the block of now.

    Attributes that an adapter does not set keep their class default.
    """

    error_type: str = ""
    """Name of the exception's class; the exception itself is not held, because its frames hold much more."""

    def __init__(self, started: float, error: BaseException | None = None, outcome: str = "") -> None:
        self.started = started
        self.duration_seconds = perf_counter() - started
        self.request = current_record.get()
        block = current_block.get()
        self.block = block if block is None or not block.is_over else present_block()
        if error is None:
            self.outcome = outcome or "ok"
        else:
            self.error_type = type(error).__name__
            self.outcome = outcome or outcome_of_exception(error)


class DatabaseCall(Call):
    """One statement, or one batch of the same statement."""

    kind = "db"
    name: str = ""
    """Operation and target where they are known: ``SELECT funders``."""
    system: str = "other_sql"
    """As in OpenTelemetry's ``db.system.name``: ``postgresql``, ``sqlite``."""
    operation: str = ""
    """The first keyword of the statement, upper case."""
    statement: str = ""
    """The statement's text with placeholders and literals replaced, at most 2,048 characters."""
    rows: int = -1
    """Rows affected, -1 where the driver does not say."""


class CacheCall(Call):
    """One command to a cache, or one pipeline of them."""

    kind = "cache"
    name: str = ""
    """The command, lower case: ``get``, ``mget``, ``pipeline``."""
    cache: str = "default"
    system: str = ""
    """``redis``, ``memcached``, ``memory``."""
    hits: int = 0
    misses: int = 0
    """Both 0 for a command that looks nothing up."""
    puts: int = 0
    removals: int = 0
    """Entries that the command stored and removed, as far as its reply tells."""
    by_prefix: Mapping[str, tuple[int, int]] = _NOTHING
    """Hits and misses by the kind of key (``users`` of ``users:42``), where a key names one. Never more of a key."""
    inner: Mapping[str, int] = _NOTHING
    """How many commands of which name a pipeline sent; empty for a single command."""

    @property
    def commands(self) -> int:
        """Return how many commands a pipeline sent, 0 for a single command."""
        return sum(self.inner.values())


Quota = tuple[str, str, float]
"""What an API said of a quota: ``remaining``, ``limit`` or ``retry_after``, the quota's name, and the number."""


class HTTPCall(Call):
    """One outgoing HTTP request. Its duration is that until the response began."""

    kind = "http"
    name: str = ""
    """Method and host: ``GET api.example.org``."""
    method: str = "GET"
    host: str = ""
    port: int = 0
    status: int = 0
    """0 where no response came."""
    response_seconds: float = 0.0
    """From the start to the end of the response's body; 0 where no response came."""
    url_template: str = ""
    """What the URL was made from, where the app tells it: ``/users/{id}``."""
    span_id: str = ""
    """What the callee was told as its parent; "" where nothing was sent along."""
    retries: int = 0
    """How often the request was sent before this and failed, as far as the client tells."""
    redirects: int = 0
    """How many redirects led to it: 1 for each request that follows one."""
    quotas: tuple[Quota, ...] = ()


class ToolCall(Call):
    """One call to a tool of an agent that a client makes, such as one of MCP; tools of one's own are blocks."""

    kind = "span"
    name: str = ""
    """The tool's name."""
    attributes = MappingProxyType({"tool": True})


class LLMCall(Call):
    """One call to a language model, streamed or not. Tokens are totals: cached ones are part of ``input_tokens``,
    reasoning ones of ``output_tokens``.
    """

    kind = "llm"
    name: str = ""
    """Operation and model: ``chat gpt-4o``."""
    provider: str = ""
    """As in OpenTelemetry's ``gen_ai.provider.name``: ``openai``, ``anthropic``."""
    operation: str = "chat"
    """``chat``, ``text_completion``, ``embeddings``, ``generate_content``, ``batch``."""
    model: str = ""
    """The model that was asked for."""
    response_model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    has_usage: bool = False
    """Whether the provider told its token counts."""
    usage_consistent: bool = True
    """Whether the parts fit into their totals; where they do not they were cut, and there is no price."""
    refused: bool = False
    """Whether the provider answered with an error instead, so that no tokens were used."""
    cost_usd: Decimal | None = None
    """None where the price is not known."""
    price_source: str = ""
    """Who says so: ``provider``, ``own`` (``set_price``) or ``snapshot``; "" where nobody does."""
    price_version: str = ""
    """Of the snapshot: its source and date."""
    service_tier: str = ""
    """The tier or kind of processing that the answer tells, where it is not the usual one: ``flex``, ``batch``."""
    streamed: bool = False
    first_chunk_seconds: float = 0.0
    """Time to the first chunk of a stream that sent one."""
    generating_seconds: float = 0.0
    """Time from the first chunk of a stream to its last."""
    chunks: int = 0
    """Chunks that the reader got of a stream."""
    finish_reason: str = ""
    """In the provider's words: ``stop``, ``length``, ``tool_use``."""
    tool_calls: int = 0
    """Calls to tools that the model asked for."""
    retries: tuple[str, ...] = ()
    """Why the client tried again, for each time: a status, or ``connection``."""
    content: Mapping[str, str] | None = None
    """``prompt`` and ``answer``, not scrubbed yet, of the share of calls that ``llm_content`` says."""
    rate_limits: Mapping[str, float] = MappingProxyType({})
    """What is left of the provider's limits, by limit: ``requests``, ``tokens``. Read once a second at most."""

    @property
    def agent(self) -> str:
        """Return the nearest agent that made the call, "" outside of any."""
        return self.block.agent if self.block is not None else ""

    @property
    def is_unpriced(self) -> bool:
        """Whether it may have cost something that is not known."""
        return self.cost_usd is None and not self.refused

    @property
    def chunk_seconds(self) -> float:
        """Return the mean time from one chunk of a stream to the next, 0 where there were not two."""
        return self.generating_seconds / (self.chunks - 1) if self.chunks > 1 else 0.0

    @property
    def output_tokens_per_second(self) -> float:
        """Return how fast the answer came: since the first chunk, or in all where it is not a stream. 0 if unknown."""
        seconds = self.generating_seconds if self.streamed else self.duration_seconds
        return self.output_tokens / seconds if self.has_usage and seconds > 0 else 0.0
