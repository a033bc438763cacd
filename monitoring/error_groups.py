"""Grouping: which errors have one cause, told by the code that they came from and not by what their messages say.

A key is made of the exception's type and of the app's own functions that it went through, without paths and line
numbers, so that a deploy elsewhere in the file changes nothing. The place in the last function is told in two ways,
the text of its line and its offset in the bytecode; each makes a key of its own, and an error belongs to a group that
knows either. Pure: nothing here is stored, counted or sent.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from types import CodeType, FrameType, TracebackType
from typing import Final

from .utils.exceptions import CHAIN, MEMBERS, message_of, next_in_chain, source_lines, type_name

VERSION: Final = "v1"
"""First part of every key: another way of grouping makes keys of another version."""

DEFAULT_PART: Final = "{{ default }}"
"""Part of an explicit fingerprint that stands for what it would have been without."""

_EXCEPTIONS: Final = 200
"""Exceptions of one error that are looked at: its causes and members, and theirs."""
_SITE_WIDTH: Final = 120
_PLACES_REMEMBERED: Final = 4_096
_OWN_PACKAGE: Final = __name__.partition(".")[0]
_STANDARD_LIBRARY: Final = os.path.realpath(os.path.dirname(os.__file__))
_INSTALLED: Final = re.compile(r"[/\\](site|dist)-packages[/\\]")
_LINKS: Final = {"cause": "caused by", "context": "while handling"}

_VARIABLE: Final = re.compile(
    r"(?P<url>\b[a-z][a-z0-9+.-]*://[^\s'\"<>]+)"
    r"|(?P<email>[\w.%+'-]{1,64}@[\w-]+(?:\.[\w-]+)+)"
    r"|(?P<uuid>\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b)"
    r"|(?P<hex>\b0x[0-9a-f]+\b|\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{8,}\b)"
    r"|(?P<ip>\b\d{1,3}(?:\.\d{1,3}){3}\b|\b(?:[0-9a-f]{1,4}:){3,7}[0-9a-f]{1,4}\b)"
    r"|(?P<date>\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?)"
    r"|(?P<number>(?<![a-z\d])\d+(?:[.,:]\d+)*)"
    r"|(?P<text>(?<=[=:(\s])'[^'\n]*'|(?<=[=:(\s])\"[^\"\n]*\")",
    re.IGNORECASE,
)
_MESSAGE_LINES: Final = 2
_MESSAGE_LENGTH: Final = 300


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells the group of an error."""

    keys: tuple[str, ...]
    """The group's keys, the first of them its ID."""
    why: tuple[str, ...]
    """The readable parts that the first key was made of; not scrubbed."""
    culprit: str = ""
    """``module.function`` of the app's last function, or of the last one at all."""
    subject: BaseException | None = None
    """The exception that names the group: of a group with equal members one member, else the error itself."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """What an exception contributes: once with the lines' texts, once with the places in the bytecode."""

    by_line: list[str]
    by_code: list[str]
    culprit: str = ""
    subject: BaseException | None = None


class _Place:
    """A function, as far as grouping knows it."""

    __slots__ = ("bytecode", "code", "in_app", "lines", "name")

    def __init__(self, code: CodeType, name: str, in_app: bool) -> None:
        self.code = code  # kept, so that its id is not used again
        self.name = name
        self.in_app = in_app
        self.lines: dict[int, str] = {}
        self.bytecode = ""


class InApp:
    """Says which code is the app's: not installed, not of Python itself, and below the project's folder if that is
    given.

    ``include`` and ``exclude`` are names of modules or packages that are, or are not, whatever their place; the pack's
    own are not unless included.
    """

    def __init__(
        self, project_root: str | None = None, include: Sequence[str] = (), exclude: Sequence[str] = ()
    ) -> None:
        self._root = _real_path(project_root) if project_root else None
        self._include = tuple(include)
        self._exclude = (*exclude, _OWN_PACKAGE)

    def __call__(self, module: str, file_name: str) -> bool:
        """Say whether code of this module and file is the app's."""
        if _is_of(module, self._include):
            return True
        if _is_of(module, self._exclude) or file_name.startswith("<"):
            return False
        path = _real_path(file_name)
        if _INSTALLED.search(path) or _is_below(path, _STANDARD_LIBRARY):
            return False
        return self._root is None or _is_below(path, self._root)


class Grouper:
    """Finds the fingerprint of errors. Thread-safe; remembers what it found out about 4,096 functions."""

    def __init__(self, is_in_app: InApp) -> None:
        self._is_in_app = is_in_app
        self._places: dict[int, _Place] = {}

    def is_in_app(self, frame: FrameType) -> bool:
        """Say whether a frame is the app's."""
        return self._place(frame).in_app

    def of_exception(self, error: BaseException, explicit: Sequence[str] = ()) -> Fingerprint:
        """Return the fingerprint of an exception, made of the ``explicit`` parts where there are any."""
        parts = self._of_chain(error, frozenset(), [_EXCEPTIONS])
        return _fingerprint(parts, explicit)

    def of_message(self, text: str, explicit: Sequence[str] = ()) -> Fingerprint:
        """Return the fingerprint of a text: of what is left of it without its variable parts."""
        parts = ["message", normalise(text)]
        return _fingerprint(_Parts(parts, parts), explicit)

    def _of_chain(self, error: BaseException, path: frozenset[int], left: list[int]) -> _Parts:
        by_line: list[str] = []
        by_code: list[str] = []
        first: _Parts | None = None
        for link, one in _chain(error, path):
            left[0] -= 1
            if left[0] < 0:
                break
            path |= {id(one)}
            found = self._of_group(one, path, left) if isinstance(one, BaseExceptionGroup) else self._of_one(one)
            first = first or found
            by_line += [*link, *found.by_line]
            by_code += [*link, *found.by_code]
        if first is None:
            return _Parts([type_name(error)], [type_name(error)], subject=error)
        return _Parts(by_line, by_code, first.culprit, first.subject)

    def _of_group(self, group: BaseExceptionGroup[BaseException], path: frozenset[int], left: list[int]) -> _Parts:
        """Return what the distinct members contribute, in whatever order and number they come."""
        members = [self._of_chain(leaf, path, left) for leaf in _leaves(group) if id(leaf) not in path]
        by_line = {_digest(member.by_line): member for member in members}
        by_code = {_digest(member.by_code): member for member in members}
        if not members:
            return _Parts([type_name(group)], [type_name(group)], subject=group)
        if len(by_line) == 1 or len(by_code) == 1:
            return members[0]
        culprit = min(by_line.items())[1].culprit
        return _Parts(["group", *sorted(by_line)], ["group", *sorted(by_code)], culprit, group)

    def _of_one(self, error: BaseException) -> _Parts:
        name = type_name(error)
        functions, last, innermost = self._walk(error)
        if last is None:
            if innermost is not None:
                parts = [name, innermost.name]
                return _Parts(parts, parts, innermost.name, error)
            parts = [name, normalise(message_of(error))]
            return _Parts(parts, parts, "", error)
        culprit = self._place(last.tb_frame).name
        parts = [name, *functions]
        if isinstance(error, RecursionError):  # it strikes wherever the stack happens to be full
            return _Parts(parts, parts, culprit, error)
        offset = self._offset(last)
        return _Parts([*parts, self._line(last) or offset], [*parts, offset], culprit, error)

    def _walk(self, error: BaseException) -> tuple[list[str], TracebackType | None, _Place | None]:
        """Return the app's functions in order, each once, the app's last step, and the last place of all."""
        functions: dict[str, None] = {}
        last: TracebackType | None = None
        place: _Place | None = None
        is_recursion = isinstance(error, RecursionError)
        places = self._places
        step = error.__traceback__
        while step is not None:
            frame = step.tb_frame
            place = places.get(id(frame.f_code)) or self._place(frame)
            if place.in_app:
                if is_recursion and place.name in functions:
                    break
                functions[place.name] = None
                last = step
            step = step.tb_next
        return list(functions), last, place

    def _place(self, frame: FrameType) -> _Place:
        code = frame.f_code
        place = self._places.get(id(code))
        if place is None:
            module = str(frame.f_globals.get("__name__") or os.path.basename(code.co_filename))
            place = _Place(code, f"{module}.{code.co_qualname}", self._is_in_app(module, code.co_filename))
            if len(self._places) >= _PLACES_REMEMBERED:
                self._places.clear()
            self._places[id(code)] = place
        return place

    def _line(self, step: TracebackType) -> str:
        """Return the text of the line that a step was at, "" where it is not known or too long to tell much."""
        place, number = self._place(step.tb_frame), step.tb_lineno
        text = place.lines.get(number)
        if text is None:
            lines = source_lines(step.tb_frame)
            text = " ".join(lines[number - 1].split()) if 0 < number <= len(lines) else ""
            place.lines[number] = text = text if len(text) <= _SITE_WIDTH else ""
        return text

    def _offset(self, step: TracebackType) -> str:
        """Return the place of a step in the bytecode, together with a hash of that: other bytecode, other places."""
        place = self._place(step.tb_frame)
        if not place.bytecode:
            place.bytecode = blake2b(place.code.co_code, digest_size=4).hexdigest()
        return f"{place.bytecode}+{step.tb_lasti}"


def normalise(text: str) -> str:
    """Return the first two lines of a text with what varies replaced by its kind: ``user <number> not found``."""
    lines = [line.strip() for line in text[: 4 * _MESSAGE_LENGTH].splitlines()]
    kept = " ".join([line for line in lines if line][:_MESSAGE_LINES])[:_MESSAGE_LENGTH]
    return _VARIABLE.sub(lambda match: f"<{match.lastgroup}>", kept)


def key_of(parts: Sequence[str]) -> str:
    """Return the key that parts make: the version and 16 hex digits of their BLAKE2b."""
    return f"{VERSION}:{_digest(parts)}"


def _fingerprint(parts: _Parts, explicit: Sequence[str]) -> Fingerprint:
    by_line, by_code = parts.by_line, parts.by_code
    if explicit:
        by_line, by_code = _expanded(explicit, by_line), _expanded(explicit, by_code)
    keys = dict.fromkeys((key_of(by_line), key_of(by_code)))
    return Fingerprint(tuple(keys), tuple(by_line), parts.culprit, parts.subject)


def _expanded(explicit: Sequence[str], default: Sequence[str]) -> list[str]:
    expanded = ["explicit"]
    for part in explicit:
        expanded += default if part == DEFAULT_PART else [part]
    return expanded


def _digest(parts: Sequence[str]) -> str:
    return blake2b("\x1f".join(parts).encode("utf-8", "replace"), digest_size=8).hexdigest()


def _chain(error: BaseException, path: frozenset[int]) -> Iterator[tuple[list[str], BaseException]]:
    """Yield an exception and what led to it, each with the words between.

    A group's implicit context is left out: it is one of its members, or the cancellation of its siblings.
    """
    seen = set(path)
    current: BaseException | None = error
    link: list[str] = []
    while current is not None and id(current) not in seen and len(seen) - len(path) < CHAIN:
        seen.add(id(current))
        yield link, current
        following, how = next_in_chain(current)
        if how == "context" and isinstance(current, BaseExceptionGroup):
            return
        current, link = following, [_LINKS.get(how, "")]


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """Return the members of a group that are no groups, and theirs, 50 at most."""
    leaves: list[BaseException] = []
    waiting: list[BaseException] = [group]
    seen: set[int] = set()
    while waiting and len(leaves) < MEMBERS and len(seen) < _EXCEPTIONS:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
        else:
            leaves.append(one)
    return leaves


def _is_of(module: str, packages: Sequence[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder if folder.endswith(os.sep) else folder + os.sep)


def _real_path(path: str) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return path
