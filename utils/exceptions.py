"""An exception as plain data: its chain, its groups, and its frames, bounded and without locals."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final

from .plain import clip

CHAIN: Final = 20
MEMBERS: Final = 50
FRAMES: Final = 50
"""Frames kept of a traceback; the middle of a longer one is left out."""


def describe(error: BaseException, *, with_frames: bool = True) -> list[dict[str, Any]]:
    """Return the exception and its causes, outermost first: type, message, notes, frames and the members of a group.

    Frames carry file, line and function, no source and no locals. A cycle or a long chain ends early.
    """
    described: list[dict[str, Any]] = []
    seen: set[int] = set()
    current: BaseException | None = error
    link = ""
    while current is not None and id(current) not in seen and len(described) < CHAIN:
        seen.add(id(current))
        described.append({**_describe_one(current, with_frames), **({"is": link} if link else {})})
        current, link = _next_in_chain(current)
    return described


def _describe_one(error: BaseException, with_frames: bool) -> dict[str, Any]:
    kind = type(error)
    one: dict[str, Any] = {
        "type": kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}",
        "message": _message(error),
    }
    if with_frames:
        one["frames"] = _frames(error.__traceback__)
    if notes := getattr(error, "__notes__", None):
        one["notes"] = [clip(str(note)) for note in notes[:MEMBERS]]
    if isinstance(error, BaseExceptionGroup):
        one["members"] = [describe(member, with_frames=with_frames) for member in error.exceptions[:MEMBERS]]
    return one


def _next_in_chain(error: BaseException) -> tuple[BaseException | None, str]:
    if error.__cause__ is not None:
        return error.__cause__, "cause"
    return (None, "") if error.__suppress_context__ else (error.__context__, "context")


def _message(error: BaseException) -> str:
    try:
        return clip(str(error))
    except Exception as broken:
        return f"<str raised {type(broken).__name__}>"


def _frames(traceback: TracebackType | None) -> list[str]:
    frames = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append(f"{code.co_filename}:{traceback.tb_lineno} in {code.co_qualname}")
        traceback = traceback.tb_next
    if len(frames) > FRAMES:
        half = FRAMES // 2
        frames = [*frames[:half], f"... {len(frames) - 2 * half} frames left out ...", *frames[-half:]]
    return frames
