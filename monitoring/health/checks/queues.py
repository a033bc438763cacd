"""Whether a queue grows longer than it should."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ..results import Reading
from .limits import check_limits, judged
from .telling import Answer, awaitable_of, telling


def queue_depth(
    length: Callable[[], float | Awaitable[float]], warn: float, fail: float | None = None
) -> Callable[[], Answer]:
    """Check the length of a queue, which your function tells, sync or async.

    Raise ValueError unless 0 <= warn <= fail.
    """
    check_limits("queue_depth", warn, fail)

    def judge(depth: Any) -> Reading:
        status = judged(depth, warn, fail)
        return Reading(status, "" if status == "pass" else f"{depth:g} are waiting", float(depth), "", "queue_depth")

    return telling(lambda: awaitable_of(length, judge))
