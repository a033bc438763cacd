"""The ways to a syslog receiver: datagrams, and streams with counted messages (RFC 6587, RFC 5425).

A stream has no answer by which a receiver could say what it took. So before and after a batch it is seen whether the
receiver has hung up, and after it whether the machine at the other end has acknowledged all of it: that fails where
a receiver is gone, and not where it is killed with messages unread.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import select
import socket
import ssl
import termios
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

from . import connections
from .retries import NotDelivered
from .syslog_messages import cut
from .tls import wrapped

Encode = Callable[[Sequence[bytes]], list[bytes]]
"""Lines to messages."""
_LOOK_SECONDS: Final = 0.002
_REFUSAL_SECONDS: Final = 0.5
"""Time in which a receiver hangs up on a client whose certificate it does not want."""
_RENEWED_SECONDS: Final = 60.0
"""Age at which a datagram socket looks up its host again: nothing tells it that the receiver has moved."""


class _Connected:
    """A connection that is made when it is needed, kept, and made anew when it was lost."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._socket: socket.socket | None = None
        self._is_aborted = False

    def get(self) -> socket.socket:
        """Return a connection. Raise OSError; ``close`` is the caller's to call then."""
        is_new = self._socket is None
        connected = self._socket = self._socket or self._connect()
        if self._is_aborted:
            raise ConnectionAbortedError("the outlet is closed")
        if is_new and isinstance(connected, ssl.SSLSocket):
            connected.do_handshake()
            _see_accepted(connected)
        return connected

    def abort(self) -> None:
        """Cut the connection; later ones fail."""
        self._is_aborted = True
        connections.cut(self._socket)

    def close(self) -> None:
        """Close the connection, if there is one."""
        connected, self._socket = self._socket, None
        if connected is not None:
            connected.close()


class Datagrams:
    """Sends each message as a datagram, cut to ``max_bytes``; see ``Transport``."""

    def __init__(self, connect: Callable[[], socket.socket], encode: Encode, max_bytes: int) -> None:
        self._connection = _Connected(connect)
        self._encode = encode
        self._max_bytes = max_bytes
        self._renewal = monotonic() + _RENEWED_SECONDS
        self.abort = self._connection.abort
        self.close = self._connection.close

    def send(self, lines: Sequence[bytes]) -> int:
        """Send lines. A receiver on this machine that is gone is noticed, another one is not."""
        sent = 0
        try:
            connected = self._open()
            _raise_error_of(connected, ignored=True)
            for message in self._encode(lines):
                connected.send(cut(message, self._max_bytes))
                sent += 1
            _raise_error_of(connected)
        except OSError as error:
            self.close()
            raise _not_delivered(error, sent) from error
        return 0

    def _open(self) -> socket.socket:
        if monotonic() > self._renewal:
            self.close()
            self._renewal = monotonic() + _RENEWED_SECONDS
        return self._connection.get()


class Stream:
    """Sends messages over one connection, each after its length; see ``Transport``."""

    def __init__(self, connect: Callable[[], socket.socket], encode: Encode, timeout_seconds: float) -> None:
        self._connection = _Connected(connect)
        self._encode = encode
        self._timeout_seconds = timeout_seconds
        self.abort = self._connection.abort
        self.close = self._connection.close

    def send(self, lines: Sequence[bytes]) -> int:
        """Send lines, and see that they were acknowledged."""
        sent = 0
        try:
            connected = self._open()
            for message in self._encode(lines):
                connected.sendall(b"%d %b" % (len(message), message))
                sent += 1
            self._await_acknowledgement(connected)
        except OSError as error:
            self.close()
            raise _not_delivered(error, sent) from error
        return 0

    def _open(self) -> socket.socket:
        """Return a connection that the receiver has not closed."""
        connected = self._connection.get()
        if _is_closed_by_peer(connected):
            self.close()
            connected = self._connection.get()
        return connected

    def _await_acknowledgement(self, connected: socket.socket) -> None:
        end = monotonic() + self._timeout_seconds
        while True:
            is_acknowledged = not _unacknowledged_bytes(connected)
            if _is_closed_by_peer(connected):
                raise ConnectionResetError("the receiver has closed the connection")
            if is_acknowledged:
                return
            if monotonic() > end:
                raise ConnectionError("what was sent is not acknowledged")
            select.select([connected], [], [], _LOOK_SECONDS)


def connect_datagram(place: tuple[str, int] | str, timeout_seconds: float) -> socket.socket:
    """Return a socket that sends to a host and port, or to the path of a Unix socket. Raise OSError."""
    if isinstance(place, str):
        return _connected(socket.AF_UNIX, socket.SOCK_DGRAM, place, timeout_seconds)
    family, _, _, _, address = socket.getaddrinfo(*place, type=socket.SOCK_DGRAM)[0]
    return _connected(family, socket.SOCK_DGRAM, address, timeout_seconds)


def connect_stream(place: tuple[str, int], timeout_seconds: float, tls: ssl.SSLContext | None) -> socket.socket:
    """Return a connection to a host and port, by TLS before the handshake. Raise OSError."""
    connected = socket.create_connection(place, timeout_seconds)
    return connected if tls is None else wrapped(connected, tls, place[0])


def _connected(family: int, kind: int, address: object, timeout_seconds: float) -> socket.socket:
    connected = socket.socket(family, kind)
    connected.settimeout(timeout_seconds)
    try:
        connected.connect(address)  # type: ignore[arg-type]
    except BaseException:
        connected.close()
        raise
    return connected


def _not_delivered(error: OSError, sent: int) -> NotDelivered:
    """Return what to raise. What a slow receiver has been given stays given; of another nobody knows what it took."""
    return NotDelivered(f"{type(error).__name__}: {error}", delivered=sent if isinstance(error, TimeoutError) else 0)


def _raise_error_of(connected: socket.socket, *, ignored: bool = False) -> None:
    """Raise what the network has answered to earlier datagrams, or forget it."""
    number = connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number and not ignored:
        raise OSError(number, os.strerror(number))


def _see_accepted(connected: ssl.SSLSocket) -> None:
    """Give a receiver time to refuse this client, before what is sent is lost by that.

    In TLS 1.3 a client may send before the other end has looked at its certificate, and is not told.
    """
    end = monotonic() + _REFUSAL_SECONDS
    while connected.version() == "TLSv1.3" and (left := end - monotonic()) > 0:
        select.select([connected], [], [], left)
        if _is_closed_by_peer(connected):
            raise ConnectionResetError("the receiver has closed the connection; see whether it wants a certificate")


def _is_closed_by_peer(connected: socket.socket) -> bool:
    timeout = connected.gettimeout()
    connected.setblocking(False)
    try:
        return not connected.recv(4096)  # a receiver says nothing, and what it says means nothing
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    finally:
        connected.settimeout(timeout)


def _unacknowledged_bytes(connected: socket.socket) -> int:
    """Return how many bytes the other end has not acknowledged; 0 where the system does not tell."""
    count = array.array("i", [0])
    try:
        fcntl.ioctl(connected.fileno(), termios.TIOCOUTQ, count)
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP):
            return 0
        raise
    return count[0]
