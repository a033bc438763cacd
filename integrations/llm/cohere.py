"""Cohere's SDK, both of its APIs: chat, generate and embeddings; sync, async and streamed."""

from __future__ import annotations

import inspect
from typing import Any, Final

from monitoring.integrations.attachment import Detach, Link

from . import methods, prices
from .calls import Operation, PendingCall
from .usage import cohere_usage, fields


def carrier(client: Any) -> Any:
    """Return the client itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Observe its methods."""
    prices.load()
    is_async = inspect.iscoroutinefunction(type(client).chat)
    replaced: dict[str, object] = {}
    for name, operation in _OPERATIONS.items():
        if not hasattr(client, name):
            continue
        streamed = name.endswith("_stream")
        begin = methods.beginning(link, "cohere", methods.by_model(operation), streamed=streamed)
        seam = methods.generator if streamed else methods.plain_async if is_async else methods.plain
        replaced[name] = seam(begin, getattr(client, name))
    return methods.replace_all([(client, replaced), *methods.counting_sends(_http_of(client))])


def _http_of(client: Any) -> Any:
    """Return the client of httpx that the SDK sends by, None where it is not found."""
    wrapper = getattr(client, "_client_wrapper", None) or getattr(client._raw_client, "_client_wrapper", None)
    return getattr(getattr(wrapper, "httpx_client", None), "httpx_client", None)


def _note(call: PendingCall, item: Any) -> None:
    """Take what an answer tells: its usage, which the older API and all but chats call ``meta``."""
    told = fields(item)
    usage = told.get("usage") or told.get("meta")
    if usage is not None and (fields(usage).get("billed_units") or fields(usage).get("tokens")):
        call.usage = usage
    if reason := told.get("finish_reason"):
        call.finish_reason = str(reason).lower()
    asked = told.get("tool_calls") or fields(told.get("message")).get("tool_calls")
    if asked:
        call.tool_calls = len(asked)


def _note_event(call: PendingCall, event: Any) -> None:
    told = fields(event)
    kind = told.get("type") or told.get("event_type")
    if kind == "message-end":
        _note(call, told.get("delta"))
    elif kind == "stream-end":
        _note(call, told.get("response"))
        if reason := told.get("finish_reason"):
            call.finish_reason = str(reason).lower()
    elif kind == "tool-call-start":
        call.tool_calls += 1


_CHAT: Final = Operation("chat", _note, _note_event, cohere_usage)
_GENERATE: Final = Operation("text_completion", _note, _note_event, cohere_usage)
_OPERATIONS: Final = {
    "chat": _CHAT,
    "chat_stream": _CHAT,
    "generate": _GENERATE,
    "generate_stream": _GENERATE,
    "embed": Operation("embeddings", _note, _note, cohere_usage),
}
