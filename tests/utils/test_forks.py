"""Blocks that forks wait for: what a child finds, how long it takes, and what goes on meanwhile."""

from __future__ import annotations

import threading

import pytest

from monitoring.utils import forks
from monitoring.utils.forks import unforked
from tests.cells.support import forks_beside_threads, in_child
from tests.support.forks import TellingGate, telling_gate


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> TellingGate:
    return telling_gate(monkeypatch)


@forks_beside_threads
def test_a_fork_waits_for_the_end_of_a_block(gate: TellingGate) -> None:
    """The child finds what the block leaves behind, not what it does halfway, however deep the thread is in it."""
    begun, steps = threading.Event(), list[str]()

    def work() -> None:
        with unforked():
            begun.set()
            gate.fork_is_near.wait(10)
            with unforked():
                steps.append("half")
            steps.append("whole")

    worker = threading.Thread(target=work)
    worker.start()
    begun.wait(10)
    assert in_child(lambda: list(steps)) == ["half", "whole"]
    worker.join()


@forks_beside_threads
def test_blocks_that_follow_one_another_do_not_keep_a_fork_out(gate: TellingGate) -> None:
    """While one waits, no other block begins: it comes after it."""
    begun, steps = threading.Event(), list[str]()

    def work(name: str) -> None:
        if name == "late":
            gate.fork_is_near.wait(10)
            while not gate._door.locked():
                pass
        with unforked():
            begun.set()
            gate.fork_is_near.wait(10)
            steps.append(name)

    workers = [threading.Thread(target=work, args=(name,)) for name in ("early", "late")]
    for worker in workers:
        worker.start()
    begun.wait(10)
    assert in_child(lambda: list(steps)) == ["early"]
    for worker in workers:
        worker.join()
    assert steps == ["early", "late"]


def test_a_fork_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that does not end holds it up for some time and no longer; afterwards blocks run on either side."""
    monkeypatch.setattr(forks, "PATIENCE_SECONDS", 0.01)

    def block() -> str:
        with unforked():
            return "run"

    with unforked():
        assert in_child(block) == "run"
    assert block() == "run"


def test_a_fork_leaves_nothing_shut(gate: TellingGate) -> None:
    """Neither here nor in the child, which may fork in its turn."""

    def block() -> str:
        with unforked():
            return "run"

    assert in_child(lambda: (block(), in_child(block))) == ("run", "run")
    assert block() == "run"
    assert in_child(block) == "run"
