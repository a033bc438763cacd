"""Exceptions as plain data: for a log line without source, for the store scrubbed and with it."""

from __future__ import annotations

import json
import linecache
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from monitoring.utils.exceptions import CHAIN, FRAMES, SOURCE_AROUND, Describer, describe, message_of, type_name


def raised(error: BaseException) -> BaseException:
    """Return the exception with a traceback."""
    try:
        raise error
    except BaseException as caught:
        return caught


def upper(text: str) -> str:
    """Stand in for a scrubber: what went through it is seen."""
    return text.upper()


def is_here(frame: FrameType) -> bool:
    """Take this file as the app."""
    return frame.f_code.co_filename == __file__


def unchanged(text: str) -> str:
    """Clean nothing."""
    return text


# The form of a log line


def test_a_line_has_type_message_and_frames() -> None:
    """A frame is one text: file, line and function."""
    (one,) = describe(raised(ValueError("no")))
    assert one["type"] == "ValueError"
    assert one["message"] == "no"
    (frame,) = one["frames"]
    assert frame.startswith(f"{__file__}:")
    assert frame.endswith(" in raised")
    assert set(one) == {"type", "message", "frames"}


def test_a_line_may_leave_out_the_frames() -> None:
    """When they are on another line already."""
    assert describe(raised(ValueError("no")), with_frames=False) == [{"type": "ValueError", "message": "no"}]


def test_causes_and_contexts_follow() -> None:
    """Each says what it is; ``from None`` ends the chain."""
    error = ValueError("outer")
    error.__cause__ = KeyError("cause")
    error.__cause__.__context__ = OSError("context")
    assert [(one["type"], one.get("is")) for one in describe(error)] == [
        ("ValueError", None),
        ("KeyError", "cause"),
        ("OSError", "context"),
    ]
    error.__cause__.__suppress_context__ = True
    assert len(describe(error)) == 2


def test_notes_and_members_are_there() -> None:
    """The members of a group are chains of their own."""
    group = ExceptionGroup("tasks", [ValueError("a"), ExceptionGroup("inner", [KeyError("b")])])
    group.add_note("in the night")
    (one,) = describe(group, with_frames=False)
    assert one["notes"] == ["in the night"]
    assert [member[0]["type"] for member in one["members"]] == ["ValueError", "ExceptionGroup"]
    assert one["members"][1][0]["members"] == [[{"type": "KeyError", "message": "'b'"}]]


def test_a_long_chain_is_cut() -> None:
    """Twenty are enough."""
    first = error = ValueError("0")
    for number in range(50):
        error.__cause__ = error = ValueError(str(number))
    assert len(describe(first)) == CHAIN


def test_cycles_end() -> None:
    """Also one through a group and its own member, and one that doubles at each step."""
    loop = ValueError("x")
    loop.__cause__ = loop
    member = ValueError("y")
    member.__context__ = ExceptionGroup("g", [member, KeyError("z")])
    deep: BaseException = ValueError("leaf")
    for _ in range(40):
        deep = BaseExceptionGroup("twice", [deep, deep])
    assert len(describe(loop)) == 1
    assert json.dumps(describe(member)).count("KeyError") == 1
    assert len(json.dumps(describe(deep, with_frames=False))) < 100_000


def recurse(depth: int) -> None:
    """Raise from far down."""
    if depth == 0:
        raise ValueError("bottom")
    recurse(depth - 1)


def test_the_middle_of_a_long_traceback_is_left_out() -> None:
    """Head and tail stay, with a mark between that says how much is missing."""
    with pytest.raises(ValueError, match="bottom") as caught:
        recurse(200)
    (one,) = describe(caught.value)
    assert len(one["frames"]) == FRAMES + 1
    assert one["frames"][FRAMES // 2] == f"... {202 - FRAMES} frames left out ..."
    assert one["frames"][-1].endswith("in recurse")


class Unprintable(Exception):
    """Has a broken ``__str__``."""

    def __str__(self) -> str:
        raise RuntimeError("no")


def test_a_broken_str_is_named() -> None:
    """Nothing of it is raised."""
    assert message_of(Unprintable()) == "<str raised RuntimeError>"
    assert describe(Unprintable(), with_frames=False)[0]["message"] == "<str raised RuntimeError>"


def test_types_carry_their_module_unless_built_in() -> None:
    """``ValueError``, but ``json.decoder.JSONDecodeError``."""
    assert type_name(ValueError()) == "ValueError"
    assert type_name(json.JSONDecodeError("x", "y", 0)) == "json.decoder.JSONDecodeError"


# The form of the store


def test_frames_have_source_and_say_whose_they_are() -> None:
    """Three lines around that of a frame of the app."""
    (one,) = Describer(is_here, unchanged).describe(raised(ValueError("no")))
    assert one["is"] == ""
    (frame,) = one["frames"]
    assert frame["file"] == __file__
    assert frame["function"] == "raised"
    assert frame["in_app"] is True
    assert dict(frame["source"])[frame["line"]] == "        raise error"
    assert len(frame["source"]) == 2 * SOURCE_AROUND + 1


def test_of_other_frames_only_the_last_shows_its_line() -> None:
    """Where the exception was raised; reading all files of a framework would hold up the request."""
    with pytest.raises(ValueError, match="bottom") as caught:
        recurse(1)
    (one,) = Describer(lambda frame: False, unchanged).describe(caught.value)
    *others, last = (frame["source"] for frame in one["frames"])
    assert others == [[], []]
    assert last == [[one["frames"][-1]["line"], '        raise ValueError("bottom")']]


def test_everything_readable_is_cleaned() -> None:
    """Messages, notes and source, of causes and members too."""
    error = raised(ValueError("no"))
    error.add_note("a note")
    error.__cause__ = ExceptionGroup("tasks", [KeyError("b")])
    outer, group = Describer(is_here, upper).describe(error)
    assert (outer["message"], outer["notes"]) == ("NO", ["A NOTE"])
    assert "        RAISE ERROR" in [text for _, text in outer["frames"][0]["source"]]
    assert group["is"] == "cause"
    assert group["members"][0][0]["message"] == "'B'"
    assert group["members"][0][0]["is"] == ""


def test_the_mark_of_missing_frames_is_a_frame() -> None:
    """So that a reader needs no exception for it."""
    with pytest.raises(ValueError, match="bottom") as caught:
        recurse(200)
    (one,) = Describer(is_here, unchanged).describe(caught.value)
    assert one["frames"][FRAMES // 2] == {
        "file": "",
        "line": 0,
        "function": f"... {202 - FRAMES} frames left out ...",
        "in_app": False,
        "source": [],
    }


@pytest.mark.parametrize("name", ["<string>", "/nowhere/gone.py"])
def test_code_without_source_shows_none(name: str) -> None:
    """Made by ``exec``, or from a file that is gone."""
    namespace: dict[str, Any] = {}
    exec(compile("def run(): raise ValueError('x')", name, "exec"), namespace)
    with pytest.raises(ValueError, match="x") as caught:
        namespace["run"]()
    frames = Describer(lambda frame: True, unchanged).describe(caught.value)[0]["frames"]
    assert frames[-1]["source"] == []


def test_a_loader_that_breaks_shows_none() -> None:
    """A ``get_source`` of the app's may raise anything."""

    class Loader:
        def get_source(self, name: str) -> str:
            raise RuntimeError("no")

    namespace: dict[str, Any] = {"__name__": "made", "__loader__": Loader()}
    exec(compile("def run(): raise ValueError('x')", "made.py", "exec"), namespace)
    with pytest.raises(ValueError, match="x") as caught:
        namespace["run"]()
    assert Describer(is_here, unchanged).describe(caught.value)[0]["frames"][-1]["source"] == []


def test_source_at_the_edges_of_a_file_is_numbered_right(tmp_path: Path) -> None:
    """The first line is number 1, and nothing is shown after the last."""
    path = tmp_path / "short.py"
    path.write_text("raise ValueError('x')\n")
    linecache.checkcache(str(path))
    with pytest.raises(ValueError, match="x") as caught:
        exec(compile(path.read_text(), str(path), "exec"), {})
    frames = Describer(lambda frame: True, unchanged).describe(caught.value)[0]["frames"]
    assert frames[-1]["source"] == [[1, "raise ValueError('x')"]]
