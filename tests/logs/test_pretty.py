"""Lines for people: what is shown of a line, and that no value gets at the terminal."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest

from monitoring.logs.pretty import pretty, visible
from monitoring.utils.exceptions import describe

LINE = {
    "timestamp": "2026-11-24T10:12:26.123456Z",
    "level": "warning",
    "logger": "app.billing",
    "event": "charge refused",
    "amount": 12.5,
    "retry": True,
}
HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\n\x9b31m\x7f\u202egnp.exe\u2028\x00"


def test_a_line_is_time_level_event_logger_and_fields() -> None:
    """In this order, in one line."""
    assert pretty(LINE, colours=False) == (
        "2026-11-24 10:12:26.123Z  warning   charge refused  [app.billing]  amount=12.5 retry=true"
    )


def test_colours_are_added_and_nothing_else() -> None:
    """Without them, the text is the same."""
    coloured = pretty(LINE, colours=True)
    assert "\x1b[33mwarning" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == pretty(LINE, colours=False)
    assert coloured.count("\x1b[0m") * 2 == coloured.count("\x1b")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("ada", "ada"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "hi"', r'"say \"hi\""'),
        ("back\\slash", r'"back\\slash"'),
        ("first\nsecond", r'"first\nsecond"'),
        ("Zürich", "Zürich"),
        ("東京\u3000駅", '"東京\u3000駅"'),
        (None, "null"),
        ({"a": [1, 2]}, '{"a":[1,2]}'),
    ],
)
def test_values_are_compact_and_unambiguous(value: object, shown: str) -> None:
    """A text is in quotes where one could not see where it ends."""
    assert pretty({"event": "x", "key": value}, colours=False).endswith(f" key={shown}")


@pytest.mark.parametrize(
    "key", ["timestamp", "level", "logger", "event", "request_id", "anything", "exception", "stack"]
)
@pytest.mark.parametrize("value", [HOSTILE, [HOSTILE], {HOSTILE: HOSTILE}])
def test_no_value_writes_to_the_terminal(key: str, value: object) -> None:
    """In no place of a line: no control character is left but the newline before a stack."""
    shown = pretty({"event": "x", key: value}, colours=False)
    assert all(part.isprintable() for part in shown.split("\n"))
    if key not in ("exception", "stack"):
        assert "\n" not in shown


def test_a_key_is_made_visible_too() -> None:
    """Keys come from callers as well."""
    assert r"\x1b[2J" in pretty({"event": "x", "\x1b[2J": 1}, colours=False)


def test_an_exception_made_visible_has_no_control_characters() -> None:
    """Type, message, notes, frames and members."""
    one: dict[str, Any] = {"type": HOSTILE, "message": HOSTILE, "notes": [HOSTILE], "frames": [HOSTILE]}
    shown = pretty({"event": "x", "exception": [{**one, "members": [[one]]}]}, colours=False)
    assert all(part.isprintable() for part in shown.split("\n"))
    assert len(shown.split("\n")) == 1 + 3 + 1 + 3


def test_what_is_made_visible_can_be_read() -> None:
    """As the escapes that programmers know."""
    assert visible("a\tb\r\n\x1b[31m\u202e\x9b") == r"a\tb\r\n\x1b[31m\u202e\x9b"


def test_an_exception_stands_below_with_its_frames_notes_causes_and_members() -> None:
    """Indented, the outermost first, as the line has it."""
    shown = pretty({"event": "x", "exception": describe(_raised())}, colours=False).split("\n")[1:]
    assert all(one.startswith("    ") for one in shown)
    texts = [one.strip() for one in shown]
    assert texts[:2] == [r"ExceptionGroup: two failed (2 sub-exceptions)", "note: a note"]
    assert re.fullmatch(r".*test_pretty\.py:\d+ in _raised", texts[2])
    assert texts[3:6] == ["member 1:", r"ValueError: first\nsecond", "member 2:"]
    assert texts[6] == "KeyError: 'k'"
    assert texts[7] == "caused by ZeroDivisionError: division by zero"


def _raised() -> BaseException:
    try:
        try:
            _ = 1 / 0
        except ZeroDivisionError as cause:
            error = ExceptionGroup("two failed", [ValueError("first\nsecond"), KeyError("k")])
            error.add_note("a note")
            raise error from cause
    except ExceptionGroup as group:
        return group


@pytest.mark.parametrize("key", ["exception", "stack"])
def test_a_stack_that_is_a_text_keeps_its_lines(key: str) -> None:
    """As other formatters, and stdlib's stack_info, write it."""
    assert pretty({"event": "x", key: "Traceback:\n  File\nboom"}, colours=False).split("\n")[1:] == [
        "    Traceback:",
        "      File",
        "    boom",
    ]


def test_with_a_request_id_the_other_ids_are_left_out() -> None:
    """They say the same, and are long."""
    ids = {"request_id": "r1", "trace_id": "t1", "span_id": "s1", "user_id": "u1", "service": "app"}
    shown = pretty({"event": "x", **ids, "field": 1}, colours=False)
    assert shown.endswith("x  field=1 request_id=r1 user_id=u1 service=app")
    assert "trace_id=t1 span_id=s1" in pretty({"event": "x", "trace_id": "t1", "span_id": "s1"}, colours=False)


def test_long_values_are_cut() -> None:
    """With their length."""
    shown = pretty({"event": "x", "key": "a" * 5000}, colours=False)
    assert shown.endswith('a... (5000 characters)"')
    assert len(shown) < 1200


@pytest.mark.parametrize("deep", ['{"a":' * 900 + "1" + "}" * 900, "[" * 900 + "]" * 900])
def test_deep_values_are_shown_somehow(deep: str) -> None:
    """Deeper than orjson encodes."""
    line = {"event": "x", "key": orjson.loads(deep)}
    assert pretty(line, colours=False).startswith("-")
    assert pretty({"event": "x", "exception": line["key"]}, colours=False).startswith("-")


def test_groups_within_groups_end() -> None:
    """A line of other makers may hold any depth."""
    one: dict[str, Any] = {"type": "E", "message": ""}
    for _ in range(300):
        one = {"type": "G", "message": "", "members": [[one]]}
    assert pretty({"exception": [one]}, colours=False).count("G:") == 21


@pytest.mark.parametrize("line", [{}, {"level": None, "event": 3, "timestamp": 17}, {"event": "x", "exception": [1]}])
def test_a_line_of_another_form_is_shown_too(line: dict[str, Any]) -> None:
    """With what it has."""
    assert pretty(line, colours=True)
