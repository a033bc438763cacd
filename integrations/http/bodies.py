"""The end of a body that urllib3 reads: its response becomes one of a subclass made here, and stays the same object."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from monitoring.integrations.attachment import subclass_of

from .exchange import Exchange, become

_READS: Final = ("read", "read1")


def watch_body(response: Any, exchange: Exchange) -> None:
    """Have ``exchange`` told when the body of a urllib3 response ends. One of another library's has ended now."""
    if not hasattr(response, "read_chunked") or response.closed:
        exchange.end()
        return
    become(response, _observed_class, exchange)


@cache
def _observed_class(kind: Any) -> Any:
    """Return a subclass of a response's class that tells how the body ends."""

    def read_chunked(self: Any, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        exchange = self._monitoring_exchange
        try:
            yield from kind.read_chunked(self, *args, **kwargs)
        except BaseException as error:
            exchange.end(error)
            raise
        exchange.end()

    def drain_conn(self: Any) -> None:
        kind.drain_conn(self)
        self._monitoring_exchange.end()

    def close(self: Any) -> None:
        self._monitoring_exchange.close_early()
        kind.close(self)

    reads = {name: _observed_read(getattr(kind, name)) for name in _READS if hasattr(kind, name)}
    return subclass_of(kind, {"read_chunked": read_chunked, "drain_conn": drain_conn, "close": close, **reads})


def _observed_read(read: Any) -> Any:
    def observed_read(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            data = read(self, *args, **kwargs)
        except BaseException as error:
            self._monitoring_exchange.end(error)
            raise
        if self.closed:
            self._monitoring_exchange.end()
        return data

    return observed_read
