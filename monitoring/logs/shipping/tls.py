"""TLS towards receivers: always verified."""

from __future__ import annotations

import socket
import ssl


def wrapped(connected: socket.socket, tls: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    """Return a connection wrapped in TLS, before the handshake: so it can be cut while a receiver does not answer."""
    try:
        return tls.wrap_socket(connected, server_hostname=host, do_handshake_on_connect=False)
    except BaseException:
        connected.close()
        raise


def tls_context(owner: str, ca_file: str | None, client_certificate: str | None = None) -> ssl.SSLContext:
    """Return a context that trusts the system's authorities, or those of ``ca_file`` only.

    ``client_certificate`` is a PEM file of a certificate and its key. Raise ValueError, in the name of ``owner``, for a
    file that cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
        if client_certificate is not None:
            context.load_cert_chain(client_certificate)
    except OSError as error:
        files = ", ".join(repr(str(file)) for file in (ca_file, client_certificate) if file is not None)
        raise ValueError(f"{owner} cannot use {files}: {error}; name readable PEM files.") from error
    return context
