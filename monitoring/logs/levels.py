"""Levels: the least that is written, by logger, changeable for a while in all workers of a host."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from ..utils.shared_file import SharedFile

LEVELS: Final[Mapping[str, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}

_FILE: Final = "levels.json"
_LOGGERS_REMEMBERED: Final = 4096
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class LevelError(ValueError):
    """A level that does not exist, or a time that is none; the message says what is accepted."""


class _Change(NamedTuple):
    """A level set at run time, and the unix second at which it ends."""

    level: str
    until: float


class Levels:
    """The level of each logger: a change at run time, else the configured one of the longest matching name.

    A change is a small file beside the metric cells, which every worker of the service looks at once a second; without
    such a folder it holds in this process. Thread-safe under the GIL.
    """

    def __init__(
        self,
        level: str,
        by_logger: Mapping[str, str] = _NONE,
        *,
        hold: bool = False,
        folder: Callable[[], Path | None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.gates: dict[str, int] = {}
        """By logger, the level from which its calls do anything at all; ask ``gate`` for one that is missing."""
        self.configured: Mapping[str, str] = {"": level, **by_logger}
        self.changed: Mapping[str, _Change] = {}
        self.on_change: list[Callable[[], None]] = []
        """Called when a level is another than before, in whatever thread has noticed."""
        self._hold = hold
        self._file = SharedFile(folder, _FILE)
        self._clock = clock
        self._numbers: dict[str, int] = {}

    def of(self, logger: str) -> int:
        """Return the number of the level from which a logger's lines are written."""
        number = self._numbers.get(logger)
        if number is None:
            if len(self._numbers) >= _LOGGERS_REMEMBERED:
                self._numbers.clear()
            changed = self.changed
            number = self._numbers[logger] = LEVELS[self._found(logger, changed)[0]]
            if changed is not self.changed:  # by another thread, which may have forgotten all before this was kept
                self._numbers.pop(logger, None)
        return number

    def gate(self, logger: str) -> int:
        """Return the level from which a logger's calls do anything: its own, or the lowest when lines are held."""
        if len(self.gates) >= _LOGGERS_REMEMBERED:
            self.gates.clear()
        changed = self.changed
        gate = self.gates[logger] = LEVELS["debug"] if self._hold else self.of(logger)
        if changed is not self.changed:
            self.gates.pop(logger, None)
        return gate

    def explain(self, logger: str) -> tuple[str, str]:
        """Return a logger's level and where that comes from."""
        level, name, change = self._found(logger, self.changed)
        if change is not None:
            return level, f"set at run time for {name or 'all loggers'}, {self._left(change)} s left"
        return level, f"configured for {name}" if name else "log_level"

    def set(self, level: str | None, logger: str = "", *, seconds: float = 900.0) -> bool:
        """Change the level of a logger and those below it ("" for all) in all workers; None takes a change back.

        The others follow within a second or two. Return False where they cannot, because no folder can be written.
        Raise LevelError for a level that does not exist, and for ``seconds`` that are not a positive number.
        """
        if level is not None and level not in LEVELS:
            raise LevelError(f"level must be one of {', '.join(LEVELS)}, or None, got {level!r}.")
        if not 0 < seconds < math.inf:
            raise LevelError(f"seconds must be a positive number such as 900, got {seconds!r}.")
        now = self._clock()
        changes = {name: change for name, change in self._read().items() if change.until > now and name != logger}
        if level is not None:
            changes[logger] = _Change(level, now + seconds)
        is_shared = self._file.write(json.dumps(changes).encode())
        self._apply(changes)
        return is_shared

    def look(self) -> bool:
        """Follow what was changed in any worker, and what has run out. Return whether a level is another now."""
        now = self._clock()
        changes = self._read() if self._file.has_changed() else self.changed
        valid = {name: change for name, change in changes.items() if change.until > now}
        if valid == self.changed:
            return False
        self._apply(valid)
        return True

    def _apply(self, changes: Mapping[str, _Change]) -> None:
        self.changed = changes
        self._numbers.clear()
        self.gates.clear()
        for tell in self.on_change:
            tell()

    def _found(self, logger: str, changed: Mapping[str, _Change]) -> tuple[str, str, _Change | None]:
        """Return a logger's level, the name it is set for, and the change that sets it."""
        name = logger
        while True:
            if (change := changed.get(name)) is not None:
                return change.level, name, change
            if name in self.configured:
                return self.configured[name], name, None
            name = name.rpartition(".")[0]

    def _left(self, change: _Change) -> int:
        return max(0, round(change.until - self._clock()))

    def _read(self) -> Mapping[str, _Change]:
        data = self._file.read()
        try:
            found = json.loads(data) if data else {}
            changes = {
                str(name): _Change(level, float(until)) for name, (level, until) in found.items() if level in LEVELS
            }
        except (ValueError, TypeError, AttributeError):
            return self.changed
        return self.changed if data is None else changes
