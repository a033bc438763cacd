"""Actors for Dramatiq workers of their own."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

import monitoring

monitoring.configure()

broker: Any = RedisBroker(
    url=os.environ["BROKER"], heartbeat_timeout=2_500, maintenance_chance=1_000_000, dead_message_ttl=60_000
)
dramatiq.set_broker(broker)
monitoring.wrap(broker)


@dramatiq.actor(max_retries=0)
def ask(number: int) -> None:
    """Log, and succeed."""
    logging.getLogger("work").warning("asked %d", number)


@dramatiq.actor(max_retries=0)
def fail(number: int) -> None:
    """Raise."""
    raise LookupError("failed on purpose")


@dramatiq.actor(max_retries=2, min_backoff=1, max_backoff=2)
def flaky(folder: str, number: int) -> None:
    """Succeed at the third attempt."""
    marker = Path(folder, f"flaky-{number}")
    attempts = int(marker.read_text()) if marker.exists() else 0
    marker.write_text(str(attempts + 1))
    if attempts < 2:
        raise ConnectionError("not yet")


@dramatiq.actor(max_retries=0)
def redelivered(folder: str, number: int) -> None:
    """Have the process killed, and succeed when it is delivered again."""
    marker = Path(folder, f"died-{number}")
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
