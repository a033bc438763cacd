"""An HTTP client over one plain socket that can leave at any byte."""

from __future__ import annotations

import socket
import struct
from email.message import Message
from email.parser import BytesHeaderParser
from types import TracebackType


class RawClient:
    """One connection to 127.0.0.1; use it as a with-block. Reading past `timeout_seconds` raises TimeoutError."""

    def __init__(self, port: int, *, timeout_seconds: float = 15) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_seconds)
        self._received = b""

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def get(self, path: str) -> None:
        """Send a GET request and do not wait for anything."""
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def read_head(self) -> tuple[int, Message]:
        """Return the status and the headers of the next response."""
        head = self.read_until(b"\r\n\r\n")
        status_line, _, fields = head.partition(b"\r\n")
        return int(status_line.split()[1]), BytesHeaderParser().parsebytes(fields)

    def read_until(self, mark: bytes) -> bytes:
        """Return everything up to and with `mark`; EOFError when the server closes before it comes."""
        while mark not in self._received:
            piece = self._socket.recv(65_536)
            if not piece:
                raise EOFError(f"The server closed before {mark!r}; it sent {self._received[-200:]!r}.")
            self._received += piece
        end = self._received.index(mark) + len(mark)
        wanted, self._received = self._received[:end], self._received[end:]
        return wanted

    def read_to_end(self) -> bytes:
        """Return everything up to the moment that the server closes or resets the connection."""
        try:
            while piece := self._socket.recv(65_536):
                self._received += piece
        except ConnectionResetError:
            pass
        rest, self._received = self._received, b""
        return rest

    def is_cut(self) -> bool:
        """Say whether the server has closed or reset the connection."""
        self._socket.setblocking(False)
        try:
            return self._socket.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except ConnectionError:
            return True
        finally:
            self._socket.setblocking(True)

    def hang_up(self) -> None:
        """Reset the connection: the client is gone, whatever the server still wants to send."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()
