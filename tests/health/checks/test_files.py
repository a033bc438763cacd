"""The checks of folders and object stores: they leave nothing behind, and fail when nothing can be kept."""

from __future__ import annotations

import io
import os
import uuid
from pathlib import Path
from typing import Any

import fsspec
import pytest

from monitoring.health.checks import folder, object_store
from tests.health.checks.support import outcome, status_of


def test_a_folder_that_takes_files_passes_and_is_left_empty(tmp_path: Path) -> None:
    """Each time."""
    check = folder(tmp_path)
    assert [status_of(check), status_of(check)] == ["pass", "pass"]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_fails(tmp_path: Path) -> None:
    """And passes when it is back."""
    place = tmp_path / "uploads"
    check = folder(place)
    assert outcome(check).output.startswith("FileNotFoundError")
    place.mkdir()
    assert status_of(check) == "pass"


def test_a_folder_that_cannot_be_written_fails() -> None:
    """A place of the system where nobody makes files, root neither."""
    found = outcome(folder("/proc"))
    assert found.status == "fail"
    assert "Error" in found.output


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_fails(tmp_path: Path) -> None:
    """Mode 500."""
    tmp_path.chmod(0o500)
    assert outcome(folder(tmp_path)).output.startswith("PermissionError")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
def test_a_full_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written goes to the device that is always full."""
    real = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda self, data: real(Path("/dev/full"), data))
    assert "No space left" in outcome(folder(tmp_path)).output


def test_a_file_that_changed_fails_and_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that gives back something else is no store."""
    monkeypatch.setattr(Path, "read_bytes", lambda self: b"something else")
    assert outcome(folder(tmp_path)).output == "OSError: what was read back is not what was written"
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_read_back_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when something goes wrong half way."""

    def refuse(path: Path) -> bytes:
        raise PermissionError("no reading here")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert outcome(folder(tmp_path)).output == "PermissionError: no reading here"
    assert list(tmp_path.iterdir()) == []


def test_fsspecs_local_and_memory_filesystems_pass_and_are_left_empty(tmp_path: Path) -> None:
    """By the calls that all its filesystems have."""
    local, place = fsspec.filesystem("file"), f"/{uuid.uuid4()}"
    assert status_of(object_store(local, str(tmp_path))) == "pass"
    assert list(tmp_path.iterdir()) == []
    memory = fsspec.filesystem("memory")
    memory.mkdir(place)
    assert status_of(object_store(memory, place)) == "pass"
    assert memory.ls(place) == []


def test_an_fsspec_folder_that_is_gone_fails(tmp_path: Path) -> None:
    """The local one makes no folders."""
    assert status_of(object_store(fsspec.filesystem("file"), str(tmp_path / "gone"))) == "fail"


class Bucket:
    """The three calls of a boto3 S3 client, with the arguments and answers that it has."""

    def __init__(self, error: Exception | None = None) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}
        self.keys: list[str] = []
        self._error = error

    def put_object(self, *, Bucket: str, Key: str, Body: bytes) -> dict[str, Any]:  # noqa: N803 - boto3's names
        if self._error is not None:
            raise self._error
        self.keys.append(f"{Bucket}/{Key}")
        self.objects[Bucket, Key] = Body
        return {"ResponseMetadata": {"HTTPStatusCode": 200}, "ETag": '"0"'}

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803
        body = self.objects[Bucket, Key]
        return {"ResponseMetadata": {"HTTPStatusCode": 200}, "ContentLength": len(body), "Body": io.BytesIO(body)}

    def delete_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803
        del self.objects[Bucket, Key]
        return {"ResponseMetadata": {"HTTPStatusCode": 204}}


@pytest.mark.parametrize(("place", "start"), [("uploads", "uploads/."), ("uploads/tmp/", "uploads/tmp/.")])
def test_a_bucket_passes_and_is_left_empty(place: str, start: str) -> None:
    """With a prefix or without; the same key each time, so that no more than one can be left."""
    client = Bucket()
    check = object_store(client, place)
    assert [status_of(check), status_of(check)] == ["pass", "pass"]
    assert client.objects == {}
    assert client.keys[0].startswith(f"{start}monitoring-check-")
    assert client.keys[0] == client.keys[1]


def test_a_bucket_that_refuses_fails() -> None:
    """With what the client says."""
    error = RuntimeError("An error occurred (AccessDenied) when calling the PutObject operation: Access Denied")
    found = outcome(object_store(Bucket(error), "uploads"))
    assert (found.status, "AccessDenied" in found.output) == ("fail", True)
