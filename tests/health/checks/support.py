"""How tests run a check and look at what it says, and servers that answer as badly as they are told."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from monitoring.health.results import Reading
from tests.support.processes import poll


def outcome(check: Callable[[], Any]) -> Reading:
    """Run a check as the runner does, and return its reading; one that says nothing has passed."""
    answer = check()
    if inspect.isawaitable(answer):

        async def wait() -> Any:
            return await answer

        answer = asyncio.run(wait())
    return answer if answer is not None else Reading()


def status_of(check: Callable[[], Any]) -> str:
    """Run a check and return its status."""
    return outcome(check).status


@contextmanager
def silent_server() -> Iterator[int]:
    """Listen on a port, take connections, and never say a word."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            for connection in taken:
                connection.close()


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Have processes stand still for the length of the block."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        poll(lambda: all(psutil.Process(pid).status() == psutil.STATUS_STOPPED for pid in pids), "processes to stand")
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
