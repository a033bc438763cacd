"""What the adapters of database drivers share: cursors that report what they execute, and methods without a cycle.

A driver's cursors cannot carry attributes where they have slots or are C objects, and a proxy would fail the checks of
the driver's own C code. So a wrapped connection makes cursors of a subclass, one per class, of the same name, that
looks for the mark of its connection at each call: without one it does what its base does.
"""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from time import perf_counter
from types import TracebackType
from typing import Any, Final, TypeVar

from monitoring.calls import DatabaseCall
from monitoring.integrations.attachment import Link, report
from monitoring.integrations.marks import mark_of
from monitoring.recorder import NullRecorder

from .statements import describe

T = TypeVar("T")
Describe = Callable[[Any, Any, float, BaseException | None], DatabaseCall]
"""Makes the observation of what a cursor did from the cursor, the statement, its start and what it raised."""

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
    system: str, cursor: Any, statement: object, started: float, error: BaseException | None
) -> DatabaseCall:
    """Return the observation of what a cursor of DB-API 2 has executed, with its ``rowcount``."""
    call = statement_call(system, statement, started, error)
    if error is None:
        rows = cursor.rowcount
        if rows.__class__ is int and 0 <= rows < _UNKNOWN_ROWS:
            call.rows = rows
    return call


def executing(describe: Describe, method: Callable[..., T]) -> Callable[..., T]:
    """Return a cursor's method with each call reported as it ended, as ``observing`` does with a client's function.

    It is made once for a class, and not for each call, which would cost as much again.
    """

    def execute(self: Any, query: Any, *args: Any, **kwargs: Any) -> T:
        recorder = link_of(self).recorder()
        if recorder is None:
            return method(self, query, *args, **kwargs)
        started = perf_counter()
        try:
            result = method(self, query, *args, **kwargs)
        except BaseException as error:
            report(recorder, describe, self, query, started, error)
            raise
        report(recorder, describe, self, query, started, None)
        return result

    return execute


def executing_async(describe: Describe, method: Callable[..., Awaitable[T]]) -> Callable[..., Coroutine[Any, Any, T]]:
    """Do the same with a method that is awaited."""

    async def execute(self: Any, query: Any, *args: Any, **kwargs: Any) -> T:
        recorder = link_of(self).recorder()
        if recorder is None:
            return await method(self, query, *args, **kwargs)
        started = perf_counter()
        try:
            result = await method(self, query, *args, **kwargs)
        except BaseException as error:
            report(recorder, describe, self, query, started, error)
            raise
        report(recorder, describe, self, query, started, None)
        return result

    return execute


class timed:  # noqa: N801  (reads as a verb)
    """Report a call that lasts as long as a block."""

    __slots__ = ("_describe", "_facts", "_recorder", "_started")

    def __init__(self, describe: Describe, cursor: Any, statement: Any) -> None:
        self._describe = describe
        self._facts = (cursor, statement)

    def __enter__(self) -> None:
        self._recorder = link_of(self._facts[0]).recorder()
        self._started = perf_counter()

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        if self._recorder is not None:
            report(self._recorder, self._describe, *self._facts, self._started, error)


def method_of(target: Any, name: str) -> Callable[..., Any]:
    """Return a method that does not hold its object: an attribute that does would keep it from closing when dropped."""
    if name in vars(target):
        replaced: Callable[..., Any] = vars(target)[name]
        return replaced
    reference, function = weakref.ref(target), getattr(type(target), name)
    return lambda *args, **kwargs: function(reference(), *args, **kwargs)
