"""Google's SDK, for Gemini and for Vertex AI: content, embeddings; sync, async, streams and chats.

Chats and automatic function calling go through the same methods of ``client.models``, once per request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from monitoring.integrations.attachment import Detach, Link

from . import methods, prices
from .calls import Operation, PendingCall
from .streams import watch_generator
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
    return replaced


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
