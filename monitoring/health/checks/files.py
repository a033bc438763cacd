"""Whether files can be kept: in a folder, or in an object store. A small one is written, read back and deleted."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from .telling import Answer, telling


class _Place(Protocol):
    """Where a small file can be kept."""

    def write(self, name: str, content: bytes) -> None: ...

    def read(self, name: str) -> bytes: ...

    def delete(self, name: str) -> None: ...


def folder(path: str | os.PathLike[str]) -> Callable[[], Answer]:
    """Check that a file can be written to a folder, read back and deleted; the folder must be there."""
    return telling(_RoundTrip(_Folder(Path(path))))


def object_store(client: Any, place: str) -> Callable[[], Answer]:
    """Check the same of an object store: an fsspec filesystem and a path, or a boto3 S3 client and
    ``bucket`` or ``bucket/prefix``.

    The client's own time-outs hold: set those for connecting and reading to some seconds, and few retries.
    """
    kind = _Bucket if hasattr(client, "put_object") else _FileSystem
    return telling(_RoundTrip(kind(client, place.rstrip("/"))))


class _RoundTrip:
    """Its file has the same name each time: whatever goes wrong, no more than one is left behind."""

    def __init__(self, place: _Place) -> None:
        self._place = place
        self._mark = secrets.token_hex(4)

    def __call__(self) -> Answer:
        name, content = f".monitoring-check-{os.getpid()}-{self._mark}", secrets.token_bytes(16)
        try:
            self._place.write(name, content)
            found = self._place.read(name)
        except Exception:
            with contextlib.suppress(Exception):  # what went wrong first is what counts
                self._place.delete(name)
            raise
        self._place.delete(name)
        if found != content:
            raise OSError("what was read back is not what was written")
        return None


class _Folder:
    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, name: str, content: bytes) -> None:
        (self._path / name).write_bytes(content)

    def read(self, name: str) -> bytes:
        return (self._path / name).read_bytes()

    def delete(self, name: str) -> None:
        (self._path / name).unlink()


class _FileSystem:
    """fsspec's."""

    def __init__(self, client: Any, path: str) -> None:
        self._client = client
        self._path = path

    def write(self, name: str, content: bytes) -> None:
        self._client.pipe_file(f"{self._path}/{name}", content)

    def read(self, name: str) -> bytes:
        return bytes(self._client.cat_file(f"{self._path}/{name}"))

    def delete(self, name: str) -> None:
        self._client.rm_file(f"{self._path}/{name}")


class _Bucket:
    """S3's, as boto3 speaks it."""

    def __init__(self, client: Any, place: str) -> None:
        self._client = client
        self._bucket, _, prefix = place.partition("/")
        self._prefix = f"{prefix}/" if prefix else ""

    def write(self, name: str, content: bytes) -> None:
        self._client.put_object(**self._at(name), Body=content)

    def read(self, name: str) -> bytes:
        with contextlib.closing(self._client.get_object(**self._at(name))["Body"]) as body:
            return bytes(body.read())

    def delete(self, name: str) -> None:
        self._client.delete_object(**self._at(name))

    def _at(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}{name}"}
