"""Who calls the app's own API: by a header, of which only a keyed hash is kept, or by a function of the app's."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from ..context import name_consumer
from ..observation import RequestRecord

OfHeaders = Callable[[Mapping[str, str]], object]

HASHED: Final = "key:"
"""What the name of a consumer begins with that is the hash of a header."""
_KEY_FILE: Final = "consumers.key"
_KEY_BYTES: Final = 32


class Consumers:
    """Names the consumer of each request. Thread-safe. Made only where the app asks for it."""

    def __init__(self, consumer: OfHeaders | str, make_key: Callable[[], bytes]) -> None:
        self._header = consumer.lower() if isinstance(consumer, str) else ""
        self._asgi_name = self._header.encode("latin-1")
        self._wsgi_name = _wsgi_name(self._header)
        self._of_headers = consumer if not isinstance(consumer, str) else None
        self._make_key = make_key
        self._key = b""

    def name_asgi(self, record: RequestRecord, scope: MutableMapping[str, Any]) -> None:
        """Put on ``record`` whom the headers of a scope name. Raises what the app's function does."""
        if self._of_headers is not None:
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
            name_consumer(record, self._of_headers(headers))
            return
        for name, value in scope["headers"]:
            if name == self._asgi_name:
                return self._name_hashed(record, value)

    def name_wsgi(self, record: RequestRecord, environ: MutableMapping[str, Any]) -> None:
        """Do the same with an environ."""
        if self._of_headers is not None:
            name_consumer(record, self._of_headers(_headers_of(environ)))
        elif value := environ.get(self._wsgi_name):
            self._name_hashed(record, value.encode("latin-1", "replace"))

    def _name_hashed(self, record: RequestRecord, value: bytes) -> None:
        if value:
            self._key = self._key or self._make_key()
            name_consumer(record, HASHED + hashlib.blake2b(value, key=self._key, digest_size=6).hexdigest())


def _wsgi_name(header: str) -> str:
    name = header.upper().replace("-", "_")
    return name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}"


def _headers_of(environ: Mapping[str, Any]) -> dict[str, str]:
    headers = {key[5:].replace("_", "-").lower(): value for key, value in environ.items() if key[:5] == "HTTP_"}
    for key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(key):
            headers[key.replace("_", "-").lower()] = environ[key]
    return headers


def hashing_key(token: str | None, folders: Callable[[], tuple[Path | None, ...]]) -> bytes:
    """Return the key that headers are hashed with: made from the token, or that of the first folder that has or takes
    one, so that all workers have the same; else one of this process.
    """
    if token:
        return hashlib.blake2b(b"monitoring consumers", key=token.encode()[:64], digest_size=_KEY_BYTES).digest()
    for folder in folders():
        if folder is not None:
            with suppress(OSError):
                return _shared_key(folder)
    return secrets.token_bytes(_KEY_BYTES)


def _shared_key(folder: Path) -> bytes:
    """Return the key of a folder, made by the first who asks: it comes to its name whole. Raise OSError."""
    place = folder / _KEY_FILE
    if not place.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = folder / f"{_KEY_FILE}.{os.getpid()}.{secrets.token_hex(4)}"
        with open(os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
        try:
            with suppress(FileExistsError):  # another was first
                os.link(own, place)
        finally:
            own.unlink()
    key = place.read_bytes()
    if len(key) != _KEY_BYTES:
        raise OSError(f"{place} holds no key")
    return key
