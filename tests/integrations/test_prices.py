"""What a call costs, with genai-prices itself as the oracle, and token counts as the providers tell them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from genai_prices import Usage as OracleUsage
from genai_prices import calc_price, types
from genai_prices.data import providers
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.integrations.llm import prices
from monitoring.integrations.llm.prices import SNAPSHOT, cost_of, set_price
from monitoring.integrations.llm.usage import (
    Usage,
    anthropic_usage,
    bedrock_usage,
    cohere_usage,
    gemini_usage,
    merge_anthropic_usage,
    ollama_usage,
    openai_usage,
    plain_usage,
)

BUNDLED = json.loads(SNAPSHOT.read_text())["providers"]
NAMES = {theirs: ours for ours, theirs in prices._PROVIDERS.items()}
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
CONTEXTS: list[dict[str, str]] = [{}, {"service_tier": "priority"}, {"processing": "batch"}]
USAGES = [
    Usage(input_tokens=1_000, cache_read_tokens=600, cache_write_tokens=100, output_tokens=200, reasoning_tokens=50),
    Usage(input_tokens=300_000, output_tokens=10),
    Usage(input_tokens=5_000, cache_write_tokens=4_000, cache_write_1h_tokens=3_000, output_tokens=1),
    Usage(input_tokens=5_000, input_audio_tokens=1_000, output_tokens=70, output_audio_tokens=60),
    Usage(input_tokens=5_000, input_image_tokens=1_000, output_tokens=70, output_image_tokens=60),
    plain_usage(1_000, 200),
]


def cost_usd(provider: str, models: tuple[str, ...], usage: Usage, context: dict[str, str], now: datetime) -> Any:
    """Return what a call costs, None where that is not known."""
    return cost_of(provider, models, usage, context, now)[0]


@pytest.fixture(autouse=True)
def no_prices_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start each test with the snapshot alone."""
    monkeypatch.setattr(prices, "_own_prices", {})
    monkeypatch.setattr(prices, "_steady", {})


def _names(rule: Any) -> Iterator[str]:
    """Yield model names that a rule of genai-prices fits."""
    match rule:
        case types.ClauseEquals():
            yield rule.equals
        case types.ClauseStartsWith():
            yield f"{rule.starts_with}-20250101"
        case types.ClauseEndsWith():
            yield f"x-{rule.ends_with}"
        case types.ClauseContains():
            yield f"us.{rule.contains}-v1:0"
        case types.ClauseOr():
            for one in rule.or_:
                yield from _names(one)


def _oracle(provider: str, model: str, usage: Usage, context: dict[str, str], now: datetime) -> Decimal | None:
    asked = OracleUsage(
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        input_audio_tokens=usage.input_audio_tokens,
        output_tokens=usage.output_tokens,
        output_reasoning_tokens=usage.reasoning_tokens,
        output_audio_tokens=usage.output_audio_tokens,
        input_image_tokens=usage.input_image_tokens,
        output_image_tokens=usage.output_image_tokens,
    )
    try:
        return calc_price(
            asked, model, provider_id=provider, genai_request_timestamp=now, price_context=context
        ).total_price
    except (LookupError, ValueError):
        return None


@pytest.mark.parametrize("provider", [known for known in providers if known.id in BUNDLED], ids=lambda known: known.id)
def test_every_model_costs_what_genai_prices_says(provider: types.Provider) -> None:
    """Under each of its names, with caches, tiers, audio and in each service tier."""
    ours = NAMES.get(provider.id, provider.id)
    wrong, priced = [], 0
    for model in provider.models:
        for name in {model.id, *_names(model.match)}:
            for usage in USAGES:
                for context in CONTEXTS:
                    expected = _oracle(provider.id, name, usage, context, NOW)
                    cost = cost_usd(ours, (name,), usage, context, NOW)
                    priced += cost is not None
                    # Where there is no price by tokens genai-prices says 0, and we say that it is not known.
                    if cost != expected and (cost is not None or expected != 0):
                        wrong.append((name, context, expected, cost))
    assert wrong == []
    assert priced


GRID_MODELS = (
    *(("openai", model) for model in ("gpt-4o", "gpt-5", "gpt-5-mini", "o3", "text-embedding-3-small")),
    *(("anthropic", model) for model in ("claude-haiku-4-5", "claude-sonnet-4-5", "claude-opus-4-5")),
    *(("gcp.gemini", model) for model in ("gemini-2.5-pro", "gemini-2.5-flash")),
    *(("aws.bedrock", model) for model in ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "amazon.nova-pro-v1:0")),
    *(("mistral_ai", "mistral-small-latest"), ("cohere", "command-r-plus"), ("deepseek", "deepseek-chat")),
)
GRID_TIERS: list[dict[str, str]] = [
    {},
    *({"service_tier": tier} for tier in ("default", "flex", "priority")),
    {"processing": "batch"},
    {"speed": "fast"},
]


@pytest.mark.parametrize(("provider", "model"), GRID_MODELS, ids=lambda name: name)
def test_a_grid_of_calls_costs_what_genai_prices_says(provider: str, model: str) -> None:
    """Over tiers, sizes around limits, and shares that were cached, written and thought: to 1e-6 dollars."""
    theirs = prices._PROVIDERS.get(provider, provider)
    compared = 0
    for context in GRID_TIERS:
        for asked in (0, 1, 1_000, 199_999, 200_001, 1_000_000):
            for read, written, thought in ((0, 0, 0), (asked // 2, 0, 0), (asked // 2, asked // 4, 7), (asked, 0, 50)):
                usage = Usage(asked, 50, read, written, reasoning_tokens=thought)
                expected = _oracle(theirs, model, usage, context, NOW)
                cost = cost_usd(provider, (model,), usage, context, NOW)
                assert expected is not None
                assert cost is not None
                assert abs(cost - expected) < Decimal("0.000001")
                compared += 1
    assert compared == 144


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o-2024-08-06"),
        ("openai", "GPT-4o"),
        ("openai", "gpt-5-20250807"),
        ("azure.ai.openai", "gpt-4o"),
        ("anthropic", "claude-haiku-4-5-20251001"),
        ("openrouter", "openai/gpt-4o"),
        ("openrouter", "anthropic/claude-haiku-4.5"),
        ("x_ai", "grok-4-fast"),
    ],
)
def test_dated_and_prefixed_names_are_resolved(provider: str, model: str) -> None:
    """Dates with and without dashes, capitals, and a provider's name in front."""
    usage = Usage(input_tokens=1_000, output_tokens=100)
    cost = cost_usd(provider, (model,), usage, {}, NOW)
    assert cost is not None
    assert cost == _oracle(prices._PROVIDERS.get(provider, provider), model, usage, {}, NOW)


def test_a_gateway_names_models_after_their_provider() -> None:
    """Behind an unknown host, what stands before the slash is the provider."""
    usage = Usage(input_tokens=1_000, output_tokens=100)
    assert cost_usd("openai", ("anthropic/claude-haiku-4-5",), usage, {}, NOW) == Decimal("0.0015")
    assert cost_usd("openai", ("openai/gpt-4o",), usage, {}, NOW) == Decimal("0.0035")


@pytest.mark.parametrize(
    ("provider", "model"), [("openai", "llama-at-home"), ("nobody", "gpt-4o"), ("openai", ""), ("openai", "whisper-1")]
)
def test_an_unknown_price_is_none_and_never_zero(provider: str, model: str) -> None:
    """A model, a provider, or a price by tokens that is not there."""
    assert cost_usd(provider, (model,), Usage(input_tokens=1_000), {}, NOW) is None


def test_prices_of_ones_own_go_before_the_snapshot() -> None:
    """For a model of any provider, or of one."""
    set_price("gpt-4o", provider="openai", input_usd="1", output_usd="2", cache_read_usd="0.5")
    set_price("Llama-at-Home", input_usd=0)
    usage = Usage(input_tokens=1_000_000, cache_read_tokens=500_000, output_tokens=1_000_000)
    assert cost_usd("openai", ("gpt-4o",), usage, {}, NOW) == Decimal("2.75")
    assert cost_usd("openai", ("llama-at-home",), usage, {}, NOW) == 0
    assert cost_usd("azure.ai.openai", ("gpt-4o",), usage, {}, NOW) == Decimal("11.875")


def test_the_answers_model_is_tried_first() -> None:
    """A deployment's name means nothing to a price list; the model behind it does."""
    usage = Usage(input_tokens=1_000)
    assert cost_usd("openai", ("gpt-4o-2024-08-06", "mine"), usage, {}, NOW) == Decimal("0.0025")
    assert cost_usd("openai", ("mine", "gpt-4o"), usage, {}, NOW) == Decimal("0.0025")


@pytest.mark.parametrize("hour", range(24))
def test_prices_by_the_hour_hold_at_their_hours(hour: int) -> None:
    """Some models are cheaper at night."""
    now = datetime(2025, 3, 1, hour, 31, tzinfo=UTC)
    usage = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
    cost = cost_usd("deepseek", ("deepseek-chat",), usage, {}, now)
    assert cost == _oracle("deepseek", "deepseek-chat", usage, {}, now)
    assert cost


def test_counts_that_contradict_each_other_have_no_price() -> None:
    """More tokens from the cache than tokens at all: the counts are cut to fit, and not priced."""
    usage = Usage(input_tokens=2_168, cache_read_tokens=2_161, cache_write_tokens=2_161, output_tokens=1)
    assert (usage.cache_read_tokens, usage.cache_write_tokens) == (2_161, 7)
    assert cost_usd("anthropic", ("claude-haiku-4-5",), usage, {}, NOW) is None


def test_what_was_looked_up_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Model names come from requests, and many of them are not remembered for ever."""
    monkeypatch.setattr(prices, "_found", {})
    monkeypatch.setattr(prices, "_FOUND_KEPT", 20)
    for number in range(100):
        cost_usd("openai", (f"gpt-4o-{number}", "gpt-4o"), Usage(input_tokens=1), {}, NOW)
    assert 0 < len(prices._found) <= 20
    assert 0 < len(prices._steady) <= 20


def test_the_snapshot_carries_its_licence_and_date() -> None:
    """Whose data it is, of when, and on what terms."""
    head = json.loads(SNAPSHOT.read_text())
    assert head["source"].startswith("genai-prices ")
    assert "MIT License" in head["licence"]
    assert datetime.fromisoformat(head["date"])


# --- token counts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 20,
                "total_tokens": 120,
                "prompt_tokens_details": {"cached_tokens": 60, "audio_tokens": 5},
                "completion_tokens_details": {"reasoning_tokens": 8, "audio_tokens": 2},
            },
            Usage(100, 20, 60, reasoning_tokens=8, input_audio_tokens=5, output_audio_tokens=2),
        ),
        (
            {
                "input_tokens": 100,
                "output_tokens": 20,
                "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
                "output_tokens_details": {"reasoning_tokens": 8},
            },
            Usage(100, 20, 60, 10, reasoning_tokens=8),
        ),
        ({"prompt_tokens": 7, "total_tokens": 7}, Usage(7)),
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 20,
                "total_tokens": 150,
                "completion_tokens_details": {"reasoning_tokens": 30},
            },
            Usage(100, 50, reasoning_tokens=30),
        ),
        ({"prompt_tokens": 100, "completion_tokens": 20, "prompt_cache_hit_tokens": 40}, Usage(100, 20, 40)),
        ({"prompt_tokens": None, "output_tokens": -3, "input_tokens": "many"}, Usage(consistent=False)),
        ({"prompt_tokens": 1, "cost": {"total_cost": 0.25}}, Usage(1, cost_usd=Decimal("0.25"))),
        ({"prompt_tokens": 1, "cost": float("nan")}, Usage(1)),
        ({"prompt_tokens": 1, "cost": True}, Usage(1)),
    ],
    ids=["chat", "responses", "embeddings", "xai", "deepseek", "nonsense", "cost object", "nan", "bool"],
)
def test_openai_usage_is_made_into_totals(told: dict[str, Any], expected: Usage) -> None:
    """Cached tokens are in the input and reasoning is in the output, whichever way a provider tells them."""
    assert openai_usage(told) == expected


def test_anthropic_usage_is_made_into_totals() -> None:
    """What the cache held and took is told beside the input."""
    told = {
        "input_tokens": 5,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_1h_input_tokens": 20},
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 4},
        "server_tool_use": {"web_search_requests": 2},
    }
    expected = Usage(135, 9, 100, 30, cache_write_1h_tokens=20, reasoning_tokens=4, web_searches=2)
    assert anthropic_usage(told) == expected
    assert anthropic_usage(merge_anthropic_usage(told, {"output_tokens": 12})).output_tokens == 12


@pytest.mark.parametrize(
    ("read", "told", "expected"),
    [
        (
            gemini_usage,
            {
                "prompt_token_count": 95,
                "tool_use_prompt_token_count": 5,
                "cached_content_token_count": 40,
                "candidates_token_count": 20,
                "thoughts_token_count": 30,
                "prompt_tokens_details": [{"modality": "AUDIO", "token_count": 60}, {"modality": "TEXT"}],
                "candidates_tokens_details": [{"modality": "IMAGE", "token_count": 15}],
                "cache_tokens_details": [{"modality": "AUDIO", "token_count": 10}],
            },
            Usage(
                100,
                50,
                40,
                reasoning_tokens=30,
                input_audio_tokens=60,
                output_image_tokens=15,
                cache_audio_read_tokens=10,
            ),
        ),
        (gemini_usage, {"prompt_token_count": 9, "candidates_token_count": None}, Usage(9)),
        (
            bedrock_usage,
            {
                "inputTokens": 10,
                "outputTokens": 5,
                "cacheReadInputTokens": 3,
                "cacheWriteInputTokens": 2,
                "cacheDetails": [{"ttl": "1h", "inputTokens": 2}],
            },
            Usage(15, 5, 3, 2, cache_write_1h_tokens=2),
        ),
        (ollama_usage, {"prompt_eval_count": 11, "eval_count": 7}, Usage(11, 7)),
        (
            cohere_usage,
            {"billed_units": {"input_tokens": 10.0, "output_tokens": 4.0}, "tokens": {"input_tokens": 70}},
            Usage(10, 4),
        ),
        (cohere_usage, {"tokens": {"input_tokens": 70, "output_tokens": 5}, "cached_tokens": 20}, Usage(70, 5, 20)),
    ],
    ids=["gemini", "gemini in part", "bedrock", "ollama", "cohere billed", "cohere"],
)
def test_other_providers_usage_is_made_into_totals(read: Any, told: dict[str, Any], expected: Usage) -> None:
    """Thoughts and prompts of tools are told beside, what is billed goes before what was counted."""
    usage = read(told)
    assert all(getattr(usage, name) == value for name, value in vars(expected).items())


@given(
    st.dictionaries(
        st.sampled_from(
            ["prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens", "cost"]
        ),
        st.none() | st.integers() | st.floats() | st.text(),
    ),
    st.dictionaries(st.sampled_from(["cached_tokens", "reasoning_tokens"]), st.none() | st.integers()),
)
@settings(deadline=None)
def test_parts_never_exceed_their_whole(told: dict[str, Any], details: dict[str, Any]) -> None:
    """Whatever a provider tells, nothing is negative and the parts fit in."""
    told |= {"prompt_tokens_details": details, "completion_tokens_details": details}
    usage = openai_usage(told)
    assert 0 <= usage.cache_read_tokens + usage.cache_write_tokens <= usage.input_tokens
    assert 0 <= usage.reasoning_tokens <= usage.output_tokens
