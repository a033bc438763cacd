"""A pool whose threads hold nothing up."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from monitoring.daemon_pool import DaemonPool


def test_a_call_s_result_and_exception_come_back() -> None:
    """As from any executor."""
    pool = DaemonPool(2, "pool")
    assert pool.submit(lambda number: number + 1, 1).result(10) == 2
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 / 0).result(10)


def test_no_more_calls_run_at_a_time_than_there_are_threads() -> None:
    """The third of two waits until one is done."""
    pool, release, running = DaemonPool(2, "pool"), threading.Event(), threading.Barrier(3)

    def call() -> bool:
        running.wait(10)
        return release.wait(10)

    first = [pool.submit(call), pool.submit(call)]
    running.wait(10)
    third = pool.submit(lambda: "third")
    assert not third.done()
    release.set()
    assert [one.result(10) for one in first] == [True, True]
    assert third.result(10) == "third"


def test_a_call_that_hangs_does_not_keep_the_process_from_ending() -> None:
    """The interpreter does not wait for it."""
    program = (
        "import threading\n"
        "from monitoring.daemon_pool import DaemonPool\n"
        "began = threading.Event()\n"
        "DaemonPool(1, 'pool').submit(lambda: (began.set(), threading.Event().wait()))\n"
        "began.wait()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
