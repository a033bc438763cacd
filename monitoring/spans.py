"""``observe``: timing a piece of the user's code, as a decorator or a block."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from time import perf_counter
from typing import Any, TypeVar

from .context import current_record
from .observation import Observation
from .recorder import Recorder

F = TypeVar("F", bound=Callable[..., Any])


class Span:
    """Time a piece of code under a name: as a ``with`` block, or as a decorator of def, async def and generators of
    both kinds.

    Outcomes: ``ok``, ``error``, ``cancelled``, and for generators ``closed_early``. A generator is timed from its
    first step to its end. One block object is for one block at a time; a decorator is for any number of calls.
    """

    def __init__(self, recorder_of: Callable[[], Recorder], name: str, attributes: dict[str, Any]) -> None:
        self._recorder_of = recorder_of
        self._name = name
        self._attributes = attributes
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = perf_counter()

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._report(self._started, error)

    def __call__(self, function: F) -> F:
        """Return ``function`` with each of its calls timed."""
        for is_kind, wrap in (
            (inspect.isasyncgenfunction, self._wrap_async_generator),
            (inspect.iscoroutinefunction, self._wrap_coroutine),
            (inspect.isgeneratorfunction, self._wrap_generator),
        ):
            if is_kind(function):
                return functools.wraps(function)(wrap(function))  # type: ignore[return-value]
        return functools.wraps(function)(self._wrap_function(function))  # type: ignore[return-value]

    def _wrap_function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def observed(*args: Any, **kwargs: Any) -> Any:
            with self._fresh():
                return function(*args, **kwargs)

        return observed

    def _wrap_coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def observed(*args: Any, **kwargs: Any) -> Any:
            with self._fresh():
                return await function(*args, **kwargs)

        return observed

    def _wrap_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def observed(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            with self._fresh():
                return (yield from function(*args, **kwargs))

        return observed

    def _wrap_async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def observed(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            with self._fresh():
                steps = function(*args, **kwargs)
                try:
                    value = await anext(steps)
                    while True:
                        try:
                            sent = yield value
                        except GeneratorExit:
                            await steps.aclose()
                            raise
                        except BaseException as thrown:
                            value = await steps.athrow(thrown)
                        else:
                            value = await steps.asend(sent)
                except StopAsyncIteration:
                    return

        return observed

    def _fresh(self) -> Span:
        return Span(self._recorder_of, self._name, self._attributes)

    def _report(self, started: float, error: BaseException | None) -> None:
        duration = perf_counter() - started
        failed = error if isinstance(error, Exception) else None
        self._recorder_of().record(
            Observation("span", self._name, _outcome(error), duration, current_record.get(), failed, self._attributes)
        )


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "ok"
    if isinstance(error, GeneratorExit):
        return "closed_early"
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "error"
