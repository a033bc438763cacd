"""The log writer: direct at first, then queued, bounded, and never raising."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from monitoring.logs.writer import LogWriter
from tests.support.processes import poll


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def test_lines_are_written_at_once_until_the_process_serves_requests(tmp_path: Path) -> None:
    """A script or a preloading master gets no thread, and its lines are on disk when the call returns."""
    writer = LogWriter(str(tmp_path / "log"))
    writer.write(b"one\n")
    assert _lines(tmp_path / "log") == [b"one"]
    assert not writer.queues


def test_every_queued_line_is_on_disk_after_close(tmp_path: Path) -> None:
    """Nothing waits for ever, and the order is kept."""
    writer = LogWriter(str(tmp_path / "log"), flush_seconds=60)
    writer.start_queue()
    for number in range(1000):
        writer.write(b"%d\n" % number)
    writer.close()
    assert _lines(tmp_path / "log") == [b"%d" % number for number in range(1000)]


def test_lines_of_any_length_keep_their_order_over_many_blocks(tmp_path: Path) -> None:
    """A block that is full is followed by the next; one that a long line made large is not used again."""
    writer = LogWriter(str(tmp_path / "log"), flush_seconds=60)
    writer.start_queue()
    expected = []
    for number in range(300):
        line = b"%d %s\n" % (number, b"x" * (200_000 if number % 100 == 50 else number * 7))
        expected.append(line)
        writer.write(line)
        if number % 40 == 0:
            writer.flush()
    writer.close()
    assert (tmp_path / "log").read_bytes() == b"".join(expected)


def test_threads_that_write_at_once_lose_no_line(tmp_path: Path) -> None:
    """Each thread's lines are whole and in their order, while others close and write the blocks."""
    writer = LogWriter(str(tmp_path / "log"), flush_seconds=0.001)
    writer.start_queue()

    def write(name: int) -> None:
        for number in range(3_000):
            writer.write(b"%d %d %s\n" % (name, number, b"x" * 100))

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    numbers: dict[bytes, list[int]] = {}
    for line in _lines(tmp_path / "log"):
        name, number, rest = line.split()
        assert len(rest) == 100
        numbers.setdefault(name, []).append(int(number))
    assert list(numbers.values()) == [list(range(3_000))] * 4


def test_past_the_bound_lines_are_dropped_and_counted_errors_last(tmp_path: Path) -> None:
    """A stalled destination costs bounded memory, to a block; errors have a reserve of their own."""
    dropped: list[tuple[str, int]] = []
    writer = LogWriter(
        str(tmp_path / "log"), queue_bytes=10_000, flush_seconds=60, on_dropped=lambda *drop: dropped.append(drop)
    )
    writer.queues = True  # queue without the thread that would drain it
    for _ in range(6):
        writer.write(b"x" * 4000)
    assert dropped == [("queue_full", 1)] * 2
    for _ in range(5):
        writer.write(b"e" * 4000, urgent=True)
    assert dropped == [("queue_full", 1)] * 6
    writer.flush()
    assert (tmp_path / "log").read_bytes() == b"x" * 16_000 + b"e" * 4000


def test_a_destination_that_cannot_be_written_is_counted_and_said_once(tmp_path: Path, capfd: object) -> None:
    """A full disk or a missing folder never raises into the app."""
    dropped: list[tuple[str, int]] = []
    (tmp_path / "file").write_text("")
    writer = LogWriter(str(tmp_path / "file" / "log"), on_dropped=lambda *drop: dropped.append(drop))
    writer.write(b"one\n")
    writer.write(b"two\n")
    assert dropped == [("write_failed", 1)] * 2
    said = capfd.readouterr().err  # type: ignore[attr-defined]
    assert said.count("monitoring cannot write log lines") == 1


def _write_in_child(writer: LogWriter) -> None:
    writer.start_queue()
    writer.write(b"child\n")


def test_a_forked_child_writes_its_own_lines_and_not_its_parents(tmp_path: Path) -> None:
    """What waited in the parent at the fork is written once, by the parent; the child starts a thread of its own."""
    writer = LogWriter(str(tmp_path / "log"), flush_seconds=60)
    writer.start_queue()
    writer.write(b"parent\n")
    child = multiprocessing.get_context("fork").Process(target=_write_in_child, args=(writer,))
    child.start()
    child.join()
    writer.close()
    assert sorted(_lines(tmp_path / "log")) == [b"child", b"parent"]


def test_lines_that_wait_are_written_when_the_process_ends(tmp_path: Path) -> None:
    """An exit flushes, whatever the flush interval."""
    program = (
        "from monitoring.logs.writer import LogWriter\n"
        f"writer = LogWriter({str(tmp_path / 'log')!r}, flush_seconds=60)\n"
        "writer.start_queue()\n"
        "writer.write(b'last words\\n')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ)
    assert _lines(tmp_path / "log") == [b"last words"]


def test_a_slow_reader_of_a_stream_that_is_non_blocking_gets_every_line() -> None:
    """Another process that shares the stream may have made it so; a full pipe is no failure then, either."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    dropped: list[int] = []
    writer = LogWriter("stdout", on_dropped=lambda reason, lines: dropped.append(lines))
    writer._fd = writing
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.extend(iter(lambda: os.read(reading, 4096), b"")))
    lines = [b"%d %s\n" % (number, b"x" * 100) for number in range(5_000)]
    waiting = b"".join(lines)
    assert len(waiting) > 4 * 65536  # more than a pipe holds
    reader.start()
    writer.write(waiting)
    os.close(writing)
    reader.join()
    os.close(reading)
    assert (b"".join(received), dropped) == (waiting, [])


def test_a_reader_that_has_stopped_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are written by the thread alone, nobody waits for it, and what finds no room is counted to a line."""
    reading, writing = os.pipe()
    filling = _fill(writing)
    dropped: list[int] = []
    writer = LogWriter("stdout", queue_bytes=65536, on_dropped=lambda reason, lines: dropped.append(lines))
    writer._fd = writing
    writes_by_thread: list[str] = []
    real_write = os.write

    def write(fd: int, data: bytes) -> int:
        if fd == writing:
            writes_by_thread.append(threading.current_thread().name)
        return real_write(fd, data)

    monkeypatch.setattr("monitoring.logs.writer.os.write", write)
    writer.start_queue()
    writer.write(b"first\n", urgent=True)
    poll(lambda: writes_by_thread, "the thread's first write")
    waits = CountingLock(writer._done)
    monkeypatch.setattr(writer, "_done", waits)
    for number in range(5_000):
        writer.write(b"%d %s\n" % (number, b"x" * 100), urgent=number % 100 == 0)
    assert waits.timed == 0
    reader = threading.Thread(target=lambda: received.extend(iter(lambda: os.read(reading, 65536), b"")))
    received: list[bytes] = []
    reader.start()
    writer.close()
    os.close(writing)
    reader.join()
    os.close(reading)
    lines = b"".join(received)[filling:].count(b"\n")
    assert lines + sum(dropped) == 5_001
    assert sum(dropped) > 1_000
    assert set(writes_by_thread) == {"monitoring-log-writer"}


def _fill(pipe: int) -> int:
    """Fill a pipe, and return with how many bytes."""
    os.set_blocking(pipe, False)
    filled = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            filled += os.write(pipe, bytes(4096))
    os.set_blocking(pipe, True)
    return filled


class CountingLock:
    """A lock that counts those who would wait for it with a time-out."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self.timed = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire it, and count."""
        self.timed += timeout > 0
        taken: bool = self._lock.acquire(blocking, timeout)
        return taken

    def release(self) -> None:
        """Release it."""
        self._lock.release()
