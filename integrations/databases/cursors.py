"""What the adapters of database drivers share: cursors that report what they execute, and methods without a cycle.

A driver's cursors cannot carry attributes where they have slots or are C objects, and a proxy would fail the checks of
the driver's own C code. So a wrapped connection makes cursors of a subclass, one per class, of the same name, that
looks for the mark of its connection at each call: without one it does what its base does.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from time import perf_counter
from types import TracebackType
from typing import Any, Final

from monitoring.calls import DatabaseCall
from monitoring.integrations.attachment import Link, report
from monitoring.integrations.marks import mark_of
from monitoring.recorder import NullRecorder

from .statements import describe

_UNWRAPPED: Final = Link(NullRecorder)
_UNWRAPPED.cut()

_UNKNOWN_ROWS: Final = 2**64 - 1
"""What MySQL says before it has sent the rows."""


def link_of(cursor: Any) -> Link:
    """Return the link of a cursor's connection; one that leads nowhere where that is not wrapped."""
    mark = mark_of(cursor.connection)
    return mark[0] if mark is not None else _UNWRAPPED


def subclass(kind: Any, members: Mapping[str, object], *slots: str) -> Any:
    """Return a class that is like ``kind`` but for these members and slots."""
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return type(kind)(kind.__name__, (kind,), {"__slots__": slots, **names, **members})


def text_of(statement: object) -> str:
    """Return the text of what was given as a statement, "" for what is none: the driver has refused it."""
    if isinstance(statement, str):
        return statement
    return bytes(statement).decode("utf-8", "replace") if isinstance(statement, bytes | bytearray) else ""


def statement_call(system: str, statement: object, started: float, error: BaseException | None) -> DatabaseCall:
    """Return the observation of one statement that has ended."""
    call = DatabaseCall(started, error)
    call.system = system
    call.name, call.operation, call.statement = describe(text_of(statement))
    return call


def cursor_call(
    system: str, cursor: Any, statement: object, _: object, started: float, __: object, error: BaseException | None
) -> DatabaseCall:
    """Return the observation of what a cursor of DB-API 2 has executed, with its ``rowcount``."""
    call = statement_call(system, statement, started, error)
    if error is None:
        rows = cursor.rowcount
        if rows.__class__ is int and 0 <= rows < _UNKNOWN_ROWS:
            call.rows = rows
    return call


class timed:  # noqa: N801  (reads as a verb)
    """Report a call that lasts as long as a block. ``describe`` gets what ``observing`` gives it, without a result."""

    __slots__ = ("_describe", "_link", "_recorder", "_started")

    def __init__(self, link: Link, describe: Callable[..., DatabaseCall]) -> None:
        self._link = link
        self._describe = describe

    def __enter__(self) -> None:
        self._recorder = self._link.recorder()
        self._started = perf_counter()

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        if self._recorder is not None:
            report(self._recorder, self._describe, (), self._started, None, error)


def method_of(target: Any, name: str) -> Callable[..., Any]:
    """Return a method that does not hold its object: an attribute that does would keep it from closing when dropped."""
    if name in vars(target):
        replaced: Callable[..., Any] = vars(target)[name]
        return replaced
    reference, function = weakref.ref(target), getattr(type(target), name)
    return lambda *args, **kwargs: function(reference(), *args, **kwargs)
