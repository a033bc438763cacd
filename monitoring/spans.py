"""``observe`` and ``agent``: timing a piece of the user's code, as a decorator or a block."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Token
from time import perf_counter
from typing import Any, TypeVar

from .context import current_block, current_record, present_block, reset
from .observation import Block, Kind, Observation, Run, outcome_of_exception
from .recorder import Recorder
from .utils.ids import new_ids
from .utils.wrapping import decorated

F = TypeVar("F", bound=Callable[..., Any])


class Span:
    """Time a piece of code under a name: as a ``with`` block, or as a decorator of def, async def and generators of
    both kinds.

    What happens inside is its child: a kept request shows it as a tree, and LLM calls belong to the nearest agent.
    Outcomes: ``ok``, ``error``, ``cancelled``, and for generators ``closed_early``. A generator is timed from its
    first step to its end; what its caller's code does between the steps is not its child. One block object is for one
    block at a time; a decorator is for any number of calls. Raise TypeError where a class is decorated.
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
        self._block = block = self._open()
        self._token = current_block.set(block)
        self._started = perf_counter()
        if block.run is not None:
            self._report_start(block)

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self.pause()
        self._report(error)

    def pause(self) -> None:
        """Leave the block for now: a generator has yielded."""
        if self._token is not None:
            reset(current_block, self._token)

    def leave(self, error: BaseException | None) -> None:
        """End the block in another context than it began in: there and in copies it is one no more."""
        if self._block is not None:
            self._block.is_over = True
        self.__exit__(None, error, None)

    def resume(self) -> None:
        """Be in the block again."""
        self._token = current_block.set(self._block)

    def __call__(self, function: F) -> F:
        """Return ``function`` with each of its calls timed."""
        return decorated(
            function, lambda args, kwargs, in_steps: self._fresh(), "agent" if self._kind == "agent" else "observe"
        )

    def _fresh(self) -> Span:
        return Span(self._recorder_of, self._name, self._attributes, self._kind)

    def _open(self) -> Block:
        parent = present_block()
        if self._kind == "agent":
            around = next(parent.runs(), None) if parent is not None else None
            run = Run(new_ids()[1], around.root if around is not None else "")
            return Block(self._name, parent, agent=self._name, run=run)
        return Block(self._name, parent)

    def _report_start(self, block: Block) -> None:
        start = Observation("agent_start", self._name, "", 0.0, current_record.get(), None, self._attributes)
        start.opened, start.block = block, block.parent
        self._recorder_of().record(start)

    def _report(self, error: BaseException | None) -> None:
        observation = Observation(
            self._kind,
            self._name,
            "ok" if error is None else outcome_of_exception(error),
            perf_counter() - self._started,
            current_record.get(),
            error if isinstance(error, Exception) else None,
            self._attributes,
        )
        observation.started = self._started
        observation.opened = self._block
        observation.block = self._block.parent if self._block is not None else None
        self._recorder_of().record(observation)
