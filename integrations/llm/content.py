"""What was asked and answered, of the share of calls that ``llm_content`` says: only the store ever sees it, scrubbed.

Texts are found by the names that providers have for them. What is no text, such as images and arguments of tools, is
left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import random
from typing import Any, Final

from monitoring.calls import CONTENT_CHARACTERS
from monitoring.monitor import current

from .usage import fields

_ASKED: Final = ("system", "instructions", "messages", "contents", "input", "inputs", "prompt", "message")
_INSIDE: Final = ("content", "parts", "text")
_ANSWERED: Final = ("choices", "candidates", "output", "message", "delta", "generations", *_INSIDE)
_DEPTH: Final = 8


class Content:
    """The texts of one call, as far as they are kept."""

    __slots__ = ("_answer", "_prompt")

    def __init__(self, asked: Any) -> None:
        self._prompt, self._answer = _Text(), _Text()
        self._prompt.add_from(asked, (*_ASKED, *_INSIDE), "\n")

    def take(self, item: Any) -> None:
        """Take the text of a whole answer."""
        self._answer.add_from(item, _ANSWERED, "\n")

    def take_chunk(self, chunk: Any) -> None:
        """Take the text of a chunk of one. An event that repeats the whole answer adds nothing."""
        told = fields(chunk)
        kind = str(getattr(told.get("type"), "value", told.get("type")))
        if told.get("response") is None and not kind.endswith((".done", "_stop")):
            self._answer.add_from(chunk, _ANSWERED, "")

    def told(self) -> Mapping[str, str]:
        """Return what was asked and answered."""
        return {"prompt": str(self._prompt).strip(), "answer": str(self._answer).strip()}


def begin(asked: Any) -> Content | None:
    """Return where to gather the texts of a call, None for most calls, and for all unless they were asked for.

    ``asked`` are its arguments by name, or the only one in a tuple.
    """
    share = current().config.llm_content
    if share and random() < share:
        return Content(asked[0] if isinstance(asked, tuple) and asked else asked)
    return None


class _Text:
    """Pieces of text up to a bound."""

    __slots__ = ("_left", "_pieces")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._left = CONTENT_CHARACTERS

    def __str__(self) -> str:
        return "".join(self._pieces)

    def add_from(self, value: Any, names: tuple[str, ...], between: str, depth: int = _DEPTH) -> None:
        """Add what is text under one of the names, with ``between`` after each."""
        if self._left <= 0 or depth == 0:
            return
        told = fields(value)
        for name in names:
            inside = told.get(name)
            if isinstance(inside, str):
                self._add(inside + between)
            elif isinstance(inside, (list, tuple)):
                for one in inside:
                    if isinstance(one, str):
                        self._add(one + between)
                    else:
                        self.add_from(one, names, between, depth - 1)
            elif inside is not None:
                self.add_from(inside, names, between, depth - 1)

    def _add(self, text: str) -> None:
        piece = text[: max(0, self._left)]
        self._pieces.append(piece)
        self._left -= len(piece)
