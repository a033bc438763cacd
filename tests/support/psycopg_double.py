"""A small adapter for psycopg's connections, for tests of layers where the pack has none. It is not the app's code."""

from __future__ import annotations

from functools import partial
from typing import Any

from monitoring.calls import DatabaseCall
from monitoring.integrations.attachment import Detach, Link, observing
from monitoring.integrations.databases.statements import describe
from monitoring.integrations.layers import lies_below


class Double:
    """Stands for the adapter of psycopg: what a connection's cursors execute is observed."""

    def carrier(self, client: Any) -> Any:
        return client

    def attach(self, client: Any, link: Link) -> Detach:
        lies_below("db")
        former = client.cursor_factory

        class Cursor(former):  # type: ignore[misc]
            def execute(self, *args: Any, **kwargs: Any) -> Any:
                return observing(link, _call, super().execute)(*args, **kwargs)

            def executemany(self, *args: Any, **kwargs: Any) -> Any:
                return observing(link, _call, super().executemany)(*args, **kwargs)

        client.cursor_factory = Cursor
        return partial(setattr, client, "cursor_factory", former)


def _call(args: tuple[Any, ...], started: float, _: Any, error: BaseException | None) -> DatabaseCall:
    call = DatabaseCall(started, error)
    call.system = "postgresql"
    call.name, call.operation, call.statement = describe(str(args[0]))
    return call
