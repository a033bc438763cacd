"""Jobs and a worker class for RQ workers of their own."""

from __future__ import annotations

import logging
import os
import signal
import time
from typing import Any

import rq
import rq.worker

import monitoring

monitoring.configure()


class Worker(rq.Worker):
    """A worker that tells of its jobs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        monitoring.wrap(self)


class Spawning(getattr(rq.worker, "SpawnWorker", rq.Worker)):  # type: ignore[misc]
    """The same, with work-horses that are not forked."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        monitoring.wrap(self)


def ask(number: int) -> int:
    """Log, and succeed."""
    logging.getLogger("work").warning("asked %d", number)
    return number


def fail(number: int) -> None:
    """Raise."""
    raise LookupError("failed on purpose")


def killed() -> None:
    """Be killed."""
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    """Take longer than it may."""
    while True:
        time.sleep(0.01)
