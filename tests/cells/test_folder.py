"""The folder: private or refused, another place where the first will not do, and memory where none does."""

from __future__ import annotations

import fcntl
import os
import stat
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitoring.cells import CellFolder, CellRegistry, FolderUnusable, default_folder
from monitoring.cells import folder as folder_module
from monitoring.testing import use

from .conftest import Join
from .support import JOBS, cell_files, count, in_child, observe, read, samples, value


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Let the default folder be looked for in these two places."""
    found = (tmp_path / "first", tmp_path / "second")
    for place in found:
        place.mkdir()
    monkeypatch.setattr(folder_module, "_bases", lambda: iter(found))
    return found


def test_the_folder_is_made_for_its_user_alone(folder: Path) -> None:
    """Its mode is 0700 whatever the umask, and files in it are 0600."""
    former = os.umask(0)
    try:
        cells = CellFolder(folder)
        cells.join().close()
    finally:
        os.umask(former)

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in folder.iterdir()} == {0o600}


def test_a_folder_of_another_user_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names the owner and the remedy."""
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)

    with pytest.raises(FolderUnusable, match=rf"belongs to user {os.getuid()}; set cells_folder to"):
        CellFolder(folder)


def test_a_symlink_is_refused(folder: Path, tmp_path: Path) -> None:
    """No symlink is followed: somebody else could have put it there first."""
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(FolderUnusable, match="is no folder; remove it"):
        CellFolder(folder)


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_folder_open_to_others_is_refused(folder: Path, mode: int) -> None:
    """The sentence gives the mode found and the one wanted."""
    folder.mkdir()
    folder.chmod(mode)

    with pytest.raises(FolderUnusable, match=rf"mode {mode:o}\); set it to 0700"):
        CellFolder(folder)


def test_a_file_in_the_folders_place_is_refused(folder: Path) -> None:
    """What is no folder cannot hold cells."""
    folder.write_text("")

    with pytest.raises(FolderUnusable, match="is no folder"):
        CellFolder(folder)


def test_a_folder_that_cannot_be_written_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only folder is known before the first file fails."""
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(os, "access", lambda path, mode: False)

    with pytest.raises(FolderUnusable, match="is not writable"):
        CellFolder(folder)


@pytest.mark.parametrize("name", ["lock", "cells"])
def test_no_symlink_inside_the_folder_is_followed(folder: Path, tmp_path: Path, name: str) -> None:
    """A link in place of a file of the folder does not lead this process to write elsewhere."""
    folder.mkdir(mode=0o700)
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    (folder / ("lock" if name == "lock" else "1-link.cells")).symlink_to(target)
    said: list[str] = []
    registry = CellRegistry(lambda: CellFolder(folder), on_degraded=said.append)
    count(registry)

    assert value(read(registry)) == 1
    assert target.read_bytes() == b"precious"
    registry.release()


def test_on_linux_the_default_folder_is_in_shared_memory() -> None:
    """A mapped file on a disk can stall on write-back; one in memory does not."""
    shared = Path("/dev/shm")
    if sys.platform != "linux" or not os.access(shared, os.W_OK):
        pytest.skip("needs a writable /dev/shm")
    folder = default_folder(f"test {uuid.uuid4().hex}", ".monitoring")
    try:
        assert folder.path.parent == shared
        assert f"-{os.getuid()}-test_" in folder.path.name
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    finally:
        folder.path.rmdir()


@pytest.mark.parametrize("obstacle", ["symlink", "file", "open", "read-only"])
def test_the_next_place_is_taken_where_the_first_is_refused(places: tuple[Path, Path], obstacle: str) -> None:
    """Whoever occupies the name in shared memory does not cost the service its shared cells."""
    first, second = places
    wanted = default_folder("shop", ".monitoring").path
    wanted.rmdir()
    if obstacle == "symlink":
        wanted.symlink_to(second)
    elif obstacle == "file":
        wanted.write_text("")
    elif obstacle == "open":
        wanted.mkdir()
        wanted.chmod(0o777)
    else:
        first.rmdir()

    assert default_folder("shop", ".monitoring").path == second / wanted.name


def test_where_no_place_will_do_the_error_names_each_with_its_reason(places: tuple[Path, Path]) -> None:
    """The operator reads in one message what was tried and why not."""
    name = default_folder("shop", ".monitoring").path.name
    (places[0] / name).chmod(0o755)
    places[1].rmdir()

    with pytest.raises(FolderUnusable, match=rf"{places[0]}.*mode 755.*; {places[1]}.*No such file"):
        default_folder("shop", ".monitoring")


def test_the_default_folder_is_named_by_user_service_and_store(places: tuple[Path, Path], tmp_path: Path) -> None:
    """Two services, or two deployments of one with stores of their own, never add up; the same one twice does."""
    folders = {
        default_folder(service, str(tmp_path / store)).path.name
        for service, store in [("shop", "a"), ("shop", "b"), ("shop/", "a"), ("shop ", "a"), ("shop", "a")]
    }

    assert len(folders) == 4
    assert all(name.startswith(f"monitoring-{os.getuid()}-shop") and "/" not in name for name in folders)


def test_nothing_is_made_before_the_first_write(folder: Path, join: Join) -> None:
    """Importing, configuring and looking up leave no trace: a preloading master has no file."""
    registry = join()
    registry.cells(JOBS)
    before = folder.exists()
    count(registry)

    assert not before
    assert len(cell_files(folder)) == 1


def test_a_forked_child_that_counts_nothing_has_no_file(folder: Path, join: Join) -> None:
    """The file comes at the first write after the fork, too."""
    registry = join()
    count(registry)
    files = cell_files(folder)
    in_child(lambda: None)

    assert cell_files(folder) == files


def _unusable(path: Path) -> Iterator[tuple[str, Path]]:
    (path / "file").write_text("")
    (path / "open").mkdir()
    (path / "open").chmod(0o777)
    (path / "link").symlink_to(path)
    yield from {name: path / name for name in ("file", "open", "link")}.items()
    yield "below a file", path / "file" / "cells"
    yield "no parent", path / "missing" / "cells"
    yield "of the kernel", Path("/proc/cells")


def test_a_cells_folder_that_cannot_be_used_leads_to_memory_said_once(tmp_path: Path) -> None:
    """Counts stay right for one process, the reason is told once, and /metrics shows it for as long as it lasts."""
    for name, path in _unusable(tmp_path):
        said: list[str] = []
        registry = CellRegistry(lambda path=path: CellFolder(path), on_degraded=said.append)  # type: ignore[misc]
        for kind in "abc":
            count(registry, 2.0, kind=kind)
            observe(registry, 0.1, kind=kind)
        totals = read(registry)

        assert (value(totals), samples(totals)) == (6.0, 3.0), name
        assert len(said) == 1, name
        assert said[0] == registry.degraded, name
        assert "in this process's memory alone: " in said[0], name


@pytest.mark.parametrize("settings", [{"cells_folder": "/proc/cells"}])
def test_an_app_with_an_unusable_cells_folder_counts_and_says_so(settings: dict[str, Any]) -> None:
    """The setting of the whole package behaves like the registry's."""
    with use(**settings) as m:
        jobs = m.counter("jobs_total", "Jobs.")
        jobs.inc(3)
        totals = m.metrics.totals_with_state()

    assert totals.metrics["jobs_total"].series[()].value == 3
    assert totals.metrics["monitoring_cells_degraded"].series[()].value == 1


def test_a_lock_that_nobody_gives_back_leads_to_memory(
    folder: Path, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was stopped in the middle of a fold costs the others their sharing, not their counts."""
    monkeypatch.setattr(folder_module, "_LOCK_PATIENCE_SECONDS", 0.05)
    said: list[str] = []
    registry = join(on_degraded=said.append)
    with CellFolder(folder).folding():
        count(registry)
        observed = value(read(registry))

    assert observed == 1
    assert len(said) == 1
    assert "stayed locked" in said[0]


def test_readers_answer_while_somebody_sits_on_the_lock(
    folder: Path, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scrape is answered from the files as they are when the lock cannot be had in time."""
    first, second = join(), join()
    count(first, 2)
    count(second, 3)
    monkeypatch.setattr(folder_module, "_LOCK_PATIENCE_SECONDS", 0.05)
    with CellFolder(folder).folding():
        assert value(read(first)) == 5


def test_without_flock_cells_stay_in_memory_and_say_so(
    folder: Path, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows counts one process, exactly, and does not pretend more."""
    monkeypatch.setattr(folder_module, "fcntl", None)
    said: list[str] = []
    registry = join(on_degraded=said.append)
    count(registry)

    assert value(read(registry)) == 1
    assert len(said) == 1
    assert "has no flock" in said[0]
    assert not folder.exists()


def test_cells_in_memory_are_one_processs_own(folder: Path) -> None:
    """Registries without a folder, or told to keep in memory, share nothing and are not degraded."""
    alone, told = CellRegistry(), CellRegistry(lambda: CellFolder(folder))
    told.keep_in_memory()
    count(alone, 1)
    count(told, 2)

    assert (value(read(alone)), value(read(told))) == (1, 2)
    assert (alone.degraded, told.degraded) == ("", "")
    assert not folder.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="finds a descriptor's path in /proc")
def test_a_look_at_a_file_that_is_not_locked_yet_does_not_scare_its_process_into_memory(
    folder: Path, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking who lives tries the lock for a moment; a process that has just made its file shares it all the same."""
    said: list[str] = []
    first, second = join(), join(on_degraded=said.append)
    count(first)
    flock = fcntl.flock
    looking: list[int] = []

    def look_before(fd: int, operation: int) -> None:
        path = os.readlink(f"/proc/self/fd/{fd}")
        if path.endswith(".cells") and operation & fcntl.LOCK_EX and not looking:
            looking.append(os.open(path, os.O_RDONLY))
            flock(looking[0], fcntl.LOCK_SH)
            threading.Timer(0.05, os.close, looking).start()
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", look_before)
    count(second)

    assert said == []
    assert value(read(first)) == 2
