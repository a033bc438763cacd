"""What an endpoint is asked: what is accepted, and the one sentence for what is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitoring.api import ENDPOINTS, BadQuery, Query
from tests.support.filled import Filled, filled

NOW = 1_800_000_000.0
MOMENT = "must be unix seconds, 'now' or a time ago such as '-1h', got"
NUMBER = "must be a number of 0 or more, got"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """Fill one store for all tests of this module."""
    with filled(tmp_path_factory.mktemp("query") / "store") as done:
        yield done


@pytest.mark.parametrize(
    ("asked", "since", "until"),
    [
        ({}, NOW - 3600, NOW),
        ({"from": "", "to": ""}, NOW - 3600, NOW),
        ({"from": "-15m"}, NOW - 900, NOW),
        ({"from": "-30s"}, NOW - 30, NOW),
        ({"from": "-6h", "to": "-2h"}, NOW - 21_600, NOW - 7_200),
        ({"from": "-7d", "to": "now"}, NOW - 604_800, NOW),
        ({"from": "1799990000.5", "to": "1799999999"}, 1_799_990_000.5, 1_799_999_999.0),
        ({"to": "-2h"}, NOW - 10_800, NOW - 7_200),
        ({"from": "-400d"}, NOW - 400 * 86_400, NOW),
    ],
)
def test_a_time_is_relative_or_absolute(asked: dict[str, str], since: float, until: float) -> None:
    """An hour until now by default; without a start, the hour before the end."""
    query = Query(NOW, asked)
    assert (query.since, query.until) == (since, until)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"from": "yesterday"}, f"'from' {MOMENT} 'yesterday'."),
        ({"to": "-1w"}, f"'to' {MOMENT} '-1w'."),
        ({"from": "nan"}, f"'from' {MOMENT} 'nan'."),
        ({"from": "inf"}, f"'from' {MOMENT} 'inf'."),
        ({"from": "1800000000000"}, f"'from' {MOMENT} '1800000000000'."),
        ({"from": "-100000d"}, f"'from' {MOMENT} '-100000d'."),
        ({"from": "-" + "9" * 5_000 + "d"}, f"'from' {MOMENT} '-{'9' * 98}...."),
        ({"from": "-\N{ARABIC-INDIC DIGIT ONE}h"}, f"'from' {MOMENT} '-\N{ARABIC-INDIC DIGIT ONE}h'."),
        ({"from": "now"}, "'from' must be at least a second before 'to', got 'now' and 'now'."),
        ({"from": "-1h", "to": "-2h"}, "'from' must be at least a second before 'to', got '-1h' and '-2h'."),
        ({"from": "-401d"}, "'from' and 'to' may be 400 days apart at most; give a shorter time."),
    ],
)
def test_a_bad_time_is_one_sentence(asked: dict[str, str], message: str) -> None:
    """It says what was given and what is accepted, and repeats no more than is readable."""
    with pytest.raises(BadQuery) as refusal:
        Query(NOW, asked)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("path", "asked", "message"),
    [
        ("/requests", {"limit": "many"}, f"'limit' {NUMBER} 'many'."),
        ("/requests", {"limit": "-1"}, f"'limit' {NUMBER} '-1'."),
        ("/requests", {"min_seconds": "nan"}, f"'min_seconds' {NUMBER} 'nan'."),
        ("/requests", {"order": "oldest"}, "'order' must be one of newest, slowest, got 'oldest'."),
        ("/requests", {"status": "6xx"}, "'status' must be a status such as 404, or a class such as 5xx, got '6xx'."),
        ("/requests", {"status": "²xx"}, "'status' must be a status such as 404, or a class such as 5xx, got '²xx'."),
        (
            "/requests",
            {"status": "9" * 30},
            f"'status' must be a status such as 404, or a class such as 5xx, got '{'9' * 30}'.",
        ),
        (
            "/requests",
            {"kind": "sql"},
            "'kind' must be one of db, cache, llm, http, span, agent, operation, got 'sql'.",
        ),
        (
            "/requests",
            {"name": "SELECT funders"},
            "'name' needs the 'kind' of the call, one of db, cache, llm, http, span, agent, operation; got none.",
        ),
        ("/errors", {"status": "closed"}, "'status' must be one of open, resolved, all, got 'closed'."),
        ("/route", {}, "'route' must be a route's template such as '/items/{id}', got nothing."),
        ("/operations", {}, "'name' must be an operation's name, got nothing."),
        ("/overview", {"from": "soon"}, f"'from' {MOMENT} 'soon'."),
    ],
)
def test_a_bad_parameter_is_one_sentence(done: Filled, path: str, asked: dict[str, str], message: str) -> None:
    """Status 400, and what to give instead."""
    response = done.api().get(f"/monitoring/api/v1{path}", params=asked)
    assert (response.status_code, response.json()) == (400, {"error": message})


PARAMETERS = sorted({name for endpoint in ENDPOINTS for name in endpoint.parameters} | {"value.funder"})
GETS = [endpoint.path for endpoint in ENDPOINTS if endpoint.method == "GET"]
VALUES = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["", "0", "-1", "1e400", "nan", "-1h", "now", "5xx", "²", "9" * 400, "\0", "%", "'", "{id}", "llm"]
    ),
    st.integers(-(10**20), 10**20).map(str),
    st.floats().map(repr),
    st.from_regex(r"-[0-9]{1,12}[smhd]", fullmatch=True),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(GETS),
    asked=st.dictionaries(st.sampled_from(PARAMETERS), VALUES, max_size=4),
    name=st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1, max_size=30),
)
def test_no_question_is_answered_with_a_failure(done: Filled, path: str, asked: dict[str, Any], name: str) -> None:
    """Whatever is asked, the answer is 200, 400 or 404, and in the last two cases a sentence."""
    place = re.sub(r"\{\w+\}", lambda _: quote(f"~{name}", safe=""), path)
    response = done.api().get(f"/monitoring/api/v1{place}", params=asked)
    assert response.status_code in (200, 400, 404), response.text
    if response.status_code != 200:
        assert response.json()["error"].endswith(".")
