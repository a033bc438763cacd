"""Rendering: whatever is logged, one valid line comes out, nothing is raised, and secrets are not in it."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import pathlib
import sys
import types
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.context import bind
from monitoring.logs.rendering import Renderer
from monitoring.utils.redaction import DEFAULT, Scrubber

RENDERER = Renderer("tests", DEFAULT)


def rendered(value: object = None, event: object = "kept", **fields: Any) -> dict[str, Any]:
    """Return the line of an event with a value, as it reads."""
    line = RENDERER.render("info", "app", event, {"value": value, **fields})
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    parsed: dict[str, Any] = json.loads(line, parse_constant=_refuse)
    return parsed


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int


class Raises:
    """Raises whatever is asked of it."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no attribute")


class Items(Mapping[str, Any]):
    """A mapping that raises when it is looked through."""

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("no item")

    def __iter__(self) -> Iterator[str]:
        yield "a"
        raise RuntimeError("no more")

    def __len__(self) -> int:
        return 5


class Text(str):
    """A text that raises when it is compared or shown."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    def __hash__(self) -> int:
        raise RuntimeError("no hash")


class Growing(dict[str, Any]):
    """A dict that changes while it is looked through."""

    def items(self) -> Any:
        for key in list(self.keys()):
            self[f"{key}+"] = 1
            yield key, self[key]


def _traceback() -> types.TracebackType | None:
    try:
        raise ValueError("x")
    except ValueError as error:
        return error.__traceback__


HOSTILE: dict[str, Any] = {
    "date": datetime.date(2026, 1, 1),
    "time": datetime.time(1, 2),
    "datetime": datetime.datetime(2026, 1, 1),
    "duration": datetime.timedelta(seconds=1),
    "uuid": uuid.UUID(int=1),
    "enum": Colour.RED,
    "enum class": Colour,
    "dataclass": Point(1),
    "bytes": b"\xff\x00",
    "bytes key": {b"\xff": 1},
    "exception": ValueError("x"),
    "traceback": _traceback(),
    "type": int,
    "function": len,
    "module": sys,
    "raises": Raises(),
    "raises inside": [{"a": Raises()}],
    "mapping that raises": Items(),
    "text that raises": Text("x"),
    "key that raises": {Text: 1},
    "growing dict": Growing(a=1),
    "not a number": float("nan"),
    "infinities": [float("inf"), float("-inf")],
    "decimal": decimal.Decimal("1.1"),
    "large": 2**70,
    "larger than text": 10**5000,
    "surrogate": "a\ud800b",
    "surrogate key": {"\ud800": 1},
    "control characters": "\x00\x1b[31m\u2028\n",
    "named tuple": collections.namedtuple("Pair", "a b")(1, 2),
    "set": {1, 2},
    "deque": collections.deque([1]),
    "counter": collections.Counter("aab"),
    "generator": (i for i in range(3)),
    "range": range(3),
    "path": pathlib.Path("/x"),
    "long": "x" * 1_000_000,
    "wide": dict.fromkeys(map(str, range(10_000)), 1),
    "tuple keys": {(1, 2): 3},
    "none key": {None: 1, True: 2, 1.5: 3},
    "memoryview": memoryview(b"abc"),
    "simple namespace": types.SimpleNamespace(a=1),
}


def _cyclic() -> dict[str, Any]:
    cycle: dict[str, Any] = {}
    cycle["self"] = [cycle]
    return cycle


def _deep() -> list[Any]:
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    return deep


HOSTILE |= {"cyclic": _cyclic(), "deep": _deep()}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_value_is_shown_or_stood_in_for(name: str) -> None:
    """As a field, nested, as the event, and bound."""
    value = HOSTILE[name]
    assert rendered(value)["event"] == "kept"
    assert rendered([{"nested": value}])["event"] == "kept"
    assert rendered(event=value)["level"] == "info"
    with bind(value=value):
        assert rendered()["event"] == "kept"


@pytest.mark.parametrize(
    "fields",
    [
        {"tree": [["x" * 4096] * 50] * 50, "small": 1},
        {"small": 1, **{f"text {number}": "\x00" * 4096 for number in range(45)}},
        {"small": 1, **{f"list {number}": ["\x00" * 1000] * 10 for number in range(45)}},
    ],
    ids=["one field", "many texts", "many lists"],
)
@pytest.mark.parametrize("scrubber", [None, DEFAULT], ids=["as it is", "scrubbed"])
def test_no_line_is_over_256_kib(fields: dict[str, Any], scrubber: Scrubber | None) -> None:
    """Whatever it is that is long: the rest of the line stays."""
    encoded = Renderer("tests", scrubber).render("info", "app", "long", fields)
    assert len(encoded) <= 256 * 1024
    line = json.loads(encoded)
    assert (line["event"], line["service"], line["small"]) == ("long", "tests", 1)
    assert line["log_error"].startswith("cut: the line had ")


def test_lines_are_bounded() -> None:
    """A huge value does not make a huge line; one that was cut says so."""
    for name in ("long", "wide", "deep", "larger than text"):
        line = RENDERER.render("info", "app", "x", {"value": HOSTILE[name]})
        assert len(line) < 20_000
    assert rendered("x" * 1_000_000)["log_error"].startswith("cut: the line had 1000")


@given(
    st.text() | st.integers() | st.none(),
    st.dictionaries(
        st.text(max_size=20),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes(),
            lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text() | st.integers(), inner, max_size=5),
            max_leaves=20,
        ),
        max_size=8,
    ),
)
def test_any_event_with_any_fields_is_one_valid_line(event: object, fields: dict[str, Any]) -> None:
    """With the pack's own keys, and every field under its name or ``field_<name>``."""
    line = RENDERER.render("info", "app", event, fields)
    found = json.loads(line, parse_constant=_refuse)
    assert line.count(b"\n") == 1
    assert (found["level"], found["logger"], found["service"]) == ("info", "app", "tests")


def test_secrets_are_taken_out_of_everything_on_a_line() -> None:
    """Event, fields by name and by look, bound fields, messages, notes and members of exceptions."""
    error = ExceptionGroup("password=hunter2a", [ValueError("token: abcdef123456")])
    error.add_note("api_key=abcdef123456")
    error.__cause__ = KeyError("secret=abcdef123456")
    with bind(authorization="Basic YWRhOnNlY3JldA=="):
        line = RENDERER.render(
            "error", "app", "login with password=hunter2a", {"token": "t0psecret", "url": "http://u:pw@h/"}, error
        )
    for secret in (b"hunter2a", b"abcdef123456", b"t0psecret", b"pw@", b"YWRhOnNlY3JldA"):
        assert secret not in line
    assert line.count(b"[scrubbed: ") >= 7


def test_without_a_scrubber_everything_stays() -> None:
    """scrub=False."""
    line = Renderer("tests").render("error", "app", "password=a1b2c3", {"token": "t"}, ValueError("secret=d4e5f6"))
    found = json.loads(line)
    assert (found["event"], found["token"]) == ("password=a1b2c3", "t")
    assert found["exception"][0]["message"] == "secret=d4e5f6"
