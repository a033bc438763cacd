"""``observe`` and ``agent``: timing a piece of the user's code, as a decorator or a block."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import contextmanager
from contextvars import Token
from time import perf_counter
from typing import Any, TypeVar

from .context import current_block, current_record, reset
from .observation import Block, Kind, Observation, Run, outcome_of_exception
from .recorder import Recorder
from .utils.ids import new_ids

F = TypeVar("F", bound=Callable[..., Any])


class Span:
    """Time a piece of code under a name: as a ``with`` block, or as a decorator of def, async def and generators of
    both kinds.

    What happens inside is its child: a kept request shows it as a tree, and LLM calls belong to the nearest agent.
    Outcomes: ``ok``, ``error``, ``cancelled``, and for generators ``closed_early``. A generator is timed from its
    first step to its end, and is no parent: its caller's code runs in between. One block object is for one block at a
    time; a decorator is for any number of calls.
    """

    def __init__(
        self, recorder_of: Callable[[], Recorder], name: str, attributes: dict[str, Any], kind: Kind = "span"
    ) -> None:
        self._recorder_of = recorder_of
        self._name = name
        self._attributes = attributes
        self._kind = kind
        self._started = 0.0
        self._block: Block | None = None
        self._token: Token[Block | None] | None = None

    def __enter__(self) -> None:
        self._block = self._open()
        self._token = current_block.set(self._block)
        self._started = perf_counter()
        self._report_start(self._block)

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if self._token is not None:
            reset(current_block, self._token)
        self._report(self._started, error, self._block)

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
            with self._timed():
                return (yield from function(*args, **kwargs))

        return observed

    def _wrap_async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def observed(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            with self._timed():
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
        return Span(self._recorder_of, self._name, self._attributes, self._kind)

    def _open(self) -> Block:
        parent = current_block.get()
        if self._kind == "agent":
            return Block(self._name, parent, self._name, Run(new_ids()[1]))
        return Block(self._name, parent, parent.agent if parent is not None else "")

    @contextmanager
    def _timed(self) -> Generator[None, None, None]:
        started, error = perf_counter(), None
        opened = self._open() if self._kind == "agent" else None
        if opened is not None:
            self._report_start(opened)
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._report(started, error, opened)

    def _report_start(self, opened: Block) -> None:
        if opened.run is not None:
            start = Observation("agent_start", self._name, "", 0.0, current_record.get(), None, self._attributes)
            start.opened, start.block = opened, opened.parent
            self._recorder_of().record(start)

    def _report(self, started: float, error: BaseException | None, opened: Block | None) -> None:
        observation = Observation(
            self._kind,
            self._name,
            "ok" if error is None else outcome_of_exception(error),
            perf_counter() - started,
            current_record.get(),
            error if isinstance(error, Exception) else None,
            self._attributes,
        )
        observation.started = started
        observation.opened = opened
        observation.block = opened.parent if opened is not None else current_block.get()
        self._recorder_of().record(observation)
