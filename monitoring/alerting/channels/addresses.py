"""Which network addresses a webhook may reach: not those inside, lest a URL opens what only this machine can see.

The address that is connected to is checked, not the name: a name may change its mind between two look-ups.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_INSIDE: Final = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "fec0::/10")))
"""What ``is_global`` of some Python versions lets pass."""
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_METADATA: Final = frozenset(
    map(ipaddress.ip_address, ("169.254.169.254", "169.254.170.2", "100.100.100.200", "fd00:ec2::254"))
)
"""Where clouds hand out credentials."""


class AddressRefused(Exception):
    """An address that must not be connected to."""


def connect(host: str, port: int, timeout_seconds: float, *, allow_private: bool) -> socket.socket:
    """Connect to a host by TCP. Raise AddressRefused when any of its addresses is inside, OSError for no answer."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for *_, place in found:
        if not is_allowed(ipaddress.ip_address(place[0].partition("%")[0]), allow_private=allow_private):  # type: ignore[union-attr]
            raise AddressRefused(f"{host} is at an address that is not public; allow it with allow_private=True")
    failure = OSError(f"{host} has no address")
    for family, kind, protocol, _, place in found:
        connection = socket.socket(family, kind, protocol)
        connection.settimeout(timeout_seconds)
        try:
            connection.connect(place)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure


def is_allowed(address: Address, *, allow_private: bool) -> bool:
    """Say whether an address may be connected to: a public one, or with ``allow_private`` any but the metadata ones."""
    plain = _unwrapped(address)
    if plain in _METADATA:
        return False
    return allow_private or _is_public(plain)


def _is_public(address: Address) -> bool:
    special = address.is_multicast or address.is_reserved or any(address in network for network in _INSIDE)
    return address.is_global and not special


def _unwrapped(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one leads to, where it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64 or (int(address) >> 32 == 0 and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
