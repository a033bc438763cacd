"""Token counts as the providers tell them, made into one shape: totals, with the cached and reasoned parts inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context, Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any, Final

_NUMBERS: Final = (int, float, Decimal)
MATH: Final = Context(prec=28)
"""The app's own decimal context may round or raise, and a new one is made for each copied context of a stream."""
_XAI_TICK: Final = Decimal("1e-10")
"""US dollars: https://docs.x.ai/developers/cost-tracking."""
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass
class Usage:
    """What one call used. ``cache_*`` and ``input_*`` are parts of the input, ``reasoning`` of the output."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    cache_audio_read_tokens: int = 0
    input_image_tokens: int = 0
    output_image_tokens: int = 0
    input_video_tokens: int = 0
    output_video_tokens: int = 0
    web_searches: int = 0
    requests: int = 1
    cost_usd: Decimal | None = None
    """What the provider says that it costs."""
    consistent: bool = True
    """Whether the parts fit into the totals; where they do not they were cut, and no price follows from them."""

    def __post_init__(self) -> None:
        self.settle()

    @property
    def has_no_parts(self) -> bool:
        """Whether nothing is known but the totals, which is all that `plain_usage` sets."""
        return len(self.__dict__) == 2

    def settle(self) -> None:
        """Cut what contradicts itself: nothing is negative, and no part is greater than its whole."""
        asked, answered = self.input_tokens, self.output_tokens
        read, written, reasoned = self.cache_read_tokens, self.cache_write_tokens, self.reasoning_tokens
        if (
            read + written > asked
            or reasoned > answered
            or asked < 0
            or answered < 0
            or read < 0
            or written < 0
            or reasoned < 0
        ):
            self.input_tokens, self.output_tokens = max(0, asked), max(0, answered)
            self.cache_read_tokens = _within(read, self.input_tokens)
            self.cache_write_tokens = _within(written, self.input_tokens - self.cache_read_tokens)
            self.reasoning_tokens = _within(reasoned, self.output_tokens)
            self.consistent = False


def _within(part: int, whole: int) -> int:
    return max(0, min(part, whole))


def plain_usage(input_tokens: int, output_tokens: int = 0) -> Usage:
    """Return the usage of a call that has no parts yet. What is not set keeps its default, which takes no time."""
    usage = Usage.__new__(Usage)
    usage.input_tokens = input_tokens
    usage.output_tokens = output_tokens
    return usage


def openai_usage(told: Any) -> Usage:
    """Return the usage of chat completions, completions, embeddings, responses, images or transcriptions of an
    OpenAI-compatible provider.

    xAI counts reasoning beside the output; its total gives that away, and it is added. DeepSeek has a field of its own
    for what the cache held.
    """
    counts = fields(told)
    if counts.get("prompt_tokens") is not None:
        usage = plain_usage(count(counts, "prompt_tokens"), count(counts, "completion_tokens"))
        into, out = counts.get("prompt_tokens_details"), counts.get("completion_tokens_details")
    else:
        usage = plain_usage(count(counts, "input_tokens"), count(counts, "output_tokens"))
        into = counts.get("input_tokens_details") or counts.get("input_token_details")
        out = counts.get("output_tokens_details")
    if into is not None:
        _add_input_details(usage, fields(into))
    if out is not None:
        _add_output_details(usage, fields(out), counts)
    if hit := counts.get("prompt_cache_hit_tokens"):
        usage.cache_read_tokens = usage.cache_read_tokens or hit
    if (cost := counts.get("cost")) is not None:
        usage.cost_usd = _cost(cost, counts)
    elif (ticks := counts.get("cost_in_usd_ticks")) is not None:
        usage.cost_usd = cost_usd(ticks, _XAI_TICK)
    usage.settle()
    return usage


def _add_input_details(usage: Usage, into: Mapping[str, Any]) -> None:
    if into.get("cached_tokens"):
        usage.cache_read_tokens = count(into, "cached_tokens")
    if into.get("cache_write_tokens"):
        usage.cache_write_tokens = count(into, "cache_write_tokens")
    if into.get("audio_tokens"):
        usage.input_audio_tokens = count(into, "audio_tokens")
    if into.get("image_tokens"):
        usage.input_image_tokens = count(into, "image_tokens")


def _add_output_details(usage: Usage, out: Mapping[str, Any], counts: Mapping[str, Any]) -> None:
    if reasoned := count(out, "reasoning_tokens"):
        usage.reasoning_tokens = reasoned
        if count(counts, "total_tokens") == usage.input_tokens + usage.output_tokens + reasoned:
            usage.output_tokens += reasoned
    if out.get("audio_tokens"):
        usage.output_audio_tokens = count(out, "audio_tokens")
    if out.get("image_tokens"):
        usage.output_image_tokens = count(out, "image_tokens")


def anthropic_usage(told: Any) -> Usage:
    """Return the usage of a message: what the cache held and took is told beside the input, and is added to it."""
    counts = fields(told)
    read = count(counts, "cache_read_input_tokens")
    written = count(counts, "cache_creation_input_tokens")
    usage = plain_usage(count(counts, "input_tokens") + read + written, count(counts, "output_tokens"))
    if read or written:
        usage.cache_read_tokens, usage.cache_write_tokens = read, written
        usage.cache_write_1h_tokens = count(fields(counts.get("cache_creation")), "ephemeral_1h_input_tokens")
    if thought := count(fields(counts.get("output_tokens_details")), "thinking_tokens"):
        usage.reasoning_tokens = thought
    if searches := count(fields(counts.get("server_tool_use")), "web_search_requests"):
        usage.web_searches = searches
    if (cost := counts.get("cost")) is not None:
        usage.cost_usd = _cost(cost, counts)
    usage.settle()
    return usage


def merge_anthropic_usage(former: Any, later: Any) -> dict[str, Any]:
    """Return the usage of a stream so far: a later event tells the counts anew, and leaves out what did not change."""
    return {**fields(former), **{name: value for name, value in fields(later).items() if value is not None}}


def gemini_usage(told: Any) -> Usage:
    """Return the usage of Gemini's models: thoughts are told beside the answer, and prompts of tools beside the prompt.

    What the cache held is part of the prompt. Counts are told by modality, too.
    """
    counts = fields(told)
    thought = count(counts, "thoughts_token_count")
    usage = plain_usage(
        count(counts, "prompt_token_count") + count(counts, "tool_use_prompt_token_count"),
        count(counts, "candidates_token_count") + thought,
    )
    usage.reasoning_tokens = thought
    usage.cache_read_tokens = count(counts, "cached_content_token_count")
    into = (*_modalities(counts, "prompt_tokens_details"), *_modalities(counts, "tool_use_prompt_tokens_details"))
    for modality, tokens in into:
        if modality in ("audio", "image", "video"):
            name = f"input_{modality}_tokens"
            setattr(usage, name, getattr(usage, name) + tokens)
    for modality, tokens in _modalities(counts, "candidates_tokens_details"):
        if modality in ("audio", "image", "video"):
            setattr(usage, f"output_{modality}_tokens", tokens)
    for modality, tokens in _modalities(counts, "cache_tokens_details"):
        if modality == "audio":
            usage.cache_audio_read_tokens = tokens
    usage.settle()
    return usage


def _modalities(counts: Mapping[str, Any], name: str) -> list[tuple[str, int]]:
    told = [fields(each) for each in counts.get(name) or ()]
    return [(_word(each.get("modality")), count(each, "token_count")) for each in told]


def _word(told: Any) -> str:
    """Return the text of an enum's member, or of a string, in small letters."""
    return str(getattr(told, "value", told) or "").lower()


def bedrock_usage(told: Any) -> Usage:
    """Return the usage of Bedrock's Converse: what the cache held and took is told beside the input."""
    counts = fields(told)
    read, written = count(counts, "cacheReadInputTokens"), count(counts, "cacheWriteInputTokens")
    usage = plain_usage(count(counts, "inputTokens") + read + written, count(counts, "outputTokens"))
    usage.cache_read_tokens, usage.cache_write_tokens = read, written
    for detail in counts.get("cacheDetails") or ():
        if fields(detail).get("ttl") == "1h":
            usage.cache_write_1h_tokens = count(fields(detail), "inputTokens")
    usage.settle()
    return usage


def ollama_usage(told: Any) -> Usage:
    """Return the usage of an Ollama answer, which is the answer itself."""
    counts = fields(told)
    return _settled(plain_usage(count(counts, "prompt_eval_count"), count(counts, "eval_count")))


def cohere_usage(told: Any) -> Usage:
    """Return the usage of a Cohere answer: what is billed where that is told, else what went through the model."""
    counts = fields(told)
    tokens = fields(counts.get("billed_units"))
    if tokens.get("input_tokens") is None and tokens.get("output_tokens") is None:
        tokens = fields(counts.get("tokens"))
    usage = plain_usage(count(tokens, "input_tokens"), count(tokens, "output_tokens"))
    usage.cache_read_tokens = min(count(counts, "cached_tokens"), usage.input_tokens)
    return _settled(usage)


def _settled(usage: Usage) -> Usage:
    usage.settle()
    return usage


def fields(source: Any) -> Mapping[str, Any]:
    """Return the fields of an SDK's object, or of the JSON that it was made of. Asking it for one it lacks is slow."""
    if source is None:
        return _NOTHING
    if source.__class__ is dict:
        told: dict[str, Any] = source
        return told
    known: Mapping[str, Any] = getattr(source, "__dict__", _NOTHING)
    extra = getattr(source, "__pydantic_extra__", None)
    return {**known, **extra} if extra else known


def count(counts: Mapping[str, Any], name: str) -> int:
    """Return a count, 0 where there is none. Some SDKs tell them as floats."""
    value = counts.get(name)
    if value.__class__ is int:
        number: int = value
        return number
    return int(value) if isinstance(value, float) and value.is_integer() else 0


def _cost(told: Any, counts: Mapping[str, Any]) -> Decimal | None:
    """Return a cost in US dollars, told as a number, as OpenRouter does, or as an object with the total, as Perplexity
    does. Of a call by a key of one's own OpenRouter tells what it takes itself, and beside it what the provider does.
    """
    if told.__class__ not in _NUMBERS:
        costs = fields(told)
        return cost_usd(costs.get("total_cost")) if costs.get("currency") in (None, "USD") else None
    cost = cost_usd(told)
    if counts.get("is_byok"):
        upstream = cost_usd(fields(counts.get("cost_details")).get("upstream_inference_cost"))
        return None if cost is None or upstream is None else MATH.add(cost, upstream)
    return cost


def cost_usd(told: Any, unit: Decimal = Decimal(1)) -> Decimal | None:
    """Return so many units of US dollars as are told, None where that is no number, or less than nothing."""
    try:
        cost = Decimal(str(told)) if told.__class__ in _NUMBERS or told.__class__ is str else None
    except InvalidOperation:
        return None
    return MATH.multiply(cost, unit) if cost is not None and cost.is_finite() and not cost.is_signed() else None
