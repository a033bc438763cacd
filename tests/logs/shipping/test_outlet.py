"""The outlet: a thread that delivers, a writer that never waits, processes that fork and end."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from monitoring.logs.shipping import Limits
from monitoring.logs.shipping.outlet import ShippingOutlet
from monitoring.logs.shipping.retries import NotDelivered
from monitoring.logs.shipping.spool import Spool
from tests.support.log_lines import Drops
from tests.support.processes import poll

FORK = multiprocessing.get_context("fork")


class Receiver:
    """A transport that appends to a file, so that all processes' lines are seen; it can hang."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.is_sending = threading.Event()
        self.heeds_abort = True
        self.closes = 0
        self._is_aborted = False

    def send(self, lines: Sequence[bytes]) -> int:
        """Append lines, unless it was aborted while it hung."""
        self.is_sending.set()
        self.goes_on.wait()
        if self._is_aborted:
            raise NotDelivered("aborted")
        with self.file.open("ab") as file:
            file.writelines(lines)
        return 0

    def abort(self) -> None:
        """Go on, and fail."""
        self._is_aborted = True
        if self.heeds_abort:
            self.goes_on.set()

    def close(self) -> None:
        """Count."""
        self.closes += 1


class Setup:
    """Outlets over one file of received lines."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.drops = Drops()
        self.receiver = Receiver(folder / "received")
        self.outlets: list[ShippingOutlet] = []

    def outlet(self, spool: Path | None = None, **limits: Any) -> ShippingOutlet:
        """Return an outlet to the receiver."""
        settings = Limits(**{"batch_seconds": 60.0, "retry_seconds": 0.01, **limits})
        self.outlets.append(ShippingOutlet("a receiver", lambda: self.receiver, spool, settings, self.drops))
        return self.outlets[-1]

    @property
    def got(self) -> list[int]:
        """Return the numbers that were received."""
        return list(map(int, self.receiver.file.read_text().split())) if self.receiver.file.exists() else []


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    """Close what a test opens."""
    made = Setup(tmp_path)
    yield made
    made.receiver.goes_on.set()
    for outlet in made.outlets:
        outlet.close(1.0)


def _write(outlet: ShippingOutlet, *numbers: int) -> None:
    for number in numbers:
        outlet.write(b"%d\n" % number)


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("monitoring-logs-")]


def test_there_is_no_thread_before_the_first_line_and_none_after_close(setup: Setup) -> None:
    """A master that only preloads has none to lose in a fork; it is a daemon, so that it holds up no exit."""
    outlet = setup.outlet()
    outlet.flush()
    assert _threads() == []
    _write(outlet, 1)
    assert _threads() == ["monitoring-logs-a receiver"]
    assert next(thread for thread in threading.enumerate() if thread.name == _threads()[0]).daemon
    outlet.close()
    assert _threads() == []
    assert setup.got == [1]


def test_a_complete_batch_is_sent_without_waiting(setup: Setup) -> None:
    """The others wait for more to come with, or for flush."""
    outlet = setup.outlet(batch_lines=3)
    _write(outlet, 1, 2, 3)
    poll(lambda: setup.got == [1, 2, 3], "the batch")
    _write(outlet, 4)
    outlet.flush()
    assert setup.got == [1, 2, 3, 4]


def test_a_batch_that_is_not_complete_is_sent_in_time(setup: Setup) -> None:
    """Nobody has to flush."""
    outlet = setup.outlet(batch_seconds=0.01)
    _write(outlet, 1)
    poll(lambda: setup.got == [1], "the line")


def test_a_receiver_that_hangs_costs_the_bounded_queue_and_every_drop_is_counted(setup: Setup) -> None:
    """Each write returns while the receiver hangs: sent = received + dropped, to the line."""
    outlet = setup.outlet(batch_lines=10, queue_lines=50)
    setup.receiver.goes_on.clear()
    _write(outlet, *range(10))
    assert setup.receiver.is_sending.wait(15)
    _write(outlet, *range(10, 1000))
    assert setup.drops == {"queue_full": 940}
    setup.receiver.goes_on.set()
    outlet.close()
    assert setup.got == list(range(60))
    assert setup.drops == {"queue_full": 940}


def test_close_returns_in_time_while_the_receiver_hangs_and_counts_what_it_gives_up(setup: Setup) -> None:
    """What is being sent is broken off, and fails: without that this test would never end."""
    outlet = setup.outlet(batch_lines=10)
    setup.receiver.goes_on.clear()
    _write(outlet, *range(25))
    outlet.close(0.3)
    assert setup.drops == {"undelivered": 25}
    assert _threads() == []


@pytest.mark.parametrize("heeds_abort", [True, False])
def test_close_spools_what_a_hanging_receiver_does_not_take(setup: Setup, tmp_path: Path, heeds_abort: bool) -> None:
    """Also where the thread cannot be brought to end, as in a look-up of a name: then the caller spools."""
    outlet = setup.outlet(tmp_path / "spool", batch_lines=10)
    setup.receiver.heeds_abort = heeds_abort
    setup.receiver.goes_on.clear()
    _write(outlet, *range(25))
    assert setup.receiver.is_sending.wait(15)
    outlet.close(0.3)
    spool = Spool(tmp_path / "spool", 10**6)
    spooled = [line for batch in spool.batches() for line in spool.read(batch) or ()]
    assert spooled == [b"%d\n" % number for number in range(25)]
    assert setup.drops == {}
    setup.receiver.goes_on.set()
    poll(lambda: not _threads(), "the thread to end")
    outlet.close(0.1)
    assert setup.got == []
    assert len(spool.batches()) == 3


def test_lines_after_close_are_counted(setup: Setup) -> None:
    """They start nothing again, and closing twice does no harm."""
    outlet = setup.outlet()
    _write(outlet, 1)
    outlet.close()
    outlet.close()
    _write(outlet, 2, 3)
    assert setup.got == [1]
    assert setup.drops == {"closed": 2}
    assert _threads() == []


def test_a_line_that_comes_while_another_thread_closes_is_counted(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It found the outlet open, and the queue emptied for the last time."""
    outlet = setup.outlet()
    put = outlet._queue.put

    def put_too_late(line: bytes, urgent: bool) -> bool:
        outlet.close()
        return put(line, urgent)

    monkeypatch.setattr(outlet._queue, "put", put_too_late)
    _write(outlet, 1)
    assert setup.drops == {"undelivered": 1}
    assert _threads() == []


def test_a_forked_child_sends_its_own_lines_and_the_parent_those_that_waited(setup: Setup) -> None:
    """No line is lost, and none is sent by both."""
    outlet = setup.outlet()
    _write(outlet, 1, 2)

    def child() -> None:
        _write(outlet, 10, 11)
        outlet.close()

    process = FORK.Process(target=child)
    process.start()
    process.join(15)
    assert process.exitcode == 0
    assert setup.got == [10, 11]
    outlet.close()
    assert setup.got == [10, 11, 1, 2]


def test_a_child_forked_while_the_thread_sends_is_whole(setup: Setup) -> None:
    """What the thread holds at the moment of the fork is not held in the child."""
    outlet = setup.outlet(batch_lines=1)
    setup.receiver.goes_on.clear()
    _write(outlet, 1)
    assert setup.receiver.is_sending.wait(15)

    def child() -> None:
        setup.receiver.goes_on.set()
        _write(outlet, 2)
        outlet.close()

    process = FORK.Process(target=child)
    process.start()
    process.join(15)
    assert process.exitcode == 0
    assert setup.got == [2]
    setup.receiver.goes_on.set()
    outlet.close()
    assert setup.got == [2, 1]


def test_a_forked_child_lets_go_of_what_its_parent_has_connected(setup: Setup) -> None:
    """A connection that a child has open too would not end when the parent closes it."""
    outlet = setup.outlet()
    process = FORK.Process(target=lambda: sys.exit(setup.receiver.closes))
    process.start()
    process.join(15)
    assert process.exitcode == 1
    outlet.close()


def test_a_child_of_multiprocessing_delivers_before_it_ends(setup: Setup) -> None:
    """It leaves by os._exit, past atexit."""
    outlet = setup.outlet()
    process = FORK.Process(target=lambda: _write(outlet, 1, 2))
    process.start()
    process.join(15)
    assert setup.got == [1, 2]


_SCRIPT = """
import atexit
import sys
from pathlib import Path
from monitoring.logs.shipping import Limits
from monitoring.logs.shipping.outlet import ShippingOutlet
from tests.logs.shipping.test_outlet import Receiver
receiver = Receiver(Path(sys.argv[1]))
outlet = ShippingOutlet("x", lambda: receiver, None, Limits(batch_seconds=60), print)
def last() -> None:
    outlet.write(b"100\\n")
    outlet.close()
if sys.argv[2] == "closes":
    atexit.register(last)
for number in range(100):
    outlet.write(b"%d\\n" % number)
"""


@pytest.mark.parametrize(("how", "lines"), [("just ends", 100), ("closes", 101)])
def test_a_process_that_ends_delivers_what_waits(setup: Setup, tmp_path: Path, how: str, lines: int) -> None:
    """Without a call of its own, and with the last lines of what is called at the exit after the outlet's own hook."""
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", _SCRIPT, str(tmp_path / "received"), how], cwd=root, check=True, timeout=30)
    assert setup.got == list(range(lines))


def test_a_process_that_ends_spools_what_a_hanging_receiver_does_not_take(
    setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends all the same."""
    monkeypatch.setattr("monitoring.logs.shipping.outlet._EXIT_SECONDS", 0.2)
    outlet = setup.outlet(tmp_path / "spool")

    def child() -> None:
        setup.receiver.goes_on.clear()
        _write(outlet, 1, 2)

    process = FORK.Process(target=child)
    process.start()
    process.join(15)
    assert process.exitcode == 0
    spool = Spool(tmp_path / "spool", 10**6)
    assert [spool.read(batch) for batch in spool.batches()] == [[b"1\n", b"2\n"]]


def test_two_processes_over_one_spool_send_every_batch_once(setup: Setup, tmp_path: Path) -> None:
    """Both find what was left, and write lines of their own meanwhile."""
    left = Spool(tmp_path / "spool", 10**7)
    for number in range(100):
        left.add([b"%d\n" % number])
    outlets = [setup.outlet(tmp_path / "spool", batch_lines=5) for _ in range(2)]
    gate = FORK.Barrier(2)

    def child(number: int) -> None:
        gate.wait(15)
        _write(outlets[number], *range(1000 * (number + 1), 1000 * (number + 1) + 200))
        outlets[number].close(15)

    processes = [FORK.Process(target=child, args=(number,)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    last = setup.outlet(tmp_path / "spool")
    _write(last, 5000)
    last.close()
    assert sorted(setup.got) == [*range(100), *range(1000, 1200), *range(2000, 2200), 5000]
    for first in (0, 1000, 2000):
        own = [number for number in setup.got if first <= number < first + 200]
        assert own == sorted(own)


def test_a_process_killed_while_it_sends_leaves_its_claim_to_the_next(setup: Setup, tmp_path: Path) -> None:
    """A lock ends with its process."""
    Spool(tmp_path / "spool", 10**6).add([b"1\n"])
    outlet = setup.outlet(tmp_path / "spool")
    is_sending = FORK.Event()

    def child() -> None:
        setup.receiver.goes_on.clear()
        _write(outlet, 2)
        threading.Thread(target=outlet.flush, daemon=True).start()
        setup.receiver.is_sending.wait(15)
        is_sending.set()
        threading.Event().wait(60)

    process = FORK.Process(target=child)
    process.start()
    assert is_sending.wait(15)
    process.kill()
    process.join(15)
    _write(outlet, 3)
    outlet.close()
    assert setup.got == [1, 3]


def test_the_first_failure_is_said_on_stderr_and_no_other(setup: Setup, capfd: pytest.CaptureFixture[str]) -> None:
    """The pack's own logging is the last place for it."""
    outlet = setup.outlet()

    def fail(lines: Sequence[bytes]) -> int:
        raise NotDelivered("ConnectionRefusedError: no")

    setup.receiver.send = fail  # type: ignore[method-assign]
    _write(outlet, 1)
    outlet.flush(0.2)
    outlet.close(0.2)
    assert capfd.readouterr().err == (
        "monitoring cannot send log lines to a receiver: ConnectionRefusedError: no. "
        "They are sent later, or counted as dropped.\n"
    )
    assert setup.drops == {"undelivered": 1}


def test_a_thread_that_cannot_start_costs_no_line(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process out of threads is tried again with the next line."""
    outlet = setup.outlet()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        _write(outlet, 1)
    _write(outlet, 2)
    outlet.close()
    assert setup.got == [1, 2]
