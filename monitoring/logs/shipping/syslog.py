"""Lines to a syslog receiver."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Literal, get_args

from ..outlets import OnDropped, Outlet
from .delivery import Transport
from .limits import Limits
from .outlet import ShippingOutlet
from .parsing import Line, parsed
from .settings import check_level, spool_folder
from .syslog_messages import FACILITIES, local_message, message
from .syslog_transports import Datagrams, Stream, connect_datagram, connect_stream
from .tls import tls_context

Protocol = Literal["udp", "tcp", "tls"]
_PORTS: Final = {"udp": 514, "tcp": 601, "tls": 6514}
_SMALLEST_DATAGRAM: Final = 480
_LARGEST_DATAGRAM: Final = 65_507


@dataclass(frozen=True)
class Syslog:
    """Sends lines as RFC 5424 messages: the line is the message, its IDs are structured data, its logger the MSGID.

    To a Unix socket they go in the older form, ``<priority>time app_name: line``, which is what syslog daemons and
    journald read there.

    Syslog has no answers. By UDP lines are lost without notice, except where a receiver on the same machine is gone. By
    TCP and TLS a batch counts as delivered when the other machine has acknowledged it; one whose connection breaks
    before is sent again, and then some of its lines may arrive twice. Raise ValueError for a setting that cannot be
    used.
    """

    address: str = "/dev/log"
    """``host``, ``host:port``, ``[IPv6]:port``, or the path of a Unix socket of datagrams. The port is by default 514
    for UDP, 601 for TCP and 6514 for TLS.
    """
    _: KW_ONLY
    protocol: Protocol = "udp"
    facility: str = "user"
    app_name: str | None = None
    """By default the service."""
    level: str = "debug"
    spool: str | Path | None = None
    """Folder that keeps what cannot be delivered; several destinations and processes may share it."""
    max_datagram_bytes: int = 8192
    """Datagrams are cut to this. Receivers take 480 bytes at least, 2048 mostly; rsyslog takes 8192."""
    ca_file: str | None = None
    """Trust the authorities in this PEM file, instead of the system's."""
    client_certificate: str | None = field(default=None, repr=False)
    """PEM file of a certificate and its key, for receivers that ask for one."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        check_level("Syslog", self.level)
        if self.protocol not in get_args(Protocol):
            raise ValueError(f"protocol of Syslog must be 'udp', 'tcp' or 'tls', got {self.protocol!r}.")
        if self.facility not in FACILITIES:
            raise ValueError(f"facility of Syslog must be one of {', '.join(FACILITIES)}, got {self.facility!r}.")
        if not _SMALLEST_DATAGRAM <= self.max_datagram_bytes <= _LARGEST_DATAGRAM:
            raise ValueError(
                f"max_datagram_bytes of Syslog must be between {_SMALLEST_DATAGRAM} and {_LARGEST_DATAGRAM}, "
                f"got {self.max_datagram_bytes!r}."
            )
        if isinstance(self._place, str) and self.protocol != "udp":
            raise ValueError(f"protocol of Syslog must be 'udp' for the path of a Unix socket, got {self.protocol!r}.")
        if self.protocol == "tls":
            tls_context("Syslog", self.ca_file, self.client_certificate)

    def open(self, service: str, on_dropped: OnDropped) -> Outlet:
        """Return what sends the lines of this process."""
        return ShippingOutlet(
            f"syslog at {self.address} by {self.protocol}",
            self._transport(self._encoder(service)),
            spool_folder(self.spool, "syslog", self.protocol, self.address, self.facility, self.app_name),
            self.limits,
            on_dropped,
        )

    def _encoder(self, service: str) -> Callable[[Sequence[bytes]], list[bytes]]:
        facility, host = FACILITIES[self.facility], socket.gethostname()

        def encoded(line: Line) -> bytes:
            app_name = self.app_name or line.text_of("service", service)
            if isinstance(self._place, str):
                return local_message(line, facility, app_name)
            return message(line, facility, host, app_name)

        return lambda lines: list(map(encoded, parsed(lines)))

    def _transport(self, encode: Callable[[Sequence[bytes]], list[bytes]]) -> Callable[[], Transport]:
        place, timeout_seconds = self._place, self.limits.timeout_seconds
        if isinstance(place, str) or self.protocol == "udp":
            connect = partial(connect_datagram, place, timeout_seconds)
            return lambda: Datagrams(connect, encode, self.max_datagram_bytes)
        tls = tls_context("Syslog", self.ca_file, self.client_certificate) if self.protocol == "tls" else None
        return lambda: Stream(partial(connect_stream, place, timeout_seconds, tls), encode, timeout_seconds)

    @property
    def _place(self) -> tuple[str, int] | str:
        """Return the host and port, or the path. Raise ValueError for what is neither."""
        if self.address.startswith("/"):
            return self.address
        host, port = _host_and_port(self.address)
        if not host or (port and not (port.isdecimal() and 0 < int(port) < 65536)):
            raise ValueError(f"address of Syslog must be 'host', 'host:port' or a path, got {self.address!r}.")
        return host, int(port or _PORTS[self.protocol])


def _host_and_port(address: str) -> tuple[str, str]:
    if address.startswith("["):
        host, _, port = address[1:].partition("]")
        return host, port.removeprefix(":")
    host, _, port = address.partition(":")
    return host, port
