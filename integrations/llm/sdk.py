"""The seam that the openai and the anthropic SDK share: every call goes through ``client.request``.

Plain and streamed calls, ``parse`` and ``stream`` helpers, raw responses and retries all pass there, once per call; and
``copy`` (which is ``with_options`` too) makes clients that have to be wrapped anew. Requests are left as they are,
unless ``llm_stream_usage`` is on.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import orjson

from monitoring.integrations import wrap
from monitoring.integrations.attachment import (
    Detach,
    Link,
    attempt,
    inside_llm_call,
    replace_attribute,
    replace_attributes,
)
from monitoring.monitor import current

from . import content, prices
from .calls import Operation, PendingCall
from .fetched import Note, noting
from .rate_limits import RateLimits, remaining
from .streams import before_close, watch
from .usage import cost_usd

Request = Callable[..., Any]
Begin = Callable[[Any, Any], PendingCall | None]
Noted = Callable[[Any, Any], Any]

_LITELLM_COST: Final = "x-litellm-response-cost"
"""The headers of a stream come too early to tell it, and 0 may mean that there is no price."""
_RAW_HEADER: Final = "X-Stainless-Raw-Response"


def attach(
    client: Any,
    link: Link,
    provider: str,
    operations: Mapping[str, Operation],
    streams_without_usage: frozenset[str] = frozenset(),
    fetches: Mapping[str, Note] = MappingProxyType({}),
) -> Detach:
    """Observe the calls that go to one of ``operations``, by path; all others pass.

    Streams of ``streams_without_usage`` tell their token counts only to those who ask. What requests of ``fetches`` get
    is looked at.
    """
    prices.load()
    request = client.request
    begin = _beginning(link, provider, operations, streams_without_usage)
    observed = _observed_async if inspect.iscoroutinefunction(request) else _observed
    limits = RateLimits()
    asides: dict[str, Callable[[Request], Request]] = {
        "_process_response": partial(_heeding, limits),
        "_sleep_for_retry": _counting,
    }
    return replace_attributes(
        client,
        {
            "request": observed(request, begin, noting(link, provider, fetches)),
            "copy": partial(_copied, client.copy, link),
            "with_options": partial(_copied, client.with_options, link),
            **{name: aside(getattr(client, name)) for name, aside in asides.items() if hasattr(client, name)},
        },
    )


def _observed(request: Request, begin: Begin, noted: Noted) -> Request:
    def observed(cast_to: Any, options: Any, **kwargs: Any) -> Any:
        call = begin(options, kwargs.get("stream"))
        if call is None:
            return noted(options, request(cast_to, options, **kwargs))
        token = inside_llm_call.set(call)
        try:
            result = request(cast_to, options, **kwargs)
        except BaseException as error:
            _end_failed(call, error)
            raise
        finally:
            inside_llm_call.reset(token)
        return _followed(call, result)

    return observed


def _observed_async(request: Request, begin: Begin, noted: Noted) -> Request:
    async def observed(cast_to: Any, options: Any, **kwargs: Any) -> Any:
        call = begin(options, kwargs.get("stream"))
        if call is None:
            return noted(options, await request(cast_to, options, **kwargs))
        token = inside_llm_call.set(call)
        try:
            result = await request(cast_to, options, **kwargs)
        except BaseException as error:
            _end_failed(call, error)
            raise
        finally:
            inside_llm_call.reset(token)
        return _followed(call, result)

    return observed


def _beginning(
    link: Link, provider: str, operations: Mapping[str, Operation], streams_without_usage: frozenset[str]
) -> Begin:
    def begin(options: Any, stream: Any) -> PendingCall | None:
        """Return the call that a request starts; None for one of no interest, or when nobody listens."""
        recorder = link.recorder()
        if recorder is None:
            return None
        try:
            url = options.url
            operation = operations.get(url) or operations.get(str(url).partition("?")[0])
            if operation is None or options.method.lower() != "post":
                return None
        except Exception as error:
            recorder.failed(f"{__name__}.begin", error)
            return None
        recorder.before_llm_call()
        try:
            asked = options.json_data
            model = asked.get("model") if asked.__class__ is dict else ""
            call = PendingCall(link, recorder, provider, operation, model)
            call.content = content.begin(asked)
            if stream:
                call.stream()
                if url in streams_without_usage and current().config.llm_stream_usage:
                    _ask_for_usage(call, options)
            return call
        except Exception as error:
            recorder.failed(f"{__name__}.begin", error)
            return None

    return begin


def _ask_for_usage(call: PendingCall, options: Any) -> None:
    """Have the stream tell its usage, unless the caller asked for it or reads the response's bytes."""
    asked = options.json_data
    wanted = dict(asked.get("stream_options") or {})
    headers = options.headers if isinstance(options.headers, Mapping) else {}
    if "include_usage" not in wanted and _RAW_HEADER not in headers:
        options.json_data = {**asked, "stream_options": {**wanted, "include_usage": True}}
        call.hides_usage = True


def _heeding(limits: RateLimits, process: Callable[..., Any]) -> Callable[..., Any]:
    """Let a call under way see the headers of its answer."""

    def processed(*args: Any, **kwargs: Any) -> Any:
        call: Any = inside_llm_call.get()
        if call.__class__ is PendingCall:
            try:
                call.rate_limits = limits.of(kwargs["response"].headers)
                if limits.is_litellm and not call.streamed:
                    call.gateway_cost = cost_usd(kwargs["response"].headers.get(_LITELLM_COST)) or None
            except Exception as error:
                call.stumble(error)
        return process(*args, **kwargs)

    return processed


def _counting(sleep: Callable[..., Any]) -> Callable[..., Any]:
    """Count an attempt that is about to be repeated."""

    def slept(*args: Any, **kwargs: Any) -> Any:
        call: Any = inside_llm_call.get()
        if call.__class__ is PendingCall:
            response = kwargs.get("response")
            call.retries += ("connection" if response is None else str(response.status_code),)
        return sleep(*args, **kwargs)

    return slept


def _end_failed(call: PendingCall, error: BaseException) -> None:
    response = getattr(error, "response", None)
    if response is not None:
        try:
            call.rate_limits = remaining(response.headers)
        except Exception as mistake:
            call.stumble(mistake)
    call.end(error)


def _followed(call: PendingCall, result: Any) -> Any:
    """Follow the call to where it ends: here, at the end of its stream, or where its raw response is read."""
    try:
        if call.streamed and hasattr(type(result), "__stream__"):
            watch(result, call)
            return result
        response = getattr(result, "__dict__", {}).get("http_response")
        if response is not None:
            if response.is_closed:
                _end_raw(call, response)
            else:
                _follow_unread(call, result, response)
        else:
            call.note(result)
            call.end()
    except Exception as error:
        call.stumble(error)
    return result


def _follow_unread(call: PendingCall, raw: Any, response: Any) -> None:
    """Go on when the user parses the response, or is through with it unparsed."""
    parse = raw.parse
    call.outlive_the_request()

    def parsed(*args: Any, **kwargs: Any) -> Any:
        unwatch()
        unwatch_close()
        try:
            result = parse(*args, **kwargs)
        except BaseException as error:
            call.end(error)
            raise
        return _follow_later(call, result) if inspect.isawaitable(result) else _followed(call, result)

    def closed() -> None:
        if response.is_closed:
            _end_raw(call, response)
        elif not response.is_stream_consumed:
            call.end(None, "closed_early")

    unwatch = replace_attribute(raw, "parse", parsed)
    unwatch_close = before_close(response, closed)


async def _follow_later(call: PendingCall, parsing: Awaitable[Any]) -> Any:
    try:
        result = await parsing
    except BaseException as error:
        call.end(error)
        raise
    return _followed(call, result)


def _end_raw(call: PendingCall, response: Any) -> None:
    """End with what the body tells, where somebody has read it."""
    with suppress(Exception):
        call.note(orjson.loads(response.content))
    call.end()


def _copied(copy: Callable[..., Any], link: Link, *args: Any, **kwargs: Any) -> Any:
    made = copy(*args, **kwargs)
    attempt(link, partial(wrap, made, name=link.name, recorder_of=link.recorder_of))
    return made
