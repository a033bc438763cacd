"""aiohttp sessions: a ``TraceConfig`` of ours beside the session's own.

aiohttp tells of a session's request once, and of each redirect on its way; here each is a request of its own. It tells
of no retry, but that headers were sent again. The body's end is that of its arrival.
"""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from functools import cache
from typing import Any, Final

from monitoring.calls import HTTPCall
from monitoring.integrations.attachment import Detach, Link, subclass_of
from monitoring.integrations.weak import replace_weakly

from .exchange import PORTS, Exchange, become, begin
from .quotas import quotas_of

_OWN_ERRORS: Final = ("aiohttp.", "asyncio.")


def carrier(client: Any) -> Any:
    """Return the session itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Add a trace config. The list is replaced, for the user may have given one list to several sessions."""
    config = sys.modules["aiohttp"].TraceConfig()
    trace = _Trace(link)
    config.on_request_start.append(trace.guarded(trace.start))
    config.on_request_redirect.append(trace.guarded(trace.redirect))
    config.on_request_headers_sent.append(trace.guarded(trace.headers_sent))
    config.on_request_end.append(trace.guarded(trace.end))
    config.on_request_exception.append(trace.guarded(trace.exception))
    config.freeze()
    return replace_weakly(client, {"_trace_configs": [*client.trace_configs, config]})


class _Trace:
    """What is done at each signal of a request. Its state is the request's own ``context``."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def guarded(self, act: Callable[[Any, Any], None]) -> Callable[[Any, Any, Any], Awaitable[None]]:
        """Return ``act`` as aiohttp calls it. It never raises."""

        async def signal(_: Any, context: Any, parameters: Any) -> None:
            try:
                act(context, parameters)
            except Exception as error:
                recorder = self._link.recorder()
                if recorder is not None:
                    recorder.failed(f"{__name__}.{act.__qualname__}", error)

        return signal

    def start(self, context: Any, parameters: Any) -> None:
        """Begin the first request, and put into its headers, which are aiohttp's copy, what carries the request on."""
        context.exchange = exchange = begin(self._link)
        context.has_left = context.is_redirect = False
        context.added = ()
        if exchange is not None:
            _carry_on(context, exchange, parameters.url, parameters.headers)

    def redirect(self, context: Any, parameters: Any) -> None:
        """Report the request that was redirected, and begin the next, whose host may be told less or more."""
        exchange = context.exchange
        if exchange is None:
            return
        for name in context.added:
            parameters.headers.popall(name, None)
        context.added = ()
        if exchange.answered(_describe, parameters, parameters.response):
            exchange.end()
        context.exchange = following = begin(self._link)
        if following is not None:
            following.redirects, context.is_redirect, context.has_left = 1, True, False
            _carry_on(context, following, _next_url(parameters), parameters.headers)

    def headers_sent(self, context: Any, _: Any) -> None:
        """Note a request that leaves once more: its connection was closed by the server."""
        if context.has_left and context.exchange is not None:
            context.exchange.retries += 1
        context.has_left = True

    def end(self, context: Any, parameters: Any) -> None:
        """Take what the response's headers tell."""
        exchange = context.exchange
        if exchange is not None and exchange.answered(_describe, parameters, parameters.response):
            exchange.watched(_watch, parameters.response)

    def exception(self, context: Any, parameters: Any) -> None:
        """Report a request that failed or was cancelled, unless it never was one: a redirect not to be followed."""
        exchange = context.exchange
        if exchange is None or (context.is_redirect and "Redirect" in type(parameters.exception).__name__):
            return
        exchange.failed(_describe, parameters, parameters.exception)


def _carry_on(context: Any, exchange: Exchange, url: Any, headers: Any) -> None:
    added = exchange.carries_on() and exchange.headers_to(url.host or "", headers.__contains__)
    if added:
        headers.update(added)
        context.added = tuple(added)


def _next_url(parameters: Any) -> Any:
    headers = parameters.response.headers
    return parameters.url.join(type(parameters.url)(headers.get("location") or headers.get("uri") or ""))


def _describe(call: HTTPCall, parameters: Any, response: Any) -> None:
    url = parameters.url if response is None else response.url
    call.method, call.host = parameters.method, url.host or ""
    call.port = url.port or PORTS.get(url.scheme, 0)
    if response is not None:
        call.status = response.status
        call.quotas = quotas_of(response.headers.items(), call.status)
    else:
        status = getattr(parameters.exception, "status", 0)  # of raise_for_status
        call.status = status if isinstance(status, int) else 0


def _watch(response: Any, exchange: Exchange) -> None:
    """See the body's end at its arrival, and who gives it up at the response, which becomes one of a subclass."""
    if response.closed or response.status == 101:
        exchange.end()
        return
    become(response, _observed_class, exchange)
    known, context = weakref.ref(exchange), copy_context()

    def arrived() -> None:
        """Report in the context of the request: that of now is of who opened the connection."""
        found = known()
        if found is not None:
            context.run(found.end)

    response.content.on_eof(arrived)


@cache
def _observed_class(kind: Any) -> Any:
    """Return a subclass of a response's class that tells who closes it."""

    def close(self: Any) -> None:
        self._monitoring_exchange.end(_why(self), "closed_early")
        kind.close(self)

    def release(self: Any) -> Any:
        self._monitoring_exchange.end(_why(self), "closed_early")
        return kind.release(self)

    return subclass_of(kind, {"close": close, "release": release})


def _why(response: Any) -> BaseException | None:
    """Return what ended the body: an error of its own, or the reader's being cancelled or out of time."""
    error = response.content.exception() or sys.exc_info()[1]
    is_own = isinstance(error, (asyncio.CancelledError, TimeoutError)) or type(error).__module__.startswith(_OWN_ERRORS)
    return error if is_own else None
