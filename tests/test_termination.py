"""SIGTERM: what waits is written where nobody else listens, and the process ends by the signal all the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from monitoring.termination import FlushAtSigterm

PROGRAM = """
import os, signal, sys, time
import monitoring
{before}
monitor = monitoring.configure(log_destination={path!r}, log_flush_seconds=60.0, store=None)
monitor.log_lines.writer.start_queue()
monitoring.get_logger("app").info("waiting")
{after}
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(20)
"""


def run(path: Path, before: str = "", after: str = "") -> tuple[int, list[str]]:
    """Run a program that queues a line and is told to end; return its status and the events it wrote."""
    program = PROGRAM.format(path=str(path), before=before, after=after)
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=30, cwd=Path(__file__).parents[1])
    return done.returncode, [json.loads(line)["event"] for line in path.read_text().splitlines()]


def test_what_waits_is_written_and_the_process_ends_by_the_signal(tmp_path: Path) -> None:
    """As if nothing handled it."""
    assert run(tmp_path / "log") == (-signal.SIGTERM, ["waiting"])


def test_a_handler_of_the_app_is_left_alone(tmp_path: Path) -> None:
    """One set before, and one set after."""
    own = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))"
    assert run(tmp_path / "before", before=own) == (7, ["waiting"])
    assert run(tmp_path / "after", after=own) == (7, ["waiting"])


@pytest.mark.parametrize("held", ["monitor.log_lines.writer._lock", "monitor.log_lines.writer._closing"])
def test_a_lock_that_the_interrupted_code_held_does_not_keep_the_process(tmp_path: Path, held: str) -> None:
    """It ends after the patience, by the signal."""
    patience = "import monitoring.termination; monitoring.termination.PATIENCE_SECONDS = 0.2"
    status, _ = run(tmp_path / "log", before=patience, after=f"{held}.acquire()")
    assert status == -signal.SIGTERM


def test_a_process_without_room_for_a_thread_ends_by_the_signal(tmp_path: Path) -> None:
    """What waits is lost then; that it ends is not."""
    full = (
        "import threading; refuse = lambda self: (_ for _ in ()).throw(RuntimeError('no room')); "
        "threading.Thread.start = refuse"
    )
    path = tmp_path / "log"
    path.touch()
    assert run(path, after=full)[0] == -signal.SIGTERM


def test_an_interpreter_without_signals_is_configured_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python refuses to set a handler in any but the main one."""

    def refuse(number: int, handler: object) -> None:
        raise ValueError("signal only works in main thread of the main interpreter")

    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_DFL)
    monkeypatch.setattr(signal, "signal", refuse)
    assert not FlushAtSigterm(lambda: None).install()


def test_the_signal_is_given_back_at_shutdown() -> None:
    """Nothing of the pack stays."""
    program = (
        "import monitoring, signal; monitoring.configure(store=None); monitoring.shutdown();"
        "print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=os.environ)
    assert done.stdout == "True\n"
