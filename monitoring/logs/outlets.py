"""Where lines go besides the main destination: handlers are settings, and what they open takes rendered lines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Protocol, runtime_checkable

import orjson

from .levels import LEVELS

OnDropped = Callable[[str, int], None]
"""Told of lines that are not delivered: the reason, and how many."""
Where = Callable[[Mapping[str, Any]], object]


class Outlet(Protocol):
    """Takes rendered lines and delivers them in its own time. Thread-safe; never blocks, never raises."""

    def write(self, line: bytes, urgent: bool = False) -> None:
        """Take one line, which ends in a newline; ``urgent`` ones (errors) are dropped last."""
        ...

    def flush(self, seconds: float = 5.0) -> None:
        """Deliver what waits, for at most so long."""
        ...

    def close(self, seconds: float = 5.0) -> None:
        """Do the same, and stop for good."""
        ...


@runtime_checkable
class Handler(Protocol):
    """Settings of a destination: ``monitoring.LogFile``, ``Syslog``, ``Loki``, ``OTLP``, or one of your own."""

    @property
    def level(self) -> str:
        """Return the lowest level that goes there."""
        ...

    def open(self, service: str, on_dropped: OnDropped) -> Outlet:
        """Return what takes the lines of this process."""
        ...


@dataclass(frozen=True, slots=True)
class Filtered:
    """Sends only some lines to a handler: those of ``loggers`` (and what is below them), not those of ``without``,
    and those for which ``where`` says yes.

    ``where`` gets the line as a mapping, and must not log. A ``where`` that raises lets the line through.
    """

    handler: Handler
    _: KW_ONLY
    loggers: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    where: Where | None = None

    @property
    def level(self) -> str:
        """Return the handler's own level."""
        return self.handler.level

    def open(self, service: str, on_dropped: OnDropped) -> Outlet:
        """Return the handler's outlet; ``Route`` does the filtering."""
        return self.handler.open(service, on_dropped)


class Route:
    """The way to one outlet: which lines take it."""

    def __init__(self, handler: Handler, service: str, on_dropped: OnDropped) -> None:
        self.handler = handler
        self.outlet = handler.open(service, on_dropped)
        self._on_dropped = on_dropped
        self.floor = LEVELS[handler.level]
        filtered = handler if isinstance(handler, Filtered) else None
        self._loggers = filtered.loggers if filtered else ()
        self._without = filtered.without if filtered else ()
        self.where = filtered.where if filtered else None

    def take(self, number: int, logger: str, line: bytes) -> None:
        """Send a line there if it takes this way. An outlet that raises has dropped it."""
        if number >= self.floor and self.leaves_out(logger) == "" and (self.where is None or self._is_wanted(line)):
            try:
                self.outlet.write(line, number >= LEVELS["error"])
            except Exception as error:
                self._on_dropped(f"{type(self.handler).__name__} raised {type(error).__name__}", 1)

    def end(self, seconds: float, *, close: bool) -> None:
        """Have what waits delivered, and with ``close`` stop for good. An outlet that raises holds up nobody else."""
        try:
            (self.outlet.close if close else self.outlet.flush)(max(0.0, seconds))
        except Exception as error:
            sys.stderr.write(f"monitoring cannot flush {self.handler!r}: {error!r}\n")

    def leaves_out(self, logger: str) -> str:
        """Return why no line of a logger takes this way, "" when ``where`` alone decides."""
        if self._loggers and not _is_below(logger, self._loggers):
            return f"only loggers {', '.join(self._loggers)}"
        if self._without and _is_below(logger, self._without):
            return f"without loggers {', '.join(self._without)}"
        return ""

    def _is_wanted(self, line: bytes) -> bool:
        assert self.where is not None
        try:
            return bool(self.where(orjson.loads(line)))
        except Exception:
            return True


def is_handler(value: object) -> bool:
    """Say whether a value can be one of ``log_handlers``."""
    return isinstance(value, Handler) and not isinstance(value, type) and value.level in LEVELS


def _is_below(logger: str, names: tuple[str, ...]) -> bool:
    return any(logger == name or logger.startswith(name + ".") for name in names)
