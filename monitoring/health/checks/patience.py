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

    ``connection`` returns, when the time is over, what has a ``fileno()``, or None. What has none is left alone.
    """
    timer = threading.Timer(seconds, _shut_down, (connection,))
    timer.name, timer.daemon = "monitoring-check-patience", True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _shut_down(connection: Callable[[], Any]) -> None:
    with contextlib.suppress(Exception), socket.socket(fileno=os.dup(connection().fileno())) as also:
        also.shutdown(socket.SHUT_RDWR)  # fails where it was closed meanwhile, or is none that can be shut down
