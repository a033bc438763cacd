"""pymongo clients, sync and async.

The seam is PyMongo's own: command listeners. A client takes them when it is made, and looks at its list at each
command, so a client that is there gets a list with one more. What a command says besides its name and its collection
is not looked at. Batches that a cursor fetches later belong to the command that opened it.
"""

from __future__ import annotations

import re
import sys
from contextvars import ContextVar
from time import perf_counter
from typing import Any, Final

from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from monitoring.calls import DatabaseCall
from monitoring.integrations.attachment import Detach, Link, replace_attributes, report
from monitoring.monitor import current
from monitoring.recorder import Recorder

_OWN: Final = frozenset(
    (
        *("hello", "ismaster", "isMaster", "saslStart", "saslContinue", "authenticate", "getnonce", "endSessions"),
        *("getMore", "killCursors", "commitTransaction", "abortTransaction"),
    )
)
"""Commands that the driver sends unasked, or that go on with another or end a transaction."""

_OF_A_COLLECTION: Final = frozenset(
    (
        *("find", "insert", "update", "delete", "aggregate", "count", "distinct", "findAndModify", "mapReduce"),
        *("create", "drop", "createIndexes", "dropIndexes", "listIndexes", "collMod"),
    )
)
"""Commands whose value is a collection's name; that of others may be a user's."""

_NAME: Final = re.compile(r"[A-Za-z]{1,40}")
_COLLECTION_LENGTH: Final = 100

_Started = tuple[int, float, object]
"""Request ID, time, and the collection if there is one."""

_started: ContextVar[_Started] = ContextVar("monitoring_mongodb_command", default=(-1, 0.0, None))
"""The command that the running thread or task waits for: PyMongo tells its end in the same context."""


def carrier(client: Any) -> Any:
    """Return the object that holds the client's listeners. It is the client's own."""
    return client._event_listeners


def attach(client: Any, link: Link) -> Detach:
    """Add a listener to the client's."""
    listeners = client._event_listeners
    if listeners is None:
        raise TypeError(
            "wrap() got a MongoDB client that has not looked up its servers yet; wrap it when it has connected, "
            f"or make it with event_listeners=[{__name__}.Listener()]."
        )
    former = listeners._EventListeners__command_listeners
    return replace_attributes(
        listeners,
        {
            "_EventListeners__command_listeners": [*former, Listener(link)],
            "_EventListeners__enabled_for_commands": True,
        },
    )


class Listener(CommandListener):
    """Observes the commands of the clients that are made with it: ``MongoClient(event_listeners=[Listener()])``."""

    def __init__(self, link: Link | None = None) -> None:
        self._link = link or Link(_current_recorder)

    def started(self, event: CommandStartedEvent) -> None:
        """Note when a command began."""
        name = event.command_name
        if name not in _OWN and self._link.recorder() is not None:
            collection = event.command.get(name) if name in _OF_A_COLLECTION else None
            _started.set((event.request_id, perf_counter(), collection))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Report a command that was answered."""
        self._ended(event, event.reply.get("n"), None, "ok")

    def failed(self, event: CommandFailedEvent) -> None:
        """Report a command that failed, or whose caller was cancelled."""
        error = sys.exc_info()[1]
        self._ended(event, None, error, "error" if error is None else "")

    def _ended(
        self, event: CommandSucceededEvent | CommandFailedEvent, rows: Any, error: BaseException | None, outcome: str
    ) -> None:
        request_id, started, collection = _started.get()
        recorder = self._link.recorder()
        if request_id == event.request_id and recorder is not None:
            report(recorder, _call, event.command_name, collection, started, rows, error, outcome)


def _call(
    operation: str, collection: object, started: float, rows: Any, error: BaseException | None, outcome: str
) -> DatabaseCall:
    call = DatabaseCall(started, error, outcome)
    call.system = "mongodb"
    call.operation = operation if operation in _OF_A_COLLECTION or _NAME.fullmatch(operation) else "OTHER"
    is_named = isinstance(collection, str) and len(collection) <= _COLLECTION_LENGTH
    call.name = call.statement = f"{call.operation} {collection}" if is_named else call.operation
    if rows.__class__ is int:
        call.rows = rows
    return call


def _current_recorder() -> Recorder:
    return current().recorder
