"""What goes on in a framework of agents: blocks and calls to models that it tells of when they begin and when they end.

A call to a model that a wrapped client below reports is that client's; only where there is none, what the framework
knows of its tokens is reported, once.
"""

from __future__ import annotations

from collections.abc import Hashable
from contextvars import Token
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

from monitoring.calls import LLMCall
from monitoring.context import reset
from monitoring.integrations.attachment import Link, attempt, report
from monitoring.integrations.layers import Layer, current_layer
from monitoring.integrations.llm import prices
from monitoring.integrations.llm.usage import Usage
from monitoring.recorder import Recorder
from monitoring.spans import Span

NAME_LENGTH: Final = 100
UNDER_WAY: Final = 10_000
"""Blocks and calls that are waited for; a framework that forgets to end them must not fill the memory."""

_PROVIDERS: Final = {
    "amazon_bedrock": "aws.bedrock",
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "google": "gcp.gemini",
    "google-cloud": "gcp.vertex_ai",
    "google-gla": "gcp.gemini",
    "google-vertex": "gcp.vertex_ai",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "moonshotai": "moonshot_ai",
    "xai": "x_ai",
}
"""What frameworks call providers, in OpenTelemetry's words."""


@dataclass(slots=True)
class ModelAnswer:
    """What a framework knows of a model's answer."""

    usage: Usage | None
    """None where it knows no token counts."""
    model: str = ""
    provider: str = ""
    """Where it is not known before, or is another."""
    finish_reason: str = ""
    tool_calls: int = 0


class ModelCall:
    """One call to a model under way, from a framework's view. Of clients inside of it the innermost reports."""

    __slots__ = ("_layer", "_link", "_model", "_provider", "_recorder", "_started", "_token")

    def __init__(self, link: Link, recorder: Recorder, provider: str, model: str) -> None:
        self._link = link
        self._recorder = recorder
        self._provider = _PROVIDERS.get(provider, provider)
        self._model = model[:NAME_LENGTH]
        self._layer = layer = Layer("llm", None)
        while layer.outer is not None and layer.outer.is_over:  # left behind here by calls that ended elsewhere
            layer.outer = layer.outer.outer
        self._token: Token[Layer | None] = current_layer.set(self._layer)
        self._started = perf_counter()

    def end(self, answer: ModelAnswer | None, error: BaseException | None) -> None:
        """Report it, unless that is done."""
        self._layer.is_over, self._layer.ended = True, perf_counter()
        reset(current_layer, self._token)
        if current_layer.get() is self._layer:  # it ends in a copy of the context that it began in
            current_layer.set(self._layer.outer)
        if not self._layer.is_counted:
            report(self._recorder, self._call, answer, error)

    def _call(self, answer: ModelAnswer | None, error: BaseException | None) -> LLMCall:
        call = LLMCall(self._started, error)
        call.provider, call.model = self._provider, self._model
        if answer is not None:
            call.model = call.model or answer.model[:NAME_LENGTH]
            call.provider = _PROVIDERS.get(answer.provider, answer.provider) or call.provider
            call.response_model = answer.model[:NAME_LENGTH]
            call.finish_reason, call.tool_calls = answer.finish_reason[:NAME_LENGTH], answer.tool_calls
            if answer.usage is not None:
                _count(call, answer.usage)
        call.name = f"{call.operation} {call.model}"
        return call


def _count(call: LLMCall, usage: Usage) -> None:
    call.has_usage = True
    call.input_tokens, call.output_tokens = usage.input_tokens, usage.output_tokens
    call.cache_read_tokens, call.cache_write_tokens = usage.cache_read_tokens, usage.cache_write_tokens
    call.reasoning_tokens, call.usage_consistent = usage.reasoning_tokens, usage.consistent
    models = tuple(dict.fromkeys(name for name in (call.response_model, call.model) if name))
    call.cost_usd, call.price_source = prices.cost_of(call.provider, models, usage, {})
    if call.price_source == "snapshot":
        call.price_version = prices.version()


class Running:
    """Blocks and calls by the IDs that the framework has for them. Thread-safe under the GIL; never raises.

    One that begins twice is once: several of our listeners may hear of it.
    """

    def __init__(self) -> None:
        self._blocks: dict[Hashable, Span] = {}
        self._calls: dict[Hashable, ModelCall] = {}

    def begin_block(self, link: Link, key: Hashable, name: str, *, tool: bool = False) -> None:
        """Note that an agent or one of its steps begins here and now, or a tool."""
        if link.recorder() is not None and key not in self._blocks and len(self._blocks) < UNDER_WAY:
            attempt(link, self._begin_block, link, key, name, tool)

    def end_block(self, link: Link, key: Hashable, error: BaseException | None = None) -> None:
        """Note that it ends."""
        span = self._blocks.pop(key, None)
        if span is not None:
            attempt(link, span.leave, error)

    def begin_call(self, link: Link, key: Hashable, provider: str, model: str) -> None:
        """Note that a call to a model begins here and now."""
        if link.recorder() is not None and key not in self._calls and len(self._calls) < UNDER_WAY:
            attempt(link, self._begin_call, link, key, provider, model)

    def end_call(
        self, link: Link, key: Hashable, answer: ModelAnswer | None, error: BaseException | None = None
    ) -> None:
        """Note that it ends, with what is known of the answer."""
        call = self._calls.pop(key, None)
        if call is not None:
            attempt(link, call.end, answer, error)

    def _begin_block(self, link: Link, key: Hashable, name: str, tool: bool) -> None:
        span = block(link, name, tool=tool)
        span.__enter__()
        self._blocks[key] = span

    def _begin_call(self, link: Link, key: Hashable, provider: str, model: str) -> None:
        recorder = link.recorder()
        if recorder is not None:
            self._calls[key] = ModelCall(link, recorder, provider, model)


def block(link: Link, name: str, *, tool: bool = False) -> Span:
    """Return a block for an agent, one of its steps, or a tool."""
    attributes = {"tool": True} if tool else {}
    return Span(link.recorder_of, name[:NAME_LENGTH], attributes, "span" if tool else "agent")


def text_of(value: Any) -> str:
    """Return a text as it is, "" for anything else."""
    return value if isinstance(value, str) else ""
