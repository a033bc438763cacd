"""requests sessions.

The seam is what ``send`` of a session sends by: the transport adapter that ``get_adapter`` finds. While ``send`` asks
for it, it gets a stand-in that observes; everybody else gets the adapter. So each redirect is a request of its own,
whatever adapter is mounted, and adapters, which may be shared, stay as they are. What answers a challenge
(``HTTPDigestAuth``) sends by the response's ``connection``, which is the stand-in, too.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from monitoring.calls import HTTPCall
from monitoring.context import reset
from monitoring.integrations.attachment import Detach, Link
from monitoring.integrations.weak import replace_weakly, weakly

from .bodies import watch_body
from .exchange import PORTS, Exchange, begin, following_redirect, listens, with_headers
from .quotas import quotas_of


class _Sending:
    """One ``send`` of a session that goes on."""

    __slots__ = ("is_redirect", "link")

    def __init__(self, link: Link, is_redirect: bool) -> None:
        self.link = link
        self.is_redirect = is_redirect


_sending: Final[ContextVar[_Sending | None]] = ContextVar("monitoring_requests_send", default=None)


def carrier(client: Any) -> Any:
    """Return the session itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Observe each request that the session sends."""
    return replace_weakly(
        client,
        {
            "send": partial(_send, link, weakly(client.send)),
            "get_adapter": partial(_get_adapter, link, weakly(client.get_adapter)),
        },
    )


def _send(link: Link, send: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not listens(link):
        return send(*args, **kwargs)
    around = _sending.get()
    follows = around is not None and around.link is link and kwargs.get("allow_redirects") is False
    token = _sending.set(_Sending(link, follows))
    try:
        return send(*args, **kwargs)
    finally:
        reset(_sending, token)


def _get_adapter(link: Link, get_adapter: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    adapter, sending = get_adapter(*args, **kwargs), _sending.get()
    if sending is None or sending.link is not link:
        return adapter
    return _ObservedAdapter(adapter, link, sending.is_redirect)


class _ObservedAdapter:
    """Stands for an adapter while a session sends one request by it."""

    def __init__(self, adapter: Any, link: Link, is_redirect: bool) -> None:
        self._adapter = adapter
        self._link = link
        self._is_redirect = is_redirect

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """Return what a subclass of the session may ask for, too: the adapter's class."""
        return type(self._adapter)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Send by the adapter."""
        with following_redirect() if self._is_redirect else nullcontext():
            exchange = begin(self._link)
            if exchange is None:
                return self._adapter.send(request, *args, **kwargs)
            response = _observed(exchange, partial(self._adapter.send, *args, **kwargs), request)
        if getattr(response, "connection", None) is self._adapter:  # what answers a challenge sends by that
            response.connection = _ObservedAdapter(self._adapter, self._link, False)
        return response


def _observed(exchange: Exchange, send: Callable[[Any], Any], request: Any) -> Any:
    sent = exchange.prepared(_prepare, request)
    exchange.open_layer()
    try:
        response = send(sent)
    except BaseException as error:
        if sent is not request:
            exchange.take_back(request, sent, error)
        exchange.failed(_describe, request, error)
        raise
    if sent is not request:
        exchange.take_back(request, sent, response)
    if exchange.answered(_describe, request, response):
        exchange.watched(watch_body, response.raw)
    return response


def _prepare(exchange: Exchange, request: Any) -> Any:
    if not exchange.carries_on():
        return request
    added = exchange.headers_to(urlsplit(request.url).hostname or "", request.headers.__contains__)
    return with_headers(request, added) if added else request


def _describe(call: HTTPCall, request: Any, response: Any) -> None:
    url = urlsplit(request.url)
    call.method, call.host = request.method or "", url.hostname or ""
    call.port = url.port or PORTS.get(url.scheme, 0)
    if response is not None:
        call.status = response.status_code
        call.quotas = quotas_of(response.headers.items(), call.status)
        history = getattr(getattr(response.raw, "retries", None), "history", ())
        call.retries += sum(not attempt.redirect_location for attempt in history)
