"""Identifiers: fresh ones, what may be taken over, and W3C trace context."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.utils.ids import (
    clipped,
    format_traceparent,
    inbound_id,
    is_request_id,
    new_ids,
    new_ids_at,
    parse_traceparent,
)

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


def test_fresh_ids_have_the_form_of_the_w3c() -> None:
    """32 hex digits that are a trace ID, 16 that are a span ID, in lower case."""
    request_id, span_id = new_ids()
    assert parse_traceparent(format_traceparent(request_id, span_id, "01")) == (request_id, span_id, "01")


def test_fresh_ids_differ() -> None:
    """No two of many are the same."""
    ids = [new_ids() for _ in range(10_000)]
    assert len({request_id for request_id, _ in ids}) == len({span_id for _, span_id in ids}) == 10_000


def test_fresh_ids_sort_by_the_second_in_which_they_were_made() -> None:
    """Their first 8 digits are unix time, so that an index of them grows at its end."""
    before = int(time.time())
    request_id, _ = new_ids()
    assert before - 1 <= int(request_id[:8], 16) <= time.time() + 1
    now = time.perf_counter()
    earlier, later = new_ids_at(now)[0], new_ids_at(now + 2.0)[0]
    assert int(later[:8], 16) - int(earlier[:8], 16) == 2


def test_an_app_that_seeds_random_does_not_get_the_same_ids_again() -> None:
    """Apps seed the global generator for results that can be repeated; IDs are not to be repeated with them."""
    state = random.getstate()
    try:
        random.seed(7)
        first = new_ids()
        random.seed(7)
        assert new_ids() != first
    finally:
        random.setstate(state)


def test_fresh_ids_leave_the_app_s_random_numbers_alone() -> None:
    """A seeded app gets the same numbers with the pack as without."""
    state = random.getstate()
    try:
        random.seed(7)
        expected = random.random()
        random.seed(7)
        new_ids()
        assert random.random() == expected
    finally:
        random.setstate(state)


FORKING = """
import os, sys
from monitoring.utils.ids import new_ids

new_ids()
for _ in range(3):
    if os.fork() == 0:
        os.write(1, (new_ids()[0] + "\\n").encode())
        os._exit(0)
    os.wait()
print(new_ids()[0])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_forked_processes_make_different_ids() -> None:
    """Workers that are forked from one master share no IDs, neither with it nor among themselves."""
    command, root = [sys.executable, "-c", FORKING], Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=30)
    ids = done.stdout.split()
    assert len(ids) == 4
    assert len(set(ids)) == 4


@pytest.mark.parametrize("value", ["a", "Z", "0a", "x" * 128, "A.b_c-9", "5c1dc2f3-6f61-4b5f-9c4d-0e4d2ad4f6a1"])
def test_a_request_id_has_1_to_128_allowed_characters(value: str) -> None:
    """Letters, digits, dot, underscore and hyphen."""
    assert is_request_id(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x" * 129,
        "a b",
        "a\n",
        "\na",
        "a\x00",
        "é",
        "\uff41",
        "\u0663",
        "{a}",
        "urn:uuid:a",
        "0",
        "0" * 32,
        "0-0",
        "-",
        '"',
        "a,b",
    ],
)
def test_anything_else_is_no_request_id(value: str) -> None:
    """Nothing that breaks a line, a header or a query, no letters or digits outside ASCII, and not only zeros."""
    assert not is_request_id(value)


@settings(deadline=None, database=None)
@given(st.text())
def test_what_is_clipped_is_harmless(value: str) -> None:
    """At most 64 characters, each allowed or a question mark, whatever came in."""
    assert len(clipped(value)) == min(len(value), 64)
    assert all(character == "?" or is_request_id(f"a{character}") for character in clipped(value))


@settings(deadline=None, database=None)
@given(st.text(alphabet="abcABC012._-", min_size=1, max_size=64))
def test_what_is_allowed_is_clipped_to_itself(value: str) -> None:
    """An ID that could have been taken over is noted as it came."""
    assert clipped(value) == value


@pytest.mark.parametrize(
    ("header", "value", "expected"),
    [
        ("x-request-id", "Root=1", "Root=1"),
        ("cf-ray", "7d0-AMS", "7d0-AMS"),
        ("traceparent", f"00-{TRACE}-{PARENT}-01", TRACE),
        ("x-amzn-trace-id", "Root=1-67891233-abc", "1-67891233-abc"),
        ("x-amzn-trace-id", "Self=1-6-b;Root=1-67891233-abc;Parent=1;Sampled=1", "1-67891233-abc"),
        ("x-amzn-trace-id", "Self=1-6-b; Root=1-67891233-abc", "1-67891233-abc"),
    ],
)
def test_each_header_carries_its_id(header: str, value: str, expected: str) -> None:
    """The trace of a traceparent, the root of Amazon's trace, else the value as it is."""
    assert inbound_id(header, value) == expected


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-amzn-trace-id", "Self=1-67891233-abc"),
        ("x-amzn-trace-id", "NotRoot=1-67891233-abc"),
        ("traceparent", f"ff-{TRACE}-{PARENT}-01"),
        ("traceparent", TRACE),
    ],
)
def test_a_header_that_carries_no_id_yields_nothing_to_take_over(header: str, value: str) -> None:
    """A malformed header never becomes a request ID as a whole."""
    assert not is_request_id(inbound_id(header, value) or "")


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        (f"00-{TRACE}-{PARENT}-00", "00"),
        (f"00-{TRACE}-{PARENT}-01", "01"),
        (f" 00-{TRACE}-{PARENT}-01\t", "01"),
        (f"01-{TRACE}-{PARENT}-01", "01"),
        (f"cc-{TRACE}-{PARENT}-01-what-the-future-will-bring", "01"),
        (f"fe-{TRACE}-{PARENT}-01-", "01"),
    ],
)
def test_a_valid_traceparent_is_read(value: str, flags: str) -> None:
    """Version 00, and later ones by its rules, with whatever they add."""
    assert parse_traceparent(value) == (TRACE, PARENT, flags)


@pytest.mark.parametrize(
    "value",
    [
        "",
        TRACE,
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-",
        f"00-{TRACE}-{PARENT}-01-more",
        f"cc-{TRACE}-{PARENT}-01.more",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT.upper()}-01",
        f"0A-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-0A",
        f"00-{TRACE}0-{PARENT}-01",
        f"00-{TRACE[1:]}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-1",
        f"0-{TRACE}-{PARENT}-01",
        f"00_{TRACE}_{PARENT}_01",
        f"00-{TRACE}-{PARENT}-01,00-{TRACE}-{PARENT}-01",
    ],
)
def test_an_invalid_traceparent_is_refused(value: str) -> None:
    """Version ff, zeros, upper case, wrong lengths, and more than version 00 has."""
    assert parse_traceparent(value) is None


@settings(deadline=None, database=None)
@given(st.text())
def test_any_text_can_be_read(value: str) -> None:
    """Nothing that a header may hold raises."""
    for header in ("traceparent", "x-amzn-trace-id", "x-request-id"):
        is_request_id(inbound_id(header, value) or "")
