"""Kinds of keys: what may be told of one."""

from __future__ import annotations

import pytest

from monitoring.integrations.caches import keys
from monitoring.integrations.caches.keys import kind_of
from monitoring.integrations.layers import KeySpace, Layer, current_layer


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("users:42", "users"),
        (b"users:42", "users"),
        ("page_views:2026:11", "page_views"),
        ("user-sessions:abc", "user-sessions"),
        ("users-v2:42", "users-v2"),
        ("v12:users:42", "v12"),
        ("a" * 40 + ":1", "a" * 40),
        ("a" * 41 + ":1", ""),
        ("users", ""),
        ("", ""),
        (":1:users", ""),
        ("42:users", ""),
        ("user42:name", ""),
        ("users-v2026:42", ""),
        ("9f86d081884c7d65:x", ""),
        ("alice@example.org:profile", ""),
        ("a key:1", ""),
        ("__:1", ""),
        ("übung:1", ""),
        ("users\n:1", ""),
        (b"\xff\xfe:1", ""),
        (42, ""),
        (("users:", 1), ""),
    ],
)
def test_only_what_looks_like_a_word_is_told(key: object, kind: str) -> None:
    """It stands before the first colon, and has no digits but those of a version."""
    assert kind_of(key) == kind


def test_what_an_outer_cache_puts_in_front_is_passed_over() -> None:
    """Django's keys begin with a prefix and a version."""
    token = current_layer.set(Layer("cache", "sessions", KeySpace(object(), "site:1:")))
    try:
        assert [kind_of(key) for key in ("site:1:users:42", b"site:1:users:42", "users:42")] == ["users"] * 3
    finally:
        current_layer.reset(token)


def test_what_is_remembered_is_bounded() -> None:
    """Kinds beyond that are told all the same."""
    for number in range(2 * keys._KINDS_KEPT):
        word = "".join(chr(ord("a") + int(digit)) for digit in str(number))
        assert kind_of(f"{word}:1") == word
    assert len(keys._kinds) <= keys._KINDS_KEPT
