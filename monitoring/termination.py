"""SIGTERM: put off while probes see that the process drains; what waits is written where nobody else listens to it.

A handler stands in front of the one that was there. It hands the signal on by putting that one back and raising the
signal again, so that a server ends as it does alone. A script dies on the spot, past ``atexit``.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

PATIENCE_SECONDS: Final = 5.0
"""Longest time that the end is put off for writing what waits."""

_HYPERCORN: Final = ("hypercorn.asyncio.run", "hypercorn.trio.run")
_WAITS_IN_HYPERCORN: Final = "check_multiprocess_shutdown_event"


class AtSigterm:
    """What is done when this process is told to end.

    ``drain`` stops being ready and returns the seconds that the server should go on; it runs in the signal's handler,
    so it takes no lock and does no I/O. ``flush`` writes what waits; it runs in a thread, for five seconds at most. A
    second signal is not put off.
    """

    def __init__(self, drain: Callable[[], float], flush: Callable[[], object]) -> None:
        self._drain = drain
        self._flush = flush
        self._is_asked = False
        self._is_handed_on = False

    def watch(self, *, in_front: bool) -> bool:
        """Handle the signal, unless this is not the main thread. Return whether it is handled.

        A handler of somebody else is left alone, or with ``in_front`` gets the signal afterwards. Servers put theirs
        in place at different times, so call it again when requests come: again is once.
        """
        if threading.current_thread() is not threading.main_thread() or self._is_asked:
            return False
        handler = signal.getsignal(signal.SIGTERM)
        if isinstance(handler, _Link):
            handler.stay_in_front()
            return True
        if handler is not signal.SIG_DFL and not (in_front and callable(handler)):
            return False
        try:
            wakeups = _Wakeups(asyncio.get_running_loop()) if _is_of_loop(handler) else None
            signal.signal(signal.SIGTERM, _Link(self, handler, wakeups))
        except (
            RuntimeError,
            ValueError,
        ):  # no loop runs yet; a sub-interpreter, as mod_wsgi's, has no signals
            return False
        return True

    def remove(self) -> None:
        """Leave the signal alone again."""
        handler = signal.getsignal(signal.SIGTERM)
        if threading.current_thread() is threading.main_thread() and isinstance(handler, _Link):
            handler.step_aside()

    def watch_hypercorn(self) -> None:
        """Put off the end of hypercorn's workers, whom their parent tells by an event and not by a signal.

        For the time at which a worker imports the app: what waits for the event is looked up afterwards.
        """
        for name in _HYPERCORN:
            module = sys.modules.get(name)
            wait = getattr(module, _WAITS_IN_HYPERCORN, None)
            if wait is not None and not hasattr(wait, "__wrapped__"):
                setattr(module, _WAITS_IN_HYPERCORN, self._draining_after(wait))

    def _draining_after(self, wait: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        @functools.wraps(wait)
        async def wait_and_drain(event: Any, sleep: Callable[[float], Awaitable[object]]) -> None:
            await wait(event, sleep)
            self._is_asked = True
            await sleep(self._drain())

        return wait_and_drain

    def handle(self, link: _Link, number: int) -> None:
        """Put the end off, or let the process end now; in the main thread, between any two steps of its code."""
        if not self._is_asked:
            self._is_asked = True
            seconds = self._drain()
            if seconds > 0 and _start(self._raise_later, time.monotonic() + seconds, number):
                return
        self._is_handed_on = True
        if link.former is signal.SIG_DFL:
            self._write_what_waits()
        link.step_aside()
        signal.raise_signal(number)

    def _raise_later(self, end: float, number: int) -> None:
        time.sleep(max(0.0, end - time.monotonic()))
        if not self._is_handed_on:
            _raise_in_main_thread(number)

    def _write_what_waits(self) -> None:
        # In a thread: this one may have been interrupted while it held a lock that the flush needs.
        flushing = threading.Thread(target=self._flush, name="monitoring-flush", daemon=True)
        with contextlib.suppress(RuntimeError):  # no threads any more
            flushing.start()
            flushing.join(PATIENCE_SECONDS)


@dataclass(slots=True, eq=False)
class _Link:
    """One handler in front of another."""

    owner: AtSigterm
    former: Any
    wakeups: _Wakeups | None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.owner.handle(self, number)

    def stay_in_front(self) -> None:
        if self.wakeups is not None:
            self.wakeups.take()

    def step_aside(self) -> None:
        signal.signal(signal.SIGTERM, self.former)
        if self.wakeups is not None:
            self.wakeups.give_back()


class _Wakeups:
    """Stands between the signals and a running event loop that handles them itself, and keeps SIGTERM from it.

    Such a loop (``add_signal_handler``) hears of signals by bytes in ``signal.set_wakeup_fd``, whatever handler is set.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._received, self._sent = socket.socketpair()
        self._received.setblocking(False)
        self._sent.setblocking(False)
        self._loops_own = -1
        loop.add_reader(self._received, self._pass_on)
        self.take()

    def take(self) -> None:
        """Get the bytes, also when the loop has taken them back meanwhile."""
        former = signal.set_wakeup_fd(self._sent.fileno(), warn_on_full_buffer=False)
        if former != self._sent.fileno():
            self._loops_own = former

    def give_back(self) -> None:
        """Let the loop have the bytes again."""
        if signal.set_wakeup_fd(self._loops_own) != self._sent.fileno():
            return
        with contextlib.suppress(RuntimeError):  # closed
            self._loop.call_soon_threadsafe(self._close)

    def _pass_on(self) -> None:
        with contextlib.suppress(OSError):
            numbers = bytes(number for number in self._received.recv(4096) if number != signal.SIGTERM)
            if numbers and self._loops_own >= 0:
                os.write(self._loops_own, numbers)

    def _close(self) -> None:
        self._pass_on()
        self._loop.remove_reader(self._received)
        self._received.close()
        self._sent.close()


def _is_of_loop(handler: object) -> bool:
    """Say whether an event loop has set this handler to handle the signal itself: asyncio's own loops, and uvloop's."""
    if getattr(handler, "__module__", None) == "asyncio.unix_events":
        return True
    return isinstance(getattr(handler, "__self__", None), asyncio.AbstractEventLoop)


def _start(function: Callable[..., object], *args: object) -> bool:
    try:
        threading.Thread(target=function, args=args, name="monitoring-drain", daemon=True).start()
    except RuntimeError:  # no threads any more
        return False
    return True


def _raise_in_main_thread(number: int) -> None:
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, number)  # it may be waiting in a system call
    else:
        signal.raise_signal(number)
