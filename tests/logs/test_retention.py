"""Rotated files: which go, how they are compressed, and that nobody loses a line by either."""

from __future__ import annotations

import gzip
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from monitoring.logs.files import RotatingFile
from monitoring.logs.retention import Retention, Rotated, free_name, hidden_beside, rotated_files, tidy
from monitoring.testing import FakeClock
from monitoring.utils.locks import held_alone

NOW = datetime(2026, 11, 24, 10, 12, 26, 123456, UTC)
STAMP = "20261124T101226.123456Z"


def _rotated(folder: Path, days_ago: float, content: bytes = b"line\n", name: str = "app.log") -> Path:
    path = Path(free_name(str(folder / name), (NOW - timedelta(days=days_ago)).timestamp()))
    path.write_bytes(content)
    return path


def _tidy(folder: Path, retention: Retention, name: str = "app.log") -> bool:
    work = tidy(str(folder / name), retention, NOW.timestamp())
    while True:
        try:
            next(work)
        except StopIteration as end:
            return bool(end.value)


def _visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.mark.parametrize(
    ("retention", "kept"),
    [
        (Retention(), [5, 4, 3, 2, 1]),
        (Retention(files=2), [2, 1]),
        (Retention(files=0), []),
        (Retention(days=3), [3, 2, 1]),
        (Retention(size=250), [2, 1]),
        (Retention(size=200), [2, 1]),
        (Retention(size=99), []),
        (Retention(files=4, days=3, size=450), [3, 2, 1]),
    ],
)
def test_what_stays_is_within_every_bound(retention: Retention, kept: list[int]) -> None:
    """By count, by age and by total size; the newest stay longest."""
    files = [Rotated(str(days), NOW.timestamp() - days * 86_400, 100, "") for days in (5, 4, 3, 2, 1)]
    gone = retention.expired(files, NOW.timestamp())
    assert [int(file.path) for file in files if file not in gone] == kept


def test_rotated_files_that_have_to_go_are_removed(tmp_path: Path) -> None:
    """Compressed and plain ones count alike."""
    files = [_rotated(tmp_path, days) for days in (4, 3, 2, 1)]
    os.rename(files[0], f"{files[0]}.gz")
    assert not _tidy(tmp_path, Retention(files=2))
    assert _visible(tmp_path) == sorted(path.name for path in files[2:])


def test_the_total_of_the_rotated_files_is_bounded_after_compression(tmp_path: Path) -> None:
    """What fits once it is compressed stays."""
    for days in (3, 2, 1):
        _rotated(tmp_path, days, b"the same line\n" * 1_000)
    _tidy(tmp_path, Retention(size=10_000, compress=True))
    files = rotated_files(str(tmp_path / "app.log"))
    assert [file.kind for file in files] == [".gz"] * 3
    assert sum(file.size for file in files) <= 10_000


@pytest.mark.parametrize(
    "name",
    [
        "app.log",
        "app.log.1",
        "app.log.gz",
        "app.log.20261124",
        f"app.log.{STAMP}.bak",
        f"app.log.{STAMP}.gz.old",
        f"app.log-{STAMP}",
        f"my-app.log.{STAMP}",
        f"app.logs.{STAMP}",
        f"app.log.x.{STAMP}",
        "app.log.20261324T101226.123456Z",
        "app.log.20261124T101226Z",
        "app.log.20261124T101226.12345\uff16Z",
        f"APP.LOG.{STAMP}",
    ],
)
def test_a_file_of_another_name_is_left_alone(name: str, tmp_path: Path) -> None:
    """Only the exact pattern is ours."""
    (tmp_path / name).write_text("mine")
    _tidy(tmp_path, Retention(files=0, compress=True))
    assert _visible(tmp_path) == [name]


def test_directories_and_links_of_our_names_are_left_alone(tmp_path: Path) -> None:
    """What a link leads to is somebody else's file."""
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / f"app.log.{STAMP}").symlink_to(tmp_path / "elsewhere")
    (tmp_path / f"app.log.{STAMP}.gz").mkdir()
    before = _visible(tmp_path)
    _tidy(tmp_path, Retention(files=0, compress=True))
    assert _visible(tmp_path) == before
    assert (tmp_path / "elsewhere").read_text() == "mine"


def test_a_link_does_not_count_as_a_file_that_stays(tmp_path: Path) -> None:
    """The newest file stays, though a link has a younger name."""
    file = _rotated(tmp_path, 1)
    (tmp_path / f"app.log.{STAMP}").symlink_to(file)
    _tidy(tmp_path, Retention(files=1))
    assert file.exists()


def test_pattern_characters_in_a_name_mean_themselves(tmp_path: Path) -> None:
    """``app[1]*.log`` owns its files, and not those of ``app1x.log``."""
    own = _rotated(tmp_path, 1, name="app[1]*.log")
    other = _rotated(tmp_path, 1, name="app1x.log")
    _tidy(tmp_path, Retention(files=0), name="app[1]*.log")
    assert not own.exists()
    assert other.exists()


def test_compression_keeps_content_name_and_mode(tmp_path: Path) -> None:
    """The gzip stands where the file stood."""
    content = b"".join(b"line %d\n" % number for number in range(100_000))
    path = _rotated(tmp_path, 1, content)
    path.chmod(0o604)
    assert not _tidy(tmp_path, Retention(compress=True))
    packed = path.with_name(path.name + ".gz")
    assert _visible(tmp_path) == [packed.name]
    assert gzip.decompress(packed.read_bytes()) == content
    assert stat.S_IMODE(packed.stat().st_mode) == 0o604


def test_a_compression_that_was_killed_is_done_again(tmp_path: Path) -> None:
    """Half a gzip is removed; one that was finished beside its file is replaced, so that each line is there once."""
    half, whole = _rotated(tmp_path, 2, b"two\n"), _rotated(tmp_path, 1, b"one\n")
    Path(f"{half}.gz.tmp").write_bytes(b"\x1f\x8b")
    Path(f"{tmp_path}/app.log.20200101T000000.000000Z.gz.tmp").write_bytes(b"\x1f\x8b")
    Path(f"{whole}.gz").write_bytes(gzip.compress(b"one\n"))
    _tidy(tmp_path, Retention(compress=True))
    assert _visible(tmp_path) == sorted(f"{path.name}.gz" for path in (half, whole))
    assert [gzip.decompress(Path(f"{path}.gz").read_bytes()) for path in (half, whole)] == [b"two\n", b"one\n"]


def test_a_compression_that_is_broken_off_leaves_the_file(tmp_path: Path) -> None:
    """A process that ends between two slices loses nothing."""
    path = _rotated(tmp_path, 1, os.urandom(1_000_000))
    work = tidy(str(tmp_path / "app.log"), Retention(compress=True), NOW.timestamp())
    next(work)
    work.close()
    assert path.stat().st_size == 1_000_000
    assert not Path(f"{path}.gz").exists()


def test_a_gzip_that_does_not_fit_on_the_disk_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And takes no room either; bounds hold all the same."""

    def refuse(fd: int) -> None:
        raise OSError(28, "No space left on device")

    old, young = _rotated(tmp_path, 2), _rotated(tmp_path, 1)
    monkeypatch.setattr(os, "fsync", refuse)
    _tidy(tmp_path, Retention(size=5, compress=True))
    assert not old.exists()
    assert _visible(tmp_path) == [young.name]


@pytest.mark.parametrize("retention", [Retention(compress=True), Retention(files=0)], ids=["compress", "remove"])
def test_a_file_that_a_process_may_still_append_to_waits(retention: Retention, tmp_path: Path) -> None:
    """A block that arrives late, in a file that is rotated already, is in the gzip; and no such file is removed."""
    clock = FakeClock(NOW.timestamp())
    path = tmp_path / "app.log"
    late, rotating = RotatingFile(str(path), clock=clock), RotatingFile(str(path), max_bytes=100, clock=clock)
    late.write(b"a" * 89 + b"\n")
    rotating.write(b"b" * 89 + b"\n")
    late.write(b"late\n")
    (file,) = rotated_files(str(path))
    assert _tidy(tmp_path, retention), "something is left to do"
    assert Path(file.path).read_bytes() == b"a" * 89 + b"\nlate\n"
    clock.advance(1)
    late.tend()
    assert not _tidy(tmp_path, retention)
    assert not Path(file.path).exists()
    if retention.compress:
        assert gzip.decompress(Path(f"{file.path}.gz").read_bytes()) == b"a" * 89 + b"\nlate\n"


def test_one_process_at_a_time_keeps_house(tmp_path: Path) -> None:
    """The others do not wait for it."""
    path = _rotated(tmp_path, 1)
    with held_alone(hidden_beside(str(tmp_path / "app.log"), "retention")):
        assert not _tidy(tmp_path, Retention(files=0))
    assert path.exists()


def test_a_forked_child_does_not_let_go_of_its_parents_work(tmp_path: Path) -> None:
    """The child throws its copy away; the parent still is the only one at it, and finishes."""
    path = _rotated(tmp_path, 1, os.urandom(1_000_000))
    content = path.read_bytes()
    work = tidy(str(tmp_path / "app.log"), Retention(compress=True), NOW.timestamp())
    next(work)
    child = os.fork()
    if child == 0:
        work.close()
        with held_alone(hidden_beside(str(tmp_path / "app.log"), "retention")) as lock:
            os._exit(0 if lock is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for _ in work:
        pass
    assert gzip.decompress(Path(f"{path}.gz").read_bytes()) == content


def test_what_a_parent_lets_go_is_free_though_its_child_has_a_copy(tmp_path: Path) -> None:
    """A worker that was forked does not keep a file of its master from being compressed."""
    file = RotatingFile(str(tmp_path / "app.log"))
    file.write(b"line\n")
    waiting, end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(end)
        os.read(waiting, 1)
        os._exit(0)
    file.close()
    with held_alone(str(tmp_path / "app.log")) as fd:
        assert fd is not None
    os.close(end)
    os.waitpid(child, 0)
    os.close(waiting)
