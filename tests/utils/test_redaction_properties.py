"""Scrubbing holds for any input: it never raises, it is done after one time, and it ends on hostile texts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from monitoring.utils.redaction import DEFAULT, scrub, scrub_text

LARGE = 200_000

PIECES = st.sampled_from(
    [
        *(
            "password",
            "token",
            "API key",
            "db_password",
            "Cookie",
            "authorization",
            "session id",
            "pwd",
            "name",
            "value",
        ),
        *("=", ": ", ":", " = ", "=>", "%3D", "&", ",", ";", " ", "\n", "'", '"', '\\"', "(", ")", "[", "]", "{", "}"),
        *(
            "--",
            "-p ",
            "-u ",
            "</",
            "<",
            ">",
            "://",
            "//",
            "@",
            "/",
            "\\",
            "%26",
            "%5B",
            ".",
            "_",
            "-",
            " is ",
            " for ",
        ),
        *("hunter2", "Bearer ", "Basic ", "abcDEF123456ghij", "eyJhbGciOi.eyJzdWIi.c2ln", "ada@example.org", "4111"),
        *("4111 1111 1111 1111", "AKIAABCDEFGHIJKLMNOP", "sk-abcdefghijklmnopqrst", "ghp_abcdefghijklmnopqrstuvwx"),
        *("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "mysql", "docker login", "identified by '"),
        *(
            "[scrubbed: token]",
            "[scrubbed: private key]",
            "[scrubbed: ",
            "None",
            "${X}",
            "str",
            "123456",
            "1.5",
            "ü",
            "\0",
        ),
        *("form-data; name=", "sig=", "is your code", "host:80", "tcp("),
    ]
)
TEXTS = st.one_of(st.text(max_size=200), st.lists(PIECES, max_size=14).map("".join))
VALUES = st.recursive(
    st.one_of(TEXTS, st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.binary(max_size=50)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.one_of(PIECES, TEXTS), inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(TEXTS)
def test_a_text_that_was_scrubbed_stays_as_it_is(text: str) -> None:
    """Scrubbing twice is scrubbing once: a mark is no secret."""
    once = scrub_text(text)
    assert scrub_text(once) == once


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_a_value_that_was_scrubbed_stays_as_it_is(value: Any) -> None:
    """At every level of a tree, under every name."""
    once = scrub(value)
    assert scrub(once) == once


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.one_of(PIECES, TEXTS), VALUES, max_size=6))
@example({"": ["", "--PRIVATEKEY Name", ""]})  # an option that has its value inside says nothing of the next item
def test_fields_of_a_line_that_were_scrubbed_come_back_as_they_are(fields: dict[str, Any]) -> None:
    """What was scrubbed has nothing to take out, so texts and numbers keep their place."""
    once = DEFAULT.scrub_fields(fields)
    assert set(once) == set(fields)
    assert DEFAULT.scrub_fields(once) == once


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_the_password_under_a_name_never_survives(text: str) -> None:
    """Whatever is said before it in the same line."""
    assert "qX7vLp93Rt" not in scrub_text(f"{text.replace(chr(34), '').replace(chr(39), '')}\npassword=qX7vLp93Rt")


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "a",
            "a@",
            "a.",
            "://",
            "//a@",
            "://a:",
            "=",
            "a=",
            ":",
            "%3D",
            "\\",
            '"',
            "'",
            "[",
            "(",
            "<",
            "</",
            "_",
            "-",
        ),
        *(
            "password=",
            "password ",
            "password: ",
            "password=(",
            "password='",
            "token.",
            "token\n",
            "token for a ",
            "key ",
        ),
        *(
            "-----BEGIN PRIVATE KEY-----",
            "-----BEGIN ",
            "eyJ",
            "eyJaaaaaaaa.",
            "4",
            "4111 ",
            "4111-",
            "ghp_",
            "sk-",
            "SG.",
        ),
        *("--token ", "--token", "<token>", "<token ", 'name="token" ', "name=token value=", 'form-data; name="token"'),
        *(
            "basic ",
            "bearer aaaaaaaa",
            "cookie:",
            "authorization: ",
            "docker login ",
            "mysql ",
            " -p",
            " -u a:",
            "a:aaa@",
        ),
        *(
            "('token','",
            "MTaaaaaaaaaaaaaaaaaaaaaa.aaaaaa.",
            "aa8Q~",
            "&sig=",
            "1234 is your a ",
            "identified by ",
            "é",
            " ",
        ),
    ],
)
def test_hostile_texts_come_to_an_end(unit: str) -> None:
    """Two hundred thousand characters of what a pattern begins with; nothing grows with their square."""
    text = unit * (LARGE // len(unit))
    assert isinstance(scrub_text(f"{text}="), str)
    assert isinstance(scrub_text(f"token={text}@"), str)


@pytest.mark.parametrize("between", [" ", "\t", "\\", '"', "a", "'", "\n"])
def test_a_name_far_from_its_sign_comes_to_an_end(between: str) -> None:
    """A hundred thousand of one character between what belongs together."""
    far = between * (LARGE // 2)
    for before, after in [("token", "="), ("basic", "x"), ("--token", "x"), ("password", "'x'"), ("card 4111", "1111")]:
        assert isinstance(scrub_text(f"{before}{far}{after}"), str)
