"""The request ID policy: what is taken over from whom, what is replaced, and what of it stays on record."""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Mapping
from typing import Final

from ..config import Config
from ..observation import RequestRecord
from ..utils.ids import (
    CARRIERS,
    CLIENT_ID_LIMIT,
    clipped,
    inbound_id,
    is_request_id,
    parse_traceparent,
    sendable_tracestate,
)

_WARN_EVERY_SECONDS: Final = 60.0
_PEERS_REMEMBERED: Final = 1024


class InvalidRequestId(Exception):
    """An inbound ID that the policy rejects; the message is for the caller."""


def add_repeated(headers: dict[str, str], name: str, value: str) -> None:
    """Note a header that came before: two ``traceparent`` are none, ``tracestate`` is a list, of others the first
    counts.
    """
    if name == "traceparent":
        headers[name] = ""
    elif name == "tracestate":
        headers[name] = f"{headers[name]},{value}"


class InboundPolicy:
    """Gives each request its IDs. Thread-safe."""

    def __init__(self, config: Config) -> None:
        self.sources = tuple(name.lower() for name in config.request_id_sources)
        read = (*self.sources, "traceparent", "tracestate")
        self.asgi_names = {name.encode(): name for name in read}
        """The headers this policy reads, by their name in an ASGI scope."""
        self.wsgi_names = {f"HTTP_{name.upper().replace('-', '_')}": name for name in read}
        """The same by their key in a WSGI environ."""
        self._reject = config.on_invalid_request_id == "reject"
        self._trust_all = "*" in config.trusted_proxies
        self._trust_unix = "unix" in config.trusted_proxies
        self._networks = [
            ipaddress.ip_network(network, strict=False)
            for network in config.trusted_proxies
            if network not in ("*", "unix")
        ]
        self._trusts_some = self._trust_unix or bool(self._networks)
        self._peers: dict[str | None, bool] = {}
        self._invalid = 0
        self._warn_at = 0.0

    def take_over(self, record: RequestRecord, headers: Mapping[str, str], peer: str | None) -> None:
        """Put on ``record`` what the caller may decide about its IDs, and note what it may not.

        ``headers`` are those the policy reads, the first of each name. Raise InvalidRequestId when the policy is to
        reject.
        """
        if "traceparent" in headers:
            self._continue_trace(record, headers)
        for source in self.sources:
            value = headers.get(source)
            if value:
                if source in CARRIERS and not (value := inbound_id(source, value)):
                    continue
                if is_request_id(value) is None:
                    self._replace(record, source, value)
                elif self._trust_all or self._peers.get(peer) or (self._trusts_some and self._trusts(peer)):
                    record.request_id = value
                else:
                    record.client_request_id = value[:CLIENT_ID_LIMIT]
                    record.noted = True
                break

    def _continue_trace(self, record: RequestRecord, headers: Mapping[str, str]) -> None:
        parent = parse_traceparent(headers["traceparent"])
        if parent is not None:
            record.trace_id, record.parent_span_id, record.trace_flags = parent
            record.tracestate = sendable_tracestate(headers.get("tracestate", ""))
            record.noted = True

    def _replace(self, record: RequestRecord, source: str, value: str) -> None:
        """Note an unusable inbound ID beside the fresh one, or reject it."""
        if self._reject:
            raise InvalidRequestId(
                f"The header {source} is not usable as a request ID: "
                "send 1 to 128 of A-Z, a-z, 0-9, '.', '_', '-', not only zeros."
            )
        record.client_request_id = clipped(value)
        record.noted = True
        self._warn(source, record)

    def _trusts(self, peer: str | None) -> bool:
        if not peer:
            return self._trust_unix
        known = self._peers.get(peer)
        if known is None:
            if len(self._peers) >= _PEERS_REMEMBERED:
                self._peers.clear()
            known = self._peers[peer] = self._is_in_a_network(peer)
        return known

    def _is_in_a_network(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._networks)

    def _warn(self, source: str, record: RequestRecord) -> None:
        self._invalid += 1
        now = time.monotonic()
        if now < self._warn_at:
            return
        self._warn_at = now + _WARN_EVERY_SECONDS
        logging.getLogger("monitoring.request").warning(
            "invalid inbound request ID in %s replaced by %s (%d so far)", source, record.request_id, self._invalid
        )
