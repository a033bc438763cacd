"""Lines and context for the app's own code: ``log_call``, ``log_context``, ``log_duration`` and ``log_request``.

Each decorates def, async def, generators and async generators, methods, ``functools.partial``, and stands above or
below ``classmethod`` and ``staticmethod``. All but ``log_call`` are ``with`` and ``async with`` blocks, too. One object
serves any number of blocks and calls at a time, in any tasks and threads. Between the steps of a decorated generator
its caller's code runs, and sees none of its context. Before ``configure`` nothing is written.

Outcomes: ``ok``, ``error``, ``cancelled``, and for generators ``closed_early``. An exit with status 0 is ``ok``, one by
Ctrl-C is ``cancelled``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar, copy_context
from functools import partial
from inspect import Parameter, signature
from time import perf_counter
from typing import Any, Final, TypeVar, overload

from monitoring.config import Level
from monitoring.context import bind, current_record, reset
from monitoring.logs.levels import LEVELS
from monitoring.logs.lines import LogLines
from monitoring.middleware.edge import attach
from monitoring.monitor import current
from monitoring.observation import JobRecord, outcome_of_exception

from .ids import clipped, is_request_id, new_ids_at
from .plain import safe_str
from .wrapping import Piece, decorated, plain_function

F = TypeVar("F", bound=Callable[..., Any])

_OWN_FIELDS: Final = frozenset({"duration_ms", "outcome", "error_type", "exception"})
"""Fields of a line that the caller does not set; one of the same name comes out as ``field_<name>``."""
_NAME_LENGTH: Final = 200
"""Characters kept of a job's name and user."""


class _Block:
    """A ``with`` block, an ``async with`` block and a decorator in one object."""

    def __init__(self, begin: Callable[[bool], Piece]) -> None:
        self._begin = begin
        self._open: list[Piece] = []

    def __enter__(self) -> None:
        piece = self._begin(False)
        piece.__enter__()
        self._open.append(piece)
        _begun.set((*_begun.get(), (self, piece)))

    def __exit__(self, *raised: Any) -> None:
        """End the block that began last in this context, from between those that began after it."""
        begun = _begun.get()
        for place in range(len(begun) - 1, -1, -1):
            owner, piece = begun[place]
            if owner is self and piece in self._open:
                later = begun[place + 1 :]
                _begun.set(begun[:place] + later)
                self._open.remove(piece)
                return _end_below(piece, later, raised)
        # A framework may end a block in another context than it began in: there, it is the last of all.
        self._open.pop().__exit__(*raised)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, *raised: Any) -> None:
        self.__exit__(*raised)

    def __call__(self, function: F) -> F:
        """Return ``function`` with each of its calls such a block."""
        return decorated(function, lambda _, __, in_steps: self._begin(in_steps), type(self).__name__)


_Begun = tuple[tuple[_Block, Piece], ...]

_begun: ContextVar[_Begun] = ContextVar("monitoring_begun", default=())
"""The blocks that began in this context and have not ended in it."""


def _end_below(piece: Piece, later: _Begun, raised: Any) -> None:
    """End a block while others that began after it go on: generators with blocks end in any order."""
    going_on = [other for owner, other in later if other in owner._open]
    for other in reversed(going_on):
        other.pause()
    piece.__exit__(*raised)
    for other in going_on:
        other.resume()


class log_context(_Block):  # noqa: N801  (reads as a verb, like ``bind``)
    """Put fields on every log line of a block, or of each call of a function. Blocks nest, and the inner one's value
    wins.
    """

    def __init__(self, **fields: Any) -> None:
        super().__init__(lambda _: _Fields(**fields))


class log_duration(_Block):  # noqa: N801
    """Write one line when a block, or each call of a function, has ended: ``event`` with the fields, ``duration_ms``,
    ``outcome`` and ``error_type``.

    With ``slow_seconds`` only if it took at least so long or failed. The line of a failure has the level error, and the
    stack unless a line before has it. The logger is the module that the helper is used in. While its level is above
    ``level`` nothing is written. Raise ValueError for a level or a time that does not exist.
    """

    def __init__(self, event: str, *, level: Level = "info", slow_seconds: float | None = None, **fields: Any) -> None:
        logger = str(sys._getframe(1).f_globals.get("__name__", "app"))
        shape = _Shape("log_duration", event, logger, level, slow_seconds)
        own = _without_clash(fields)
        super().__init__(lambda in_steps: _Timed(shape, shape.lines(), lambda: own, in_steps))


class log_request(_Block):  # noqa: N801
    """Make a block, or each call of a function, a job: what a request is in the middleware, for code outside of one,
    such as a script, a consumer or a command.

    Its lines carry a request ID and the fields; what wrapped clients do in it is summed up; at its end there is one
    line, event ``job``, with ``route`` (the name), ``outcome``, ``duration_ms``, these sums and ``error_group``. A
    failure reaches the error tracker once. A job is no request in the HTTP metrics.

    ``request_id`` is one to go on with, such as that of a message; one that cannot be used is replaced, and kept as
    ``client_request_id``. Without it a job inside of a request, or of another job, has that one's.
    """

    def __init__(self, name: str, *, user: object = None, request_id: str | None = None, **fields: Any) -> None:
        super().__init__(lambda _: _Job(name, user, request_id, fields))


@overload
def log_call(function: F, /) -> F: ...


@overload
def log_call(
    *,
    level: Level = "info",
    args: Iterable[str] = (),
    slow_seconds: float | None = None,
    entry: bool = False,
    logger: str | None = None,
    event: str | None = None,
) -> Callable[[F], F]: ...


def log_call(
    function: Any = None,
    *,
    level: Level = "info",
    args: Iterable[str] = (),
    slow_seconds: float | None = None,
    entry: bool = False,
    logger: str | None = None,
    event: str | None = None,
) -> Any:
    """Write one line when a call of the decorated function has ended: its qualified name, ``duration_ms``,
    ``outcome`` and ``error_type``.

    ``args`` are the names of the arguments that are on the line, as they are at the end; no other is looked at. With
    ``slow_seconds`` there is a line only if the call took at least so long or failed. The line of a failure has the
    level error, and the stack unless a line before has it. ``entry`` adds a line of level debug at the start, with the
    outcome ``started``. A generator is timed from its first step to its end. ``logger`` is by default the function's
    module; while its level is above ``level``, nothing of this happens.

    Raise ValueError for a level, a time or an argument that does not exist, TypeError for what is no function.
    """

    def decorate(function: F) -> F:
        plain = plain_function(function)
        module = logger or getattr(plain, "__module__", None) or "app"
        shape = _Shape("log_call", event or _name(plain), module, level, slow_seconds)
        at_entry = _Shape("log_call", shape.event, module, "debug", None) if entry else None
        return decorated(function, _Call(shape, _picks(function, args), at_entry).begin, "log_call")

    return decorate if function is None else decorate(function)


class _Fields(bind):
    """Fields on every line of a piece of work."""

    __slots__ = ()

    def pause(self) -> None:
        self.__exit__()

    def resume(self) -> None:
        self.__enter__()


class _Shape:
    """What all lines of one use of a helper have in common."""

    def __init__(self, helper: str, event: str, logger: str, level: Level, slow_seconds: float | None) -> None:
        if level not in LEVELS:
            raise ValueError(f"level of {helper} must be one of {', '.join(LEVELS)}, got {level!r}.")
        if slow_seconds is not None and not slow_seconds >= 0:
            raise ValueError(f"slow_seconds of {helper} must be 0 or more, or None, got {slow_seconds!r}.")
        self.event = event
        self.logger = logger
        self.level = level
        self.number = LEVELS[level]
        self.slow_seconds = slow_seconds or 0.0

    def lines(self) -> LogLines | None:
        """Return where the lines go, None while their level is off."""
        lines: LogLines | None = getattr(current(), "log_lines", None)  # there is none before ``configure``
        if lines is None:
            return None
        levels = lines.levels
        return lines if self.number >= (levels.gates.get(self.logger) or levels.gate(self.logger)) else None

    def write(
        self, lines: LogLines, fields: Mapping[str, Any], seconds: float, outcome: str, error: BaseException | None
    ) -> None:
        """Write the line of what took so long and ended like this."""
        level = self.level
        told = {**fields, "duration_ms": round(seconds * 1000, 3), "outcome": outcome}
        if outcome == "error":
            told["error_type"] = type(error).__name__
            level = "critical" if level == "critical" else "error"
        lines.emit(level, self.logger, self.event, told, error if isinstance(error, Exception) else None)


class _Timed:
    """A piece of work that ends with a line, or with none where ``lines`` is None."""

    __slots__ = ("_context", "_fields", "_lines", "_shape", "_started")

    def __init__(
        self, shape: _Shape, lines: LogLines | None, fields: Callable[[], Mapping[str, Any]], in_steps: bool
    ) -> None:
        self._shape = shape
        self._lines = lines
        self._fields = fields
        self._context = copy_context() if in_steps else None
        """That of a generator's line: whoever ends it, such as the garbage collector, has another."""

    def __enter__(self) -> None:
        self._started = perf_counter()

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        seconds, outcome, shape = perf_counter() - self._started, _outcome(error), self._shape
        if self._lines is None or (seconds < shape.slow_seconds and outcome != "error"):
            return
        ended = (self._lines, self._fields(), seconds, outcome, error)
        if self._context is None:
            shape.write(*ended)
        else:
            self._context.run(shape.write, *ended)

    def pause(self) -> None: ...

    def resume(self) -> None: ...


Pick = Callable[[tuple[Any, ...], dict[str, Any]], Any]
"""Finds one argument of a call, ``Parameter.empty`` where the call has left it out."""


class _Call:
    """What ``log_call`` knows of the function that it decorates."""

    def __init__(self, shape: _Shape, picks: Mapping[str, Pick], entry: _Shape | None) -> None:
        self._shape = shape
        self._picks = picks
        self._entry = entry

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any], in_steps: bool) -> _Timed | None:
        """Return a call that begins now, None while its level is off."""
        lines = self._shape.lines()
        if lines is None:
            return None
        entry = self._entry
        if entry is not None and entry.lines() is not None:
            lines.emit("debug", entry.logger, entry.event, {**self._picked(args, kwargs), "outcome": "started"})
        fields = partial(self._picked, args, kwargs) if self._picks else dict
        return _Timed(self._shape, lines, fields, in_steps)

    def _picked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        picked = {}
        for field, pick in self._picks.items():
            value = pick(args, kwargs)
            if value is not Parameter.empty:
                picked[field] = value
        return picked


def _picks(function: Any, names: Iterable[str]) -> dict[str, Pick]:
    names = (names,) if isinstance(names, str) else tuple(names)
    if not names:
        return {}
    is_wrapped = isinstance(function, (classmethod, staticmethod))
    parameters = signature(function.__func__ if is_wrapped else function).parameters
    unknown = next((name for name in names if name not in parameters), None)
    if unknown is not None:
        raise ValueError(
            f"args of log_call name {unknown!r}, and {_name(function)} has {', '.join(parameters) or 'no arguments'}; "
            "name those."
        )
    return {_field(name): _pick(list(parameters.values()), list(parameters).index(name)) for name in names}


def _pick(parameters: Sequence[Parameter], place: int) -> Pick:
    """Return what finds the argument of one parameter without binding those of the others."""
    kind, name, default = parameters[place].kind, parameters[place].name, parameters[place].default
    if kind is Parameter.VAR_POSITIONAL:
        return lambda args, kwargs: args[place:]
    if kind is Parameter.VAR_KEYWORD:
        by_name = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
        others = frozenset(other.name for other in parameters if other.kind in by_name)
        return lambda args, kwargs: {key: value for key, value in kwargs.items() if key not in others}
    if kind is Parameter.KEYWORD_ONLY:
        return lambda args, kwargs: kwargs.get(name, default)
    if kind is Parameter.POSITIONAL_ONLY:
        return lambda args, kwargs: args[place] if place < len(args) else default
    return lambda args, kwargs: args[place] if place < len(args) else kwargs.get(name, default)


class _Job:
    """A request that no middleware serves."""

    def __init__(self, name: str, user: object, request_id: str | None, fields: Mapping[str, Any]) -> None:
        self._record = _job_record(name, user, request_id)
        self._fields = bind(**fields)

    def __enter__(self) -> None:
        self.resume()

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            _report(self._record, error)
        finally:
            self.pause()

    def pause(self) -> None:
        self._fields.__exit__()
        reset(current_record, self._token)

    def resume(self) -> None:
        self._token = current_record.set(self._record)
        self._fields.__enter__()


def _job_record(name: str, user: object, request_id: str | None) -> JobRecord:
    """Return the record of a job that begins now, with the IDs of what it is part of."""
    record, outer = JobRecord(), current_record.get()
    record.started = perf_counter()
    record.request_id, record.span_id = new_ids_at(record.started)
    record.trace_id = record.request_id
    record.method, record.path, record.route = "", "", safe_str(name, _NAME_LENGTH)
    if outer is not None:
        record.request_id, record.trace_id, record.parent_span_id = outer.request_id, outer.trace_id, outer.span_id
        record.trace_flags, record.tracestate = outer.trace_flags, outer.tracestate
        record.user_id = outer.user_id
    given = "" if request_id is None else safe_str(request_id)
    if is_request_id(given):
        record.request_id = given
    else:
        record.client_request_id = clipped(given)
    if user is not None:
        record.user_id = safe_str(user, _NAME_LENGTH)
    return record


def _report(record: JobRecord, error: BaseException | None) -> None:
    outcome = _outcome(error)
    record.outcome = "cancelled" if outcome == "closed_early" else outcome
    record.duration_seconds = perf_counter() - record.started
    record.finished = True
    if isinstance(error, Exception):
        attach(error, record)
    current().recorder.record(record)
    record.exception = None  # its frames hold the record: as a cycle both would be the garbage collector's


def _outcome(error: BaseException | None) -> str:
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return "ok"
    return "cancelled" if isinstance(error, KeyboardInterrupt) else outcome_of_exception(error)


def _without_clash(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {_field(name): value for name, value in fields.items()}


def _field(name: str) -> str:
    return f"field_{name}" if name in _OWN_FIELDS else name


def _name(function: Any) -> str:
    plain = plain_function(function)
    return str(getattr(plain, "__qualname__", type(plain).__qualname__))
