"""Child processes as fixtures: started, watched until they are ready, ended by pid and never by name."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.03
LOG_TAIL_CHARACTERS = 4_000
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class StartFailed(RuntimeError):
    """A process ended, or did not answer in time, before it was ready; the message carries the tail of its log."""


class Process:
    """One child process in a group of its own, writing its output to a log file."""

    def __init__(
        self, command: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.command = list(command)
        self.log = log
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    @property
    def pid(self) -> int:
        """The pid of the process, which is also the id of its group."""
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """How the process ended: negative for a signal, None while it runs."""
        return self._child.poll()

    def wait_until(self, ready: Callable[[], object], *, limit_seconds: float = 30) -> None:
        """Return once `ready` says so; raise StartFailed when the process ends first or the limit passes."""
        deadline = time.monotonic() + limit_seconds
        reason: object = "it was not ready"
        while self.exit_code is None and time.monotonic() < deadline:
            try:
                if ready():
                    return
            except OSError as error:
                reason = repr(error)
            time.sleep(POLL_SECONDS)
        raise StartFailed(
            f"{Path(self.command[0]).name} (exit code {self.exit_code}): {reason} within {limit_seconds} s.\n"
            f"{self.log_tail()}"
        )

    def log_tail(self) -> str:
        """The last lines that the process printed."""
        return self.log.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:]

    def stop(self, *, limit_seconds: float = 15) -> int:
        """Ask the process to end, end what is left of its group, and return its exit code."""
        if self.exit_code is None:
            self._child.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(limit_seconds)
        return self.kill()

    def kill(self) -> int:
        """SIGKILL the whole group at once, and return the exit code of the process."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return self._child.wait()


@contextmanager
def running(
    command: Callable[[int], Sequence[str]],
    ready: Callable[[int], object],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    limit_seconds: float = 30,
) -> Iterator[tuple[Process, int]]:
    """Run `command(port)` on a free port for the length of the block, from the moment that `ready(port)` is true."""
    process, port = _start(command, ready, log, env, cwd, limit_seconds)
    try:
        yield process, port
    finally:
        process.stop()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def poll(condition: Callable[[], T], waiting_for: str, *, limit_seconds: float = 15) -> T:
    """Return the first true value of `condition`; fail with `waiting_for` and its last value once the limit passes."""
    deadline = time.monotonic() + limit_seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"Waited {limit_seconds} s for {waiting_for}; last answer: {value!r}.")
        time.sleep(POLL_SECONDS)
    return value


def _start(
    command: Callable[[int], Sequence[str]],
    ready: Callable[[int], object],
    log: Path,
    env: Mapping[str, str] | None,
    cwd: Path | None,
    limit_seconds: float,
) -> tuple[Process, int]:
    """Start on a free port, and once more on another when somebody was quicker to take it."""
    for last_attempt in (False, True):
        port = free_port()
        process = Process(command(port), log, env=env, cwd=cwd)
        try:
            process.wait_until(lambda: ready(port), limit_seconds=limit_seconds)  # noqa: B023 - called in this round only
            return process, port
        except BaseException as error:
            process.stop()
            if last_attempt or not _address_was_taken(error):
                raise
    raise AssertionError("unreachable")


def _address_was_taken(error: BaseException) -> bool:
    return isinstance(error, StartFailed) and "address already in use" in str(error).lower()


def _end_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
