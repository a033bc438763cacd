"""httpx and httpx2 clients, sync and async.

The seam is the client's ``_send_single_request``: one call per request that leaves, redirects and authentication
included, whichever transport or mount serves it. The transports stay as they are, for they may be shared. The time is
that until the response's headers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

from monitoring.calls import HTTPCall
from monitoring.integrations.attachment import (
    Detach,
    Link,
    inside_llm_call,
    observing,
    observing_async,
    replace_attributes,
)

_PORTS: Final = {"http": 80, "https": 443}
_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"))


def carrier(client: Any) -> Any:
    """Return the client itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Time each request that the client sends."""
    send = client._send_single_request
    timing: Callable[..., Any] = observing_async if inspect.iscoroutinefunction(send) else observing
    timed = timing(link, _call, send)

    def send_single_request(request: Any) -> Any:
        return send(request) if inside_llm_call.get() else timed(request)

    return replace_attributes(client, {"_send_single_request": send_single_request})


def _call(args: tuple[Any, ...], started: float, response: Any, error: BaseException | None) -> HTTPCall:
    call = HTTPCall(started, error)
    (request,) = args
    url = request.url
    call.method = request.method if request.method in _METHODS else "_OTHER"
    call.host = url.host
    call.port = url.port or _PORTS.get(url.scheme, 0)
    call.name = f"{call.method} {call.host}"
    if response is not None:
        call.status = response.status_code
    return call
