"""How long a check waits for an answer at most, and how a connection that never answers is given up."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

PATIENCE_SECONDS: Final = 3.0
"""Above the 0.8 seconds after which the runner calls a check too slow: it gives up first, and this frees the thread."""


@contextlib.contextmanager
def cut_off(connection: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Shut a connection's socket down if the block takes longer than ``seconds``, so that whoever reads from it wakes.

    ``connection`` returns, when the time is over, what has a ``fileno()``, or None; what has none is left alone. Raise
    TimeoutError when the time was over.
    """
    limit = _Limit(connection)
    timer = threading.Timer(seconds, limit.reach)
    timer.name, timer.daemon = "monitoring-check-patience", True
    timer.start()
    try:
        yield
    except Exception as error:
        if limit.was_reached:
            raise TimeoutError(f"no answer in {seconds:g} s") from error
        raise
    finally:
        timer.cancel()
        limit.leave()
    if limit.was_reached:
        raise TimeoutError(f"no answer in {seconds:g} s")


class _Limit:
    """Once it is left behind, nothing is shut down: the connection may be somebody else's by then."""

    def __init__(self, connection: Callable[[], Any]) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._is_left = False
        self.was_reached = False

    def reach(self) -> None:
        with self._lock:
            if not self._is_left:
                self.was_reached = True
                _shut_down(self._connection)

    def leave(self) -> None:
        with self._lock:
            self._is_left = True


def _shut_down(connection: Callable[[], Any]) -> None:
    with contextlib.suppress(Exception), socket.socket(fileno=os.dup(connection().fileno())) as also:
        also.shutdown(socket.SHUT_RDWR)  # fails where it was closed meanwhile, or is none that can be shut down
