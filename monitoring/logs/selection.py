"""Which lines are wanted. What can be seen in the bytes of a line is looked at first: most lines are never parsed."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from .levels import LEVELS
from .reading import UNKNOWN, Timed, may_have_a_time, moment_of, object_of

_PREFIX_LENGTH: Final = 8
"""Characters of an ID that are enough to find it."""
_OTHER_NAMES: Final[Mapping[str, str]] = {"warn": "warning", "fatal": "critical"}
_IN_A_PATTERN: Final = frozenset("*?[")
_ESCAPED: Final = frozenset("\"\\/<>&'+")
"""What some write otherwise in JSON."""

_Check = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a line has to have; "" and () ask for nothing.

    ``request`` is a request's or a trace's ID, or 8 or more characters at its beginning; ``event`` a text or a pattern
    with ``*?[``; ``logger`` a beginning; ``grep`` a text in the line as it is written. ``where`` has names of fields
    (``a.b`` for one in an object) and values, as a text or as JSON. Times are unix seconds.
    """

    request: str = ""
    user: str = ""
    level: str = ""
    event: str = ""
    logger: str = ""
    grep: str = ""
    where: tuple[tuple[str, str], ...] = ()
    since: float = -math.inf
    until: float = math.inf

    @property
    def needles(self) -> tuple[bytes, ...]:
        """Texts without which no line is wanted."""
        event = "" if _is_pattern(self.event) else self.event
        found = [text for text in (self.request, self.user, event) if _is_written_as_it_is(text)]
        return tuple(text.encode("utf-8", "surrogateescape") for text in [*found, self.grep] if text)

    def checks(self) -> Iterator[_Check]:
        """Yield what the object of a line has to fulfil."""
        if self.request:
            yield lambda line: any(self._is_asked_for(line.get(key)) for key in ("request_id", "trace_id"))
        if self.user:
            yield lambda line: _is(_field(line, "user_id"), self.user)
        if self.level:
            yield lambda line: _number_of(line.get("level")) >= LEVELS[self.level]
        if self.event:
            yield lambda line: _fits(str(line.get("event", "")), self.event)
        if self.logger:
            yield lambda line: str(line.get("logger", "")).startswith(self.logger)
        if self.where:
            yield lambda line: all(_is(_field(line, name), value) for name, value in self.where)

    def _is_asked_for(self, found: object) -> bool:
        if not isinstance(found, str):
            return False
        return found == self.request or (len(self.request) >= _PREFIX_LENGTH and found.startswith(self.request))


class Selector:
    """Chooses lines of one log, as they come. A line without a time has that of the line before it. One that is no
    JSON object passes where nothing but texts and times is asked for.
    """

    def __init__(self, selection: Selection) -> None:
        self._needles = selection.needles
        self._checks = tuple(selection.checks())
        self._since, self._until = selection.since, selection.until
        self._last_timed = b""
        self._last_at = UNKNOWN

    def __call__(self, lines: Iterable[bytes]) -> Iterator[Timed]:
        """Yield the lines that are wanted, with their times. Empty ones are not."""
        needles = self._needles
        for line in lines:
            if may_have_a_time(line):
                self._last_timed = line
            if line and all(needle in line for needle in needles) and self._passes(line):
                at = self._moment_of(line)
                if self._since <= at <= self._until:
                    yield Timed(at, line)

    def _passes(self, line: bytes) -> bool:
        if not self._checks:
            return True
        found = object_of(line)
        return found is not None and all(check(found) for check in self._checks)

    def _moment_of(self, line: bytes) -> float:
        moment = moment_of(line)
        if moment is None:
            moment = moment_of(self._last_timed)
        if moment is not None:
            self._last_at = moment
        return self._last_at


def _is_pattern(text: str) -> bool:
    return not _IN_A_PATTERN.isdisjoint(text)


def _is_written_as_it_is(text: str) -> bool:
    return text.isascii() and text.isprintable() and _ESCAPED.isdisjoint(text)


def _number_of(level: object) -> int:
    name = str(level).lower()
    return LEVELS.get(_OTHER_NAMES.get(name, name), -1)


def _fits(event: str, wanted: str) -> bool:
    return event == wanted or (_is_pattern(wanted) and fnmatch.fnmatchcase(event, wanted))


_NO_FIELD: Final = object()


def _field(line: Mapping[str, Any], name: str) -> object:
    if name in line:
        return line[name]
    outer, _, inner = name.partition(".")
    nested = line.get(outer)
    return _field(nested, inner) if inner and isinstance(nested, dict) else _NO_FIELD


def _is(value: object, wanted: str) -> bool:
    """Whether a value is the one that a person has typed: ``500`` is a number and a text."""
    if value is _NO_FIELD or isinstance(value, str):
        return value == wanted
    try:
        typed = orjson.loads(wanted)
    except orjson.JSONDecodeError:
        return False
    return isinstance(typed, bool) == isinstance(value, bool) and bool(typed == value)
