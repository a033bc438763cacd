"""Token counts as the providers tell them, made into one shape: totals, with the cached and reasoned parts inside."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

_ANTHROPIC_FIELDS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cache_creation",
    "output_tokens_details",
    "server_tool_use",
    "service_tier",
    "speed",
)


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
        read = min(self.cache_read_tokens, self.input_tokens)
        write = min(self.cache_write_tokens, self.input_tokens - read)
        reasoning = min(self.reasoning_tokens, self.output_tokens)
        wanted = (self.cache_read_tokens, self.cache_write_tokens, self.reasoning_tokens)
        if wanted != (read, write, reasoning):
            self.cache_read_tokens, self.cache_write_tokens, self.reasoning_tokens = read, write, reasoning
            self.consistent = False


def openai_usage(told: Any) -> Usage:
    """Return the usage of chat completions, completions, embeddings or responses of an OpenAI-compatible provider.

    xAI counts reasoning beside the output; its total gives that away, and it is added. DeepSeek has a field of its own
    for what the cache held.
    """
    is_chat = field(told, "prompt_tokens") is not None
    asked, answered = ("prompt_tokens", "completion_tokens") if is_chat else ("input_tokens", "output_tokens")
    into, out = field(told, f"{asked}_details"), field(told, f"{answered}_details")
    input_tokens, output_tokens = _count(told, asked), _count(told, answered)
    reasoning = _count(out, "reasoning_tokens")
    if reasoning and _count(told, "total_tokens") == input_tokens + output_tokens + reasoning:
        output_tokens += reasoning
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=_count(into, "cached_tokens") or _count(told, "prompt_cache_hit_tokens"),
        cache_write_tokens=_count(into, "cache_write_tokens"),
        reasoning_tokens=reasoning,
        input_audio_tokens=_count(into, "audio_tokens"),
        output_audio_tokens=_count(out, "audio_tokens"),
        cost_usd=_cost(field(told, "cost")),
    )


def anthropic_usage(told: Any) -> Usage:
    """Return the usage of a message: what the cache held and took is told beside the input, and is added to it."""
    read, write = _count(told, "cache_read_input_tokens"), _count(told, "cache_creation_input_tokens")
    return Usage(
        input_tokens=_count(told, "input_tokens") + read + write,
        output_tokens=_count(told, "output_tokens"),
        cache_read_tokens=read,
        cache_write_tokens=write,
        cache_write_1h_tokens=_count(field(told, "cache_creation"), "ephemeral_1h_input_tokens"),
        reasoning_tokens=_count(field(told, "output_tokens_details"), "thinking_tokens"),
        web_searches=_count(field(told, "server_tool_use"), "web_search_requests"),
        cost_usd=_cost(field(told, "cost")),
    )


def merge_anthropic_usage(former: Any, later: Any) -> dict[str, Any]:
    """Return the usage of a stream so far: a later event tells the counts anew, and leaves out what did not change."""
    merged = {name: field(former, name) for name in _ANTHROPIC_FIELDS}
    merged.update((name, value) for name in _ANTHROPIC_FIELDS if (value := field(later, name)) is not None)
    return merged


def field(source: Any, name: str) -> Any:
    """Return a field of an SDK's object, or of the JSON that it was made of; None where it has none."""
    if isinstance(source, dict):
        return source.get(name)
    return getattr(source, name, None)


def _count(source: Any, name: str) -> int:
    value = field(source, name)
    return value if value.__class__ is int and value > 0 else 0


def _cost(told: Any) -> Decimal | None:
    """Return a cost in US dollars, told as a number or as an object with the total."""
    if told.__class__ not in (int, float, Decimal):
        told = field(told, "total_cost")
    if told.__class__ not in (int, float, Decimal):
        return None
    cost = Decimal(str(told))
    return cost if cost.is_finite() and cost >= 0 else None
