"""The seam that the openai and the anthropic SDK share: every call goes through ``client.request``.

Plain and streamed calls, ``parse`` and ``stream`` helpers, raw responses and retries all pass there, once per call; and
``copy`` (which is ``with_options`` too) makes clients that have to be wrapped anew. Requests are left as they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

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

from .calls import PendingCall, Provider
from .streams import before_close, watch

Request = Callable[..., Any]


def attach(client: Any, link: Link, provider: Provider, operations: Mapping[str, str]) -> Detach:
    """Observe the calls that go to one of ``operations``, by path; all others pass."""
    request = client.request
    begin = partial(_begin, link, provider, operations)
    observed = _observed_async if inspect.iscoroutinefunction(request) else _observed
    return replace_attributes(
        client,
        {
            "request": observed(request, begin),
            "copy": partial(_copied, client.copy, link),
            "with_options": partial(_copied, client.with_options, link),
        },
    )


def _observed(request: Request, begin: Callable[..., PendingCall | None]) -> Request:
    def observed(cast_to: Any, options: Any, **kwargs: Any) -> Any:
        call = begin(options, **kwargs)
        if call is None:
            return request(cast_to, options, **kwargs)
        token = inside_llm_call.set(True)
        try:
            result = request(cast_to, options, **kwargs)
        except BaseException as error:
            call.end(error)
            raise
        finally:
            inside_llm_call.reset(token)
        return _followed(call, result)

    return observed


def _observed_async(request: Request, begin: Callable[..., PendingCall | None]) -> Request:
    async def observed(cast_to: Any, options: Any, **kwargs: Any) -> Any:
        call = begin(options, **kwargs)
        if call is None:
            return await request(cast_to, options, **kwargs)
        token = inside_llm_call.set(True)
        try:
            result = await request(cast_to, options, **kwargs)
        except BaseException as error:
            call.end(error)
            raise
        finally:
            inside_llm_call.reset(token)
        return _followed(call, result)

    return observed


def _begin(
    link: Link, provider: Provider, operations: Mapping[str, str], options: Any, *, stream: bool = False, **_: Any
) -> PendingCall | None:
    """Return the call that a request starts; None for one that is of no interest, or when nobody listens."""
    recorder = link.recorder()
    if recorder is None:
        return None
    try:
        operation = operations.get(str(options.url).partition("?")[0])
        if operation is None or options.method.lower() != "post":
            return None
        return PendingCall(link, recorder, provider, operation, options.json_data.get("model"), streamed=stream)
    except Exception as error:
        recorder.failed(f"{__name__}._begin", error)
        return None


def _follow(call: PendingCall, result: Any) -> None:
    """Follow the call to where it ends: here, at the end of its stream, or where its raw response is read."""
    if hasattr(type(result), "__stream__"):
        watch(result, call)
        return
    response = getattr(result, "__dict__", {}).get("http_response")
    if response is None:
        call.note(result)
        call.end()
    elif response.is_closed:
        _end_raw(call, response)
    else:
        _follow_unread(call, result, response)


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


def _followed(call: PendingCall, result: Any) -> Any:
    attempt(call.link, _follow, call, result)
    return result


def _end_raw(call: PendingCall, response: Any) -> None:
    """End with what the body tells, where somebody has read it."""
    with suppress(Exception):
        call.note(orjson.loads(response.content))
    call.end()


def _copied(copy: Callable[..., Any], link: Link, *args: Any, **kwargs: Any) -> Any:
    made = copy(*args, **kwargs)
    attempt(link, partial(wrap, made, name=link.name, recorder_of=link.recorder_of))
    return made
