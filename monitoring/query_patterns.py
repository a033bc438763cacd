"""The sink that finds what is odd about an app's database statements: repeated ones, slow ones, and how many there are.

A statement is repeated when a request or job reads by it ``repeated`` times: mostly that is a loop, which one statement
could replace (N+1). It is slow from ``slow_seconds`` on. What is found is counted, stands on its request, and is told
in a line with the place in the app's own code, at most once a minute for a statement of a route.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Final, Literal

from . import families
from .calls import DatabaseCall
from .context import current_record
from .families import CountsMetrics
from .logs.levels import LEVELS
from .logs.lines import LogLines
from .observation import Finding, Kind, Observation, RequestRecord
from .recorder import Fold, only_of_noted_requests

STATEMENTS: Final = 500
"""Different statements whose repetition is followed in a request."""
FINDINGS: Final = 20
"""Findings that stand on a request."""
LINES: Final = 60
"""Findings that a process tells in a minute."""

_LOGGER: Final = "monitoring.database"
_EVENTS: Final = {"repeated": "repeated query", "slow": "slow query"}
_FRAMES: Final = 500


class QueryPatterns:
    """Looks at every database statement, and at requests and jobs when they end. Thread-safe under the GIL."""

    def __init__(
        self,
        metrics: CountsMetrics,
        lines: LogLines,
        is_in_app: Callable[[FrameType], bool],
        *,
        repeated: int | None,
        slow_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``is_in_app`` says whether a frame is of the app's own code; ``repeated`` None or 0 is never."""
        self._metrics = metrics
        self._lines = lines
        self._is_in_app = is_in_app
        self._repeated = repeated or 0
        self._slow_seconds = slow_seconds
        self._clock = clock
        self._minute = 0.0
        self._told: set[tuple[str, str, str]] = set()

    def folds(self) -> Mapping[Kind, Fold]:
        """Return what is done with a statement, and at the end of what it belongs to."""
        return {
            "db": self._fold_statement,
            "request": self._end,
            "job": self._end,
            "websocket": self._end_websocket,
        }

    def _fold_statement(self, call: DatabaseCall) -> None:
        if call.duration_seconds >= self._slow_seconds:
            self._fold_slow(call)
        request = call.request
        if request is None:
            return
        statements = request.statements
        if statements is None:
            request.noted = True
            statements = request.statements = {}
        if call.operation != "SELECT":
            return
        tally = statements.get(call.statement)
        if tally is None:
            if len(statements) < STATEMENTS:
                statements[call.statement] = [1, call.duration_seconds]
            return
        tally[0] += 1
        tally[1] += call.duration_seconds
        if tally[0] == self._repeated and call.statement:
            self._find("repeated", call, request, tally)

    def _fold_slow(self, call: DatabaseCall) -> None:
        self._metrics.add(families.DB_SLOW_QUERIES, (call.system, call.operation), 1.0)
        request = call.request
        for finding in (request.findings if request is not None else None) or ():
            if finding.kind == "slow" and finding.statement == call.statement:
                finding.tally[0] += 1
                finding.tally[1] += call.duration_seconds
                return
        self._find("slow", call, request, [1, call.duration_seconds])

    def _find(
        self, kind: Literal["repeated", "slow"], call: DatabaseCall, request: RequestRecord | None, tally: list[float]
    ) -> None:
        """Note a finding on its request, which tells of it at its end; where that is over, tell of it now."""
        if request is not None and len(request.findings or ()) >= FINDINGS:
            return
        finding = Finding(kind, call.name, call.statement, self._place(), tally)
        if request is not None:
            request.findings = [*(request.findings or ()), finding]
        if request is None or request.finished:
            self._report(finding, request)

    @only_of_noted_requests
    def _end(self, record: RequestRecord) -> None:
        if record.db_calls:
            self._metrics.observe(families.DB_QUERIES_PER_REQUEST, (record.route,), record.db_calls)
        for finding in record.findings or ():
            self._report(finding, record)

    def _end_websocket(self, observation: Observation) -> None:
        """Tell what was slow; a websocket may ask the same as often as it lives long."""
        record = observation.request
        for finding in (record.findings if record is not None else None) or ():
            if finding.kind == "slow":
                self._report(finding, record)

    def _report(self, finding: Finding, request: RequestRecord | None) -> None:
        route = request.route if request is not None else ""
        if finding.kind == "repeated":
            self._metrics.add(families.DB_REPEATED_QUERIES, (route, finding.name), 1.0)
        if LEVELS["warning"] >= self._lines.levels.of(_LOGGER) and self._may_tell(finding, route):
            token = current_record.set(request)  # it may be over, and so is its context
            try:
                self._lines.emit("warning", _LOGGER, _EVENTS[finding.kind], _fields(finding, route))
            finally:
                current_record.reset(token)

    def _may_tell(self, finding: Finding, route: str) -> bool:
        minute = self._clock() // 60
        if minute != self._minute:
            self._minute, self._told = minute, set()
        key = (finding.kind, route, finding.statement)
        if key in self._told or len(self._told) >= LINES:
            return False
        self._told.add(key)
        return True

    def _place(self) -> str:
        """Return the innermost place in the app's own code that led here."""
        for number, frame in enumerate(_callers()):
            if self._is_in_app(frame):
                return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
            if number > _FRAMES:
                break
        return ""


def _callers() -> Iterator[FrameType]:
    """Yield the frames that led here, innermost first, through greenlets: SQLAlchemy runs async engines in them."""
    greenlets = sys.modules.get("greenlet")
    inside = greenlets.getcurrent() if greenlets is not None else None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back
        while frame is None and inside is not None:
            inside = inside.parent
            frame = inside.gr_frame if inside is not None else None


def _fields(finding: Finding, route: str) -> dict[str, object]:
    times, seconds = finding.tally
    fields: dict[str, object] = {
        "query": finding.name,
        "statement": finding.statement,
        "times": int(times),
        "duration_ms": round(seconds * 1000, 3),
        "place": finding.place,
        "route": route,
    }
    return {name: value for name, value in fields.items() if value != ""}
