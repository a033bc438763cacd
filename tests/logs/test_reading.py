"""Reading a log with its rotated files, following it, and merging several."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from monitoring.logs.reading import UNKNOWN, WINDOW_SECONDS, Log, Timed, follow, lines_of, merged, moment_of, object_of
from monitoring.logs.retention import free_name
from tests.logs.appending import judge, start

NOW = 1_800_000_000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a log may be."""
    return tmp_path / "app.log"


OpenLog = Callable[..., Log]


@pytest.fixture
def open_log() -> Iterator[OpenLog]:
    """Return a function that makes a log, which is closed after the test."""
    with ExitStack() as stack:

        def open_log(path: Path, complain: Callable[[str], None] = print) -> Log:
            log = Log(str(path), complain)
            stack.callback(log.close)
            return log

        yield open_log


def add(path: Path, text: str) -> None:
    """Append to a file."""
    with path.open("a") as file:
        file.write(text)


def rotate(path: Path, at: float = NOW) -> Path:
    """Rename a log as the pack does."""
    return path.rename(free_name(str(path), at))


def compress(rotated: Path) -> Path:
    """Put a file's gzip in its place."""
    packed = rotated.with_name(f"{rotated.name}.gz")
    packed.write_bytes(gzip.compress(rotated.read_bytes()))
    rotated.unlink()
    return packed


def read(log: Log, since: float = UNKNOWN) -> list[str]:
    """Return what there is."""
    return [line.decode() for line in log.lines(since)]


def news(log: Log) -> list[str]:
    """Return what is new."""
    return [line.decode() for line in log.new_lines()]


# --- what is there ---


def test_rotated_files_come_first_the_oldest_at_the_front(open_log: OpenLog, path: Path) -> None:
    """Compressed or not."""
    for number, text in enumerate(("one\n", "two\n", "three\n")):
        path.write_text(text)
        rotated = rotate(path, NOW + number)
        if number != 1:
            compress(rotated)
    path.write_text("four\n")
    assert read(open_log(path)) == ["one", "two", "three", "four"]


def test_other_files_beside_it_are_not_read(open_log: OpenLog, path: Path) -> None:
    """Only what is named like a rotated file of this one."""
    path.write_text("mine\n")
    for name in ("app.log.1", "app.log.bak", "app.log.20261124T101226Z", "other.log.20261124T101226.123456Z"):
        path.with_name(name).write_text("other\n")
    path.with_name("app.log.20261124T101226.123456Z.gz.tmp").write_text("half\n")
    assert read(open_log(path)) == ["mine"]


def test_a_file_that_is_there_plain_and_compressed_is_read_once(open_log: OpenLog, path: Path) -> None:
    """As it is for a moment, or after a crash."""
    path.write_text("once\n")
    rotated = rotate(path)
    rotated.with_name(f"{rotated.name}.gz").write_bytes(gzip.compress(b"once\n"))
    assert read(open_log(path)) == ["once"]


def test_files_that_were_rotated_before_since_are_not_opened(open_log: OpenLog, path: Path) -> None:
    """A broken one would be complained about, were it opened."""
    path.with_name(Path(free_name(str(path), NOW - 10)).name + ".gz").write_bytes(b"no gzip")
    path.write_text("late enough\n")
    rotate(path, NOW)
    path.write_text("now\n")
    said: list[str] = []
    assert read(open_log(path, said.append), NOW) == ["late enough", "now"]
    assert said == []
    assert read(open_log(path, said.append), NOW - 20) == ["late enough", "now"]
    assert len(said) == 1


def test_a_gzip_that_is_cut_off_gives_what_it_has(open_log: OpenLog, path: Path) -> None:
    """And a sentence; the other files are read."""
    packed = gzip.compress(os.urandom(200_000).hex().encode().replace(b"0", b"\n"))
    path.with_name(Path(free_name(str(path), NOW)).name + ".gz").write_bytes(packed[:-50_000])
    path.write_text("last\n")
    said: list[str] = []
    lines = read(open_log(path, said.append))
    assert len(lines) > 1000
    assert lines[-1] == "last"
    assert "cannot be read to its end" in said[0]


def test_a_rotated_file_can_be_read_by_its_own_name(open_log: OpenLog, path: Path) -> None:
    """Compressed or not."""
    path.write_text("one\n")
    rotated = rotate(path)
    assert read(open_log(rotated)) == ["one"]
    assert read(open_log(compress(rotated))) == ["one"]


def test_a_link_leads_to_the_rotated_files_of_its_target(open_log: OpenLog, path: Path) -> None:
    """Where the writer puts them."""
    path.write_text("one\n")
    rotate(path)
    path.write_text("two\n")
    link = path.with_name("current")
    link.symlink_to(path)
    assert read(open_log(link)) == ["one", "two"]


def test_a_half_line_is_the_rest(open_log: OpenLog, path: Path) -> None:
    """It is no line yet."""
    path.write_text("whole\nhalf")
    log = open_log(path)
    assert read(log) == ["whole"]
    assert list(log.rest()) == [b"half"]
    assert list(log.rest()) == []


def test_long_lines_come_in_pieces_and_nothing_is_lost(open_log: OpenLog, path: Path) -> None:
    """From the file and from its gzip: no line of any length is in memory at once."""
    content = b"x" * 5_000_000
    path.write_bytes(content)
    log = open_log(path)
    for pieces in ([*log.lines(), *log.rest()], list(open_log(compress(rotate(path))).lines())):
        assert len(pieces) > 3
        assert b"".join(pieces) == content


def test_where_nothing_is_there_are_no_lines(open_log: OpenLog, tmp_path: Path) -> None:
    """Also no folder."""
    assert read(open_log(tmp_path / "none" / "app.log")) == []
    assert read(open_log(tmp_path / "app.log")) == []


# --- following ---


def test_new_lines_are_those_since_the_last_look(open_log: OpenLog, path: Path) -> None:
    """Whole ones: half a line is waited for."""
    path.write_text("old\n")
    log = open_log(path)
    assert read(log) == ["old"]
    assert news(log) == []
    add(path, "new\nha")
    assert news(log) == ["new"]
    add(path, "lf\n")
    assert news(log) == ["half"]


def test_a_file_that_appears_later_is_read_from_its_beginning(open_log: OpenLog, path: Path) -> None:
    """Also when its folder does."""
    log = open_log(path.parent / "later" / "app.log")
    assert read(log) == []
    assert news(log) == []
    path.parent.joinpath("later").mkdir()
    add(path.parent / "later" / "app.log", "first\n")
    assert news(log) == ["first"]


def test_the_end_of_a_rotated_file_is_not_missed(open_log: OpenLog, path: Path) -> None:
    """Neither what came before the rename, nor what a slow process adds after it, nor what the new file has."""
    path.write_text("one\n")
    log = open_log(path)
    read(log)
    add(path, "two\n")
    rotated = rotate(path)
    assert news(log) == ["two"]
    add(rotated, "three\n")
    path.write_text("four\n")
    assert news(log) == ["three", "four"]
    add(rotated, "five\n")
    add(path, "six\n")
    assert news(log) == ["five", "six"]


@pytest.mark.parametrize("packs", [False, True])
def test_several_rotations_between_two_looks_are_all_read(open_log: OpenLog, path: Path, packs: bool) -> None:
    """Once, and also when they are compressed already."""
    path.write_text("one\n")
    log = open_log(path)
    read(log)
    add(path, "two\n")
    for number, text in enumerate(("three\n", "four\n", "five\n")):
        rotated = rotate(path, NOW + number)
        if packs:
            compress(rotated)
        path.write_text(text)
    assert news(log) == ["two", "three", "four", "five"]
    assert news(log) == []


def test_a_file_that_is_compressed_later_is_not_read_again(open_log: OpenLog, path: Path) -> None:
    """Nor one that is removed: its end is read from the file that is open."""
    path.write_text("one\n")
    log = open_log(path)
    read(log)
    add(path, "two\n")
    rotated = rotate(path)
    path.write_text("three\n")
    assert news(log) == ["two", "three"]
    packed = compress(rotated)
    rotate(path, NOW + 1)
    path.write_text("four\n")
    assert news(log) == ["four"]
    packed.unlink()
    assert news(log) == []


def test_a_file_that_another_program_renames_is_followed(open_log: OpenLog, path: Path) -> None:
    """As logrotate does."""
    path.write_text("one\n")
    log = open_log(path)
    read(log)
    add(path, "two\n")
    path.rename(path.with_name("app.log.1"))
    path.write_text("three\n")
    assert news(log) == ["two", "three"]


@pytest.mark.parametrize("after", ["a\n", "a line that is as long as both before were\nand one more\n"])
def test_a_truncated_file_is_read_from_its_beginning(open_log: OpenLog, path: Path, after: str) -> None:
    """Also when it is larger again at the next look than it was."""
    path.write_text("one line\ntwo lines\nhalf")
    log = open_log(path)
    read(log)
    with path.open("r+") as file:
        file.truncate(0)
        file.write(after)
    assert news(log) == ["half", *after.splitlines()]


def test_a_rotated_file_is_let_go_after_a_while(open_log: OpenLog, path: Path) -> None:
    """With the half line it may have; until then it is read."""
    path.write_text("one\nhalf")
    log = open_log(path)
    read(log)
    rotated = rotate(path)
    path.write_text("two\n")
    assert news(log) == ["two"]
    for _ in range(148):
        assert news(log) == []
    assert news(log) == ["half"]
    add(rotated, "too late\n")
    assert news(log) == []


def test_descriptors_do_not_pile_up(open_log: OpenLog, path: Path) -> None:
    """Closing gives all of them back."""
    path.write_text("one\n")
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    log = open_log(path)
    read(log)
    for number in range(20):
        rotate(path, NOW + number)
        path.write_text(f"{number}\n")
        assert news(log) == [str(number)]
    log.close()
    assert (len(os.listdir("/proc/self/fd")) if before else 0) == before


def _timed(lines: Iterable[bytes]) -> Iterator[Timed]:
    return (Timed(moment_of(line) or UNKNOWN, line) for line in lines)


def test_follow_looks_at_every_log_and_stops_when_wait_says_so(open_log: OpenLog, tmp_path: Path) -> None:
    """The lines of one look come by time."""
    logs = [open_log(tmp_path / name) for name in ("a.log", "b.log")]
    steps: list[Callable[[], object]] = [
        lambda: add(tmp_path / "a.log", '{"time": 2}\n{"time": 4}\n'),
        lambda: add(tmp_path / "b.log", '{"time": 3}\n'),
        lambda: list(map(add, (tmp_path / "a.log", tmp_path / "b.log"), ('{"time": 7}\n', '{"time": 6}\n'))),
    ]

    def wait() -> bool:
        if steps:
            steps.pop(0)()
            return True
        return False

    assert [line.at for line in follow(logs, [_timed, _timed], wait)] == [2, 4, 3, 6, 7]


@pytest.mark.parametrize("compress", [False, True])
def test_followed_through_the_rotations_of_two_processes_no_line_is_missed(
    open_log: OpenLog, path: Path, compress: bool
) -> None:
    """Each line comes once and whole."""
    log = open_log(path)
    writers = [start("whole", path, process, 3000, max_bytes=60_000, compress=compress) for process in range(2)]
    looks_after_the_end = iter((True, False))

    def wait() -> bool:
        return any(map(_runs, writers)) or next(looks_after_the_end)

    seen = [line.text for line in follow([log], [_timed], wait)]
    log.close()
    assert [writer.wait() for writer in writers] == [0, 0]
    followed = path.with_name("followed")
    followed.write_bytes(b"".join(line + b"\n" for line in seen))
    assert judge(followed, 2, 3000).is_exact
    assert len(list(path.parent.glob("app.log.*"))) > 5


def _runs(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process runs on; where it does, some time has passed."""
    try:
        process.wait(timeout=0.01)
    except subprocess.TimeoutExpired:
        return True
    return False


# --- merging and times ---


def test_logs_are_merged_by_time() -> None:
    """Lines of the same time keep the order of the logs."""
    one = [Timed(at, b"one") for at in (1, 3, 5)]
    two = [Timed(at, b"two") for at in (2, 3, 4)]
    assert [(line.at, line.text) for line in merged([one, two])] == [
        (1, b"one"),
        (2, b"two"),
        (3, b"one"),
        (3, b"two"),
        (4, b"two"),
        (5, b"one"),
    ]


def test_lines_of_one_log_are_put_in_order_within_the_window() -> None:
    """Workers write their blocks in turn; what is late by more comes out late, and is not lost."""
    times = [10.0, 12.0, 11.0, 10.0 + WINDOW_SECONDS, 30.0, 1.0, 31.0]
    lines = [Timed(at, b"") for at in times]
    assert [line.at for line in merged([lines])] == [10, 11, 12, 15, 1, 30, 31]


def test_a_bounded_number_of_bytes_is_held() -> None:
    """However many lines have the same time."""
    taken = 0

    def lines() -> Iterator[Timed]:
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield Timed(1.0, b"x" * 1024 * 1024)

    next(merged([lines()]))
    assert taken <= 17


@pytest.mark.parametrize(
    ("line", "moment"),
    [
        ('{"timestamp":"2027-01-15T08:00:00.250000Z","event":"x"}', NOW + 0.25),
        ('{"event":"x", "timestamp": "2027-01-15T09:00:00+01:00"}', NOW),
        ('{"@timestamp":"2027-01-15T08:00:00"}', NOW),
        ('{"time":1800000000.5}', NOW + 0.5),
        ('{"ts":1800000000500}', NOW + 0.5),
        ('{"timestamp":"yesterday"}', None),
        ('{"timestamp":"', None),
        ('{"timestamp":null}', None),
        ('{"event":"x"}', None),
        ("text", None),
        ("[1]", None),
        ("{", None),
        ("", None),
    ],
)
def test_the_time_of_a_line(line: str, moment: float | None) -> None:
    """As the pack and others write it; without a zone it is UTC."""
    assert datetime.fromtimestamp(NOW, UTC).hour == 8
    assert moment_of(line.encode()) == moment


@pytest.mark.parametrize("line", [b"", b"text", b"[1]", b"3", b'{"a":', b'{"a":1} x', b"\xff"])
def test_what_is_no_object(line: bytes) -> None:
    """Everything but one JSON object."""
    assert object_of(line) is None
    assert object_of(b'{"a":1}') == {"a": 1}


def test_a_pipe_is_read_line_by_line() -> None:
    """With what is at its end."""
    program = "print('one'); print('two'); print('half', end='')"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert list(lines_of(process.stdout)) == [b"one", b"two", b"half"]


def test_lines_are_what_json_reads(open_log: OpenLog, path: Path) -> None:
    """No byte of a line is changed."""
    line = json.dumps({"event": "Zürich\u2028", "more": "\r"}, ensure_ascii=False)
    path.write_bytes(line.encode() + b"\r\n")
    assert [*open_log(path).lines()] == [line.encode() + b"\r"]
