"""urllib3 pools of connections, and the managers that make them.

The seam is a pool's ``_make_request``: one call per request that leaves, each attempt of a ``Retry`` included. A
manager observes the pools that it hands out, whoever asks for them.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from monitoring.calls import HTTPCall
from monitoring.integrations.attachment import Detach, Link, attempt
from monitoring.integrations.marks import mark_of, set_mark, take_mark
from monitoring.integrations.weak import replace_weakly, weakly

from .bodies import watch_body
from .exchange import PORTS, Exchange, begin
from .quotas import quotas_of


def carrier(client: Any) -> Any:
    """Return the pool or the manager itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Observe each request of a pool, or of all the pools of a manager."""
    return _attach_to_manager(client, link) if hasattr(client, "connection_from_pool_key") else _observe(client, link)


def _attach_to_manager(manager: Any, link: Link) -> Detach:
    pools: weakref.WeakSet[Any] = weakref.WeakSet()
    restore = replace_weakly(
        manager,
        {"connection_from_pool_key": partial(_connection, link, pools, weakly(manager.connection_from_pool_key))},
    )

    def detach() -> None:
        restore()
        for pool in list(pools):
            if (mark := take_mark(pool)) is not None:
                mark[1]()

    return detach


def _connection(link: Link, pools: weakref.WeakSet[Any], find: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    pool = find(*args, **kwargs)
    if mark_of(pool) is None:
        attempt(link, _add, pools, pool, link)
    return pool


def _add(pools: weakref.WeakSet[Any], pool: Any, link: Link) -> None:
    set_mark(pool, (link, _observe(pool, link)))
    pools.add(pool)


def _observe(pool: Any, link: Link) -> Detach:
    if "response_conn" not in inspect.signature(pool._make_request).parameters:
        raise AttributeError("its _make_request is that of urllib3 before 2.0")
    return replace_weakly(
        pool, {"_make_request": partial(_observed, link, weakref.ref(pool), weakly(pool._make_request))}
    )


def _observed(
    link: Link, pool: weakref.ref[Any], send: Callable[..., Any], conn: Any, method: str, url: str, **kwargs: Any
) -> Any:
    exchange = begin(link)
    if exchange is None:
        return send(conn, method, url, **kwargs)
    request = (pool(), method, url, kwargs)
    _, _, _, sent = exchange.prepared(_prepare, request)
    try:
        response = send(conn, method, url, **sent)
    except BaseException as error:
        exchange.failed(_describe, request, error)
        raise
    if exchange.answered(_describe, request, response):
        exchange.watched(watch_body, response)
    return response


Request = tuple[Any, str, str, dict[str, Any]]
"""A pool, and what its ``_make_request`` was called with."""


def _prepare(exchange: Exchange, request: Request) -> Request:
    pool, method, url, kwargs = request
    history = getattr(kwargs.get("retries"), "history", ())
    if history:
        exchange.redirects, exchange.retries = (1, 0) if history[-1].redirect_location else (0, 1)
    if not exchange.carries_on():
        return request
    headers = kwargs.get("headers")
    added = exchange.headers_to(_host(pool, url)[0], _has(headers or {}))
    if not added:
        return request
    twin = headers.copy() if headers is not None else {}
    twin.update(added)
    return pool, method, url, {**kwargs, "headers": twin}


def _has(headers: Mapping[Any, Any]) -> Callable[[str], bool]:
    names = {str(name).lower() for name in headers}
    return lambda name: name.lower() in names


def _host(pool: Any, url: str) -> tuple[str, int]:
    """Return host and port: a forwarding proxy's pool is asked for whole URLs."""
    if url.startswith("/"):
        return pool.host.strip("[]"), pool.port or PORTS.get(pool.scheme, 0)
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)


def _describe(call: HTTPCall, request: Request, response: Any) -> None:
    pool, method, url, _ = request
    call.method = method.upper()
    call.host, call.port = _host(pool, url)
    if response is not None:
        call.status = response.status
        call.quotas = quotas_of(response.headers.items(), call.status)
