"""A file that processes share: whole or not at all, and each change is noticed."""

from __future__ import annotations

import os
from pathlib import Path

from monitoring.utils.shared_file import SharedFile


def of(folder: Path | None) -> SharedFile:
    """Return a file in a folder."""
    return SharedFile(lambda: folder, "told.json")


def test_what_one_writes_another_reads(tmp_path: Path) -> None:
    """And nothing else is left in the folder."""
    here, there = of(tmp_path), of(tmp_path)
    assert (there.read(), there.has_changed()) == (b"", False)
    assert here.write(b"one")
    assert (there.has_changed(), there.read(), there.has_changed()) == (True, b"one", False)
    assert os.listdir(tmp_path) == ["told.json"]


def test_two_changes_within_one_tick_of_the_clock_are_two(tmp_path: Path) -> None:
    """The file system's clock is coarse."""
    file = of(tmp_path)
    file.write(b"one")
    assert file.has_changed()
    moment = os.stat(tmp_path / "told.json").st_mtime_ns
    file.write(b"two")
    os.utime(tmp_path / "told.json", ns=(moment, moment))
    assert file.has_changed()


def test_a_file_that_is_taken_away_has_changed(tmp_path: Path) -> None:
    """It says nothing then."""
    file = of(tmp_path)
    file.write(b"one")
    file.has_changed()
    (tmp_path / "told.json").unlink()
    assert (file.has_changed(), file.read()) == (True, b"")


def test_without_a_folder_nothing_is_shared() -> None:
    """And nothing is raised."""
    file = of(None)
    assert (file.write(b"one"), file.has_changed(), file.read()) == (False, False, None)


def test_what_cannot_be_written_or_read_is_not(tmp_path: Path) -> None:
    """A folder that is gone, and a folder in the file's place."""
    assert not of(tmp_path / "gone").write(b"one")
    (tmp_path / "told.json").mkdir()
    assert (of(tmp_path).write(b"one"), of(tmp_path).read()) == (False, None)
    assert os.listdir(tmp_path) == ["told.json"]
