"""Decorating a function of any kind, so that each of its calls is a piece of work: entered, left, and for generators
paused between the steps, where the caller's code runs.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from types import CoroutineType
from typing import Any, Final, Protocol, TypeVar, cast

F = TypeVar("F")

Function = Callable[..., Any]


class Piece(AbstractContextManager[object], Protocol):
    """One call of a function. The steps of a generator, and its end, may run in different contexts and threads."""

    def pause(self) -> None:
        """Leave what only the function's own code may see: it is a generator and has yielded."""
        ...

    def resume(self) -> None:
        """Enter that again: the generator's next step is asked for."""
        ...


Begin = Callable[[tuple[Any, ...], dict[str, Any], bool], Piece | None]
"""Takes a call's arguments and whether it is a generator's, and returns the piece of work that the call is; None to let
it pass.
"""


def decorated(function: F, begin: Begin, by: str) -> F:
    """Return ``function`` with each call a piece of work, and the same name, signature and kind.

    Takes def, async def, generators and async generators, methods, ``functools.partial``, objects that can be called,
    and what ``classmethod`` and ``staticmethod`` return. ``by`` is the decorator's name. Raise TypeError for anything
    else; warn of a place above ``@contextmanager``.
    """
    if isinstance(function, (classmethod, staticmethod)):
        return cast(F, type(function)(decorated(function.__func__, begin, by)))
    if inspect.isclass(function) or not callable(function):
        raise TypeError(
            f"{by} decorates functions and methods, got {function!r}; put it on a def, and under @property."
        )
    _warn_above_contextmanager(function, by)
    code = _code_of(function)
    if inspect.isasyncgenfunction(code):
        wrapper: Function = _around_async_generator(function, begin)
    elif inspect.isgeneratorfunction(code):
        wrapper = _around_generator(function, begin)
    elif inspect.iscoroutinefunction(code):
        wrapper = _around_coroutine(function, begin)
    else:
        wrapper = _around_function(function, begin)
    return cast(F, functools.wraps(function)(wrapper))


def plain_function(function: Any) -> Any:
    """Return the function that a decorator is given in the form of a partial, classmethod or staticmethod."""
    while isinstance(function, (functools.partial, classmethod, staticmethod)):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    return function


def _code_of(function: Function) -> Function:
    """Return what says of which kind a call is: an object's is that of its ``__call__``."""
    plain = plain_function(function)
    return plain if inspect.isroutine(plain) else type(plain).__call__


def _around_function(function: Function, begin: Begin) -> Function:
    def called(*args: Any, **kwargs: Any) -> Any:
        piece = begin(args, kwargs, False)
        if piece is None:
            return function(*args, **kwargs)
        piece.__enter__()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            piece.__exit__(type(error), error, error.__traceback__)
            raise
        if result.__class__ is CoroutineType:
            piece.pause()
            return _awaited(result, piece)
        piece.__exit__(None, None, None)
        return result

    return called


async def _awaited(coroutine: Any, piece: Piece) -> Any:
    """Await what a plain function has returned, such as another decorator's around async def: the call ends then."""
    piece.resume()
    try:
        result = await coroutine
    except BaseException as error:
        piece.__exit__(type(error), error, error.__traceback__)
        raise
    piece.__exit__(None, None, None)
    return result


def _around_coroutine(function: Function, begin: Begin) -> Function:
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        piece = begin(args, kwargs, False)
        if piece is None:
            return await function(*args, **kwargs)
        with piece:
            return await function(*args, **kwargs)

    return awaited


def _around_generator(function: Function, begin: Begin) -> Function:
    def stepped(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        piece = begin(args, kwargs, True)
        if piece is None:
            return (yield from function(*args, **kwargs))
        with piece:
            return (yield from _pausing(function(*args, **kwargs), piece))

    return stepped


def _pausing(steps: Generator[Any, Any, Any], piece: Piece) -> Generator[Any, Any, Any]:
    """Do what ``yield from`` does, and pause at each yield.

    What is thrown in is passed on outside of ``except``: the generator would see it as being handled.
    """
    step, given = steps.send, None
    while True:
        try:
            value = step(given)
        except StopIteration as end:
            return end.value
        finally:
            given = None  # an exception would hold this frame, and this frame the exception
        piece.pause()
        try:
            given = yield value
            step = steps.send
        except BaseException as thrown:
            given, step = thrown, cast(Any, steps.throw)
        piece.resume()


def _around_async_generator(function: Function, begin: Begin) -> Function:
    async def stepped(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        piece = begin(args, kwargs, True) or _Nothing()
        with piece:
            steps = function(*args, **kwargs)
            step, given = steps.asend, None
            while True:
                try:
                    value = await step(given)
                except StopAsyncIteration:
                    return
                finally:
                    given = None
                piece.pause()
                try:
                    given = yield value
                    step = steps.asend
                except BaseException as thrown:
                    given, step = thrown, steps.athrow
                piece.resume()

    return stepped


class _Nothing:
    """The piece of work that is none."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


def _warn_above_contextmanager(function: Function, by: str) -> None:
    if getattr(function, "__code__", None) not in _MANAGER_CODES:
        return
    inner = inspect.unwrap(function)
    warnings.warn_explicit(
        f"{by} stands above @contextmanager on {function.__qualname__}, so it sees how the context manager is made and "
        f"not the block; put {by} below @contextmanager.",
        RuntimeWarning,
        inner.__code__.co_filename,
        inner.__code__.co_firstlineno,
    )


_MANAGER_CODES: Final = frozenset(
    made.__code__ for made in (contextmanager(lambda: iter(())), asynccontextmanager(cast(Any, lambda: None)))
)
"""The code of the functions that ``@contextmanager`` and its async twin return."""
