"""Which outgoing requests carry the running request on: its ID and its trace, to the hosts that the app names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from .context import current_record
from .utils.ids import format_traceparent, new_ids

_HOSTS_REMEMBERED: Final = 1024


class Carried(NamedTuple):
    """What one call takes along."""

    headers: dict[str, str]
    span_id: str
    """The call's own, which the callee has as its parent; "" where the caller sends a trace of its own."""


class Propagation:
    """Decides by the host, and makes the headers. Thread-safe."""

    def __init__(self, hosts: Sequence[str], request_id_header: str) -> None:
        self._request_id_header = request_id_header
        self._all = "*" in hosts
        self._names = frozenset(host.lower() for host in hosts)
        self._suffixes = tuple(host.lower() for host in hosts if host.startswith("."))
        self._known: dict[str, bool] = {}

    def reaches(self, host: str) -> bool:
        """Say whether requests to a host carry anything. A ``.example.org`` stands for what is below it."""
        known = self._known.get(host)
        if known is None:
            if len(self._known) >= _HOSTS_REMEMBERED:
                self._known.clear()
            known = self._known[host] = self._is_named(host.lower().rstrip("."))
        return known

    def carried_to(self, host: str, has: Callable[[str], bool]) -> Carried | None:
        """Return what a request to ``host`` takes along; None outside a request, and where it may not.

        ``has`` says whether the caller has set a header, whatever its case: then it stays the caller's.
        """
        record = current_record.get()
        if record is None or not self.reaches(host):
            return None
        headers, span_id = {}, ""
        if not has(self._request_id_header):
            headers[self._request_id_header] = record.request_id
        if not has("traceparent"):
            _, span_id = new_ids()
            headers["traceparent"] = format_traceparent(record.trace_id, span_id, record.trace_flags)
            if record.tracestate and not has("tracestate"):
                headers["tracestate"] = record.tracestate
        return Carried(headers, span_id) if headers else None

    def _is_named(self, host: str) -> bool:
        return self._all or host in self._names or host.endswith(self._suffixes)
