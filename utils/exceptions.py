"""An exception as plain data: its chain, its groups, and its frames, bounded and without locals."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Mapping
from types import CodeType, FrameType, MappingProxyType, TracebackType
from typing import Any, Final

from .plain import clip

CHAIN: Final = 20
MEMBERS: Final = 50
FRAMES: Final = 50
"""Frames kept of a traceback; the middle of a longer one is left out."""
DESCRIBED: Final = 200
"""Exceptions described of one: causes and members, and theirs."""

SOURCE_AROUND: Final = 3
"""Lines of source before and after that of a frame of the app; the last frame of all shows its line in any case."""
SOURCE_WIDTH: Final = 200
_SOURCES_REMEMBERED: Final = 1_000
_LINES_REMEMBERED: Final = 2_000

_Frames = Callable[[TracebackType | None], Any]
_Clean = Callable[[str], str]
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


def describe(error: BaseException, *, with_frames: bool = True, clean: _Clean = str) -> list[dict[str, Any]]:
    """Return the exception and its causes, outermost first: type, message, notes, frames and the members of a group.

    Frames carry file, line and function, no source and no locals. A cycle or a long chain ends early. ``clean`` scrubs
    a text.
    """
    return _Description(_lines_of if with_frames else None, clean).of(error, frozenset())


class Describer:
    """Describes exceptions for the store: scrubbed, and with the source around each frame of the app.

    ``is_in_app`` says which frames are the app's, ``clean`` scrubs a text. Thread-safe.
    """

    def __init__(self, is_in_app: Callable[[FrameType], bool], clean: _Clean) -> None:
        self._is_in_app = is_in_app
        self._clean = clean
        self._sources: dict[tuple[str, int, bool], list[list[Any]]] = {}

    def describe(self, error: BaseException) -> list[dict[str, Any]]:
        """Return the chain like ``describe``, each frame a dict: file, line, function, in_app, and source as pairs of
        line number and text.
        """
        return _Description(self._frames, self._clean, first={"is": ""}).of(error, frozenset())

    def _frames(self, traceback: TracebackType | None) -> list[dict[str, Any]]:
        head, left_out, tail = _head_and_tail(traceback)
        mark = {"file": "", "line": 0, "function": f"... {left_out} frames left out ...", "in_app": False, "source": []}
        return [*map(self._frame, head), *([mark] if left_out else []), *map(self._frame, tail)]

    def _frame(self, traceback: TracebackType) -> dict[str, Any]:
        frame, line = traceback.tb_frame, traceback.tb_lineno
        in_app = self._is_in_app(frame)
        has_source = in_app or traceback.tb_next is None  # each file of a library would be read for one line
        return {
            "file": frame.f_code.co_filename,
            "line": line,
            "function": frame.f_code.co_qualname,
            "in_app": in_app,
            "source": self._source(frame, line, in_app) if has_source else [],
        }

    def _source(self, frame: FrameType, line: int, in_app: bool) -> list[list[Any]]:
        key = (frame.f_code.co_filename, line, in_app)
        source = self._sources.get(key)
        if source is None:
            source = self._read_source(frame, line, SOURCE_AROUND if in_app else 0)
            if len(self._sources) >= _SOURCES_REMEMBERED:
                self._sources.clear()
            self._sources[key] = source
        return source

    def _read_source(self, frame: FrameType, line: int, around: int) -> list[list[Any]]:
        first = max(1, line - around)
        lines = source_lines(frame)[first - 1 : line + around]
        text = self._clean("\n".join(clip(one.rstrip(), SOURCE_WIDTH) for one in lines))
        return [[first + number, one] for number, one in enumerate(text.split("\n"))] if lines else []


def source_lines(frame: FrameType) -> list[str]:
    """Return the lines of the file that a frame's code is from, as Python knows them; none where it has no source.

    The file is read once per process: after a deploy under a running process, it may be of another version.
    """
    try:
        return linecache.getlines(frame.f_code.co_filename, frame.f_globals)
    except Exception:  # a loader of the app's may raise anything
        return []


def next_in_chain(error: BaseException) -> tuple[BaseException | None, str]:
    """Return what led to an exception, and how: ``cause`` or ``context``."""
    if error.__cause__ is not None:
        return error.__cause__, "cause"
    return (None, "") if error.__suppress_context__ else (error.__context__, "context")


def type_name(error: BaseException) -> str:
    """Return the name of the exception's class, with its module unless that is ``builtins``."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def message_of(error: BaseException) -> str:
    """Return the text of an exception, clipped, or a stand-in when its ``__str__`` raises."""
    try:
        return clip(str(error))
    except Exception as broken:
        return f"<str raised {type(broken).__name__}>"


class _Description:
    """One walk over an exception, its causes and members, which ends when it has described enough."""

    def __init__(self, frames: _Frames | None, clean: _Clean = str, first: Mapping[str, Any] = _NOTHING) -> None:
        self._frames = frames
        self._clean = clean
        self._first = first
        self._left = DESCRIBED

    def of(self, error: BaseException, path: frozenset[int]) -> list[dict[str, Any]]:
        """Return the chain of an exception, except what ``path``, the way to it, has shown already."""
        described: list[dict[str, Any]] = []
        current: BaseException | None = error
        link = ""
        while current is not None and id(current) not in path and len(described) < CHAIN and self._left > 0:
            self._left -= 1
            path |= {id(current)}
            described.append({**self._one(current, path), **({"is": link} if link else self._first)})
            current, link = next_in_chain(current)
        return described

    def _one(self, error: BaseException, path: frozenset[int]) -> dict[str, Any]:
        one: dict[str, Any] = {"type": type_name(error), "message": self._clean(message_of(error))}
        if self._frames is not None:
            one["frames"] = self._frames(error.__traceback__)
        if notes := getattr(error, "__notes__", None):
            one["notes"] = [self._clean(clip(str(note))) for note in notes[:MEMBERS]]
        if isinstance(error, BaseExceptionGroup):
            members = (self.of(member, path) for member in error.exceptions[:MEMBERS])
            one["members"] = [member for member in members if member]
        return one


def _lines_of(traceback: TracebackType | None) -> list[str]:
    head, left_out, tail = _head_and_tail(traceback)
    mark = [f"... {left_out} frames left out ..."] if left_out else []
    return [*map(_line_of, head), *mark, *map(_line_of, tail)]


def _line_of(traceback: TracebackType) -> str:
    """Return where a frame was; kept, because the same places raise again, and finding a line number takes long."""
    code = traceback.tb_frame.f_code
    place = (id(code), traceback.tb_lasti)
    known = _lines.get(place)
    if known is None or known[0] is not code:
        if len(_lines) >= _LINES_REMEMBERED:
            _lines.clear()
        known = _lines[place] = (code, f"{code.co_filename}:{traceback.tb_lineno} in {code.co_qualname}")
    return known[1]


_lines: dict[tuple[int, int], tuple[CodeType, str]] = {}


def _head_and_tail(traceback: TracebackType | None) -> tuple[list[TracebackType], int, list[TracebackType]]:
    """Return the first frames of a traceback, how many of the middle are left out, and the last frames."""
    frames = []
    while traceback is not None:
        frames.append(traceback)
        traceback = traceback.tb_next
    if len(frames) <= FRAMES:
        return frames, 0, []
    half = FRAMES // 2
    return frames[:half], len(frames) - 2 * half, frames[-half:]
