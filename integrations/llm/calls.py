"""One call to a language model, from the request to its observation: what the answer told, and how it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from time import perf_counter
from types import MappingProxyType
from typing import Any, Final

from monitoring.calls import LLMCall
from monitoring.integrations.attachment import Link, report
from monitoring.integrations.dropped import report_dropped, report_waiting, waiting
from monitoring.recorder import Recorder

from . import prices
from .content import Content
from .usage import Usage

_MODEL_LENGTH: Final = 100
_REASON_LENGTH: Final = 50
NO_CONTEXT: Final[Mapping[str, str]] = MappingProxyType({})
_NO_LIMITS: Final[Mapping[str, float]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Operation:
    """One kind of call, and how its answers are read."""

    name: str
    """As in OpenTelemetry's ``gen_ai.operation.name``."""
    note: Callable[[PendingCall, Any], None]
    """Take from a whole answer what there is to know."""
    note_chunk: Callable[[PendingCall, Any], object]
    """Take it from a chunk of a stream. True says that the chunk is ours, and not for the reader."""
    usage: Callable[[Any], Usage]


class PendingCall:
    """A call under way, and what its answer tells of itself, never its text.

    It is reported once, whoever ends it first, in the context that it was made in. What nobody sets has its default
    here, which takes no time.
    """

    response_model: str = ""
    usage: Any = None
    """The usage as the provider tells it."""
    is_final: bool = True
    """Whether that is all of it, and not what was known when a stream began."""
    price_context: Mapping[str, str] = NO_CONTEXT
    """What else the price depends on."""
    was_answered: bool = False
    """Whether the provider began to answer: what goes wrong then is no refusal."""
    failure: str = ""
    """What the provider said went wrong, in one word, where the SDK raises nothing."""
    finish_reason: str = ""
    tool_calls: int = 0
    retries: tuple[str, ...] = ()
    failed_attempt: str = ""
    """Why the last attempt failed, where the client's attempts are seen one by one."""
    rate_limits: Mapping[str, float] = _NO_LIMITS
    gateway_cost: Decimal | None = None
    """What a gateway says that the call costs, in US dollars."""
    hides_usage: bool = False
    """Whether the chunk that tells only the usage was asked for by us, and not by the reader."""
    streamed: bool = False
    chunks: int = 0
    first: float = 0.0
    last: float = 0.0
    content: Content | None = None
    """What is asked and answered, of the few calls of which that is kept."""
    _context: Context | None = None
    _ended: bool = True

    def __init__(self, link: Link, recorder: Recorder, provider: str, operation: Operation, model: object) -> None:
        if waiting:
            report_waiting()
        self.link = link
        self.provider = provider
        self.operation = operation
        self.model = model
        self._recorder = recorder
        self._ended = False
        self._started = perf_counter()

    def stream(self) -> None:
        """Note that the answer comes in chunks."""
        self.streamed = True
        self._note_chunk = self.operation.note_chunk
        self._context = copy_context()

    def outlive_the_request(self) -> None:
        """Keep the context of now, because the call will end in another place."""
        self._context = copy_context()

    def hold(self) -> None:
        """Go on after the answer, which says only that there will be one. Until it is resumed, nothing ends it."""
        self._ended = True
        self._context = copy_context()

    def resume(self) -> None:
        """Let it end, now that its answer is there or is given up."""
        self._ended = False

    def note(self, item: Any) -> None:
        """Take what a whole answer tells. Never raises."""
        try:
            self.operation.note(self, item)
            if self.content is not None:
                self.content.take(item)
        except Exception as error:
            self.stumble(error)

    def take(self, chunk: Any) -> object:
        """Take what a chunk tells, and say whether it is to be kept from the reader. Never raises."""
        self.last = now = perf_counter()
        if self.chunks:
            self.chunks += 1
        else:
            self.first, self.chunks = now, 1
        try:
            if self.content is not None:
                self.content.take_chunk(chunk)
            return self._note_chunk(self, chunk)
        except Exception as error:
            self.stumble(error)
            return None

    def begin_attempt(self) -> None:
        """Note that the client tries, or tries again."""
        if self.failed_attempt:
            self.retries += (self.failed_attempt,)
            self.failed_attempt = ""

    def stumble(self, error: Exception) -> None:
        """Count a bug in reading an answer."""
        self._recorder.failed(f"reading an answer of {self.provider}", error)

    def end(self, error: BaseException | None = None, outcome: str = "") -> None:
        """Report how it ended: by itself, with an exception, or with an outcome that says who lost interest."""
        if not self._ended:
            self._ended = True
            self._report(error, outcome)

    @property
    def is_over(self) -> bool:
        """Whether it is reported, or is not to be."""
        return self._ended

    def discard(self) -> None:
        """Report nothing: it was no call, or another client reports it."""
        self._ended = True

    def drop(self, outcome: str) -> None:
        """Report a stream that nobody will read on; the garbage collector may be the one to say so."""
        if not self._ended:
            self._ended = True
            report_dropped(partial(self._report, None, outcome))

    def __del__(self) -> None:
        if not self._ended:
            self.drop("abandoned")

    def _report(self, error: BaseException | None, outcome: str) -> None:
        if self._context is None:
            report(self._recorder, self._call, error, outcome)
        else:
            self._context.run(report, self._recorder, self._call, error, outcome)

    def _call(self, error: BaseException | None, outcome: str) -> LLMCall:
        call = LLMCall(self._started, error, outcome)
        model = str(self.model or "")[:_MODEL_LENGTH]
        operation = self.operation.name
        call.provider, call.operation, call.model = self.provider, operation, model
        call.name = f"{operation} {model}"
        call.response_model = str(self.response_model)[:_MODEL_LENGTH]
        if self.streamed or outcome or error is not None:
            self._tell_course(call, error)
        if self.finish_reason:
            call.finish_reason = str(self.finish_reason)[:_REASON_LENGTH]
        if self.tool_calls:
            call.tool_calls = self.tool_calls
        if self.retries:
            call.retries = self.retries
        if self.rate_limits:
            call.rate_limits = self.rate_limits
        if self.failure and call.outcome == "ok":
            call.outcome, call.error_type = "error", self.failure
        if self.content is not None:
            call.content = self.content.told()
        if self.usage is not None:
            self._count(call, self.operation.usage(self.usage))
        if self.gateway_cost is not None and call.price_source != "provider":
            call.cost_usd, call.price_source, call.price_version = self.gateway_cost, "provider", ""
        return call

    def _tell_course(self, call: LLMCall, error: BaseException | None) -> None:
        """Tell how the stream went, and of an error whether the provider refused to begin."""
        call.streamed = self.streamed
        if self.chunks:
            call.chunks = self.chunks
            call.first_chunk_seconds = self.first - self._started
            call.generating_seconds = self.last - self.first
            if error is None and call.outcome != "ok":
                call.duration_seconds = self.last - self._started
        elif error is not None and not self.was_answered:
            status = status_of(error)
            call.refused = status is not None and status >= 400

    def _count(self, call: LLMCall, usage: Usage) -> None:
        call.input_tokens, call.output_tokens = usage.input_tokens, usage.output_tokens
        if usage.cache_read_tokens:
            call.cache_read_tokens = usage.cache_read_tokens
        if usage.cache_write_tokens:
            call.cache_write_tokens = usage.cache_write_tokens
        if usage.reasoning_tokens:
            call.reasoning_tokens = usage.reasoning_tokens
        if not usage.consistent:
            call.usage_consistent = False
        model, context = call.model, self.price_context
        if context:
            call.service_tier = next(iter(context.values()))[:_REASON_LENGTH]
        if self.is_final:
            call.has_usage = True
            answered = call.response_model
            models = (answered, model) if answered and answered != model else (model,)
            cost, source = prices.cost_of(call.provider, models, usage, context)
            if cost is not None:
                call.cost_usd, call.price_source = cost, source
                if source == "snapshot":
                    call.price_version = prices.version()


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that an SDK's exception tells, None where it tells none, or one that no server has sent:
    LiteLLM's exceptions of broken connections have one, too.
    """
    if any(kind.__name__ == "APIConnectionError" for kind in type(error).__mro__):
        return None
    for name in ("status_code", "code"):
        status = getattr(error, name, None)
        if status.__class__ is int:
            return status
    response = getattr(error, "response", None)
    if response.__class__ is dict:  # botocore's
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status if status.__class__ is int else None
    return None
