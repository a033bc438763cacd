"""A log line for people: one line of text, and an exception's stack below it.

Nothing that a value holds reaches the terminal as a control sequence: what is not printable is written as an escape
such as ``\\x1b`` or ``\\n``.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import orjson

from ..utils.plain import clip, to_plain

_RESET: Final = "\x1b[0m"
_DIM: Final = "\x1b[2m"
_BOLD: Final = "\x1b[1m"
_KEY: Final = "\x1b[36m"
_LEVEL_COLOURS: Final[Mapping[str, str]] = {
    "debug": "\x1b[2m",
    "info": "\x1b[32m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[1;31m",
}
_LEVEL_WIDTH: Final = 8
_BELOW: Final = ("stack", "exception")
_APART: Final = frozenset({"timestamp", "level", "logger", "event", *_BELOW})
_IDS: Final = ("request_id", "trace_id", "span_id", "user_id", "service")
_VALUE_LENGTH: Final = 1000
_EVENT_LENGTH: Final = 4096
_STACK_LINES: Final = 1000
_DEPTH: Final = 20
"""Groups within groups whose members are shown."""
_LINKS: Final[Mapping[str, str]] = {"cause": "caused by ", "context": "while handling "}
_NAMED: Final[Mapping[str, str]] = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_QUOTED: Final = frozenset(" \"'=\\")

Paint = Callable[[str, str], str]


def pretty(line: Mapping[str, Any], colours: bool) -> str:
    """Return a line for people, without a newline at the end; an exception takes more lines below it, indented.

    Time to the millisecond, level, event, logger, the fields, then the IDs. With a request ID, the IDs of trace and
    span are left out. Values of more than 1,000 characters are cut. Never raises for what JSON can hold.
    """
    paint = _paint if colours else _leave
    level = visible(str(line.get("level", "")))
    head = [
        paint(_DIM, _moment(line.get("timestamp"))),
        paint(_LEVEL_COLOURS.get(level.lower(), ""), level.ljust(_LEVEL_WIDTH)),
        paint(_BOLD, _event(line.get("event", ""))),
    ]
    if line.get("logger"):
        head.append(paint(_DIM, f"[{visible(clip(str(line['logger']), _VALUE_LENGTH))}]"))
    shown = "  ".join(head)
    fields = " ".join(_field(key, value, paint) for key, value in _fields(line))
    stack = [f"    {paint(_DIM, one)}" for key in _BELOW for one in _stack(line.get(key))]
    return "\n".join([f"{shown}  {fields}" if fields else shown, *stack])


def visible(text: str) -> str:
    """Return ``text`` with escapes for what a terminal would obey or hide: controls, newlines, marks of direction."""
    return text if text.isprintable() else "".join(map(_visible_character, text))


def _visible_character(one: str) -> str:
    if one.isprintable() or unicodedata.category(one) == "Zs":
        return one
    return _NAMED.get(one) or one.encode("unicode_escape").decode("ascii")


def _paint(colour: str, text: str) -> str:
    return f"{colour}{text}{_RESET}" if colour else text


def _leave(colour: str, text: str) -> str:
    return text


def _moment(timestamp: object) -> str:
    """Return a time as it is written, to the millisecond where it has our form."""
    text = visible(clip(str(timestamp or "-"), 40))
    has_our_form = len(text) == 27 and text[10] == "T" and text[26] == "Z"
    return f"{text[:10]} {text[11:23]}Z" if has_our_form else text


def _event(event: object) -> str:
    return visible(clip(event, _EVENT_LENGTH)) if isinstance(event, str) else _value(event)


def _fields(line: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in line.items():
        if key not in _APART and key not in _IDS:
            yield key, value
    hidden = ("trace_id", "span_id") if line.get("request_id") else ()
    for key in _IDS:
        if key in line and key not in hidden:
            yield key, line[key]


def _field(key: str, value: object, paint: Paint) -> str:
    return f"{paint(_KEY, _text(key))}={_value(value)}"


def _value(value: object) -> str:
    return _text(value) if isinstance(value, str) else visible(clip(_json(value), _VALUE_LENGTH))


def _text(text: str) -> str:
    """Return a text bare, or in quotes where it would not be seen where it begins and ends."""
    text = clip(text, _VALUE_LENGTH)
    if text and text.isprintable() and _QUOTED.isdisjoint(text):
        return text
    return '"' + visible(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _json(value: object) -> str:
    try:
        return orjson.dumps(value).decode()
    except Exception:  # nested deeper than it encodes, or a value that is not JSON's
        return orjson.dumps(to_plain(value)).decode()


def _stack(exception: object) -> Iterator[str]:
    if isinstance(exception, list):
        yield from _chain(exception, 0)
    elif isinstance(exception, str):
        yield from map(visible, exception.splitlines()[:_STACK_LINES])
    elif exception is not None:
        yield _value(exception)


def _chain(chain: list[Any], depth: int) -> Iterator[str]:
    for one in chain:
        if isinstance(one, Mapping):
            yield from _exception(one, depth)
        else:
            yield _value(one)


def _exception(one: Mapping[str, Any], depth: int) -> Iterator[str]:
    link = _LINKS.get(str(one.get("is")), "")
    yield f"{link}{visible(str(one.get('type', '')))}: {visible(str(one.get('message', '')))}"
    for note in _list(one.get("notes")):
        yield f"  note: {visible(str(note))}"
    for frame in _list(one.get("frames")):
        yield f"  {visible(str(frame))}"
    for number, member in enumerate(_list(one.get("members")), 1):
        yield f"  member {number}:"
        if depth < _DEPTH:
            yield from (f"    {text}" for text in _chain(_list(member), depth + 1))


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
