"""The spool: batches on disk."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from monitoring.logs.shipping.spool import Spool, lines_of
from monitoring.testing import FakeClock


def _contents(spool: Spool) -> list[list[bytes] | None]:
    return [spool.read(batch) for batch in spool.batches()]


def test_batches_come_back_in_the_order_they_were_added(tmp_path: Path) -> None:
    """Also those of the same moment, and those of a clock that was set back."""
    clock = FakeClock()
    spool = Spool(tmp_path / "spool", 10**6, clock)
    for number in range(12):
        if number == 6:
            clock.advance(-3600)
        assert spool.add([b"%d\n" % number, b"again\n"])
    assert _contents(spool) == [[b"%d\n" % number, b"again\n"] for number in range(12)]


def test_the_next_process_finds_what_this_one_left(tmp_path: Path) -> None:
    """The folder is all that is needed, and only its owner can read it: lines are nobody else's."""
    Spool(tmp_path / "spool", 10**6).add([b"one\n", b"two\n"])
    assert _contents(Spool(tmp_path / "spool", 10**6)) == [[b"one\n", b"two\n"]]
    (batch,) = Spool(tmp_path / "spool", 10**6).batches()
    assert lines_of(batch) == 2
    assert (batch.stat().st_mode & 0o777, batch.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_the_spool_is_bounded_in_bytes_on_disk(tmp_path: Path) -> None:
    """A small file takes a block of the disk too, so many small ones are bounded like few large ones."""
    spool = Spool(tmp_path, 3 * 4096)
    assert [spool.add([b"x\n"]) for _ in range(5)] == [True, True, True, False, False]
    spool.shorten(spool.batches()[0], [])
    assert spool.add([b"x\n"])
    assert not spool.add([os.urandom(5000) + b"\n"])


def test_a_folder_that_cannot_be_written_takes_nothing(tmp_path: Path) -> None:
    """It is the caller's to keep the lines; nothing is raised."""
    (tmp_path / "file").write_text("")
    spool = Spool(tmp_path / "file" / "spool", 10**6)
    assert not spool.add([b"x\n"])
    assert spool.batches() == []
    with spool.claim() as is_mine:
        assert not is_mine


@pytest.mark.parametrize("harm", ["cut", "other", "fewer"])
def test_a_broken_file_is_set_aside(tmp_path: Path, harm: str) -> None:
    """It is not read again, the number of its lines is known, and it makes room when that is needed."""
    spool = Spool(tmp_path, 2 * 4096)
    spool.add([b"one\n", b"two\n"])
    (batch,) = spool.batches()
    if harm == "cut":
        batch.write_bytes(batch.read_bytes()[:-9])
    elif harm == "other":
        batch.write_bytes(b"not gzip")
    else:
        spool.shorten(batch, [b"one\n"])
        (batch,) = spool.batches()
        batch = batch.rename(batch.with_name(batch.name.replace(".1.", ".2.")))
    assert lines_of(batch) == 2
    assert spool.read(batch) is None
    assert spool.batches() == []
    assert [path.name for path in tmp_path.iterdir()] == [batch.name + ".broken"]
    assert spool.add([b"x\n"])
    assert spool.add([b"x\n"])
    assert not list(tmp_path.glob("*.broken"))


def test_a_file_that_was_begun_and_never_finished_is_no_batch(tmp_path: Path) -> None:
    """A process that was killed while writing leaves one; after an hour it makes room."""
    clock = FakeClock((tmp_path.stat().st_mtime) + 10)
    spool = Spool(tmp_path, 4096, clock)
    begun = tmp_path / "1.2.lines.gz.begun"
    begun.write_bytes(b"half")
    assert spool.batches() == []
    assert not spool.add([b"x\n"])
    clock.advance(3700)
    assert spool.add([b"x\n"])
    assert not begun.exists()


def test_a_batch_can_be_shortened_and_keeps_its_place(tmp_path: Path) -> None:
    """What was delivered of it is not sent again."""
    spool = Spool(tmp_path, 10**6)
    spool.add([b"1\n", b"2\n", b"3\n"])
    spool.add([b"4\n"])
    spool.shorten(spool.batches()[0], [b"3\n"])
    assert _contents(spool) == [[b"3\n"], [b"4\n"]]


def test_only_one_may_send_at_a_time(tmp_path: Path) -> None:
    """The claim of another is respected, and free when its block ends, even where a fork has the file open still."""
    spool, other = Spool(tmp_path, 10**6), Spool(tmp_path, 10**6)
    gate = multiprocessing.get_context("fork").Barrier(2)
    with spool.claim() as is_mine:
        child = multiprocessing.get_context("fork").Process(target=gate.wait)
        child.start()
        with other.claim() as is_others:
            assert is_mine
            assert not is_others
    with other.claim() as is_others:
        assert is_others
    gate.wait()
    child.join()


def test_a_forked_child_leaves_the_claim_to_its_parent(tmp_path: Path) -> None:
    """Closing its copy of the file gives up nothing that the parent has."""
    spool, other = Spool(tmp_path, 10**6), Spool(tmp_path, 10**6)
    with spool.claim():
        child = multiprocessing.get_context("fork").Process(target=spool.leave_claim)
        child.start()
        child.join()
        assert child.exitcode == 0
        with other.claim() as is_others:
            assert not is_others
