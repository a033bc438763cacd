"""Writing what waits when the process is told to end by SIGTERM, where nobody else listens to it.

Servers do, and end in their own way; a script dies on the spot, past ``atexit``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final

PATIENCE_SECONDS: Final = 5.0
"""Longest time that the end is put off."""


class FlushAtSigterm:
    """A handler of SIGTERM that calls ``flush`` in a thread, waits for at most five seconds, and lets the signal end
    the process as it would have.
    """

    def __init__(self, flush: Callable[[], object]) -> None:
        self._flush = flush

    def install(self) -> bool:
        """Handle the signal unless somebody else does, or this thread may not. Return whether it does."""
        if threading.current_thread() is not threading.main_thread():
            return False
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            return False
        try:
            signal.signal(signal.SIGTERM, self._end)
        except ValueError:  # a sub-interpreter, as of mod_wsgi, has no signals
            return False
        return True

    def remove(self) -> None:
        """Leave the signal alone again."""
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == self._end:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _end(self, number: int, frame: FrameType | None) -> None:
        # In a thread: this one may have been interrupted while it held a lock that the flush needs.
        flushing = threading.Thread(target=self._flush, name="monitoring-flush", daemon=True)
        with contextlib.suppress(RuntimeError):  # no more threads can be started; the process must end all the same
            flushing.start()
            flushing.join(PATIENCE_SECONDS)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
