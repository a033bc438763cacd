"""What is reported when its last reader drops it, perhaps by the garbage collector, in the middle of anything."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from monitoring.cells import CellRegistry
from monitoring.cells.layout import CellFile
from monitoring.recorder import Recorder

waiting: Final[deque[Callable[[], None]]] = deque(maxlen=1_000)
"""Reports that had to wait."""
_NOT_TO_BE_ENTERED_TWICE: Final = frozenset(
    function.__code__ for function in (Recorder.record, Recorder.record_request, CellRegistry.series, CellFile.append)
)
"""What a report would come back to with its locks held: the folds, and the making of a series."""


def report_dropped(report: Callable[[], None]) -> None:
    """Report now, or at the next call where this comes in the middle of a fold."""
    if sys.is_finalizing():
        return
    if _is_inside_a_fold():
        waiting.append(report)
    else:
        report()


def report_waiting() -> None:
    """Report what had to wait."""
    with suppress(IndexError):
        while waiting:
            waiting.popleft()()


def _is_inside_a_fold() -> bool:
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code in _NOT_TO_BE_ENTERED_TWICE:
            return True
    return False
