"""Mistral's SDK: chat, agents, fill in the middle and embeddings; sync, async and streamed."""

from __future__ import annotations

from typing import Any, Final

from monitoring.integrations.attachment import Detach, Link

from . import methods, prices
from .calls import Operation, PendingCall
from .openai import known, note_chat
from .streams import watch_response
from .usage import fields, openai_usage


def carrier(client: Any) -> Any:
    """Return the client itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Observe the methods of its parts; ``parse`` goes through them."""
    prices.load()
    targets: list[tuple[Any, dict[str, object]]] = []
    for part, operation in _PARTS.items():
        target = getattr(client, part)
        targets.append((target, _observed(target, link, operation)))
    config = client.sdk_configuration
    for http in (config.client, config.async_client):
        targets += methods.counting_sends(http)
    return methods.replace_all(targets)


def _observed(part: Any, link: Link, operation: Operation) -> dict[str, object]:
    replaced: dict[str, object] = {}
    ask = methods.by_model(operation)
    for name, seam in _SEAMS.items():
        if hasattr(part, name):
            begin = methods.beginning(link, "mistral_ai", ask, streamed=name.startswith("stream"))
            replaced[name] = seam(begin, getattr(part, name))
    return replaced


def _follow(call: PendingCall, stream: Any) -> Any:
    stream.generator = watch_response(stream.generator, stream.response, call)
    return stream


def _note_event(call: PendingCall, event: Any) -> None:
    told = known(known(event)["data"])
    if (usage := told.get("usage")) is not None:
        call.usage = usage
    if model := told.get("model"):
        call.response_model = model
    for choice in told.get("choices") or ():
        told_of_choice = known(choice)
        if reason := told_of_choice.get("finish_reason"):
            call.finish_reason = reason
        asked = fields(told_of_choice.get("delta")).get("tool_calls")
        if asked:
            call.tool_calls += len(asked)  # each comes in one piece


def _note_embeddings(call: PendingCall, item: Any) -> None:
    told = fields(item)
    call.usage, call.response_model = told.get("usage"), told.get("model") or ""


_CHAT: Final = Operation("chat", note_chat, _note_event, openai_usage)
_PARTS: Final = {
    "chat": _CHAT,
    "agents": _CHAT,
    "fim": Operation("text_completion", note_chat, _note_event, openai_usage),
    "embeddings": Operation("embeddings", _note_embeddings, _note_embeddings, openai_usage),
}
_SEAMS: Final[dict[str, methods.Seam]] = {
    "complete": methods.plain,
    "complete_async": methods.plain_async,
    "stream": methods.opened(_follow),
    "stream_async": methods.opened_async(_follow),
    "create": methods.plain,
    "create_async": methods.plain_async,
}
