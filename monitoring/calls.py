"""What the app asks of other components: one observation per query, cache look-up, LLM call and outgoing request.

Adapters make these when the answer is complete; none holds a statement's parameters, a key, a prompt or a body.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from time import perf_counter
from types import MappingProxyType
from typing import Any, Final

from .context import current_block, current_record
from .observation import Observation, outcome_of_exception

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
        self._request = current_record.get()
        self.block = current_block.get()
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
    """``chat``, ``text_completion``, ``embeddings``, ``generate_content``."""
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
    cost_usd: Decimal | None = None
    """None where the price is not known."""
    streamed: bool = False
    first_chunk_seconds: float = 0.0
    """Time to the first chunk of a stream that sent one."""

    @property
    def agent(self) -> str:
        """Return the nearest agent that made the call, "" outside of any."""
        return self.block.agent if self.block is not None else ""
