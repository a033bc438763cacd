"""Ollama's client, sync and async: chat, generate and embeddings. Its models have no price but one of your own."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from monitoring.integrations.attachment import Detach, Link, replace_attributes

from . import methods
from .calls import Operation, PendingCall
from .streams import watch_generator
from .usage import fields, ollama_usage


def carrier(client: Any) -> Any:
    """Return the client itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Observe ``_request``, through which each call goes; a stream sends its request when it is read."""
    request = client._request
    whole = methods.beginning(link, "ollama", _asked)
    streamed = methods.beginning(link, "ollama", _asked, streamed=True)
    is_async = inspect.iscoroutinefunction(request)
    seam = methods.plain_async if is_async else methods.plain
    observed = seam(whole, request)

    def requested(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("stream"):
            return watch_generator(request(*args, **kwargs), partial(streamed, args, kwargs))
        return observed(*args, **kwargs)

    async def requested_async(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("stream"):
            return watch_generator(await request(*args, **kwargs), partial(streamed, args, kwargs))
        return await observed(*args, **kwargs)

    return replace_attributes(client, {"_request": requested_async if is_async else requested})


def _asked(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Operation, object] | None:
    operation = _OPERATIONS.get(args[2]) if len(args) > 2 else None
    return None if operation is None else (operation, kwargs["json"].get("model"))


def _note(call: PendingCall, item: Any) -> None:
    told = fields(item)
    if model := told.get("model"):
        call.response_model = model
    if (message := told.get("message")) is not None and (asked := fields(message).get("tool_calls")):
        call.tool_calls += len(asked)
    if told.get("done"):
        call.finish_reason = told.get("done_reason") or ""
        _note_counts(call, told, "eval_count")


def _note_embeddings(call: PendingCall, item: Any) -> None:
    told = fields(item)
    if model := told.get("model"):
        call.response_model = model
    _note_counts(call, told)


def _note_counts(call: PendingCall, told: Mapping[str, Any], *besides: str) -> None:
    """Take the counts; a server that leaves out those of the prompt has it in its cache, and nobody knows them."""
    if all(told.get(name) is not None for name in ("prompt_eval_count", *besides)):
        call.usage = {name: told[name] for name in ("prompt_eval_count", *besides)}


_CHAT: Final = Operation("chat", _note, _note, ollama_usage)
_EMBEDDINGS: Final = Operation("embeddings", _note_embeddings, _note_embeddings, ollama_usage)
_OPERATIONS: Final = {
    "/api/chat": _CHAT,
    "/api/generate": Operation("text_completion", _note, _note, ollama_usage),
    "/api/embed": _EMBEDDINGS,
    "/api/embeddings": _EMBEDDINGS,
}
