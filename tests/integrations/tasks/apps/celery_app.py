"""A Celery app for workers of their own."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import celery

import monitoring

monitoring.configure()

redis_url = os.environ["BROKER"]
app: Any = celery.Celery("work", broker=redis_url, backend=redis_url)
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 3600},
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
)
monitoring.wrap(app)


@app.task
def ask(number: int) -> int:
    """Log, and ask a database."""
    logging.getLogger("work").warning("asked %d", number)
    with sqlite3.connect(":memory:") as connection:
        return int(connection.execute("SELECT ?", (number,)).fetchone()[0])


@app.task
def fail(number: int) -> None:
    """Raise."""
    raise LookupError("failed on purpose")


@app.task(bind=True, max_retries=2)
def flaky(self: Any, number: int) -> int:
    """Succeed at the third attempt."""
    if self.request.retries < 2:
        raise self.retry(exc=ConnectionError("not yet"), countdown=0)
    return number


def _die_once(folder: str, number: int) -> None:
    marker = Path(folder, f"died-{number}")
    if not marker.exists():
        marker.touch()
        monitoring.current().log_lines.flush()  # those of earlier tasks; SIGKILL loses what is younger than a moment
        os.kill(os.getpid(), signal.SIGKILL)


@app.task(acks_late=True, reject_on_worker_lost=True)
def redelivered(folder: str, number: int) -> int:
    """Be killed, and succeed when it is delivered again."""
    _die_once(folder, number)
    return number


@app.task
def killed(folder: str, number: int) -> int:
    """Be killed, and not be delivered again."""
    _die_once(folder, number)
    return number


@app.task(time_limit=1)
def hang() -> None:
    """Take longer than it may."""
    signal.pause()
