"""Rules: what may be asked for, and how it reads."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest

from monitoring.alerting.rules import QUERIES, Rule, Sample, default_rules, merged_rules, missing_data
from monitoring.alerting.states import level_of
from monitoring.alerting.words import Unit, ordinal, readable, readable_seconds


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"name": "no spaces"}, "name of rule 'no spaces' must be up to 100 letters, digits, '_', '.' or '-', got"),
        ({"query": "errors"}, "query of rule 'r' must be one of budget_spent, "),
        ({"above": None}, "Rule 'r' must have one of above and below, got None, None."),
        ({"below": 1}, "Rule 'r' must have one of above and below, got 0.05, 1."),
        ({"above": math.nan}, "above of rule 'r' must be a number, got nan."),
        ({"clear": 0.06}, "clear of rule 'r' must not be above 5 %, got 0.06."),
        ({"window_seconds": 0}, "window_seconds of rule 'r' must be a number of seconds up to 30 days, got 0."),
        ({"for_seconds": -1}, "for_seconds of rule 'r' must be a number of seconds up to 30 days, got -1."),
        ({"min_samples": "20"}, "min_samples of rule 'r' must be a number of at least 0, got '20'."),
        ({"severity": "fatal"}, "severity of rule 'r' must be 'warning' or 'critical', got 'fatal'."),
        ({"no_data": "ignore"}, "no_data of rule 'r' must be 'ok', 'keep' or 'alert', got 'ignore'."),
        ({"labels": {"host": "a"}}, "labels of rule 'r' must be among route for error_rate, got 'host'."),
        ({"labels": {"route": ""}}, "labels of rule 'r' must be a mapping of names to values such as"),
        ({"channels": "email"}, "channels of rule 'r' must be a tuple of names such as ('email',), got 'email'."),
    ],
)
def test_a_bad_setting_is_a_sentence(settings: dict[str, Any], sentence: str) -> None:
    """Which rule, what was given, what is accepted."""
    given = {"name": "r", "query": "error_rate", "above": 0.05, **settings}
    with pytest.raises(ValueError, match=r"[rR]ule") as caught:
        Rule(given.pop("name"), given.pop("query"), **given)
    assert sentence in str(caught.value)


def test_every_query_says_what_it_is() -> None:
    """Each has a known unit and words that a sentence can be made of."""
    assert all(query.unit in get_args(Unit) and query.meaning for query in QUERIES.values())


def test_the_default_rules_are_of_different_names() -> None:
    """One of an app's own replaces exactly one of them."""
    names = [rule.name for rule in default_rules()]
    assert len(names) == len(set(names))


def test_a_rule_of_the_same_name_replaces_the_default_one() -> None:
    """The others stay, and new ones are added."""
    own, new = Rule("error_rate", "error_rate", above=0.5), Rule("mine", "llm_cost_usd", above=10)
    merged = {rule.name: rule for rule in merged_rules([own, new])}
    assert (merged["error_rate"], merged["mine"]) == (own, new)
    assert merged.keys() == {rule.name for rule in default_rules()} | {"mine"}


def test_two_own_rules_of_one_name_are_refused() -> None:
    """Which of them counted would be chance."""
    rule = Rule("mine", "llm_cost_usd", above=10)
    with pytest.raises(ValueError, match=r"Two rules are named 'mine'; give one of them another name."):
        merged_rules([rule, rule])


def test_errors_and_broken_things_fire_at_once() -> None:
    """A critical error needs no second look."""
    at_once = {rule.name for rule in default_rules() if rule.for_seconds == 0}
    assert at_once == {"critical_errors", "new_errors", "store_failures", "facts_dropped", "channel_broken"}


@pytest.mark.parametrize(
    ("rule", "labels", "sentence"),
    [
        (Rule("r", "error_rate", above=0.05), {}, "share of requests that failed: 7.2 %, above 5 %"),
        (
            Rule("r", "error_rate", above=0.05, labels={"route": "*"}),
            {"route": "/x"},
            "share of requests that failed (route /x): 7.2 %, above 5 %",
        ),
        (
            Rule("r", "error_rate", above=0.05, summary="{value} on {route}, not {threshold} {other}"),
            {"route": "/{id}\n"},
            "7.2 % on /{id} , not 5 % {other}",
        ),
    ],
)
def test_a_sentence_says_value_and_threshold(rule: Rule, labels: dict[str, str], sentence: str) -> None:
    """By itself or from the app's own summary; a label is only ever text."""
    assert rule.sentence(Sample(labels, 0.072, 100)) == sentence


def test_a_rule_describes_itself() -> None:
    """Number, threshold, window and duration; for a state the threshold says nothing."""
    assert Rule("r", "p95_seconds", above=2).description == (
        "95th percentile of the duration of requests above 2 s over 5 min, for 1 min"
    )
    assert Rule("r", "check_failed", above=0, for_seconds=30).description == "failing health check, for 30 s"


def test_the_condition_decides_on_the_hash() -> None:
    """Words, severity and durations do not."""
    rule = Rule("r", "error_rate", above=0.05)
    same = Rule("r", "error_rate", above=0.05, severity="critical", for_seconds=5, summary="x", repeat_seconds=60)
    other = Rule("r", "error_rate", above=0.06)
    assert rule.condition_hash == same.condition_hash != other.condition_hash


@pytest.mark.parametrize("side", [{"above": 0.0}, {"below": 0.5, "clear": 0.7}])
def test_missing_data_breaches_any_threshold(side: dict[str, Any]) -> None:
    """The alert of its own fires while data is missing, and recovers when it is back."""
    rule = Rule("r", "error_rate", min_samples=20, **side)
    assert level_of(*missing_data(rule, True)) == "breach"
    assert level_of(*missing_data(rule, False)) == "clear"
    own, sample = missing_data(rule, True)
    assert own.sentence(sample) == "There is no data for r"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0725, "share", "7.25 %"),
        (0.25, "seconds", "250 ms"),
        (12.5, "usd", "12.50 USD"),
        (12345.0, "count", "12,345"),
        (3.0, "count", "3"),
        (1.0, "state", "yes"),
        (None, "share", "no data"),
        (math.inf, "count", "no data"),
    ],
)
def test_values_are_written_with_their_unit(value: float | None, unit: Unit, text: str) -> None:
    """As people write them."""
    assert readable(value, unit) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.0012, "1.2 ms"), (45, "45 s"), (90, "1.5 min"), (9000, "2.5 h"), (172_800, "2 d")],
)
def test_durations_are_written_in_their_largest_unit(seconds: float, text: str) -> None:
    """Short enough to read at night."""
    assert readable_seconds(seconds) == text


def test_ordinals() -> None:
    """Teens are different."""
    assert [ordinal(number) for number in (1, 2, 3, 4, 11, 12, 13, 21, 112)] == (
        ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th"]
    )
