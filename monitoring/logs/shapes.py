"""What the main destination shows of a line: the line itself, with other names, or a form for people."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import orjson

from .lines import Shape
from .rendering import renamed


def shape_of(destination: str, form: str, names: Mapping[str, str], fields: Mapping[str, Any]) -> Shape | None:
    """Return what turns lines into what ``destination`` shows; None where they go there as they are."""
    in_terminal = _is_terminal(destination)
    if form == "pretty" or (form == "auto" and in_terminal):
        return _Pretty(colours=in_terminal and "NO_COLOR" not in os.environ)
    if names or fields:
        return _Renamed(names, fields)
    return None


class _Renamed:
    """Gives keys other names, and adds fields that are the same on each line."""

    def __init__(self, names: Mapping[str, str], fields: Mapping[str, Any]) -> None:
        self._names = dict(names)
        self._fields = dict(fields)

    def __call__(self, line: bytes) -> bytes:
        return renamed(line, self._names, self._fields)


class _Pretty:
    """Shows a line for people."""

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def __call__(self, line: bytes) -> bytes:
        from .pretty import pretty  # here, because few processes write to a terminal

        return (pretty(orjson.loads(line), colours=self._colours) + "\n").encode("utf-8", "replace")


def _is_terminal(destination: str) -> bool:
    stream = {"stdout": sys.stdout, "stderr": sys.stderr}.get(destination)
    try:
        return stream is not None and stream.isatty()
    except (AttributeError, ValueError):  # closed, or none at all
        return False
