"""Anthropic's SDK, sync and async: messages, plain and streamed."""

from __future__ import annotations

from typing import Any, Final

from monitoring.integrations.attachment import Detach, Link

from . import sdk
from .calls import Answer, Provider
from .usage import anthropic_usage, fields, merge_anthropic_usage

_OPERATIONS: Final = {"/v1/messages": "chat"}


def carrier(client: Any) -> Any:
    """Return the client itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Observe messages; those of the beta are the same."""
    return sdk.attach(client, link, Provider("anthropic", _note, anthropic_usage), _OPERATIONS)


def _note(answer: Answer, item: Any) -> None:
    told = fields(item)
    kind = told.get("type")
    if kind == "message_start":
        told = fields(told["message"])
    elif kind not in ("message", "message_delta"):
        return
    if model := told.get("model"):
        answer.model = model
    if (usage := told.get("usage")) is not None:
        answer.usage = merge_anthropic_usage(answer.usage, usage)
        answer.is_final = kind != "message_start"
        if answer.usage.get("service_tier") == "batch":
            answer.context["processing"] = "batch"
        if speed := answer.usage.get("speed"):
            answer.context["speed"] = speed
