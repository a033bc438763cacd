"""The demo's child processes: started, waited for, and stopped by their own id."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Self

HOST = "127.0.0.1"
READY_SECONDS = 60.0
STOP_SECONDS = 30.0
_PR_SET_PDEATHSIG = 1


class DemoError(Exception):
    """The demo cannot go on; the message says why and what helps."""


class StopSignal:
    """Watch for Ctrl-C and SIGTERM inside a `with` block instead of dying of them."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Self:
        self._earlier = {number: signal.signal(number, self._request) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True


class Child:
    """A `python -m ...` process with `settings` in its environment.

    On Linux it ends with its parent, however that ends. What it prints goes to the file `output`, or to the terminal.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], settings: Mapping[str, str], *, output: Path | None = None
    ) -> None:
        self.name = name
        self._output = output
        stream = output.open("wb") if output else None
        self._process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env={**_environment(), **settings},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT if stream else None,
            start_new_session=True,
            preexec_fn=_end_with_parent(),
        )
        if stream:
            stream.close()

    def check(self) -> None:
        """Raise `DemoError` if the process has ended."""
        if self._process.poll() is not None:
            tail = self._output.read_text(errors="replace")[-2000:] if self._output else ""
            raise DemoError(
                f"the {self.name} stopped by itself with exit code {self._process.returncode}. "
                f"Its last words ({self._output or 'above'}):\n{tail}"
            )

    def wait_until_ready(self, url: str, stop: StopSignal) -> bool:
        """Wait until `url` answers 200; False if a stop was asked for meanwhile."""
        deadline = time.monotonic() + READY_SECONDS
        while not _answers(url):
            self.check()
            if stop.requested:
                return False
            if time.monotonic() > deadline:
                raise DemoError(f"the {self.name} did not get ready within {READY_SECONDS:.0f} s; see {self._output}.")
            time.sleep(0.05)
        return True

    def stop(self) -> None:
        """Ask the process to end, then end what is left of its group. Twice is once."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def free_port(wanted: int) -> int:
    """Return `wanted` if it is free on loopback, or any free port for 0. Raise `DemoError` if it is not."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError as error:
            raise DemoError(f"port {wanted} cannot be used ({error.strerror}); choose another with --port.") from None
        except OverflowError:
            raise DemoError(f"port {wanted} does not exist; choose one up to 65535 with --port.") from None
        port: int = probe.getsockname()[1]
        return port


def fetch(url: str, headers: Mapping[str, str] | None = None) -> str:
    """Return the body of a page on this machine, past any proxy that the environment names."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, headers=dict(headers or {})), timeout=5) as response:
        body: bytes = response.read()
    return body.decode()


def _answers(url: str) -> bool:
    try:
        fetch(url)
    except OSError:
        return False
    return True


def _environment() -> dict[str, str]:
    """Return this process's environment without settings that were made for the user's own app."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MONITORING_")}


def _end_with_parent() -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
