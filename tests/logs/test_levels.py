"""Levels: the nearest name decides, changes reach every worker, and run out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from monitoring.logs.levels import LevelError, Levels
from monitoring.testing import FakeClock


def levels(folder: Path | None = None, clock: FakeClock | None = None, **settings: str) -> Levels:
    """Return levels that share changes in a folder."""
    return Levels("info", settings, folder=lambda: folder, clock=clock or FakeClock())


def test_the_longest_configured_name_decides() -> None:
    """A logger follows what is set for itself, for those above it, for all."""
    found = Levels("info", {"app": "warning", "app.billing": "debug"})
    assert [found.of(name) for name in ("", "other", "app", "app.web", "app.billing.cards", "apple")] == [
        *(20, 20, 30, 30, 10, 20)
    ]


def test_a_change_holds_for_a_logger_and_those_below_it() -> None:
    """And for no other; None takes it back."""
    found = levels()
    found.set("debug", "app.billing")
    assert [found.of(name) for name in ("app.billing", "app.billing.cards", "app")] == [10, 10, 20]
    found.set(None, "app.billing")
    assert found.of("app.billing") == 20


def test_a_change_for_all_loggers_gives_way_to_a_nearer_one() -> None:
    """The root's name is empty."""
    found = levels(app="warning")
    found.set("debug")
    assert (found.of("other"), found.of("app")) == (10, 30)


def test_a_change_runs_out(tmp_path: Path) -> None:
    """After its seconds, without anybody doing anything."""
    clock = FakeClock()
    found = levels(tmp_path, clock)
    found.set("debug", seconds=60)
    clock.advance(59)
    assert (found.look(), found.of("app")) == (False, 10)
    clock.advance(2)
    assert (found.look(), found.of("app")) == (True, 20)


def test_another_worker_follows_at_its_next_look(tmp_path: Path) -> None:
    """Through the folder they share; it looks once a second."""
    clock = FakeClock()
    here, there = levels(tmp_path, clock), levels(tmp_path, clock)
    here.set("debug", "app")
    assert there.of("app") == 20
    assert there.look()
    assert there.of("app") == 10
    assert not there.look()


def test_changes_of_two_workers_join(tmp_path: Path) -> None:
    """One does not take the other's back."""
    clock = FakeClock()
    here, there = levels(tmp_path, clock), levels(tmp_path, clock)
    here.set("debug", "app")
    there.set("error", "library")
    here.look()
    assert (here.of("app"), here.of("library")) == (10, 40)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"app": 1}', '{"app": ["loud", 9e9]}', "\x00"])
def test_a_file_of_garbage_changes_nothing(tmp_path: Path, text: str) -> None:
    """And raises nothing."""
    (tmp_path / "levels.json").write_text(text)
    found = levels(tmp_path)
    found.look()
    assert found.of("app") == 20


def test_without_a_folder_a_change_holds_in_this_process() -> None:
    """Nothing is written anywhere."""
    found = levels(None)
    found.set("debug")
    assert found.of("app") == 10


def test_a_folder_that_cannot_be_written_changes_this_process_alone(tmp_path: Path) -> None:
    """The folder may be gone."""
    found = levels(tmp_path / "gone")
    found.set("debug")
    assert found.of("app") == 10
    assert not os.path.exists(tmp_path / "gone")


def test_an_unknown_level_is_one_sentence() -> None:
    """With what is accepted."""
    with pytest.raises(LevelError, match=r"level must be one of debug, info, .* or None, got 'loud'\."):
        levels().set("loud")


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf")])
def test_a_time_that_is_none_is_one_sentence(tmp_path: Path, seconds: float) -> None:
    """And changes nothing: calls of loggers ask for levels, and must not fail for it."""
    found = levels(tmp_path)
    with pytest.raises(LevelError, match=r"^seconds must be a positive number such as 900, got .*\.$"):
        found.set("debug", seconds=seconds)
    assert found.of("app") == 20
    assert list(tmp_path.iterdir()) == []


def test_a_time_without_an_end_in_the_file_fails_no_logger(tmp_path: Path) -> None:
    """Somebody may have written it."""
    (tmp_path / "levels.json").write_text('{"app": ["debug", Infinity]}')
    found = levels(tmp_path)
    assert found.look()
    assert (found.of("app"), found.gate("app")) == (10, 10)


class _ChangedMeanwhile(dict[str, str]):
    """Configured levels during whose first look another thread changes the level."""

    def __init__(self, levels: Levels) -> None:
        super().__init__(levels.configured)
        self._changes = [lambda: levels.set("debug", "app")]

    def __contains__(self, name: object) -> bool:
        if self._changes:
            self._changes.pop()()
        return super().__contains__(name)


@pytest.mark.parametrize("ask", [Levels.of, Levels.gate])
def test_a_change_while_a_level_is_looked_up_is_not_missed(ask: Callable[[Levels, str], int]) -> None:
    """What is remembered from before the change is not asked again."""
    found = levels()
    found.configured = _ChangedMeanwhile(found)
    ask(found, "app")
    assert (ask(found, "app"), found.gates.get("app", 10)) == (10, 10)


def test_two_changes_at_the_same_moment_are_both_seen(tmp_path: Path) -> None:
    """As the clocks of file systems have it, whose ticks are some milliseconds."""
    here, there = levels(tmp_path), levels(tmp_path)
    here.set("debug", "app")
    moment = os.stat(tmp_path / "levels.json").st_mtime_ns
    assert there.look()
    here.set("error", "app")
    os.utime(tmp_path / "levels.json", ns=(moment, moment))
    assert there.look()
    assert there.of("app") == 40


def test_gates_open_at_the_lowest_level_when_lines_are_held() -> None:
    """The calls must come through, so that a failed request has them."""
    holding = Levels("warning", hold=True)
    assert (holding.gate("app"), holding.of("app")) == (10, 30)
    assert levels().gate("app") == 20


def test_a_change_is_told() -> None:
    """To those who keep something that depends on levels."""
    told: list[str] = []
    found = levels()
    found.on_change.append(lambda: told.append("changed"))
    found.set("debug")
    found.look()
    assert told == ["changed"]


def test_why_a_logger_has_its_level_is_explained() -> None:
    """Where it was set, and how long a change still lasts."""
    found = levels(app="warning")
    found.set("debug", "app.billing", seconds=60)
    assert found.explain("other") == ("info", "log_level")
    assert found.explain("app.web") == ("warning", "configured for app")
    assert found.explain("app.billing") == ("debug", "set at run time for app.billing, 60 s left")
