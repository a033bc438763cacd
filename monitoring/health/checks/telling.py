"""How a check tells what went wrong: in one short sentence without secrets."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from ...utils.plain import clip
from ..results import Reading

_LENGTH: Final = 160
"""Characters of a sentence; what ``clip`` and the runner add still fits into 200."""

Answer = object | Awaitable[object]


def telling(check: Callable[[], Answer]) -> Callable[[], Answer]:
    """Return a check, sync or async, that answers with a failed reading where ``check`` raises."""

    def told() -> Answer:
        try:
            answer = check()
        except Exception as error:
            return failed(error)
        return _awaited(answer) if inspect.isawaitable(answer) else answer

    return told


async def _awaited(answer: Awaitable[object]) -> object:
    try:
        return await answer
    except Exception as error:
        return failed(error)


def failed(error: Exception) -> Reading:
    """Return the reading of a check that raised."""
    return Reading("fail", sentence(error))


def sentence(error: BaseException) -> str:
    """Return the class and the first line of an exception's text, clipped; of a wrapped driver's error that one."""
    from ...utils.redaction import scrub_text  # takes long to import

    cause = getattr(error, "orig", None)
    shown = cause if isinstance(cause, BaseException) else error
    try:
        lines = str(shown).strip().splitlines()
    except Exception:
        lines = []
    kind = type(shown).__name__
    return clip(scrub_text(f"{kind}: {lines[0].strip()}" if lines else kind), _LENGTH)


def awaitable_of(function: Callable[[], Answer], judge: Callable[[object], Reading | None]) -> Answer:
    """Call a function that is sync or async, and return what ``judge`` says of its answer, the same way."""
    answer = function()
    return _judged(answer, judge) if inspect.isawaitable(answer) else judge(answer)


async def _judged(answer: Awaitable[object], judge: Callable[[object], Reading | None]) -> object:
    return judge(await answer)


def passing(_: object) -> None:
    """Judge that any answer will do."""


answered: Final = partial(awaitable_of, judge=passing)
