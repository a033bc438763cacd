"""Token counts as the providers tell them, made into one shape: totals, with the cached and reasoned parts inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

_NUMBERS: Final = (int, float, Decimal)
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(slots=True)
class Usage:
    """What one call used. ``cache_*`` and ``input_audio`` are parts of the input, ``reasoning`` of the output."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    cache_audio_read_tokens: int = 0
    web_searches: int = 0
    requests: int = 1
    cost_usd: Decimal | None = None
    """What the provider says that it costs."""
    consistent: bool = True
    """Whether the parts fit into the totals; where they do not they were cut, and no price follows from them."""

    def __post_init__(self) -> None:
        cached = self.cache_read_tokens + self.cache_write_tokens
        if cached > self.input_tokens or self.reasoning_tokens > self.output_tokens:
            self.cache_read_tokens = min(self.cache_read_tokens, self.input_tokens)
            self.cache_write_tokens = min(self.cache_write_tokens, self.input_tokens - self.cache_read_tokens)
            self.reasoning_tokens = min(self.reasoning_tokens, self.output_tokens)
            self.consistent = False


def openai_usage(told: Any) -> Usage:
    """Return the usage of chat completions, completions, embeddings or responses of an OpenAI-compatible provider.

    xAI counts reasoning beside the output; its total gives that away, and it is added. DeepSeek has a field of its own
    for what the cache held.
    """
    counts = fields(told)
    is_chat = counts.get("prompt_tokens") is not None
    asked, answered = ("prompt_tokens", "completion_tokens") if is_chat else ("input_tokens", "output_tokens")
    into, out = fields(counts.get(f"{asked}_details")), fields(counts.get(f"{answered}_details"))
    input_tokens, output_tokens = _count(counts, asked), _count(counts, answered)
    reasoning = _count(out, "reasoning_tokens")
    if reasoning and _count(counts, "total_tokens") == input_tokens + output_tokens + reasoning:
        output_tokens += reasoning
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=_count(into, "cached_tokens") or _count(counts, "prompt_cache_hit_tokens"),
        cache_write_tokens=_count(into, "cache_write_tokens"),
        reasoning_tokens=reasoning,
        input_audio_tokens=_count(into, "audio_tokens"),
        output_audio_tokens=_count(out, "audio_tokens"),
        cost_usd=_cost(counts.get("cost")),
    )


def anthropic_usage(told: Any) -> Usage:
    """Return the usage of a message: what the cache held and took is told beside the input, and is added to it."""
    counts = fields(told)
    read, write = _count(counts, "cache_read_input_tokens"), _count(counts, "cache_creation_input_tokens")
    return Usage(
        input_tokens=_count(counts, "input_tokens") + read + write,
        output_tokens=_count(counts, "output_tokens"),
        cache_read_tokens=read,
        cache_write_tokens=write,
        cache_write_1h_tokens=_count(fields(counts.get("cache_creation")), "ephemeral_1h_input_tokens"),
        reasoning_tokens=_count(fields(counts.get("output_tokens_details")), "thinking_tokens"),
        web_searches=_count(fields(counts.get("server_tool_use")), "web_search_requests"),
        cost_usd=_cost(counts.get("cost")),
    )


def merge_anthropic_usage(former: Any, later: Any) -> dict[str, Any]:
    """Return the usage of a stream so far: a later event tells the counts anew, and leaves out what did not change."""
    return {**fields(former), **{name: value for name, value in fields(later).items() if value is not None}}


def fields(source: Any) -> Mapping[str, Any]:
    """Return the fields of an SDK's object, or of the JSON that it was made of. Asking it for one it lacks is slow."""
    if source is None:
        return _NOTHING
    if source.__class__ is dict:
        told: dict[str, Any] = source
        return told
    known: dict[str, Any] = getattr(source, "__dict__", {})
    extra = getattr(source, "__pydantic_extra__", None)
    return {**known, **extra} if extra else known


def _count(counts: Mapping[str, Any], name: str) -> int:
    value = counts.get(name)
    return value if value.__class__ is int and value > 0 else 0


def _cost(told: Any) -> Decimal | None:
    """Return a cost in US dollars, told as a number or as an object with the total."""
    if told is None:
        return None
    if told.__class__ not in _NUMBERS:
        told = fields(told).get("total_cost")
        if told.__class__ not in _NUMBERS:
            return None
    cost = Decimal(str(told))
    return cost if cost.is_finite() and not cost.is_signed() else None
