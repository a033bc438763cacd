"""SIGTERM: what waits is written where nobody else listens, and the process ends by the signal all the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from monitoring.termination import AtSigterm

ROOT = Path(__file__).parents[1]

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
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=30, cwd=ROOT)
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
    assert not AtSigterm(lambda: 0.0, lambda: None).watch(in_front=False)


@pytest.mark.parametrize("own", ["", "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))"])
def test_who_serves_nobody_is_not_put_off(tmp_path: Path, own: str) -> None:
    """A script ends at once, whatever time there is for a drain."""
    program = """
import os, signal, sys, time
import monitoring
{own}
monitoring.configure(log_destination={path!r}, store=None, drain_seconds=3600.0)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(20)
"""
    done = subprocess.run(
        [sys.executable, "-c", program.format(own=own, path=str(tmp_path / "log"))], timeout=30, cwd=ROOT
    )
    assert done.returncode == (7 if own else -signal.SIGTERM)


SERVER = """
import asyncio, os, signal, sys, time
import monitoring
monitor = monitoring.configure(log_destination={path!r}, store=None, drain_seconds={seconds})
{body}
"""


def serve(path: Path, seconds: float, body: str) -> tuple[int, list[str]]:
    """Run a program that stands for a server; return its status and what it printed."""
    program = SERVER.format(path=str(path), seconds=seconds, body=body)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, cwd=ROOT)
    assert done.stderr == ""
    return done.returncode, done.stdout.split("\n")[:-1]


PLAIN = """
def end(*_):
    print("server", monitor.lifecycle.readiness()[1])
    sys.exit(7)

signal.signal(signal.SIGTERM, end)
monitor.lifecycle.serve()
os.kill(os.getpid(), signal.SIGTERM)
print("serves", monitor.lifecycle.readiness()[1])
{then}
time.sleep(20)
"""


def test_a_server_gets_the_signal_after_the_drain(tmp_path: Path) -> None:
    """It was put in place after the pack: it is found when requests come."""
    assert serve(tmp_path / "log", 0.2, PLAIN.format(then="")) == (7, ["serves draining", "server draining"])


def test_a_second_signal_is_not_put_off(tmp_path: Path) -> None:
    """An hour is left."""
    again = "os.kill(os.getpid(), signal.SIGTERM)"
    assert serve(tmp_path / "log", 3600.0, PLAIN.format(then=again)) == (7, ["serves draining", "server draining"])


LOOP = """
async def main():
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    {steps}
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGUSR1)
    await ended.wait()
    print("ended", monitor.lifecycle.readiness()[1])

asyncio.run(main())
"""
SERVE = "monitor.lifecycle.serve(); "
ADD_ANOTHER = "loop.add_signal_handler(signal.SIGUSR1, lambda: print('other', ended.is_set())); "


@pytest.mark.parametrize("steps", [ADD_ANOTHER + SERVE, SERVE + ADD_ANOTHER + SERVE], ids=["before", "after"])
def test_an_event_loop_that_handles_signals_itself_gets_it_after_the_drain(tmp_path: Path, steps: str) -> None:
    """Other signals reach it meanwhile; when it adds one later, the next probe puts the pack in front again."""
    assert serve(tmp_path / "log", 0.2, LOOP.format(steps=steps)) == (0, ["other False", "ended draining"])


def test_the_signal_is_given_back_at_shutdown() -> None:
    """Nothing of the pack stays."""
    program = (
        "import monitoring, signal; monitoring.configure(store=None); monitoring.shutdown();"
        "print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=os.environ)
    assert done.stdout == "True\n"
