"""What the tests of database drivers share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from monitoring.calls import DatabaseCall
from monitoring.testing import MemorySink, use

LIBPQ = "postgresql://"


def libpq(url: str) -> str:
    """Return the URL of the fixture as libpq takes it, and with it psycopg and asyncpg."""
    return LIBPQ + url.partition("://")[2]


def observed(work: Callable[[], object]) -> list[DatabaseCall]:
    """Return the statements seen while ``work`` runs."""
    sink = MemorySink()
    with use(sink):
        work()
    return cast("list[DatabaseCall]", sink.of_kind("db"))


def observed_async(work: Callable[[], Awaitable[object]]) -> list[DatabaseCall]:
    """Do the same with a coroutine function."""

    async def awaited() -> None:
        await work()

    return observed(lambda: asyncio.run(awaited()))


def refused(error: type[Exception], act: Callable[..., object], *args: object) -> None:
    """Call ``act``, which must raise."""
    with pytest.raises(error):
        act(*args)


def names(calls: list[DatabaseCall]) -> list[str]:
    """Return what the calls are named."""
    return [call.name for call in calls]
