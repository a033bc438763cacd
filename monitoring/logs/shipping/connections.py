"""What transports do with connections alike."""

from __future__ import annotations

import contextlib
import socket


def cut(connected: socket.socket | None) -> None:
    """Cut a connection that another thread uses now: whatever it waits for fails."""
    if connected is not None:
        with contextlib.suppress(OSError):
            # Past what SSLSocket does with it, which is not made for a thread that uses it meanwhile.
            socket.socket.shutdown(connected, socket.SHUT_RDWR)
