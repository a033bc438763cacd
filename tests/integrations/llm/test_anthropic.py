"""Anthropic's SDK: every way to make a call, and what is known of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import anthropic
import pytest

import monitoring
from monitoring.testing import MemorySink
from tests.integrations.llm.subjects import CLAUDE, AnthropicSubject, calls, http_library, says

httpx = http_library(anthropic)
PRICE = 111 * Decimal(1) / 1_000_000 + 22 * Decimal(5) / 1_000_000


@pytest.fixture
def client(llm_port: int) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(**AnthropicSubject(llm_port).settings) as client:
        yield monitoring.wrap(client)


def _create(messages: Any, **settings: Any) -> Any:
    return messages.create(model=CLAUDE, max_tokens=9, messages=says("hello"), **settings)


def _plain(client: Any) -> None:
    _create(client.messages)


def _beta(client: Any) -> None:
    _create(client.beta.messages)


def _raw(client: Any) -> None:
    _create(client.messages.with_raw_response).parse()


def _with_options(client: Any) -> None:
    _create(client.with_options(timeout=5).messages)


def _stream(client: Any) -> None:
    list(_create(client.messages, stream=True))


def _stream_helper(client: Any) -> None:
    with client.messages.stream(model=CLAUDE, max_tokens=9, messages=says("hello")) as stream:
        assert "".join(stream.text_stream) == "Good morning to you, my friend."


def _final_message(client: Any) -> None:
    with client.messages.stream(model=CLAUDE, max_tokens=9, messages=says("hello")) as stream:
        assert stream.get_final_message().usage.output_tokens == 22


def _raw_stream(client: Any) -> None:
    list(_create(client.messages.with_raw_response, stream=True).parse())


@pytest.mark.parametrize(
    ("call", "streamed"),
    [
        (_plain, False),
        (_beta, False),
        (_raw, False),
        (_with_options, False),
        (_stream, True),
        (_stream_helper, True),
        (_final_message, True),
        (_raw_stream, True),
    ],
)
def test_every_way_to_call_is_one_observation_with_tokens_and_cost(
    client: anthropic.Anthropic, sink: MemorySink, call: Callable[[Any], None], streamed: bool
) -> None:
    """Whichever way a message is asked for, its usage is known, and so is what it costs."""
    call(client)
    (seen,) = calls(sink)
    assert (seen.name, seen.provider, seen.operation) == (f"chat {CLAUDE}", "anthropic", "chat")
    assert (seen.outcome, seen.streamed, seen.response_model) == ("ok", streamed, CLAUDE)
    assert (seen.has_usage, seen.input_tokens, seen.output_tokens) == (True, 111, 22)
    assert seen.cost_usd == PRICE
    assert (seen.first_chunk_seconds > 0) == streamed


def test_cached_tokens_are_part_of_the_input(sink: MemorySink) -> None:
    """The provider tells them beside the input; the total has them in it, and each has its price."""
    usage = {
        "input_tokens": 5,
        "cache_read_input_tokens": 1_000,
        "cache_creation_input_tokens": 200,
        "output_tokens": 10,
    }
    answered({"type": "message", "model": CLAUDE, "content": [], "usage": usage}).messages.create(
        model=CLAUDE, max_tokens=9, messages=says("hello")
    )
    (seen,) = calls(sink)
    assert (seen.input_tokens, seen.cache_read_tokens, seen.cache_write_tokens) == (1_205, 1_000, 200)
    assert seen.cost_usd == (5 + 1_000 * Decimal("0.1") + 200 * Decimal("1.25") + 10 * 5) / 1_000_000


def test_a_stream_tells_its_final_counts_last(sink: MemorySink) -> None:
    """The counts of the last event replace those of the first, and what it leaves out stays."""
    started = {"input_tokens": 5, "cache_read_input_tokens": 1_000, "output_tokens": 1}
    events = [
        {"type": "message_start", "message": {"type": "message", "model": CLAUDE, "usage": started}},
        {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 40}},
        {"type": "message_stop"},
    ]
    list(streamed(events).messages.create(model=CLAUDE, max_tokens=9, messages=says("hello"), stream=True))
    (seen,) = calls(sink)
    assert (seen.has_usage, seen.input_tokens, seen.output_tokens) == (True, 1_005, 40)


def test_a_stream_cut_short_has_no_final_count_and_no_cost(client: anthropic.Anthropic, sink: MemorySink) -> None:
    """What the beginning of a stream tells is not the bill."""
    with _create(client.messages, stream=True) as stream:
        next(stream)
    (seen,) = calls(sink)
    assert (seen.outcome, seen.has_usage, seen.cost_usd) == ("closed_early", False, None)


def test_other_requests_of_the_sdk_are_no_calls(sink: MemorySink) -> None:
    """Counting tokens costs nothing and calls no model."""
    answered({"input_tokens": 5}).messages.count_tokens(model=CLAUDE, messages=says("hello"))
    assert sink.observations == []


def test_batched_answers_cost_half(sink: MemorySink) -> None:
    """The answer tells that it came from a batch."""
    usage = {"input_tokens": 1_000_000, "output_tokens": 0, "service_tier": "batch"}
    client = answered({"type": "message", "model": CLAUDE, "content": [], "usage": usage})
    client.messages.create(model=CLAUDE, max_tokens=9, messages=says("hello"))
    assert [seen.cost_usd for seen in calls(sink)] == [Decimal("0.5")]


def test_litellms_proxy_tells_the_cost_in_a_header(sink: MemorySink) -> None:
    """It speaks this protocol too."""
    body = {"type": "message", "model": CLAUDE, "content": [], "usage": {"input_tokens": 1_000_000}}
    headers = {"x-litellm-call-id": "1", "x-litellm-response-cost": "0.00325"}
    library = http_library(anthropic)
    transport = library.MockTransport(lambda _: library.Response(200, json=body, headers=headers))
    client = monitoring.wrap(anthropic.Anthropic(api_key="x", http_client=library.Client(transport=transport)))
    client.messages.create(model=CLAUDE, max_tokens=9, messages=says("hello"))
    assert [(seen.cost_usd, seen.price_source) for seen in calls(sink)] == [(Decimal("0.00325"), "provider")]


def answered(body: dict[str, Any]) -> anthropic.Anthropic:
    """Return a wrapped client that gets ``body`` for an answer."""
    return _client(json.dumps(body), "application/json")


def streamed(events: list[dict[str, Any]]) -> anthropic.Anthropic:
    """Return a wrapped client that gets the events as a stream."""
    return _client("".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in events), "text/event-stream")


def _client(content: str, kind: str) -> anthropic.Anthropic:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=content, headers={"content-type": kind}))
    return monitoring.wrap(anthropic.Anthropic(api_key="x", http_client=httpx.Client(transport=transport)))
