"""What a check says when it fails: one short sentence without secrets."""

from __future__ import annotations

from monitoring.health import checks
from monitoring.health.checks.telling import sentence


class Wrapped(Exception):
    """As SQLAlchemy's errors hold a driver's."""

    orig = ConnectionError("server closed the connection\nand more")


class Unspeakable(Exception):
    """One whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError


def test_a_sentence_is_one_clipped_line() -> None:
    """The class, and the first line of the text."""
    assert sentence(ValueError("one\ntwo")) == "ValueError: one"
    assert sentence(ValueError()) == "ValueError"
    assert len(sentence(ValueError("word " * 200))) <= 200


def test_a_drivers_own_error_is_told() -> None:
    """Without the statement around it."""
    assert sentence(Wrapped("(OperationalError) [SQL: SELECT 1]")) == "ConnectionError: server closed the connection"


def test_an_error_without_a_text_is_told_by_its_class() -> None:
    """It breaks nothing."""
    assert sentence(Unspeakable()) == "Unspeakable"


def test_secrets_are_taken_out() -> None:
    """By the rules of the log."""
    text = sentence(ValueError("cannot connect to postgresql://app:hunter2secret@db/app"))
    assert "hunter2secret" not in text


def test_every_check_is_there_with_a_docstring() -> None:
    """What users import."""
    assert sorted(checks.__all__) == checks.__all__
    assert all((getattr(checks, name).__doc__ or "").startswith("Check ") for name in checks.__all__)
