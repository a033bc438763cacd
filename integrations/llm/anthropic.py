"""Anthropic's SDK, sync and async: messages, plain and streamed, of Anthropic, Bedrock and Vertex."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from monitoring.integrations.attachment import Detach, Link

from . import batches, sdk
from .calls import NO_CONTEXT, Operation, PendingCall
from .usage import anthropic_usage, fields, merge_anthropic_usage

_PROVIDERS: Final = {"AnthropicBedrock": "aws.bedrock", "AnthropicVertex": "gcp.vertex_ai"}


def carrier(client: Any) -> Any:
    """Return the client itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Observe messages; those of the beta are the same."""
    return sdk.attach(client, link, _provider_of(client), _OPERATIONS, fetches=_FETCHES)


def _provider_of(client: Any) -> str:
    names = (kind.__name__.removeprefix("Async") for kind in type(client).__mro__)
    return next((_PROVIDERS[name] for name in names if name in _PROVIDERS), "anthropic")


def note_message(call: PendingCall, item: Any) -> None:
    """Take what a whole message tells."""
    told = fields(item)
    if model := told.get("model"):
        call.response_model = model
    if reason := told.get("stop_reason"):
        call.finish_reason = reason
    for block in told.get("content") or ():
        if str(fields(block).get("type")).endswith("tool_use"):
            call.tool_calls += 1
    if (usage := told.get("usage")) is not None:
        _note_usage(call, fields(usage))


def note_event(call: PendingCall, event: Any) -> None:
    """Take what an event of a stream tells: usage so far at the beginning, all of it at the end."""
    told: Mapping[str, Any] = event if event.__class__ is dict else event.__dict__
    kind = told.get("type")
    if kind == "content_block_delta":
        return
    if kind == "content_block_start":
        if str(fields(told.get("content_block")).get("type")).endswith("tool_use"):
            call.tool_calls += 1
    elif kind == "message_start":
        note_message(call, told["message"])
        call.is_final = False
    elif kind == "message_delta":
        if reason := fields(told.get("delta")).get("stop_reason"):
            call.finish_reason = reason
        if (usage := told.get("usage")) is not None:
            _note_usage(call, merge_anthropic_usage(call.usage, usage))
            call.is_final = True


def _note_usage(call: PendingCall, usage: Mapping[str, Any]) -> None:
    call.usage = usage
    tier = usage.get("service_tier")
    if tier == "batch":
        call.price_context = {"processing": "batch"}
    elif tier and tier != "standard":
        call.price_context = {"service_tier": tier}
    elif usage.get("speed"):
        call.price_context = {"speed": usage["speed"]}
    else:
        call.price_context = NO_CONTEXT


_MESSAGE: Final = Operation("chat", note_message, note_event, anthropic_usage)
_OPERATIONS: Final = {"/v1/messages": _MESSAGE}
_FETCHES: Final = {"results": batches.follow_anthropic}
