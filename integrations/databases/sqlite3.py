"""sqlite3 connections. Those of the standard library's own class are C objects, which take no attributes.

So open them with the class of here, or with a Python subclass of one's own, which can be wrapped as it is.
"""

from __future__ import annotations

import sqlite3
from functools import cache, partial
from typing import Any, Final

from monitoring.integrations import wrap
from monitoring.integrations.attachment import Detach, Link
from monitoring.integrations.layers import lies_below
from monitoring.integrations.weak import replace_weakly

from .cursors import cursor_call, executing, method_of, subclass

_METHODS: Final = ("execute", "executemany", "executescript")


class Connection(sqlite3.Connection):
    """A connection that is wrapped when it opens: ``sqlite3.connect(path, factory=Connection)``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        wrap(self)


def carrier(client: Any) -> Any:
    """Return the connection itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Let the connection make cursors that report, also for its own shortcuts."""
    lies_below("db")
    if not hasattr(client, "__dict__"):
        raise TypeError(
            "wrap() cannot instrument a sqlite3.Connection, which is a C object; open it with "
            f"sqlite3.connect(path, factory={__name__}.Connection)."
        )
    make = method_of(client, "cursor")

    def cursor(factory: Any = sqlite3.Cursor) -> Any:
        return make(_observed_class(factory) if isinstance(factory, type) else factory)

    def execute(*args: Any) -> Any:
        return cursor().execute(*args)

    def executemany(*args: Any) -> Any:
        return cursor().executemany(*args)

    def executescript(*args: Any) -> Any:
        return cursor().executescript(*args)

    members = {"execute": execute, "executemany": executemany, "executescript": executescript}
    return replace_weakly(client, {"cursor": cursor, **members})


@cache
def _observed_class(kind: Any) -> Any:
    """Return a subclass of a cursor class whose cursors report what they execute."""
    describe = partial(cursor_call, "sqlite")
    return subclass(kind, {name: executing(describe, getattr(kind, name)) for name in _METHODS})
