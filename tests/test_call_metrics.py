"""Call metrics: which call adds to which numbers, under which labels."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from time import perf_counter
from typing import Any

import pytest

import monitoring
from monitoring import Monitoring, families
from monitoring.call_metrics import PREFIXES
from monitoring.calls import CacheCall, Call, DatabaseCall, HTTPCall, LLMCall
from monitoring.cells import Declaration
from monitoring.metrics import Series
from monitoring.testing import use


@pytest.fixture
def current() -> Iterator[Monitoring]:
    """A Monitoring that counts in memory."""
    with use() as current:
        yield current


def made(kind: type[Call], error: BaseException | None = None, outcome: str = "", **attributes: Any) -> Any:
    """Return a call that has just ended."""
    call = kind(perf_counter() - 0.25, error, outcome)
    for name, value in attributes.items():
        setattr(call, name, value)
    return call


def series(current: Monitoring, declaration: Declaration) -> list[Series]:
    """Return the label sets of a metric."""
    metric = current.metrics.snapshot().get(declaration.name)
    return list(metric.series) if metric else []


def values(current: Monitoring, declaration: Declaration) -> dict[tuple[str, ...], float]:
    """Return what was counted by label values: samples of a histogram, the value of a counter."""
    return {tuple(one.labels.values()): one.count or one.value for one in series(current, declaration)}


LLM = ("openai", "gpt-4o", "chat")


def model(error: BaseException | None = None, outcome: str = "", **attributes: Any) -> LLMCall:
    """Return a call to a model with its tokens and its cost."""
    given = {
        "provider": "openai",
        "model": "gpt-4o",
        "has_usage": True,
        "input_tokens": 100,
        "output_tokens": 20,
        "cache_read_tokens": 60,
        "cache_write_tokens": 7,
        "reasoning_tokens": 5,
        "cost_usd": Decimal("0.0125"),
        **attributes,
    }
    call: LLMCall = made(LLMCall, error, outcome, **given)
    return call


def test_a_statement_is_timed_by_operation_and_table(current: Monitoring) -> None:
    """An error has a label set of its own, by the name of its class."""
    for error in (None, TimeoutError("no answer")):
        current.recorder.record(
            made(DatabaseCall, error, system="postgresql", operation="SELECT", name="SELECT funders")
        )
    assert values(current, families.DB_DURATION) == {
        ("postgresql", "SELECT", "SELECT funders", ""): 1,
        ("postgresql", "SELECT", "SELECT funders", "TimeoutError"): 1,
    }
    assert all(0.25 <= one.value < 5 for one in series(current, families.DB_DURATION))


def test_a_cache_counts_keys_and_times_commands(current: Monitoring) -> None:
    """A command that looks nothing up has no hits and no misses."""
    common = {"cache": "profiles", "system": "redis"}
    current.recorder.record(made(CacheCall, name="mget", hits=3, misses=1, **common))
    current.recorder.record(made(CacheCall, name="mget", hits=2, **common))
    current.recorder.record(made(CacheCall, name="set", **common))
    assert values(current, families.CACHE_GETS) == {
        ("profiles", "redis", "hit"): 5,
        ("profiles", "redis", "miss"): 1,
    }
    assert values(current, families.CACHE_DURATION) == {
        ("profiles", "redis", "mget", ""): 2,
        ("profiles", "redis", "set", ""): 1,
    }


def test_a_cache_counts_entries_and_the_commands_of_pipelines(current: Monitoring) -> None:
    """A pipeline is timed as one command, and told as several."""
    inner = {"set": 3, "delete": 1}
    current.recorder.record(made(CacheCall, name="pipeline", system="redis", puts=3, removals=1, inner=inner))
    assert values(current, families.CACHE_PUTS) == {("default", "redis"): 3}
    assert values(current, families.CACHE_REMOVALS) == {("default", "redis"): 1}
    assert values(current, families.CACHE_PIPELINE_COMMANDS) == {
        ("default", "redis", "set"): 3,
        ("default", "redis", "delete"): 1,
    }
    assert values(current, families.CACHE_DURATION) == {("default", "redis", "pipeline", ""): 1}


def test_look_ups_are_counted_by_kind_of_key(current: Monitoring) -> None:
    """Those that name none are only in the whole."""
    prefixes = {"users": (2, 1), "pages": (0, 1)}
    current.recorder.record(made(CacheCall, hits=3, misses=2, by_prefix=prefixes))
    assert values(current, families.CACHE_PREFIX_GETS) == {
        ("default", "users", "hit"): 2,
        ("default", "users", "miss"): 1,
        ("default", "pages", "miss"): 1,
    }


def test_kinds_of_keys_are_capped_per_cache(current: Monitoring) -> None:
    """An app whose keys begin with what its users type has no label set for each of them."""
    for number in range(PREFIXES + 25):
        current.recorder.record(made(CacheCall, cache="many", hits=1, by_prefix={f"kind{number}": (1, 0)}))
    current.recorder.record(made(CacheCall, cache="few", hits=1, by_prefix={"users": (1, 0)}))
    counted = values(current, families.CACHE_PREFIX_GETS)
    assert counted["many", "(other)", "hit"] == 25
    assert counted["few", "users", "hit"] == 1
    assert len(counted) == PREFIXES + 2


def test_an_outgoing_request_is_timed_by_host_and_status(current: Monitoring) -> None:
    """Without an answer there is no status, but an error."""
    current.recorder.record(
        made(HTTPCall, method="POST", host="api.example.org", port=443, status=201, url_template="/users/{id}")
    )
    current.recorder.record(made(HTTPCall, ConnectionError(), host="api.example.org"))
    assert values(current, families.HTTP_CLIENT_DURATION) == {
        ("POST", "api.example.org", "443", "201", "/users/{id}", ""): 1,
        ("GET", "api.example.org", "", "", "", "ConnectionError"): 1,
    }


def test_the_body_of_an_outgoing_request_is_timed_by_how_it_ended(current: Monitoring) -> None:
    """Beside the time to its headers."""
    call = made(HTTPCall, host="api.example.org", status=200, response_seconds=2.0)
    call.outcome = "closed_early"
    current.recorder.record(call)
    (found,) = series(current, families.HTTP_CLIENT_RESPONSE_DURATION)
    assert (found.labels["outcome"], found.value) == ("closed_early", 2.0)


def test_requests_that_are_sent_again_count_by_reason(current: Monitoring) -> None:
    """A redirect is followed once by each request; retries are as many as were made."""
    current.recorder.record(made(HTTPCall, host="api.example.org", retries=2))
    current.recorder.record(made(HTTPCall, host="api.example.org", redirects=1))
    assert values(current, families.HTTP_CLIENT_RESENDS) == {
        ("api.example.org", "retry"): 2,
        ("api.example.org", "redirect"): 1,
    }


def test_quotas_are_gauges(current: Monitoring) -> None:
    """They show what the last answer said; a wait ends with an answer that asks for none."""

    def answered(*quotas: tuple[str, str, float]) -> None:
        current.recorder.record(made(HTTPCall, host="api.example.org", quotas=quotas))

    answered(("limit", "default", 100.0), ("remaining", "default", 7.0), ("retry_after", "", 30.0))
    assert [one.value for one in series(current, families.RETRY_AFTER)] == [30.0]
    answered(("remaining", "default", 6.0))
    answered()
    assert values(current, families.RATE_LIMIT_REMAINING) == {("api.example.org", "default"): 6.0}
    assert values(current, families.RATE_LIMIT_LIMIT) == {("api.example.org", "default"): 100.0}
    assert [one.value for one in series(current, families.RETRY_AFTER)] == [0.0]


def test_hosts_are_capped(current: Monitoring) -> None:
    """An app that fetches what its users name has no label set for each of them."""
    for number in range(250):
        current.recorder.record(made(HTTPCall, host=f"{number}.example.org", status=200))
    counted = values(current, families.HTTP_CLIENT_DURATION)
    assert (len(counted), counted["GET", "(other)", "", "200", "", ""]) == (201, 50)


def test_a_call_to_a_model_counts_tokens_and_cost(current: Monitoring) -> None:
    """Each kind of token apart; money as exact as a float can be."""
    for _ in range(2):
        current.recorder.record(model())
    counted = {
        declaration: values(current, declaration)
        for declaration in (
            families.LLM_INPUT_TOKENS,
            families.LLM_OUTPUT_TOKENS,
            families.LLM_CACHE_READ_TOKENS,
            families.LLM_CACHE_WRITE_TOKENS,
            families.LLM_REASONING_TOKENS,
            families.LLM_COST,
        )
    }
    assert [found[LLM] for found in counted.values()] == [200, 40, 120, 14, 10, 0.025]
    assert values(current, families.LLM_DURATION) == {(*LLM, ""): 2}
    for nothing in (families.LLM_UNPRICED, families.LLM_USAGE_MISSING, families.LLM_FIRST_CHUNK, families.AGENT_CALLS):
        assert values(current, nothing) == {}


def test_an_unknown_price_is_unpriced_and_never_nothing(current: Monitoring) -> None:
    """A price of 0 is a price."""
    current.recorder.record(model(cost_usd=None))
    current.recorder.record(model(cost_usd=Decimal(0)))
    assert values(current, families.LLM_UNPRICED) == {LLM: 1}
    assert values(current, families.LLM_COST) == {}


def test_missing_token_counts_are_counted(current: Monitoring) -> None:
    """A stream whose provider did not tell them is not one without tokens."""
    current.recorder.record(model(has_usage=False, input_tokens=0, output_tokens=0, cost_usd=None))
    assert values(current, families.LLM_USAGE_MISSING) == {LLM: 1}


def test_the_first_chunk_of_a_stream_is_timed(current: Monitoring) -> None:
    """Of those that had one."""
    current.recorder.record(model(streamed=True, first_chunk_seconds=0.1))
    current.recorder.record(model(streamed=True))
    assert values(current, families.LLM_FIRST_CHUNK) == {LLM: 1}


@pytest.mark.parametrize(
    ("error", "outcome", "label"),
    [(TimeoutError(), "", "TimeoutError"), (None, "abandoned", "abandoned"), (None, "closed_early", "closed_early")],
)
def test_a_call_that_did_not_end_well_says_how(
    current: Monitoring, error: BaseException | None, outcome: str, label: str
) -> None:
    """An exception by its name, a stream by its outcome."""
    current.recorder.record(model(error, outcome))
    assert values(current, families.LLM_DURATION) == {(*LLM, label): 1}


def test_a_call_that_was_refused_misses_nothing(current: Monitoring) -> None:
    """It used no tokens, and there is nothing to pay."""
    current.recorder.record(model(refused=True, has_usage=False, cost_usd=None))
    assert values(current, families.LLM_USAGE_MISSING) == values(current, families.LLM_UNPRICED) == {}


def test_counts_that_contradict_each_other_are_counted(current: Monitoring) -> None:
    """Besides the tokens, which were cut to fit."""
    current.recorder.record(model(usage_consistent=False, cost_usd=None))
    assert values(current, families.LLM_USAGE_INCONSISTENT) == {LLM: 1}


def test_the_speed_of_an_answer_is_its_own_for_streams(current: Monitoring) -> None:
    """They are timed from the first chunk, and others in all."""
    current.recorder.record(model(streamed=True, chunks=11, generating_seconds=2.0))
    current.recorder.record(model(duration_seconds=0.5))
    current.recorder.record(model(has_usage=False))
    sums = {tuple(one.labels.values()): one.value for one in series(current, families.LLM_SPEED)}
    assert sums == {(*LLM, "true"): 10, (*LLM, "false"): 40}
    assert [one.value for one in series(current, families.LLM_CHUNK)] == [0.2]


def test_how_answers_end_is_counted(current: Monitoring) -> None:
    """By their reason, with the calls to tools and the retries that it took."""
    current.recorder.record(model(finish_reason="stop"))
    current.recorder.record(model(finish_reason="tool_calls", tool_calls=2, retries=("429", "429", "connection")))
    assert values(current, families.LLM_FINISH_REASONS) == {(*LLM, "stop"): 1, (*LLM, "tool_calls"): 1}
    assert values(current, families.LLM_TOOL_CALLS) == {LLM: 2}
    assert values(current, families.LLM_RETRIES) == {(*LLM, "429"): 2, (*LLM, "connection"): 1}


def test_what_is_left_of_a_limit_is_the_last_that_was_told(current: Monitoring) -> None:
    """By provider and limit."""
    current.recorder.record(model(rate_limits={"requests": 59.0, "tokens": 100.0}))
    current.recorder.record(model(rate_limits={"requests": 58.0}))
    current.recorder.record(model())
    assert values(current, families.LLM_RATE_LIMIT) == {("openai", "requests"): 58, ("openai", "tokens"): 100}


def test_models_are_capped(current: Monitoring) -> None:
    """Their names come from the app's users in some apps."""
    for number in range(130):
        current.recorder.record(model(model=f"m{number}"))
    counted = values(current, families.LLM_INPUT_TOKENS)
    assert (len(counted), counted["openai", "(other)", "chat"]) == (101, 3_000)


def test_calls_inside_of_an_agent_are_the_agents(current: Monitoring) -> None:
    """The nearest one's; those outside are nobody's."""
    current.recorder.record(model())
    with monitoring.agent("planner"):
        current.recorder.record(model())
        with monitoring.agent("writer"), monitoring.observe("step"):
            current.recorder.record(model(cost_usd=None))
    assert values(current, families.AGENT_CALLS) == {("planner",): 1, ("writer",): 1}
    assert values(current, families.AGENT_TOKENS) == {("planner",): 120, ("writer",): 120}
    assert values(current, families.AGENT_COST)["planner",] == 0.0125
    assert values(current, families.AGENT_DURATION) == {("planner", ""): 1, ("writer", ""): 1}


def test_an_agent_that_raises_is_timed_by_its_error(current: Monitoring) -> None:
    """As a call is."""
    with pytest.raises(LookupError), monitoring.agent("planner"):
        raise LookupError
    assert values(current, families.AGENT_DURATION) == {("planner", "LookupError"): 1}


def test_no_family_has_the_name_of_another() -> None:
    """Each name is declared once, with a help text that is a sentence."""
    names = [declaration.name for declaration in families.ALL]
    assert len(names) == len(set(names)) > 20
    assert all(declaration.help.endswith(".") for declaration in families.ALL)
