"""``operation``, ``track`` and ``feature``: what the app does for its users, in the app's own words."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from contextvars import Token
from time import perf_counter
from typing import Any, Final, TypeVar

from .context import current_block, current_record, present_block, reset
from .observation import Block, Observation
from .recorder import Recorder
from .utils.ids import new_ids
from .utils.plain import safe_str

F = TypeVar("F", bound=Callable[..., Any])

RecorderOf = Callable[[], Recorder]

_LENGTH: Final = 200
"""Characters kept of a user, a reason or a dimension's value."""


class Operation:
    """A business operation with one outcome: ``ok``, ``failed`` (an exception, or ``fail``) or ``abandoned``
    (cancelled, or not over by its deadline; without ``deadline_seconds`` that is an hour).

    A ``with`` block, or a decorator of def and async def. ``id`` is unique per operation; give one to find it again.
    What happens inside is its child in a kept request. Raise ValueError for a deadline of 0 or less, TypeError where a
    generator is decorated.
    """

    def __init__(
        self,
        recorder_of: RecorderOf,
        name: str,
        *,
        user: object = None,
        id: str | None = None,
        deadline_seconds: float | None = None,
        dimensions: dict[str, Any],
    ) -> None:
        if deadline_seconds is not None and not deadline_seconds > 0:
            raise ValueError(f"deadline_seconds of operation {name!r} must be more than 0, got {deadline_seconds!r}.")
        self.name = name
        self.id = id or new_ids()[0]
        self._recorder_of = recorder_of
        self._user = user
        self._given_id = id
        self._deadline_seconds = deadline_seconds
        self._dimensions = dimensions
        self._reason: str | None = None
        self._started = 0.0
        self._block: Block | None = None
        self._token: Token[Block | None] | None = None

    def fail(self, reason: str) -> None:
        """Let the operation end as failed, for a reason that is one of few: it is counted by it."""
        self._reason = safe_str(reason, _LENGTH)

    def __enter__(self) -> Operation:
        parent = present_block()
        self._block = Block(self.name, parent, feature=self.name)
        self._token = current_block.set(self._block)
        self._started = perf_counter()
        self._report("", "", self._block.parent, None)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if self._token is not None:
            reset(current_block, self._token)
        if self._deadline_seconds is not None and perf_counter() - self._started > self._deadline_seconds:
            outcome, reason = "abandoned", "deadline"
        elif error is None:
            outcome, reason = ("ok", "") if self._reason is None else ("failed", self._reason)
        elif isinstance(error, Exception):
            outcome, reason = "failed", self._reason or type(error).__name__
        else:
            outcome, reason = "abandoned", type(error).__name__
        self._report(outcome, reason, self._block.parent if self._block else None, self._block)

    def __call__(self, function: F) -> F:
        """Return ``function`` with each of its calls as an operation of its own."""
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"operation({self.name!r}) decorates def and async def, and {function.__name__} is a generator, "
                "which is over before it begins; put a with block inside of it."
            )
        if inspect.iscoroutinefunction(function):

            async def operating_async(*args: Any, **kwargs: Any) -> Any:
                with self._fresh():
                    answer: Awaitable[Any] = function(*args, **kwargs)
                    return await answer

            return functools.wraps(function)(operating_async)  # type: ignore[return-value]

        def operating(*args: Any, **kwargs: Any) -> Any:
            with self._fresh():
                return function(*args, **kwargs)

        return functools.wraps(function)(operating)  # type: ignore[return-value]

    def _fresh(self) -> Operation:
        return Operation(
            self._recorder_of,
            self.name,
            user=self._user,
            id=self._given_id,
            deadline_seconds=self._deadline_seconds,
            dimensions=self._dimensions,
        )

    def _report(self, outcome: str, reason: str, parent: Block | None, opened: Block | None) -> None:
        record = current_record.get()
        attributes = {
            "id": self.id,
            "user": _user(self._user),
            "reason": reason,
            "deadline_seconds": self._deadline_seconds,
            "dimensions": _plain(self._dimensions),
        }
        duration = perf_counter() - self._started
        observation = Observation("operation", self.name, outcome, duration, record, None, attributes)
        observation.started = self._started
        observation.block, observation.opened = parent, opened
        self._recorder_of().record(observation)


def report_event(recorder: Recorder, name: str, user: object, value: float | None, dimensions: dict[str, Any]) -> None:
    """Report a usage event."""
    attributes = {"user": _user(user), "value": _number(value), "dimensions": _plain(dimensions)}
    recorder.record(Observation("event", name, "ok", 0.0, current_record.get(), None, attributes))


def feature_decorator(recorder_of: RecorderOf, name: str) -> Callable[[F], F]:
    """Return a decorator that counts each call of a def or async def as a use of the feature ``name``."""

    def use() -> Token[Block | None]:
        attributes = {"user": _user(None), "feature": True}
        recorder_of().record(Observation("event", name, "ok", 0.0, current_record.get(), None, attributes))
        return current_block.set(Block(name, present_block(), feature=name))

    def decorate(function: F) -> F:
        if inspect.iscoroutinefunction(function):

            async def used_async(*args: Any, **kwargs: Any) -> Any:
                token = use()
                try:
                    return await function(*args, **kwargs)
                finally:
                    reset(current_block, token)

            return functools.wraps(function)(used_async)  # type: ignore[return-value]

        def used(*args: Any, **kwargs: Any) -> Any:
            token = use()
            try:
                return function(*args, **kwargs)
            finally:
                reset(current_block, token)

        return functools.wraps(function)(used)  # type: ignore[return-value]

    return decorate


def _user(given: object) -> str:
    """Return whose deed it is: the given user's, or that of the running request."""
    if given is not None:
        return safe_str(given, _LENGTH)
    record = current_record.get()
    return record.user_id if record is not None else ""


def _plain(dimensions: dict[str, Any]) -> dict[str, str]:
    return {name: safe_str(value, _LENGTH) for name, value in dimensions.items() if value is not None}


def _number(value: Any) -> float | None:
    """Return a value as the store takes it; None for what is no number."""
    try:
        return None if value is None else float(value)
    except Exception:
        return None
