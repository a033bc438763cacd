"""httpx and httpx2 clients, sync and async.

The seam is the client's ``_send_single_request``: one call per request that leaves, redirects and authentication
included, whichever transport or mount serves it. The transports stay as they are, for they may be shared.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Iterator
from functools import cache, partial
from typing import Any, Final

from monitoring.calls import HTTPCall
from monitoring.integrations.attachment import Detach, Link, replace_attributes, subclass_of

from .exchange import PORTS, Exchange, become, begin, with_headers
from .quotas import quotas_of

_REDIRECT: Final = "_monitoring_redirect"


def carrier(client: Any) -> Any:
    """Return the client itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Observe each request that the client sends."""
    send = client._send_single_request
    observed: Callable[..., Any] = _observed_async if inspect.iscoroutinefunction(send) else _observed
    return replace_attributes(
        client,
        {
            "_send_single_request": partial(observed, link, send),
            "_build_redirect_request": partial(_marked, client._build_redirect_request),
        },
    )


def _marked(build: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    request = build(*args, **kwargs)
    setattr(request, _REDIRECT, True)
    return request


def _observed(link: Link, send: Callable[[Any], Any], request: Any) -> Any:
    exchange = begin(link)
    if exchange is None:
        return send(request)
    sent = exchange.prepared(_prepare, request)
    try:
        response = send(sent)
    except BaseException as error:
        if sent is not request:
            exchange.take_back(request, sent, error)
        exchange.failed(_describe, request, error)
        raise
    return _answered(exchange, request, sent, response)


async def _observed_async(link: Link, send: Callable[[Any], Any], request: Any) -> Any:
    exchange = begin(link)
    if exchange is None:
        return await send(request)
    sent = exchange.prepared(_prepare, request)
    try:
        response = await send(sent)
    except BaseException as error:
        if sent is not request:
            exchange.take_back(request, sent, error)
        exchange.failed(_describe, request, error)
        raise
    return _answered(exchange, request, sent, response)


def _prepare(exchange: Exchange, request: Any) -> Any:
    if _REDIRECT in vars(request):
        exchange.redirects = 1
    if not exchange.carries_on():
        return request
    added = exchange.headers_to(request.url.host, request.headers.__contains__)
    return with_headers(request, added) if added else request


def _answered(exchange: Exchange, request: Any, sent: Any, response: Any) -> Any:
    if sent is not request:
        exchange.take_back(request, sent, response)
    if exchange.answered(_describe, request, response):
        exchange.watched(_watch, response)
    return response


def _describe(call: HTTPCall, request: Any, response: Any) -> None:
    url = request.url
    call.method, call.host = request.method, url.host
    call.port = url.port or PORTS.get(url.scheme, 0)
    if response is not None:
        call.status = response.status_code
        call.quotas = quotas_of(response.headers.raw, call.status)


def _watch(response: Any, exchange: Exchange) -> None:
    """See the body's end at the client's own stream object, which becomes one of a subclass made here."""
    if response.is_closed or response.status_code == 101:
        exchange.end()
        return
    become(response.stream, _observed_class, exchange)


@cache
def _observed_class(kind: Any) -> Any:
    """Return a subclass of a stream's class that tells how the stream ends."""

    def iterate(self: Any) -> Iterator[bytes]:
        exchange = self._monitoring_exchange
        try:
            yield from kind.__iter__(self)
        except BaseException as error:
            exchange.end(error)
            raise
        exchange.end()

    async def iterate_async(self: Any) -> AsyncGenerator[bytes, None]:
        exchange, chunks = self._monitoring_exchange, kind.__aiter__(self)
        try:
            async for chunk in chunks:
                yield chunk
        except BaseException as error:
            exchange.end(error)
            raise
        else:
            exchange.end()
        finally:
            await chunks.aclose()

    def close(self: Any) -> Any:
        self._monitoring_exchange.close_early()
        return kind.close(self)

    def aclose(self: Any) -> Any:
        self._monitoring_exchange.close_early()
        return kind.aclose(self)

    members = {
        **({"__iter__": iterate, "close": close} if hasattr(kind, "__iter__") else {}),
        **({"__aiter__": iterate_async, "aclose": aclose} if hasattr(kind, "__aiter__") else {}),
    }
    return subclass_of(kind, members)
