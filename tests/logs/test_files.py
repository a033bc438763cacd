"""A log file that several processes append to. Two `RotatingFile` of one path stand for two processes here."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from monitoring.logs import files
from monitoring.logs.files import LogFile, RotatingFile
from monitoring.logs.retention import Retention, hidden_beside
from monitoring.logs.writer import LogWriter
from monitoring.testing import FakeClock
from monitoring.utils import locks
from monitoring.utils.locks import held_alone
from tests.support.processes import poll

DAY = 86_400
MIDNIGHT = datetime(2026, 11, 24, tzinfo=UTC).timestamp()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(time.time())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "app.log"


def _rotated(path: Path) -> list[Path]:
    return sorted(path.parent.glob("app.log.*"))


def _contents(path: Path) -> list[bytes]:
    """Return the contents of the rotated files, oldest first, and of the file itself."""
    return [file.read_bytes() for file in (*_rotated(path), path)]


class Disk:
    """A disk that has room for so many bytes; it stands in for the two ways to write."""

    def __init__(self, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = room
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)
        monkeypatch.setattr(os, "writev", self.writev)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        size = self._write(fd, memoryview(data)[: self.room])
        self.room -= size
        return size

    def writev(self, fd: int, parts: Sequence[bytes | memoryview]) -> int:
        return self.write(fd, b"".join(bytes(part) for part in parts))


# --- by size ---


def test_a_file_is_rotated_before_a_line_would_make_it_too_large(path: Path) -> None:
    """Blocks are split between lines; a file that is exactly full is still whole."""
    file = RotatingFile(str(path), max_bytes=100)
    file.write(b"".join(b"line %04d\n" % number for number in range(25)))
    assert [len(content) for content in _contents(path)] == [100, 100, 50]
    assert b"".join(_contents(path)) == b"".join(b"line %04d\n" % number for number in range(25))


def test_a_full_file_is_rotated_by_the_next_line_and_not_before(path: Path) -> None:
    """At the exact size nothing happens yet."""
    file = RotatingFile(str(path), max_bytes=100)
    file.write(b"x" * 99 + b"\n")
    assert _rotated(path) == []
    file.write(b"y\n")
    assert _contents(path) == [b"x" * 99 + b"\n", b"y\n"]


def test_a_line_longer_than_a_file_has_a_file_of_its_own(path: Path) -> None:
    """Lines are never cut."""
    file = RotatingFile(str(path), max_bytes=10)
    file.write(b"a\n" + b"b" * 50 + b"\n" + b"c\n")
    assert _contents(path) == [b"a\n", b"b" * 50 + b"\n", b"c\n"]


def test_what_was_there_at_the_start_counts(path: Path) -> None:
    """A restart does not begin to count at zero."""
    path.parent.mkdir()
    path.write_bytes(b"x" * 95 + b"\n")
    RotatingFile(str(path), max_bytes=100).write(b"12345\n")
    assert _contents(path) == [b"x" * 95 + b"\n", b"12345\n"]


def test_a_rotated_file_is_named_by_the_time_of_its_rotation(path: Path) -> None:
    """In UTC, to the microsecond; a name that is taken, plain or compressed, is not used again."""
    file = RotatingFile(str(path), max_bytes=5, clock=FakeClock(MIDNIGHT + 36_746.25))
    path.parent.mkdir()
    (path.parent / "app.log.20261124T101226.250001Z.gz").touch()
    for line in (b"one\n", b"two\n", b"six\n"):
        file.write(line)
    assert [name.name for name in _rotated(path)] == [
        "app.log.20261124T101226.250000Z",
        "app.log.20261124T101226.250001Z.gz",
        "app.log.20261124T101226.250002Z",
    ]


# --- by time ---


def test_a_file_is_rotated_at_midnight_utc_whatever_the_zone(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a moment sooner, and by the first line of the day."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    clock.now = clock.now // DAY * DAY + DAY - 0.1
    file = RotatingFile(str(path), rotate_every=DAY, clock=clock)
    file.write(b"evening\n")
    clock.advance(0.09)
    file.write(b"late\n")
    assert _rotated(path) == []
    clock.advance(0.01)
    file.write(b"morning\n")
    monkeypatch.undo()
    time.tzset()
    assert _contents(path) == [b"evening\nlate\n", b"morning\n"]


@pytest.mark.parametrize(("age", "rotated"), [(DAY, 1), (1, 0)], ids=["of yesterday", "of today"])
def test_a_restart_rotates_what_is_of_another_day(age: float, rotated: int, path: Path) -> None:
    """Neither early nor late: the file's last change says to which day it belongs."""
    path.parent.mkdir()
    path.write_bytes(b"before\n")
    noon = MIDNIGHT + DAY / 2
    os.utime(path, (noon - age, noon - age))
    RotatingFile(str(path), rotate_every=DAY, clock=FakeClock(noon)).write(b"after\n")
    assert len(_rotated(path)) == rotated
    assert b"".join(_contents(path)) == b"before\nafter\n"


def test_a_quiet_file_is_rotated_when_its_time_comes_and_an_empty_one_is_not(path: Path, clock: FakeClock) -> None:
    """The writer's thread tends it."""
    file = RotatingFile(str(path), rotate_every=3_600, clock=clock)
    file.write(b"line\n")
    clock.advance(3_600)
    file.tend()
    assert _contents(path) == [b"line\n", b""]
    clock.advance(3_600)
    file.tend()
    assert len(_rotated(path)) == 1


def test_a_clock_that_is_set_back_rotates_nothing(path: Path, clock: FakeClock) -> None:
    """And what is due afterwards is not put off for longer than a minute."""
    file = RotatingFile(str(path), rotate_every=3_600, clock=clock)
    file.write(b"one\n")
    clock.advance(-7_200)
    file.write(b"two\n")
    assert _contents(path) == [b"one\ntwo\n"]


def test_of_two_processes_one_rotates_and_the_other_follows(path: Path, clock: FakeClock) -> None:
    """At the turn of the hour there is one rotation."""
    one, two = (RotatingFile(str(path), rotate_every=3_600, clock=clock) for _ in range(2))
    one.write(b"a\n")
    two.write(b"b\n")
    clock.advance(3_600)
    one.write(b"c\n")
    os.utime(path, (clock.now, clock.now))
    two.write(b"d\n")
    assert _contents(path) == [b"a\nb\n", b"c\nd\n"]


# --- other processes, and others who rename ---


def test_a_rotation_by_another_process_is_followed_within_a_fifth_of_a_second(path: Path, clock: FakeClock) -> None:
    """Until then a line may go to the file that was just renamed: it is there, not lost."""
    one, two = (RotatingFile(str(path), clock=clock) for _ in range(2))
    one.write(b"a\n")
    two.write(b"b\n")
    os.rename(path, path.with_name("app.log.1"))
    one.write(b"at once\n")
    clock.advance(0.2)
    two.write(b"after a look\n")
    one.write(b"after a look\n")
    assert _contents(path) == [b"a\nb\nat once\n", b"after a look\nafter a look\n"]


def test_many_bytes_bring_the_next_look_sooner(path: Path, clock: FakeClock) -> None:
    """A busy process does not write megabytes to a file that was renamed."""
    file = RotatingFile(str(path), clock=clock)
    file.write(b"a\n")
    os.rename(path, path.with_name("app.log.1"))
    file.write(b"x" * 64 * 1024 + b"\n")
    file.write(b"b\n")
    assert path.read_bytes() == b"b\n"


def test_a_file_that_another_process_has_rotated_is_not_rotated_again(path: Path, clock: FakeClock) -> None:
    """Two that find the same file full make one rotated file of it."""
    one, two = (RotatingFile(str(path), max_bytes=1_000, clock=clock) for _ in range(2))
    one.write(b"x" * 989 + b"\n")
    two.tend()
    two.write(b"22\n")
    one.write(b"one's next line\n")
    two.write(b"two's next line\n")
    assert _contents(path) == [b"x" * 989 + b"\n22\n", b"one's next line\ntwo's next line\n"]


def test_while_another_process_rotates_lines_go_on(path: Path, clock: FakeClock) -> None:
    """Nobody waits for a lock for long: the file grows for a moment."""
    file = RotatingFile(str(path), max_bytes=10, clock=clock)
    file.write(b"12345678\n")
    with held_alone(hidden_beside(str(path), "rotation")):
        file.write(b"one more\n")
    assert _contents(path) == [b"12345678\none more\n"]
    file.write(b"next\n")
    assert _contents(path) == [b"12345678\none more\n", b"next\n"]


def test_a_process_that_is_about_to_rotate_is_waited_for_a_moment(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may just not be running; meanwhile the others would make the file much too large."""
    file = RotatingFile(str(path), max_bytes=10, clock=clock)
    file.write(b"12345678\n")
    with ExitStack() as other:
        other.enter_context(held_alone(hidden_beside(str(path), "rotation")))
        monkeypatch.setattr(files.time, "sleep", lambda seconds: other.close())
        file.write(b"one more\n")
    assert _contents(path) == [b"12345678\n", b"one more\n"]


def test_a_file_that_is_renamed_while_it_is_opened_is_left_at_once(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the opening and the holding there is a moment in which it may be rotated, and even compressed."""
    share = locks.share

    def rename_and_share(fd: int) -> bool:
        monkeypatch.setattr(locks, "share", share)
        os.rename(path, path.with_name("app.log.1"))
        return share(fd)

    monkeypatch.setattr(locks, "share", rename_and_share)
    RotatingFile(str(path), clock=clock).write(b"a\n")
    assert _contents(path) == [b"", b"a\n"]


def test_a_file_that_was_cut_off_is_not_rotated_for_its_former_size(path: Path, clock: FakeClock) -> None:
    """Its size is looked at again under the lock."""
    file = RotatingFile(str(path), max_bytes=1_000, clock=clock)
    file.write(b"x" * 49 + b"\n")
    file._size = 990  # as at a look before it was cut off
    file.write(b"y" * 49 + b"\n")
    assert _contents(path) == [b"x" * 49 + b"\n" + b"y" * 49 + b"\n"]


def test_a_file_that_is_cut_off_after_a_copy_goes_on_at_its_beginning(path: Path, clock: FakeClock) -> None:
    """logrotate's ``copytruncate``: no hole of zeros, and the size counts from zero again."""
    file = RotatingFile(str(path), max_bytes=100, clock=clock)
    file.write(b"x" * 89 + b"\n")
    shutil.copy(path, path.with_name("app.log.1"))
    os.truncate(path, 0)
    clock.advance(0.2)
    file.write(b"x" * 50 + b"\n")
    assert _contents(path) == [b"x" * 89 + b"\n", b"x" * 50 + b"\n"]


def test_a_deleted_folder_is_made_again(path: Path, clock: FakeClock) -> None:
    """By the next line, and not by a process that has nothing to say."""
    file = RotatingFile(str(path), clock=clock)
    file.write(b"a\n")
    shutil.rmtree(path.parent)
    clock.advance(1)
    file.tend()
    assert not path.parent.exists()
    file.write(b"b\n")
    assert _contents(path) == [b"b\n"]


def test_a_descriptor_that_somebody_closed_is_opened_again(path: Path, clock: FakeClock) -> None:
    """A daemon that closes all it has inherited costs a block, which is counted."""
    file = RotatingFile(str(path), clock=clock)
    file.write(b"a\n")
    os.close(file._fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.write(b"b\n")
    file.write(b"c\n")
    assert _contents(path) == [b"a\nc\n"]


def test_the_file_behind_a_link_is_rotated_and_the_link_stays(tmp_path: Path) -> None:
    """A link that leads elsewhere goes on leading there."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "app.log")
    file = RotatingFile(str(tmp_path / "link"), max_bytes=5)
    file.write(b"one\ntwo\n")
    assert _contents(tmp_path / "elsewhere" / "app.log") == [b"one\n", b"two\n"]
    assert (tmp_path / "link").is_symlink()


def test_where_rotation_fails_lines_go_on_to_the_same_file(
    path: Path, clock: FakeClock, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is said once, and tried again later."""
    file = RotatingFile(str(path), max_bytes=5, clock=clock)
    obstacle = Path(hidden_beside(str(path), "rotation"))
    obstacle.mkdir(parents=True)
    for line in (b"one\n", b"two\n", b"six\n"):
        file.write(line)
    clock.advance(11)
    file.write(b"ten\n")
    assert _contents(path) == [b"one\ntwo\nsix\nten\n"]
    assert capfd.readouterr().err.count("monitoring cannot rotate") == 1
    obstacle.rmdir()
    file.write(b"soon\n")
    clock.advance(11)
    file.write(b"end\n")
    assert _contents(path) == [b"one\ntwo\nsix\nten\nsoon\n", b"end\n"]


def test_files_are_made_with_the_mode_that_was_asked_for(path: Path) -> None:
    """Those that follow a rotation, too."""
    file = RotatingFile(str(path), max_bytes=5, mode=0o600)
    file.write(b"one\ntwo\n")
    assert {stat.S_IMODE(file.stat().st_mode) for file in (path, *_rotated(path))} == {0o600}


# --- a full disk ---


def test_a_line_that_was_cut_short_is_written_again_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The part of it stays, on a line of its own; every line is whole once, in order."""
    file = RotatingFile(str(path))
    file.write(b"before\n")
    disk = Disk(10, monkeypatch)
    file.write(b"first\nsecond\nthird\n")
    assert path.read_bytes() == b"before\nfirst\nseco"
    disk.room = 1_000
    file.write(b"fourth\n")
    assert path.read_bytes() == b"before\nfirst\nseco\nsecond\nthird\nfourth\n"


def test_a_write_that_is_cut_short_is_not_gone_on_with(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may have written meanwhile, so the line begins anew, even where there is room again at once."""
    file = RotatingFile(str(path))
    disk = Disk(10, monkeypatch)
    cut_short = disk.write

    def write_and_free(fd: int, data: bytes | memoryview) -> int:
        size = cut_short(fd, data)
        disk.room = 1_000
        return size

    monkeypatch.setattr(os, "write", write_and_free)
    file.write(b"first\nsecond\nthird\n")
    assert path.read_bytes() == b"first\nseco\nsecond\nthird\n"


def test_a_block_that_is_refused_is_not_written_later_either(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a line is counted as dropped or is in the file, never both."""
    file = RotatingFile(str(path))
    file.write(b"before\n")
    disk = Disk(3, monkeypatch)
    file.write(b"first\n")
    for _ in range(3):
        with pytest.raises(OSError, match="No space left"):
            file.write(b"refused\n")
    disk.room = 1_000
    file.tend()
    assert path.read_bytes() == b"before\nfir\nfirst\n"
    file.write(b"after\n")
    assert path.read_bytes() == b"before\nfir\nfirst\nafter\n"


def test_a_disk_that_fills_up_again_and_again_tears_no_line_for_good(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept may be cut short itself."""
    file = RotatingFile(str(path))
    disk = Disk(10, monkeypatch)
    file.write(b"first\nsecond\nthird\n")
    for room in (3, 9, 2):
        disk.room = room
        with pytest.raises(OSError, match="No space left"):
            file.write(b"refused\n")
    disk.room = 1_000
    file.flush()
    whole = [line for line in path.read_bytes().splitlines() if line in (b"first", b"second", b"third", b"refused")]
    assert whole == [b"first", b"second", b"third"]


def test_another_process_that_finds_a_torn_line_begins_with_a_newline(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own first line is not hung on to it; and who tore the line needs no newline any more."""
    torn, other = (RotatingFile(str(path), clock=clock) for _ in range(2))
    other.write(b"before\n")
    disk = Disk(3, monkeypatch)
    torn.write(b"first\n")
    disk.room = 1_000
    clock.advance(0.2)
    other.write(b"other\n")
    torn.flush()
    assert path.read_bytes() == b"before\nfir\nother\nfirst\n"


def test_a_write_that_another_process_is_at_is_not_taken_for_a_torn_line(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end is looked at again, and no empty line is put in."""
    path.parent.mkdir()
    path.write_bytes(b"half of")

    def finish(seconds: float) -> None:
        with path.open("ab") as other:
            other.write(b" a line\n")

    monkeypatch.setattr(files.time, "sleep", finish)
    RotatingFile(str(path), clock=clock).write(b"mine\n")
    assert path.read_bytes() == b"half of a line\nmine\n"


def test_an_end_that_moves_is_not_torn(path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torn line lies still; where the file grows somebody is at work, however often one looks."""
    path.parent.mkdir()
    path.write_bytes(b"half of")

    def grow(seconds: float) -> None:
        with path.open("ab") as other:
            other.write(b" more")

    monkeypatch.setattr(files.time, "sleep", grow)
    RotatingFile(str(path), clock=clock).write(b" and the end\n")
    assert path.read_bytes() == b"half of more more more more and the end\n"


def test_lines_that_still_do_not_fit_at_the_end_are_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``close`` says how many of what it took are lost."""
    file = RotatingFile(str(path))
    Disk(10, monkeypatch)
    file.write(b"first\nsecond\nthird\n")
    assert file.close() == 2
    assert file.close() == 0


def test_the_rest_of_a_torn_block_follows_a_rotation(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is whole in the new file."""
    file = RotatingFile(str(path))
    disk = Disk(3, monkeypatch)
    file.write(b"first\n")
    os.rename(path, path.with_name("app.log.1"))
    disk.room = 1_000
    file.write(b"second\n")
    assert _contents(path) == [b"fir", b"first\nsecond\n"]


# --- keeping house, and the writer ---


def _tend_to_the_end(file: RotatingFile) -> None:
    while file.tend():
        pass


def test_rotated_files_are_compressed_and_removed_by_and_by(path: Path, clock: FakeClock) -> None:
    """Not in the call that rotates; and what grows too old while nothing is rotated goes, too."""
    file = RotatingFile(str(path), max_bytes=5, retention=Retention(days=1, compress=True), clock=clock)
    _tend_to_the_end(file)
    for line in (b"one\n", b"two\n", b"six\n"):
        file.write(line)
    assert [name.suffix for name in _rotated(path)] != [".gz", ".gz"]
    _tend_to_the_end(file)
    assert [name.suffix for name in _rotated(path)] == [".gz", ".gz"]
    clock.advance(DAY + 61)
    _tend_to_the_end(file)
    assert _rotated(path) == []


def test_a_file_that_was_still_open_elsewhere_is_compressed_seconds_later(path: Path, clock: FakeClock) -> None:
    """Once the other process has moved on."""
    other = RotatingFile(str(path), clock=clock)
    other.write(b"one\n")
    file = RotatingFile(str(path), max_bytes=5, retention=Retention(compress=True), clock=clock)
    file.write(b"two\n")
    _tend_to_the_end(file)
    assert [name.suffix for name in _rotated(path)] != [".gz"]
    clock.advance(2)
    other.tend()
    _tend_to_the_end(file)
    assert [name.suffix for name in _rotated(path)] == [".gz"]


def _ignore(reason: str, lines: int) -> None:
    """Take no note of dropped lines."""


def test_a_log_file_takes_lines_from_the_first_one_on(path: Path) -> None:
    """They are queued at once, and on disk after a flush; the folder is made."""
    writer = LogFile(path).open("shop", _ignore)
    assert not path.exists()
    writer.write(b"one\n")
    assert writer.queues
    writer.flush()
    assert path.read_bytes() == b"one\n"
    writer.write(b"two\n")
    writer.close()
    writer.write(b"after the end\n")
    assert path.read_bytes() == b"one\ntwo\nafter the end\n"


def test_the_settings_of_a_log_file_hold(path: Path) -> None:
    """Rotation, and files that go."""
    writer = LogFile(str(path), max_bytes=1_000, keep_files=2).open("shop", _ignore)
    for number in range(100):
        writer.write(b"line %094d\n" % number)
    writer.flush()
    poll(lambda: len(list(path.parent.glob(f"{path.name}.*Z"))) == 2, "the writer's own thread to remove the others")
    writer.close()
    assert [int(line[5:]) for line in b"".join(_contents(path)).splitlines()] == list(range(70, 100))


def test_lines_that_cannot_be_written_are_counted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a refused block, and those that are still kept at the end; nothing is raised."""
    dropped: list[tuple[str, int]] = []
    writer = LogFile(path).open("shop", lambda *drop: dropped.append(drop))
    Disk(6, monkeypatch)
    writer.write(b"one\ntwo\n")
    writer.flush()
    writer.write(b"six\nten\nall\n")
    writer.flush()
    writer.close()
    assert dropped == [("write_failed", 3), ("write_failed", 1)]
    assert path.read_bytes() == b"one\ntw"


def test_a_flush_writes_what_did_not_fit_before(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a line that follows."""
    writer = LogFile(path).open("shop", _ignore)
    disk = Disk(2, monkeypatch)
    writer.write(b"one\n")
    writer.flush()
    disk.room = 1_000
    writer.flush()
    assert path.read_bytes() == b"on\none\n"


def test_a_flush_without_time_writes_nothing(path: Path) -> None:
    """What waits goes on waiting."""
    writer = LogWriter(RotatingFile(str(path)))
    writer.queues = True  # queue without the thread that would drain it
    writer.write(b"one\n")
    writer.flush(0)
    assert not path.exists()
    writer.flush()
    assert path.read_bytes() == b"one\n"


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_no_file_of_its_parent_open(path: Path) -> None:
    """It opens the file anew at its own first line, and holds it for itself."""
    writer = LogFile(path).open("shop", _ignore)
    writer.write(b"parent\n")
    writer.flush()
    assert isinstance(writer._file, RotatingFile)
    inherited = writer._file._fd
    child = os.fork()
    if child == 0:
        is_closed = False
        try:
            os.fstat(inherited)
        except OSError:
            is_closed = True
        writer.write(b"child\n")
        writer.close()
        os._exit(0 if is_closed else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    writer.close()
    assert path.read_bytes() == b"parent\nchild\n"


class _Stalled:
    """A file whose disk does not answer."""

    path = "stalled"

    def __init__(self) -> None:
        self.entered, self.answer = threading.Event(), threading.Event()

    def write(self, block: bytes | memoryview) -> None:
        self.entered.set()
        self.answer.wait(30)

    def flush(self) -> None:
        pass

    def tend(self) -> bool:
        return False

    def close(self) -> int:
        return 0

    def start_afresh(self) -> None:
        pass


def test_a_disk_that_does_not_answer_holds_up_neither_a_flush_nor_the_end() -> None:
    """Both return within the time that they are given, while the thread still waits."""
    file = _Stalled()
    writer = LogWriter(file)
    writer.write(b"one\n", urgent=True)
    file.entered.wait(30)
    writer.flush(0.01)
    writer.close(0.01)
    assert not file.answer.is_set()
    file.answer.set()


def test_work_that_fails_does_not_end_the_writers_thread(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are written on."""
    tended = threading.Event()

    def fail(file: RotatingFile) -> bool:
        tended.set()
        raise RuntimeError("a mistake")

    monkeypatch.setattr(RotatingFile, "tend", fail)
    writer = LogFile(path).open("shop", _ignore)
    writer.write(b"one\n", urgent=True)
    tended.wait(30)
    assert writer._thread is not None
    assert writer._thread.is_alive()
    writer.write(b"two\n")
    writer.close()
    assert path.read_bytes() == b"one\ntwo\n"


@pytest.mark.parametrize(
    "make",
    [
        lambda: LogFile(""),
        lambda: LogFile("folder/"),
        lambda: LogFile("a\0b"),
        lambda: LogFile("app.log", level="loud"),
        lambda: LogFile("app.log", max_bytes=0),
        lambda: LogFile("app.log", max_bytes=1.5),  # type: ignore[arg-type]
        lambda: LogFile("app.log", max_bytes=True),
        lambda: LogFile("app.log", rotate_every="week"),
        lambda: LogFile("app.log", rotate_every=0.5),
        lambda: LogFile("app.log", max_bytes=10, keep_files=-1),
        lambda: LogFile("app.log", max_bytes=10, keep_days=float("nan")),
        lambda: LogFile("app.log", max_bytes=10, keep_bytes=-1),
        lambda: LogFile("app.log", mode=0o1777),
        lambda: LogFile("app.log", keep_files=3),
        lambda: LogFile("app.log", compress=True),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_in_one_sentence(make: Callable[[], Any]) -> None:
    """It names LogFile and says what to do."""
    with pytest.raises(ValueError, match=r"^[^.]*LogFile .*[;,].*\.$"):
        make()
