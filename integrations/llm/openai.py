"""OpenAI's SDK, sync and async, against OpenAI, Azure and any provider that speaks its protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from monitoring.integrations.attachment import Detach, Link

from . import background, batches, sdk
from .calls import Operation, PendingCall
from .usage import Usage, fields, openai_usage

_PROVIDERS: Final = {
    "anthropic.com": "anthropic",
    "azure-api.net": "azure.ai.openai",
    "cerebras.ai": "cerebras",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "cohere.ai": "cohere",
    "cohere.com": "cohere",
    "deepseek.com": "deepseek",
    "fireworks.ai": "fireworks",
    "googleapis.com": "gcp.gemini",
    "groq.com": "groq",
    "mistral.ai": "mistral_ai",
    "moonshot.ai": "moonshot_ai",
    "moonshot.cn": "moonshot_ai",
    "openai.azure.com": "azure.ai.openai",
    "openrouter.ai": "openrouter",
    "perplexity.ai": "perplexity",
    "services.ai.azure.com": "azure.ai.openai",
    "together.ai": "together",
    "together.xyz": "together",
    "x.ai": "x_ai",
}
"""Domains whose hosts belong to a provider; all others, and gateways on loopback, count as ``openai``."""


def carrier(client: Any) -> Any:
    """Return the client itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Observe chat completions, responses, completions, embeddings, images and audio."""
    return sdk.attach(client, link, provider_of(client.base_url.host), _OPERATIONS, _STREAMS_WITHOUT_USAGE, _FETCHES)


def provider_of(host: str) -> str:
    """Return the provider's name by the host of its API."""
    parts = host.lower().split(".")
    domains = (".".join(parts[place:]) for place in range(len(parts)))
    return next((_PROVIDERS[domain] for domain in domains if domain in _PROVIDERS), "openai")


def known(item: Any) -> Mapping[str, Any]:
    """Return an SDK object's own fields, or the JSON that it was made of: those of a chunk are many, and no more are
    looked at.
    """
    told: Mapping[str, Any] = item if item.__class__ is dict else item.__dict__
    return told


def note_chat(call: PendingCall, item: Any) -> None:
    """Take what a chat completion tells, or a completion."""
    told = fields(item)
    _note_common(call, told)
    for choice in told.get("choices") or ():
        told_of_choice = known(choice)
        if reason := told_of_choice.get("finish_reason"):
            call.finish_reason = reason
        message = told_of_choice.get("message")
        if message is not None and (asked := known(message).get("tool_calls")):
            call.tool_calls += len(asked)


def note_chat_chunk(call: PendingCall, chunk: Any) -> object:
    """Take what one chunk of them tells."""
    told = chunk.__dict__
    choices = told.get("choices")
    if choices:
        for choice in choices:
            told_of_choice = choice.__dict__
            if told_of_choice.get("finish_reason"):
                call.finish_reason = told_of_choice["finish_reason"]
            delta = told_of_choice.get("delta")
            if delta is not None and (asked := delta.__dict__.get("tool_calls")):
                call.tool_calls = max(call.tool_calls, *((known(one).get("index") or 0) + 1 for one in asked))
    if told.get("usage") is not None:
        _note_common(call, told)
        return call.hides_usage and not choices
    if call.chunks == 1:
        _note_common(call, told)
    return None


def _note_common(call: PendingCall, told: Mapping[str, Any]) -> None:
    if (usage := told.get("usage")) is not None:
        call.usage = usage
    if model := told.get("model"):
        call.response_model = model
    tier = told.get("service_tier")
    if tier and tier != "default":
        call.price_context = {"service_tier": tier}


def note_embeddings(call: PendingCall, item: Any) -> None:
    """Take what embeddings tell."""
    _note_common(call, fields(item))


def _note_response_or_wait(call: PendingCall, item: Any) -> None:
    """Take what a response tells, or that it is still to come, in the background."""
    note_response(call, item)
    if call.finish_reason in background.UNDER_WAY:
        call.finish_reason = ""
        background.waiting.hold(fields(item)["id"], call)


def note_response(call: PendingCall, item: Any) -> None:
    """Take what a response tells so far."""
    told = fields(item)
    _note_common(call, told)
    status = told.get("status")
    if status == "failed":
        call.failure = "ResponseFailed"
    unfinished = told.get("incomplete_details")
    call.finish_reason = (known(unfinished).get("reason") if unfinished is not None else None) or status or ""
    for item_of_output in told.get("output") or ():
        if str(known(item_of_output).get("type")).endswith("_call"):
            call.tool_calls += 1


def note_response_event(call: PendingCall, event: Any) -> None:
    """Take what an event of its stream tells."""
    told = known(event)
    whole = told.get("response")
    if whole is not None:  # an event that carries all there is so far
        call.tool_calls = 0
        note_response(call, whole)
    elif told.get("type") == "error":
        call.failure = "ResponseFailed"


def note_media(call: PendingCall, item: Any) -> None:
    """Take what an answer tells that is an image, a transcription or a sound: its usage, if that is in tokens."""
    told = fields(item)
    usage = told.get("usage")
    if usage is not None and fields(usage).get("type") != "duration":
        call.usage = usage


def image_usage(told: Any) -> Usage:
    """Return the usage of an image: what is not told to be text is image."""
    usage = openai_usage(told)
    out = fields(fields(told).get("output_tokens_details"))
    if out.get("image_tokens") is None:
        usage.output_image_tokens = usage.output_tokens - (out.get("text_tokens") or 0)
    return usage


_CHAT: Final = Operation("chat", note_chat, note_chat_chunk, openai_usage)
_IMAGE: Final = Operation("image_generation", note_media, note_media, image_usage)
_TRANSCRIPTION: Final = Operation("transcription", note_media, note_media, openai_usage)
_OPERATIONS: Final = {
    "/chat/completions": _CHAT,
    "/responses": Operation("chat", _note_response_or_wait, note_response_event, openai_usage),
    "/completions": Operation("text_completion", note_chat, note_chat_chunk, openai_usage),
    "/embeddings": Operation("embeddings", note_embeddings, note_embeddings, openai_usage),
    "/images/generations": _IMAGE,
    "/images/edits": _IMAGE,
    "/audio/transcriptions": _TRANSCRIPTION,
    "/audio/translations": _TRANSCRIPTION,
    "/audio/speech": Operation("speech", note_media, note_media, openai_usage),
}
_STREAMS_WITHOUT_USAGE: Final = frozenset({"/chat/completions", "/completions"})
_FETCHES: Final = {"/responses": background.note, "cancel": background.note, "/batches": batches.note_openai}
