"""Background tasks of Starlette and FastAPI. The seam: ``BackgroundTask.__call__``, of the class.

An app makes one object per task, so there is none to wrap beforehand; requests without a background task are not met.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any, Final

from monitoring.integrations.attachment import Link
from monitoring.monitor import current

from .runs import Work, begin, end, ending_of

_SYSTEM: Final = "starlette"
_QUEUE: Final = "background"


def observe_background_tasks() -> None:
    """Have each background task of this process told as a task. Again is once."""
    kind = import_module("starlette.background").BackgroundTask
    call = kind.__call__
    if hasattr(call, "__wrapped__"):
        return
    link = Link(lambda: current().recorder)

    async def observed_call(self: Any) -> None:
        run = begin(link, _work, self)
        if run is None:
            return await call(self)  # type: ignore[no-any-return]
        try:
            await call(self)
        except BaseException as error:
            end(run, ending_of, error)
            raise
        end(run, ending_of, None)

    observed_call.__wrapped__ = call  # type: ignore[attr-defined]
    kind.__call__ = observed_call


def _work(task: Any) -> Work:
    return Work(_SYSTEM, _QUEUE, task_name(task.func))


def task_name(function: Any) -> str:
    """Return a function's name with its module, that of what a partial calls, and that of the class of an object."""
    while isinstance(function, partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"
