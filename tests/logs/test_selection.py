"""Which lines are wanted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from monitoring.logs import selection
from monitoring.logs.reading import UNKNOWN
from monitoring.logs.selection import Selection, Selector

ID = "4bf92f3577b34da6a3ce929d0e0e4736"
LINE = {
    "timestamp": "2027-01-15T08:00:00.250000Z",
    "level": "warning",
    "logger": "app.billing",
    "event": "charge refused",
    "request_id": ID,
    "trace_id": "aaaabbbbccccdddd",
    "user_id": "ada",
    "status": 500,
    "late": True,
    "nothing": None,
    "share": 0.5,
    "text": "7",
    "flat.name": "x",
    "card": {"kind": "debit", "limits": {"day": 100}},
}
AT = 1_800_000_000.25


def is_wanted(line: object, **asked: Any) -> bool:
    """Whether a line passes."""
    text = line if isinstance(line, bytes) else json.dumps(line).encode()
    return bool(list(Selector(Selection(**asked))([text])))


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({}, True),
        ({"request": ID}, True),
        ({"request": ID[:8]}, True),
        ({"request": ID[:7]}, False),
        ({"request": ID[8:16]}, False),
        ({"request": "aaaabbbb"}, True),
        ({"user": "ada"}, True),
        ({"user": "ad"}, False),
        ({"level": "debug"}, True),
        ({"level": "warning"}, True),
        ({"level": "error"}, False),
        ({"event": "charge refused"}, True),
        ({"event": "charge"}, False),
        ({"event": "charge *"}, True),
        ({"event": "CHARGE *"}, False),
        ({"event": "charge [a-z]*"}, True),
        ({"logger": "app"}, True),
        ({"logger": "app.billing"}, True),
        ({"logger": "billing"}, False),
        ({"grep": '"status": 500'}, True),
        ({"grep": "STATUS"}, False),
        ({"since": AT}, True),
        ({"since": AT + 0.001}, False),
        ({"until": AT}, True),
        ({"until": AT - 0.001}, False),
        ({"level": "warning", "user": "bob"}, False),
    ],
)
def test_what_is_asked_for_decides(asked: dict[str, Any], wanted: bool) -> None:
    """All of it has to be there."""
    assert is_wanted(LINE, **asked) is wanted


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("status", "500", True),
        ("status", "50", False),
        ("late", "true", True),
        ("late", "1", False),
        ("nothing", "null", True),
        ("missing", "null", False),
        ("share", "0.5", True),
        ("text", "7", True),
        ("event", "charge refused", True),
        ("flat.name", "x", True),
        ("card.kind", "debit", True),
        ("card.limits.day", "100", True),
        ("card.limits", '{"day":100}', True),
        ("card.limits.day.hour", "1", False),
        ("status.x", "1", False),
    ],
)
def test_a_field_has_the_value_that_a_person_types(name: str, value: str, wanted: bool) -> None:
    """A number as text, too; a.b is a field within an object, unless there is one of that name."""
    assert is_wanted(LINE, where=((name, value),)) is wanted


def test_several_fields_have_to_fit_all() -> None:
    """Not any."""
    assert is_wanted(LINE, where=(("status", "500"), ("late", "true")))
    assert not is_wanted(LINE, where=(("status", "500"), ("late", "false")))


@pytest.mark.parametrize(("level", "wanted"), [("WARN", True), ("FATAL", True), ("INFO", False), ("loud", False)])
def test_levels_of_other_writers_are_understood(level: str, wanted: bool) -> None:
    """One that is unknown is below all."""
    assert is_wanted({"level": level}, level="warning") is wanted


@pytest.mark.parametrize("user", ["José", 'a"b', "a\\b", "a/b", "o'neill"])
def test_a_user_is_found_however_it_is_escaped(user: str) -> None:
    """What JSON may write in several ways is not looked for in the bytes."""
    assert is_wanted({"user_id": user}, user=user)
    escaped = "".join(f"\\u{ord(one):04x}" for one in user)
    assert is_wanted(f'{{"user_id":"{escaped}"}}'.encode(), user=user)


def test_a_line_that_has_no_user_is_nobodys() -> None:
    """Also not the one of a user called null."""
    assert not is_wanted({"event": "null"}, user="null")
    assert not is_wanted({"event": "null", "user_id": ["null"]}, user="null")


@pytest.mark.parametrize("asked", [{"request": ID}, {"user": "ada-lovelace"}, {"event": "none such"}, {"grep": "none"}])
def test_lines_without_the_text_are_not_parsed(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for their fields nor for their time."""
    monkeypatch.setattr(selection, "object_of", _fail)
    monkeypatch.setattr(selection, "moment_of", _fail)
    assert not is_wanted({"event": "another", "timestamp": "2027-01-15T08:00:00Z"}, **asked)
    with pytest.raises(AssertionError, match="parsed"):
        is_wanted({"event": f"{ID} ada-lovelace none such"}, **asked)


def _fail(line: bytes) -> None:
    raise AssertionError("parsed")


@pytest.mark.parametrize(
    "asked",
    [{"request": ID}, {"user": "a"}, {"level": "debug"}, {"event": "*"}, {"logger": "a"}, {"where": (("a", "1"),)}],
)
def test_text_passes_no_question_about_fields(asked: dict[str, Any]) -> None:
    """It has none."""
    assert not is_wanted(f"a {ID} text".encode(), **asked)
    assert is_wanted(f"a {ID} text".encode(), grep=ID)


def test_text_has_the_time_of_the_line_before_it() -> None:
    """Also when that line is not wanted, and when it came at the last look."""
    selector = Selector(Selection(grep="text", since=AT))
    late = json.dumps(LINE).encode().replace(b"text", b"t")
    early = late.replace(b"2027", b"2026")
    assert list(selector([b"text 0", early, b"text 1", late, b"text 2"])) == [(AT, b"text 2")]
    assert list(selector([b"text 3"])) == [(AT, b"text 3")]


def test_an_object_without_a_time_has_that_of_the_line_before_it() -> None:
    """The last one that has a time; before any, it is older than all."""
    bare, timed, odd = b'{"event":"x"}', json.dumps(LINE).encode(), b'{"event":"time"}'
    assert [line.at for line in Selector(Selection())([bare, timed, bare, odd, bare])] == [UNKNOWN, AT, AT, AT, AT]


def test_empty_lines_are_not_wanted() -> None:
    """They say nothing."""
    assert not is_wanted(b"")
