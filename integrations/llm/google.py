"""Google's SDK, for Gemini and for Vertex AI: content, embeddings; sync, async, streams and chats.

Chats and automatic function calling go through the same methods of ``client.models``, once per request.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from monitoring.integrations.attachment import Detach, Link

from . import methods, prices
from .calls import Operation, PendingCall
from .streams import OuterGenerator, watch_generator
from .usage import Usage, count, fields, gemini_usage, plain_usage


def carrier(client: Any) -> Any:
    """Return the client itself; of the two that share their models, the async one is ``client.aio``."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Observe the models of the client, and of its async side."""
    prices.load()
    api = client._api_client
    provider = "gcp.vertex_ai" if api.vertexai else "gcp.gemini"
    targets: list[tuple[Any, dict[str, object]]] = []
    if hasattr(client, "aio"):
        targets.append((client._models, _observed(client._models, link, provider, _SYNC)))
        client = client.aio
    targets.append((client._models, _observed(client._models, link, provider, _ASYNC)))
    attempts = {
        "_request_once": methods.counting_attempts,
        "_async_request_once": methods.counting_attempts_async,
    }
    told: dict[str, object] = {name: seam(getattr(api, name)) for name, seam in attempts.items() if hasattr(api, name)}
    targets.append((api, {} if vars(api).keys() & told.keys() else told))
    return methods.replace_all(targets)


def _observed(models: Any, link: Link, provider: str, seams: Mapping[str, methods.Seam]) -> dict[str, object]:
    """Return what is put in the place of the models' methods; nothing where they are observed already."""
    replaced: dict[str, object] = {}
    if "_generate_content" in vars(models):
        return replaced
    for name, seam in seams.items():
        operation = _EMBEDDINGS if name == "_embed_content" else _CONTENT
        name = name if hasattr(models, name) else name.removeprefix("_")  # older versions have no inner one for all
        begin = methods.beginning(link, provider, _asker(operation), streamed=name.endswith("_stream"))
        replaced[name] = seam(begin, getattr(models, name))
        if name == "_generate_content_stream" and "generate_content_stream" not in vars(models):
            replaced["generate_content_stream"] = _streaming(models, begin)
    return replaced


def _streaming(models: Any, begin: methods.Begin) -> methods.Function:
    """Observe streams whose reader has a generator of the SDK's own around ours.

    Each call is made by a twin of the models, so that its streams know the generator that they are for.
    """
    kind = type(models)
    stream = models._generate_content_stream
    is_async = inspect.iscoroutinefunction(stream)

    def streamed(*args: Any, **kwargs: Any) -> Any:
        outer = OuterGenerator()
        made = kind.generate_content_stream(_twin_for(outer, models, stream, begin), *args, **kwargs)
        outer.follow(made)
        return made

    async def streamed_async(*args: Any, **kwargs: Any) -> Any:
        outer = OuterGenerator()
        made = await kind.generate_content_stream(_twin_for(outer, models, stream, begin), *args, **kwargs)
        outer.follow(made)
        return made

    return streamed_async if is_async else streamed


def _twin_for(outer: OuterGenerator, models: Any, stream: methods.Function, begin: methods.Begin) -> Any:
    """Return a twin of the models whose streams know ``outer``. Newer versions have one more generator between."""
    is_innermost = hasattr(models, _CONTINUED)
    met = _as_it_is if is_innermost else outer.meet

    def watched(*args: Any, **kwargs: Any) -> Any:
        return met(watch_generator(stream(*args, **kwargs), partial(begin, args, kwargs), outer.is_closed))

    def follow(call: PendingCall, chunks: Any) -> Any:
        return met(watch_generator(chunks, lambda: call, outer.is_closed))

    observed = methods.opened_async(follow)(begin, stream) if inspect.iscoroutinefunction(stream) else watched
    twin = _twin(models, "_generate_content_stream", observed)
    if not is_innermost:
        return twin
    continued = getattr(twin, _CONTINUED)
    return _twin(twin, _CONTINUED, lambda *args, **kwargs: outer.meet(continued(*args, **kwargs)))


def _twin(models: Any, name: str, value: object) -> Any:
    twin = object.__new__(type(models))
    vars(twin).update(vars(models), **{name: value})
    return twin


def _as_it_is(generator: Any) -> Any:
    return generator


def _asker(operation: Operation) -> methods.Ask:
    return lambda args, kwargs: (operation, str(kwargs.get("model") or "").rpartition("/")[2])


def _note_content(call: PendingCall, item: Any) -> None:
    told = fields(item)
    if (usage := told.get("usage_metadata")) is not None:
        call.usage = usage
        tier = str(getattr(fields(usage).get("service_tier"), "value", "") or "").lower()
        if tier and tier not in ("standard", "unspecified"):
            call.price_context = {"service_tier": tier}
    if model := told.get("model_version"):
        call.response_model = model
    for candidate in told.get("candidates") or ():
        told_of_candidate = fields(candidate)
        if (reason := told_of_candidate.get("finish_reason")) is not None:
            call.finish_reason = str(getattr(reason, "value", reason)).lower()
        for part in fields(told_of_candidate.get("content")).get("parts") or ():
            asked = fields(part).get("function_call")
            if asked is not None and not fields(asked).get("will_continue"):
                call.tool_calls += 1


def _note_chunk(call: PendingCall, item: Any) -> None:
    """Take what a chunk tells: usage so far, which is all of it when there is a reason for the end."""
    _note_content(call, item)
    call.is_final = bool(call.finish_reason)


def _note_embeddings(call: PendingCall, item: Any) -> None:
    """Take the token counts that only Vertex tells."""
    told = [fields(fields(each).get("statistics")) for each in fields(item).get("embeddings") or ()]
    counts = [each.get("token_count") for each in told]
    if counts and None not in counts:
        call.usage = {"tokens": sum(counts)}


def _embeddings_usage(told: Any) -> Usage:
    return plain_usage(count({"tokens": float(told["tokens"])}, "tokens"))


def _follow(call: PendingCall, chunks: Any) -> Any:
    return watch_generator(chunks, lambda: call)


_CONTINUED: Final = "_generate_content_stream_with_continuation"
_CONTENT: Final = Operation("generate_content", _note_content, _note_chunk, gemini_usage)
_EMBEDDINGS: Final = Operation("embeddings", _note_embeddings, _note_embeddings, _embeddings_usage)
_SYNC: Final[Mapping[str, methods.Seam]] = {
    "_generate_content": methods.plain,
    "_generate_content_stream": methods.generator,
    "_embed_content": methods.plain,
}
_ASYNC: Final[Mapping[str, methods.Seam]] = {
    "_generate_content": methods.plain_async,
    "_generate_content_stream": methods.opened_async(_follow),
    "_embed_content": methods.plain_async,
}
