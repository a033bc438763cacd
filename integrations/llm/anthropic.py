"""Anthropic's SDK, sync and async: messages, plain and streamed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from monitoring.integrations.attachment import Detach, Link

from . import sdk
from .calls import NO_CONTEXT, PendingCall, Provider
from .usage import anthropic_usage, fields, merge_anthropic_usage

_OPERATIONS: Final = {"/v1/messages": "chat"}


def carrier(client: Any) -> Any:
    """Return the client itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Observe messages; those of the beta are the same."""
    return sdk.attach(client, link, Provider("anthropic", _note, anthropic_usage), _OPERATIONS)


def _note(call: PendingCall, item: Any) -> None:
    told = fields(item)
    kind = told.get("type")
    if kind == "message_start":
        told = fields(told["message"])
    elif kind not in ("message", "message_delta"):
        return
    if model := told.get("model"):
        call.response_model = model
    if (usage := told.get("usage")) is not None:
        call.usage = merge_anthropic_usage(call.usage, usage)
        call.is_final = kind != "message_start"
        call.price_context = _price_context(call.usage)


def _price_context(usage: Mapping[str, Any]) -> Mapping[str, str]:
    if usage.get("service_tier") == "batch":
        return {"processing": "batch"}
    return {"speed": usage["speed"]} if usage.get("speed") else NO_CONTEXT
