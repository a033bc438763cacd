"""Whether a database answers, asked by the app's own engine and pool."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from .patience import cut_off
from .telling import Answer, telling


def database(engine: Any) -> Callable[[], Answer]:
    """Check a database by ``SELECT 1`` on a connection of the pool of an SQLAlchemy ``Engine`` or ``AsyncEngine``.

    The connection goes back to the pool, whatever happens. One that does not answer for three seconds is shut down, as
    far as its driver tells the socket; the pool then makes another. While the pool itself connects, or pings because of
    ``pool_pre_ping``, only the driver's own time-outs hold: one thread may wait until the server goes on.
    """
    if hasattr(engine, "sync_engine"):
        return telling(_AsyncLook(engine))
    return telling(lambda: _select_one(engine))


def _select_one(engine: Any) -> None:
    from sqlalchemy import literal_column, select

    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        with cut_off(lambda: _socket_of(driver)):
            connection.execute(select(literal_column("1"))).scalar_one()


class _AsyncLook:
    """Looks one at a time: a driver may go on waiting for a server that hangs after it was cancelled."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._looking_process = 0

    def __call__(self) -> Answer:
        return self._look()

    async def _look(self) -> None:
        if self._looking_process == os.getpid():  # and not the one that this one was forked of
            raise TimeoutError("an earlier SELECT 1 still waits for its answer")
        self._looking_process = os.getpid()
        try:
            await self._select_one()
        finally:
            self._looking_process = 0

    async def _select_one(self) -> None:
        from sqlalchemy import literal_column, select

        async with self._engine.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            with cut_off(lambda: _socket_of(driver)):
                (await connection.execute(select(literal_column("1")))).scalar_one()


def _socket_of(driver: Any) -> Any:
    """Return what has the ``fileno()`` of a driver's connection: itself, or PyMySQL's socket; None for none."""
    return driver if hasattr(driver, "fileno") else getattr(driver, "_sock", None)
