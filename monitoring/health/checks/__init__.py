"""Ready-made checks. Each returns a function for ``health.add(name, ...)``; none does anything before it runs.

What they ask for by themselves gives up after three seconds; what a client of yours asks for is bound by its time-outs.
"""

from __future__ import annotations

from .certificates import certificate
from .databases import database
from .dependencies import traffic
from .event_loop import event_loop_lag
from .files import folder, object_store
from .mail import smtp
from .models import llm
from .queues import queue_depth
from .servers import http
from .stores import memcached, mongo, redis
from .system import cpu, disk, memory

__all__ = [
    "certificate",
    "cpu",
    "database",
    "disk",
    "event_loop_lag",
    "folder",
    "http",
    "llm",
    "memcached",
    "memory",
    "mongo",
    "object_store",
    "queue_depth",
    "redis",
    "smtp",
    "traffic",
]
