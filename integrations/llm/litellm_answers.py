"""What LiteLLM's answers tell: in OpenAI's form, whoever the provider is, with what LiteLLM made up itself left out.

It writes zeros where it was told no tokens, an estimate of its own at the end of a stream, and its own price as
``usage.cost`` there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from . import openai
from .calls import NO_CONTEXT, Operation, PendingCall
from .usage import Usage, count, fields, openai_usage

UNKNOWN: Final = "litellm"
"""The provider of a call whose provider not even LiteLLM knows."""

_PROVIDERS: Final = {
    "anthropic_text": "anthropic",
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.openai",
    "azure_text": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "codestral": "mistral_ai",
    "cohere_chat": "cohere",
    "custom_openai": "openai",
    "fireworks_ai": "fireworks",
    "gemini": "gcp.gemini",
    "hosted_vllm": "openai",
    "litellm_proxy": "openai",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "ollama_chat": "ollama",
    "openai_like": "openai",
    "text-completion-codestral": "mistral_ai",
    "text-completion-openai": "openai",
    "together_ai": "together",
    "vertex_ai": "gcp.vertex_ai",
    "vertex_ai_beta": "gcp.vertex_ai",
    "xai": "x_ai",
}
"""What LiteLLM calls providers, in the words of the other adapters."""
_OF_INPUT: Final = (
    "prompt_tokens",
    "prompt_tokens_details",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
)
_ROUTES: Final = ("converse/", "converse_like/", "invoke/")
"""How Bedrock is asked, which LiteLLM wants in front of the model."""
_ESTIMATE: Final = "UnreportedUsage"
_USUAL_TIERS: Final = (None, "", "auto", "default", "standard", "standard_only")


@dataclass(frozen=True, slots=True)
class Asked:
    """Where a call goes, as far as its caller said."""

    model: str
    provider: str = ""
    base: str = ""
    """The address of the API."""
    is_group: bool = False
    """Whether the model is what a router calls a group of them."""


def provider_and_model(module: Any, asked: Asked, told: Mapping[str, Any]) -> tuple[str, str]:
    """Return both as the provider's own client would name them. ``told`` is what LiteLLM says of the call."""
    name = (asked.is_group and told.get("litellm_model_name")) or asked.model
    told_provider = told.get("custom_llm_provider")
    prefix, slash, rest = name.partition("/")
    if asked.provider or not slash or prefix not in module.provider_list:
        prefix = asked.provider or told_provider or _looked_up(module, name, asked, told)
        rest = name.removeprefix(f"{prefix}/")
    provider = _PROVIDERS.get(prefix, prefix)
    if provider == "openai" and (base := asked.base or told.get("api_base")):
        provider = openai.provider_of(urlsplit(str(base)).hostname or "")
    elif provider == "aws.bedrock":
        for route in _ROUTES:
            rest = rest.removeprefix(route)
    return provider, rest


def _looked_up(module: Any, name: str, asked: Asked, told: Mapping[str, Any]) -> str:
    """Ask LiteLLM; or its table, where it may know no provider: it would print so."""
    if told.get("is_failure") or (asked.is_group and name == asked.model):
        return str(fields(module.model_cost.get(name)).get("litellm_provider") or UNKNOWN)
    return str(module.get_llm_provider(name, None, asked.base or None)[1])


def told_of(answer: Any) -> dict[str, Any]:
    """Return what LiteLLM says beside an answer or a stream, and with an exception."""
    told = dict(fields(getattr(answer, "_hidden_params", None)))
    if isinstance(answer, BaseException):
        told["litellm_model_name"] = getattr(answer, "model", None)
        told["custom_llm_provider"] = getattr(answer, "llm_provider", None)
        told["is_failure"] = isinstance(answer, Exception)
    elif not told.get("custom_llm_provider"):
        told["custom_llm_provider"] = getattr(answer, "custom_llm_provider", None)
    return told


def is_from_cache(answer: Any, told: Mapping[str, Any]) -> bool:
    """Say whether LiteLLM had the answer in a cache of its own, and asked nobody."""
    return told.get("cache_hit") is True or getattr(answer, "custom_llm_provider", None) == "cached_response"


def raw_chunks(stream: Any) -> list[Any]:
    """Return the list in which LiteLLM keeps the chunks of a stream as they came, with the usage that it takes out of
    what the reader gets. It stays empty where LiteLLM keeps none: for routers.
    """
    parts = (stream, *(vars(stream).get(name) for name in ("completion_stream", "litellm_custom_stream_wrapper")))
    found = (part.chunks for part in parts if hasattr(part, "chunks") and hasattr(part, "completion_stream"))
    return next((chunks for chunks in found if isinstance(chunks, list)), [])


def note_usage(call: PendingCall, told: Any, *, has_cost: bool) -> None:
    """Take a usage that the provider has told: zeros are LiteLLM's own."""
    counts = fields(told)
    if not any(count(counts, name) for name in ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")):
        return
    call.usage = counts if has_cost else {**counts, "cost": None}
    tier = counts.get("service_tier")
    if tier not in _USUAL_TIERS:
        call.price_context = {"processing": "batch"} if tier == "batch" else {"service_tier": tier}
    elif speed := counts.get("speed"):
        call.price_context = {"speed": speed}


def _note_common(call: PendingCall, told: Mapping[str, Any]) -> None:
    if model := told.get("model"):
        call.response_model = str(model).rpartition("/")[2] if str(model).endswith(f"/{call.model}") else model
    tier = told.get("service_tier")
    call.price_context = {"service_tier": tier} if tier not in _USUAL_TIERS else NO_CONTEXT


def _note_answer(call: PendingCall, item: Any) -> None:
    told = fields(item)
    _note_common(call, told)
    note_usage(call, told.get("usage"), has_cost=True)
    for choice in told.get("choices") or ():
        told_of_choice = fields(choice)
        if reason := told_of_choice.get("finish_reason"):
            call.finish_reason = reason
        call.tool_calls += len(fields(told_of_choice.get("message")).get("tool_calls") or ())


def _note_chunk(call: PendingCall, chunk: Any) -> object:
    told = fields(chunk)
    if call.chunks == 1:
        _note_common(call, told)
    for choice in told.get("choices") or ():
        told_of_choice = fields(choice)
        if reason := told_of_choice.get("finish_reason"):
            call.finish_reason = reason
        for one in fields(told_of_choice.get("delta")).get("tool_calls") or ():
            call.tool_calls = max(call.tool_calls, (fields(one).get("index") or 0) + 1)
    return call.hides_usage and told.get("usage") is not None


def _note_response(call: PendingCall, item: Any) -> None:
    openai.note_response(call, item)
    _keep_usage(call, has_cost=True)


def _note_response_event(call: PendingCall, event: Any) -> None:
    openai.note_response_event(call, event)
    _keep_usage(call, has_cost=False)


def _note_media(call: PendingCall, item: Any) -> None:
    openai.note_media(call, item)
    _keep_usage(call, has_cost=True)


def _keep_usage(call: PendingCall, *, has_cost: bool) -> None:
    told, call.usage = call.usage, None
    note_usage(call, told, has_cost=has_cost)


def note_raw(call: PendingCall, chunk: Any) -> None:
    """Take the usage of a chunk as it came, which is all of it when there is a reason for the end.

    Anthropic's last may leave out the input, which its first has told.
    """
    told = fields(chunk)
    if told.get("usage") is not None:
        usage = dict(fields(told["usage"]))
        if not count(usage, "prompt_tokens") and call.usage is not None:
            usage |= {name: call.usage.get(name) for name in _OF_INPUT}
        note_usage(call, usage, has_cost=True)
        if tier := told.get("service_tier"):
            call.price_context = {"service_tier": tier} if tier not in _USUAL_TIERS else NO_CONTEXT
        reasons = (fields(choice).get("finish_reason") for choice in told.get("choices") or ())
        call.is_final = bool(call.finish_reason) or any(reasons)


def note_last(call: PendingCall, chunk: Any, *, knows_estimates: bool) -> None:
    """Take the usage that LiteLLM gives to the reader, of a stream whose chunks it does not keep.

    One that the reader did not ask for may be an estimate, unless this version marks those.
    """
    told = fields(chunk).get("usage")
    if told is None and knows_estimates:
        told = fields(getattr(chunk, "_hidden_params", None)).get("usage")
    if told is not None and type(told).__name__ != _ESTIMATE:
        note_usage(call, told, has_cost=False)


def knows_estimates(module: Any) -> bool:
    """Say whether a usage that nobody told has a class of its own."""
    return hasattr(module.types.utils, _ESTIMATE)


def _usage(told: Any, read: Any = openai_usage) -> Usage:
    """Return a usage in OpenAI's form, with the parts that only other providers tell."""
    usage: Usage = read(told)
    counts = fields(told)
    into = fields(counts.get("prompt_tokens_details"))
    if not usage.cache_read_tokens and (cached := count(counts, "cache_read_input_tokens")):
        usage.cache_read_tokens = cached
    if not usage.cache_write_tokens and (written := count(counts, "cache_creation_input_tokens")):
        usage.cache_write_tokens = written
    if lasting := count(fields(into.get("cache_creation_token_details")), "ephemeral_1h_input_tokens"):
        usage.cache_write_1h_tokens = lasting
    if searches := count(fields(counts.get("server_tool_use")), "web_search_requests"):
        usage.web_searches = searches
    usage.settle()
    return usage


_CHAT: Final = Operation("chat", _note_answer, _note_chunk, _usage)
_IMAGE: Final = Operation("image_generation", _note_media, _note_media, partial(_usage, read=openai.image_usage))
OPERATIONS: Final = {
    "completion": _CHAT,
    "responses": Operation("chat", _note_response, _note_response_event, _usage),
    "text_completion": Operation("text_completion", _note_answer, _note_chunk, _usage),
    "embedding": Operation("embeddings", _note_answer, _note_answer, _usage),
    "image_generation": _IMAGE,
    "image_edit": _IMAGE,
    "transcription": Operation("transcription", _note_media, _note_media, _usage),
    "speech": Operation("speech", _note_media, _note_media, _usage),
}
"""By the names of LiteLLM's functions; those of coroutines have an ``a`` in front."""
