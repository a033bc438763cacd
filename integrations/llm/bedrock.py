"""boto3's ``bedrock-runtime``: Converse and InvokeModel, whole and streamed.

Every operation goes through ``_make_api_call`` of the client. What InvokeModel answers is in the model's own format and
is read as a body: its counts are known when the reader has all of it, from its end, or else from the headers.
"""

from __future__ import annotations

import re
import weakref
from base64 import b64decode
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import orjson

from monitoring.integrations.attachment import Detach, Link, inside_llm_call, replace_attribute, replace_attributes

from . import methods, prices
from .anthropic import note_event, note_message
from .calls import Operation, PendingCall
from .streams import watch_closable
from .usage import Usage, anthropic_usage, bedrock_usage, count, fields, openai_usage, plain_usage

_TAIL_BYTES: Final = 4_096
"""What is looked at of a body that is read in pieces. All formats that tell their usage tell it last."""
_LAST_MEMBERS: Final = re.compile(rb'(?<!\\)"(?:usage|stop_?[rR]eason)"\s*:')
_COUNTS: Final = {
    "inputTokenCount": "input",
    "outputTokenCount": "output",
    "cacheReadInputTokenCount": "cache-read-input",
    "cacheWriteInputTokenCount": "cache-write-input",
}
_EVENTS: Final = ("before-send.bedrock-runtime", "response-received.bedrock-runtime")


def carrier(client: Any) -> Any:
    """Return the client itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Observe the operations that ask a model, and count the attempts that each takes."""
    prices.load()
    make, events = client._make_api_call, client.meta.events
    begins = {
        name: methods.beginning(link, "aws.bedrock", _asker(operation), streamed=name in _STREAMED)
        for name, operation in _OPERATIONS.items()
    }
    follows: dict[str, Callable[[PendingCall, Any], Any]] = {
        "Converse": _follow_answer,
        "ConverseStream": _follow_events,
        "InvokeModel": _follow_body,
        "InvokeModelWithResponseStream": _follow_events,
    }

    def made(operation_name: str, api_params: Any) -> Any:
        begin = begins.get(operation_name)
        call = begin((api_params,), {}) if begin is not None else None
        if call is None:
            return make(operation_name, api_params)
        token = inside_llm_call.set(call)
        try:
            result = make(operation_name, api_params)
        except BaseException as error:
            call.end(error)
            raise
        finally:
            inside_llm_call.reset(token)
        return methods.followed(follows[operation_name], call, result)

    handlers = dict(zip(_EVENTS, (_note_attempt, _note_response), strict=True))
    for event, handler in handlers.items():
        events.register(event, handler, unique_id=f"monitoring-{event}")
    restore = replace_attribute(client, "_make_api_call", made)

    def detach() -> None:
        restore()
        for event, handler in handlers.items():
            events.unregister(event, handler, unique_id=f"monitoring-{event}")

    return detach


def _note_attempt(**_: Any) -> None:
    call: Any = inside_llm_call.get()
    if call.__class__ is PendingCall:
        call.begin_attempt()


def _note_response(*, response_dict: Any = None, **_: Any) -> None:
    call: Any = inside_llm_call.get()
    if call.__class__ is PendingCall:
        status = response_dict["status_code"] if response_dict else 0
        call.failed_attempt = "" if 200 <= status < 300 else str(status or "connection")


def _asker(operation: Operation) -> methods.Ask:
    return lambda args, kwargs: (operation, str(args[0].get("modelId") or "").rpartition("/")[2])


def _follow_answer(call: PendingCall, result: Any) -> Any:
    call.note(result)
    call.end()
    return result


def _follow_events(call: PendingCall, result: Any) -> Any:
    stream = result["stream"] if "stream" in result else result["body"]
    twin = object.__new__(type(stream))  # its generator holds it, and a stream that is dropped is to end at once
    vars(twin).update(vars(stream))
    vars(twin).pop("_event_generator", None)
    stream._event_generator, stream.close = watch_closable(twin._create_raw_event_generator(), twin.close, call)
    return result


def _follow_body(call: PendingCall, result: Any) -> Any:
    """Go on when the reader has read the body, at once or in pieces."""
    raw, headers = result["body"]._raw_stream, result["ResponseMetadata"]["HTTPHeaders"]
    kind, known = type(raw), weakref.ref(raw)  # who reads or closes it holds it
    body = _Body(headers)
    call.outlive_the_request()

    def read(amt: int | None = None, *args: Any, **kwargs: Any) -> Any:
        try:
            told = kind.read(known(), amt, *args, **kwargs)
        except BaseException as error:
            call.end(error)
            raise
        if body.take(told, amt):
            call.note((body, headers))
            call.end()
            body.known = b""
        return told

    def close() -> None:
        call.end(None, "closed_early")
        kind.close(known())

    replace_attributes(raw, {"read": read, "close": close})
    return result


class _Body:
    """What is known of a body that its reader gets: all of it where that comes at once, else its last bytes."""

    __slots__ = ("_length", "_size", "is_over", "known")

    def __init__(self, headers: Mapping[str, str]) -> None:
        length = "" if "content-encoding" in headers else headers.get("content-length", "")
        self._length = int(length) if length.isdecimal() else -1
        self._size = 0
        self.known = b""
        self.is_over = False

    @property
    def is_whole(self) -> bool:
        """Whether nothing of it was let go."""
        return self._size == len(self.known)

    def take(self, piece: bytes, asked: int | None) -> bool:
        """Take what was read of it by asking for so many bytes, and return whether that was the last of it."""
        if self.is_over or asked == 0:
            return False
        if self._size or asked is not None:
            self.known = (self.known + piece[-_TAIL_BYTES:])[-_TAIL_BYTES:]
        else:
            self.known = piece
        self._size += len(piece)
        self.is_over = asked is None or not piece or self._size == self._length
        return self.is_over


def _note_converse(call: PendingCall, item: Any) -> None:
    if (usage := item.get("usage")) is not None:
        call.usage = usage
    call.finish_reason = item.get("stopReason") or ""
    for block in item.get("output", {}).get("message", {}).get("content") or ():
        call.tool_calls += "toolUse" in block
    _note_tier(call, item)


def _note_tier(call: PendingCall, told: Mapping[str, Any]) -> None:
    tier = fields(told.get("serviceTier")).get("type")
    if tier and tier != "default":
        call.price_context = {"service_tier": tier}


def _note_converse_event(call: PendingCall, event: Any) -> None:
    kind = event.headers.get(":event-type")
    if kind == "contentBlockStart":
        call.tool_calls += "toolUse" in (orjson.loads(event.payload).get("start") or {})
    elif kind == "messageStop":
        call.finish_reason = orjson.loads(event.payload).get("stopReason") or ""
    elif kind == "metadata":
        told = orjson.loads(event.payload)
        call.usage = told.get("usage")
        _note_tier(call, told)
    elif kind is None or event.headers.get(":message-type") != "event":
        _note_exception(call, event)


def _note_exception(call: PendingCall, event: Any) -> None:
    """End here: the reader's exception is raised where nobody sees it."""
    call.failure = str(event.headers.get(":exception-type") or "EventStreamError")
    call.end()


def _note_body(call: PendingCall, item: Any) -> None:
    """Take what a body tells, in the format of its model, or else what the headers do."""
    body, headers = item
    told = _members(body)
    usage = told.get("usage")
    counts: Mapping[str, Any] = usage if usage.__class__ is dict else {}
    if told.get("type") == "message" or (not body.is_whole and "output_tokens" in counts):
        note_message(call, told)
        call.usage = _Told(anthropic_usage, usage)
        return
    call.finish_reason = _first_reason(told)
    if "inputTokens" in counts:
        call.usage = _Told(bedrock_usage, usage)
    elif "prompt_tokens" in counts:
        call.usage = _Told(openai_usage, usage)
    elif body.known:
        _note_headers(call, headers)


def _members(body: _Body) -> Mapping[str, Any]:
    """Return the members of a body, or the last of them, where its end is all that is known.

    What is left of JSON from a member's name on is only JSON again, with a brace before it, if it is one of the
    outermost object's: that of an inner one is followed by too many braces, and a name within a text by a quote too
    many.
    """
    if body.is_whole:
        told = orjson.loads(body.known) if body.known else {}
        return told if told.__class__ is dict else {}
    for found in _LAST_MEMBERS.finditer(body.known):
        with suppress(orjson.JSONDecodeError):
            members: dict[str, Any] = orjson.loads(b"{" + body.known[found.start() :])
            return members
    return {}


def _first_reason(told: Mapping[str, Any]) -> str:
    reason = told.get("stopReason") or told.get("stop_reason")
    for choice in told.get("choices") or told.get("outputs") or ():
        reason = reason or choice.get("finish_reason") or choice.get("stop_reason")
    return str(reason or "")


def _note_headers(call: PendingCall, headers: Mapping[str, str]) -> None:
    """Take the counts of the headers, which tell what the cache held and took beside the input."""
    told = {name: headers.get(f"x-amzn-bedrock-{header}-token-count", "") for name, header in _COUNTS.items()}
    if told["inputTokenCount"].isdecimal():
        call.usage = _Told(_metrics_usage, {name: int(count) for name, count in told.items() if count.isdecimal()})


def _note_chunk(call: PendingCall, event: Any) -> None:
    """Take what a chunk of a model's own format tells; its last one has Bedrock's counts in every format."""
    if event.headers.get(":event-type") != "chunk":
        _note_exception(call, event)
        return
    data = b64decode(orjson.loads(event.payload)["bytes"])
    if b"message_" in data or b"content_block_start" in data:
        told = orjson.loads(data)
        call.usage = call.usage.told if call.usage is not None else None
        note_event(call, told)
        if call.usage is not None:
            call.usage = _Told(anthropic_usage, call.usage)
    elif b"metadata" in data and b"inputTokens" in data:
        call.usage = _Told(bedrock_usage, orjson.loads(data)["metadata"]["usage"])
    elif b'"prompt_tokens"' in data:
        call.usage = _Told(openai_usage, orjson.loads(data)["usage"])
    if call.usage is None and b"amazon-bedrock-invocationMetrics" in data:
        call.usage = _Told(_metrics_usage, orjson.loads(data)["amazon-bedrock-invocationMetrics"])


def _metrics_usage(told: Any) -> Usage:
    counts = fields(told)
    read, written = count(counts, "cacheReadInputTokenCount"), count(counts, "cacheWriteInputTokenCount")
    usage = plain_usage(count(counts, "inputTokenCount") + read + written, count(counts, "outputTokenCount"))
    usage.cache_read_tokens, usage.cache_write_tokens = read, written
    usage.settle()
    return usage


class _Told:
    """Counts in one of the formats, and how they are read."""

    __slots__ = ("read", "told")

    def __init__(self, read: Callable[[Any], Usage], told: Any) -> None:
        self.read = read
        self.told = told


def _told_usage(told: Any) -> Usage:
    usage: Usage = told.read(told.told)
    return usage


_INVOKE: Final = Operation("chat", _note_body, _note_chunk, _told_usage)
_CONVERSE: Final = Operation("chat", _note_converse, _note_converse_event, bedrock_usage)
_OPERATIONS: Final = {
    "Converse": _CONVERSE,
    "ConverseStream": _CONVERSE,
    "InvokeModel": _INVOKE,
    "InvokeModelWithResponseStream": _INVOKE,
}
_STREAMED: Final = frozenset({"ConverseStream", "InvokeModelWithResponseStream"})
