"""Explaining where a line would go: what it says is what happens."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import monitoring
from monitoring.logs.outlets import Filtered

from .outlets import Kept


def explained(logger: str = "app", level: str = "info") -> str:
    """Return the explanation as one text."""
    return "\n".join(monitoring.current().explain_log(logger, level))


def test_a_line_that_is_written_is_followed_to_its_destinations(tmp_path: Path) -> None:
    """Each handler says yes, or why not."""
    kept, strict, other = Kept(), Kept("error"), Filtered(Kept(), loggers=("jobs",))
    path = tmp_path / "log"
    monitoring.configure(log_destination=str(path), log_handlers=[kept, strict, other])
    said = explained().splitlines()
    assert said[0] == "app writes from info on (log_level): a line of level info is written."
    assert said[1] == f"It goes to {path}."
    assert said[2] == "It goes to Kept(level='debug')."
    assert said[3] == "It does not go to Kept(level='error'): that takes lines from error on."
    assert said[4].endswith(": only loggers jobs.")


def test_a_line_that_is_not_written_says_so(tmp_path: Path) -> None:
    """Or that it is held."""
    monitoring.configure(log_destination=str(tmp_path / "log"))
    assert "a line of level debug is not written." in explained(level="debug")
    monitoring.configure(log_destination=str(tmp_path / "log"), log_debug_on_failure=True)
    assert "a line of level debug is held until its request fails." in explained(level="debug")


def test_a_filter_is_not_asked_about_a_line_that_is_not_there(tmp_path: Path) -> None:
    """What it says depends on the line's fields."""
    handler = Filtered(Kept(), where=lambda line: line.get("funder") == "NSF")
    monitoring.configure(log_destination=str(tmp_path / "log"), log_handlers=[handler])
    said = explained().splitlines()[-1]
    assert said.startswith("It goes to Filtered(")
    assert said.endswith(", if its filter says yes to the line.")


def test_a_level_that_does_not_exist_is_one_sentence(tmp_path: Path) -> None:
    """With those that do."""
    monitoring.configure(log_destination=str(tmp_path / "log"))
    with pytest.raises(ValueError, match=r"^level must be one of debug, info, warning, error, critical, got 'warn'\.$"):
        explained(level="warn")


def test_a_disabled_logger_is_told(tmp_path: Path) -> None:
    """It looks as if its level were wrong, and is not."""
    monitoring.configure(log_destination=str(tmp_path / "log"))
    logger = logging.getLogger("silenced")
    logger.disabled = True
    try:
        said = explained("silenced")
    finally:
        logger.disabled = False
    assert "The stdlib logger silenced is disabled" in said
    assert "is set to" not in said


def test_a_share_of_requests_is_told(tmp_path: Path) -> None:
    """Below warning."""
    monitoring.configure(log_destination=str(tmp_path / "log"), log_sample_rate=0.25)
    assert "Of requests, 25% write lines of this level." in explained()
    assert "Of requests" not in explained(level="warning")


def test_obstacles_of_the_stdlib_are_told(tmp_path: Path) -> None:
    """Its own level, handlers, and a logger that does not propagate."""
    monitoring.configure(log_destination=str(tmp_path / "log"))
    logger = logging.getLogger("obstructed")
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    handler = logging.NullHandler()
    logger.addHandler(handler)
    try:
        said = explained("obstructed.below")
    finally:
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
        logger.removeHandler(handler)
    assert "As a stdlib logger it is set to ERROR" in said
    assert "obstructed has handlers of its own as well: NullHandler." in said
    assert "obstructed does not propagate" in said


def test_a_stdlib_logger_with_a_level_of_its_own_is_told(tmp_path: Path) -> None:
    """The app has set it, and its records are written: what is explained is what happens."""
    path = tmp_path / "log"
    monitoring.configure(log_destination=str(path), log_sample_rate=0.5)
    logger = logging.getLogger("own")
    logger.setLevel(logging.DEBUG)
    try:
        logger.debug("written")
        said = explained("own", "debug")
    finally:
        logger.setLevel(logging.NOTSET)
    assert "As a stdlib logger it is set to DEBUG by the app, and writes it." in said
    assert "written" in path.read_text()
