"""Who may see metrics and details: a token, the app's own say, or a caller on this machine in development."""

from __future__ import annotations

import hmac
import inspect
import ipaddress
import time
from collections.abc import Awaitable, Iterable, MutableMapping
from typing import Any, Final

from asgiref.sync import async_to_sync, sync_to_async

from .config import Config

Scope = MutableMapping[str, Any]

_FORWARDING: Final = frozenset({b"forwarded", b"via"})
_LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})


COOKIE: Final = "monitoring_login"
"""Name of the cookie that a browser gets which logged in."""


async def may_see(scope: Scope, config: Config) -> bool:
    """Say whether the caller may see metrics and details. Raise what the app's ``authorize`` raises."""
    if _has_token(scope, config):
        return True
    if config.authorize is not None:
        return await _app_says_yes(scope, config)
    return config.environment == "development" and _is_local(scope)


def may_see_now(scope: Scope, config: Config) -> bool:
    """Say the same in this thread. Only an async ``authorize`` needs an event loop: it gets one, and RuntimeError is
    raised where one runs in this thread already.
    """
    if _has_token(scope, config):
        return True
    if config.authorize is not None:
        answer = config.authorize(scope)
        return bool(async_to_sync(_result_of)(answer) if inspect.isawaitable(answer) else answer)
    return config.environment == "development" and _is_local(scope)


def _has_token(scope: Scope, config: Config) -> bool:
    return config.token is not None and (_bears(scope, config.token) or _logged_in(scope, config.token))


def _bears(scope: Scope, token: str) -> bool:
    for value in _values(scope, b"authorization"):
        scheme, _, given = value.partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), token.encode()):
            return True
    return False


def login_cookie(token: str, given: str, until: float) -> str | None:
    """Return the value of a cookie that stands for the token until a moment, None when it was not given."""
    if not hmac.compare_digest(given.encode(), token.encode()):
        return None
    return f"{int(until)}.{_signature(token, str(int(until)))}"


def _logged_in(scope: Scope, token: str) -> bool:
    for value in _values(scope, b"cookie"):
        for pair in value.decode("latin-1").split(";"):
            name, _, cookie = pair.strip().partition("=")
            until, _, signature = cookie.partition(".")
            if name == COOKIE and hmac.compare_digest(signature.encode(), _signature(token, until).encode()):
                return until.isdigit() and float(until) > time.time()
    return False


def _signature(token: str, until: str) -> str:
    return hmac.new(token.encode(), f"monitoring login until {until}".encode(), "sha256").hexdigest()


async def _app_says_yes(scope: Scope, config: Config) -> bool:
    authorize = config.authorize
    assert authorize is not None
    if any(map(inspect.iscoroutinefunction, (authorize, type(authorize).__call__))):  # a function, or an object's call
        answer = authorize(scope)
    else:
        answer = await sync_to_async(authorize, thread_sensitive=False)(scope)
    return bool(await answer if inspect.isawaitable(answer) else answer)


async def _result_of(answer: Awaitable[object]) -> object:
    return await answer


def _is_local(scope: Scope) -> bool:
    """Say whether the caller is on this machine.

    A proxy makes every caller loopback, DNS rebinding makes any page one: both show.
    """
    client = scope.get("client")
    try:
        if not client or not ipaddress.ip_address(client[0]).is_loopback:
            return False
    except ValueError:
        return False
    if any(name in _FORWARDING or name.startswith(b"x-forwarded-") for name, _ in scope["headers"]):
        return False
    hosts = list(_values(scope, b"host"))
    return len(hosts) == 1 and _without_port(hosts[0].decode("latin-1")) in _LOCAL_NAMES


def _values(scope: Scope, wanted: bytes) -> Iterable[bytes]:
    return (value for name, value in scope["headers"] if name.lower() == wanted)


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()
