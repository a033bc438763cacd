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
from typing import Any, Final, NamedTuple

from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from monitoring.calls import DatabaseCall
from monitoring.integrations.attachment import Detach, Link, replace_attributes, report
from monitoring.monitor import current
from monitoring.recorder import Recorder

_OWN: Final = frozenset(
    (
        *("hello", "ismaster", "saslstart", "saslcontinue", "authenticate", "getnonce", "endsessions"),
        *("getmore", "killcursors", "committransaction", "aborttransaction"),
    )
)
"""Commands that the driver sends unasked, or that go on with another or end a transaction."""

_OF_A_COLLECTION: Final = frozenset(
    (
        *("find", "insert", "update", "delete", "aggregate", "count", "distinct", "findAndModify", "mapReduce"),
        *("create", "drop", "createIndexes", "dropIndexes", "listIndexes", "collMod", "renameCollection"),
    )
)
"""Commands whose value is a collection's name; that of others may be a user's."""

_NAME: Final = re.compile(r"[A-Za-z]{1,40}")
_COLLECTION_LENGTH: Final = 100


class _Started(NamedTuple):
    request_id: int
    at: float
    operation: str
    name: str


_started: ContextVar[_Started | None] = ContextVar("monitoring_mongodb_command", default=None)
"""The command that the running thread or task waits for: PyMongo tells its end in the same context."""


def carrier(client: Any) -> Any:
    """Return the object that holds the client's listeners. It is the client's own."""
    return client._event_listeners


def attach(client: Any, link: Link) -> Detach:
    """Add a listener to the client's."""
    listeners = client._event_listeners
    if listeners is None:
        raise TypeError(
            "wrap() got a MongoDB client that has not looked up its servers yet; wrap it when it has connected, or make "
            f"it with event_listeners=[{__name__}.Listener()]."
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
        operation = event.command_name
        if operation.lower() not in _OWN and self._link.recorder() is not None:
            _started.set(_Started(event.request_id, perf_counter(), *_named(operation, event.command)))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Report a command that was answered."""
        self._ended(event, event.reply, None)

    def failed(self, event: CommandFailedEvent) -> None:
        """Report a command that failed, or whose caller was cancelled."""
        self._ended(event, {}, sys.exc_info()[1])

    def _ended(
        self, event: CommandSucceededEvent | CommandFailedEvent, reply: Any, error: BaseException | None
    ) -> None:
        begun, recorder = _started.get(), self._link.recorder()
        if begun is None or begun.request_id != event.request_id or recorder is None:
            return
        _started.set(None)
        report(recorder, _call, begun, reply, error, isinstance(event, CommandFailedEvent))


def _call(begun: _Started, reply: Any, error: BaseException | None, has_failed: bool) -> DatabaseCall:
    call = DatabaseCall(begun.at, error, "error" if has_failed and error is None else "")
    call.system = "mongodb"
    call.operation = begun.operation
    call.name = call.statement = begun.name
    rows = reply.get("n")
    if rows.__class__ is int:
        call.rows = rows
    return call


def _named(operation: str, command: Any) -> tuple[str, str]:
    """Return the command's name, and that with its collection."""
    if not _NAME.fullmatch(operation):
        return "OTHER", "OTHER"
    collection = command.get(operation) if operation in _OF_A_COLLECTION else None
    if isinstance(collection, str) and len(collection) <= _COLLECTION_LENGTH:
        return operation, f"{operation} {collection}"
    return operation, operation


def _current_recorder() -> Recorder:
    return current().recorder
