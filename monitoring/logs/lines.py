"""The lines of one service: which are written, and the ways they take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, Final
from zlib import crc32

from ..context import current_record
from ..observation import RequestRecord
from .levels import LEVELS, Levels
from .outlets import Handler, OnDropped, Route
from .rendering import Renderer, bare_line, request_of
from .repeats import Repeats, Said
from .writer import LogWriter

CANONICAL: Final = "monitoring.request"
"""Logger of the lines that tell of one request, websocket or job each: none repeats another."""

_KEPT_WHATEVER_THE_RATE: Final = LEVELS["warning"]

Shape = Callable[[bytes], bytes]
"""Turns a line into what the main destination shows."""


class LogLines:
    """Renders lines and sends them on their ways. Thread-safe; nothing here raises into the app.

    ``sample_rate`` is the share of requests whose lines below warning are written: all of a request or none. With
    ``hold`` the lines that are left out for their level or for the rate wait on their request, and are written if it
    fails.
    """

    def __init__(
        self,
        writer: LogWriter,
        renderer: Renderer,
        levels: Levels,
        *,
        sample_rate: float = 1.0,
        hold: bool = False,
        repeats: Repeats | None = None,
        shape: Shape | None = None,
    ) -> None:
        self.writer = writer
        self.service = renderer.service
        self.clean = renderer.clean
        self.levels = levels
        self.routes: tuple[Route, ...] = ()
        self.is_plain = shape is None
        """Whether a line goes to the writer alone, as it is."""
        self.sample_rate = sample_rate
        self.hold = hold
        self._renderer = renderer
        self._repeats = repeats
        self._shape = shape
        self._selects = hold or sample_rate < 1 or repeats is not None
        self._dropped: Counter[str] = Counter()
        self._may_be_own = 0
        """Of the drops, as many may be of the line that told the former ones: it must not go on by itself for ever."""
        self.on_tick: Callable[[], None] = lambda: None
        """Called about once a second where lines are queued."""
        writer.on_tick = self.tick

    def add_routes(self, handlers: Sequence[Handler], service: str, on_dropped: OnDropped) -> None:
        """Open handlers: lines go there, too, from now on."""
        self.routes = (*self.routes, *(Route(handler, service, on_dropped) for handler in handlers))
        self.is_plain = self.is_plain and not self.routes

    def emit(
        self, level: str, logger: str, event: object, fields: Mapping[str, Any], exception: BaseException | None = None
    ) -> None:
        """Write one line, unless it is left out; errors do not wait in the queue."""
        number = LEVELS.get(level, 20)
        try:
            request = current_record.get() if exception is None else request_of(exception)
            if self._selects and self._leaves_out(number, level, logger, event, fields, exception, request):
                return
            line = self._renderer.render(level, logger, event, fields, exception, request)
            if request is not None:
                request.keep_line(line)
        except Exception as error:
            line = bare_line(level, logger, error)
        if self.is_plain:
            self.writer.write(line, number >= 40)
        else:
            self.send(number, logger, line)

    def send(self, number: int, logger: str, line: bytes) -> None:
        """Send a rendered line to the main destination, and to each outlet whose way it takes."""
        self.writer.write(line if self._shape is None else self._shape(line), number >= LEVELS["error"])
        for route in self.routes:
            route.take(number, logger, line)

    def is_sampled(self, request: RequestRecord) -> bool:
        """Say whether the lines of a request are written: decided by its ID, so the same everywhere it goes."""
        return self.sample_rate >= 1 or crc32(request.request_id.encode()) < self.sample_rate * 2**32

    def release(self, request: RequestRecord) -> None:
        """Write what was held back for a request: it has failed."""
        held, request.held = request.held, None
        for number, logger, line in held or ():
            request.keep_line(line)
            self.send(number, logger, line)

    def count_dropped(self, reason: str, lines: int) -> None:
        """Note lines that were not delivered, for the next summary."""
        self._dropped[reason] += lines

    def start_anew(self) -> None:
        """Begin without repeats and drops in a forked child: those so far are its parent's to tell."""
        self._dropped = Counter()
        self._may_be_own = 0
        if self._repeats is not None:
            self._repeats.start_anew()

    def tick(self) -> None:
        """Do what is due about once a second: follow changed levels, sum up repeats and drops."""
        self.levels.look()
        self.on_tick()
        self._tell_repeats()
        self._tell_drops()

    def flush(self, seconds: float = 5.0) -> None:
        """Write and deliver what waits, in at most so many seconds for all destinations together."""
        self._tell_repeats(all=True)
        end = perf_counter() + seconds
        self.writer.flush(seconds)
        for route in self.routes:
            route.end(end - perf_counter(), close=False)

    def close(self, seconds: float = 5.0) -> None:
        """Do the same, and stop."""
        self._tell_repeats(all=True)
        end = perf_counter() + seconds
        self.writer.close(seconds)
        for route in self.routes:
            route.end(end - perf_counter(), close=True)

    def _leaves_out(
        self,
        number: int,
        level: str,
        logger: str,
        event: object,
        fields: Mapping[str, Any],
        exception: BaseException | None,
        request: RequestRecord | None,
    ) -> bool:
        is_held = self.hold and number < self.levels.of(logger)  # else the logger has let it through
        if is_held or not self._takes_part(number, request):
            if self.hold and request is not None and not request.finished:
                line = self._renderer.render(level, logger, event, fields, exception, request, marks=False)
                request.hold_line(number, logger, line)
            return True
        if self._repeats is None or logger == CANONICAL:
            return False
        return not self._repeats.admits(Said(level, logger, str(event), type(exception).__name__ if exception else ""))

    def _takes_part(self, number: int, request: RequestRecord | None) -> bool:
        return number >= _KEPT_WHATEVER_THE_RATE or request is None or self.is_sampled(request)

    def _tell_repeats(self, *, all: bool = False) -> None:
        for said, left_out in self._repeats.ended(all=all) if self._repeats is not None else ():
            line = self._renderer.render(said.level, said.logger, said.event, {"repeated": left_out})
            self.send(LEVELS.get(said.level, LEVELS["info"]), said.logger, line)

    def _tell_drops(self) -> None:
        if self._dropped.total() > self._may_be_own:
            dropped, self._dropped = self._dropped, Counter()
            self._may_be_own = 1 + len(self.routes)
            line = self._renderer.render("warning", "monitoring", "log lines were dropped", {"lines": dict(dropped)})
            self.send(LEVELS["error"], "monitoring", line)
