"""The context of the running request: who set it resets it, and everybody else only reads.

Two shapes, for two needs. The request's record is one mutable object that copies of the context share, so a late
``set_user`` in a thread reaches the request's line. The fields of ``bind`` are an immutable mapping, so parallel
tasks never see each other's.
"""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import MappingProxyType
from typing import Any, Final, ParamSpec, TypeVar

from .observation import Block, RequestRecord
from .utils.ids import format_traceparent

P = ParamSpec("P")
R = TypeVar("R")

_CONSUMER_LENGTH: Final = 64
_NO_FIELDS: Mapping[str, Any] = MappingProxyType({})


current_record: ContextVar[RequestRecord | None] = ContextVar("monitoring_request", default=None)
current_block: ContextVar[Block | None] = ContextVar("monitoring_block", default=None)
_bound_fields: ContextVar[Mapping[str, Any]] = ContextVar("monitoring_fields", default=_NO_FIELDS)
_muted: ContextVar[bool] = ContextVar("monitoring_muted", default=False)

is_muted = _muted.get
bound_fields = _bound_fields.get


def present_block() -> Block | None:
    """Return the block that runs here and now, None outside of any."""
    block = current_block.get()
    while block is not None and block.is_over:
        block = block.parent
    return block


def request_id() -> str | None:
    """Return the ID of the running request, or None outside of one."""
    record = current_record.get()
    return record.request_id if record is not None else None


def set_user(user_id: object) -> None:
    """Attach a user to the running request, also late; None and "" take the user away.

    Outside a request nothing happens.
    """
    record = current_record.get()
    if record is not None:
        record.user_id = "" if user_id is None else str(user_id)
        record.noted = True


def set_consumer(name: object) -> None:
    """Say who calls the app in the running request, also late: a client, an API key's owner, never the key itself.

    64 characters are kept; None and "" take it away. Outside a request nothing happens.
    """
    record = current_record.get()
    if record is not None:
        name_consumer(record, name)


def name_consumer(record: RequestRecord, name: object) -> None:
    """Put a consumer's name on a request."""
    record.consumer = "" if name is None else str(name)[:_CONSUMER_LENGTH]
    record.noted = True


def outbound_headers(request_id_header: str = "x-request-id") -> dict[str, str]:
    """Return the headers that carry the running request to another service: request ID and W3C trace context.

    Empty outside a request.
    """
    record = current_record.get()
    if record is None:
        return {}
    headers = {
        request_id_header: record.request_id,
        "traceparent": format_traceparent(record.trace_id, record.span_id, record.trace_flags),
    }
    if record.tracestate:
        headers["tracestate"] = record.tracestate
    return headers


class bind:  # noqa: N801  (reads as a verb: ``with bind(funder="NSF"):``)
    """Put fields on every log line of a block. Blocks nest, and the inner one's value wins."""

    __slots__ = ("_fields", "_token")

    def __init__(self, **fields: Any) -> None:
        self._fields = fields
        self._token: Token[Mapping[str, Any]] | None = None

    def __enter__(self) -> None:
        self._token = _bound_fields.set({**_bound_fields.get(), **self._fields})

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            reset(_bound_fields, self._token)
            self._token = None


@contextmanager
def muted() -> Iterator[None]:
    """Keep what happens in this block out of all numbers: the pack's own queries, sends and pages."""
    token = _muted.set(True)
    try:
        yield
    finally:
        _muted.reset(token)


def reset(variable: ContextVar[Any], token: Token[Any]) -> None:
    """Give a context variable its former value; a token of another context (a generator closed elsewhere) is
    ignored.
    """
    try:
        variable.reset(token)
    except ValueError:
        pass


def carry_context(function: Callable[P, R]) -> Callable[P, R]:
    """Return ``function`` bound to the present context, for a thread or executor that does not carry it by itself."""
    context = contextvars.copy_context()

    @functools.wraps(function)
    def carried(*args: P.args, **kwargs: P.kwargs) -> R:
        return context.copy().run(function, *args, **kwargs)

    return carried


class ContextExecutor(ThreadPoolExecutor):
    """A ThreadPoolExecutor whose calls see the request that submitted them."""

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Schedule a call in the present context; see ``concurrent.futures.Executor.submit``."""
        return super().submit(carry_context(fn), *args, **kwargs)
