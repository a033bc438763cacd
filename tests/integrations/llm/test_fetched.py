"""Answers that are fetched later: responses in the background and batches count once, however often they are seen."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import anthropic
import openai
import pytest

import monitoring
from monitoring.context import current_record, muted
from monitoring.integrations.attachment import Link
from monitoring.integrations.llm import background, batches, prices
from monitoring.integrations.llm.background import Waiting
from monitoring.integrations.llm.calls import PendingCall
from monitoring.integrations.llm.openai import _OPERATIONS
from monitoring.integrations.llm.usage import Usage, plain_usage
from monitoring.observation import RequestRecord
from monitoring.recorder import Recorder
from monitoring.testing import FakeClock, MemorySink, use
from tests.integrations.llm.recorded import ANTHROPIC_USAGE, MESSAGE, RESPONSE
from tests.integrations.llm.subjects import CLAUDE, GPT, calls, http_library, says

OPENAI_HTTP, ANTHROPIC_HTTP = http_library(openai), http_library(anthropic)
QUEUED = {**RESPONSE, "status": "queued", "background": True, "output": [], "usage": None}
RUNNING = {**QUEUED, "status": "in_progress"}
COMPLETE = {**RESPONSE, "background": True}


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemorySink]:
    """What was observed, where no response and no batch was seen before."""
    monkeypatch.setattr(background, "waiting", Waiting())
    monkeypatch.setattr(batches, "counted", batches.Counted())
    sink = MemorySink()
    with use(sink):
        yield sink


def answering(library: Any, *bodies: Any) -> Any:
    """Return a transport of an HTTP library that answers with one body after the other, and with the last again."""
    left = list(bodies)

    def answer(_: Any) -> Any:
        body = left.pop(0) if len(left) > 1 else left[0]
        return library.Response(200, content=body) if isinstance(body, bytes) else library.Response(200, json=body)

    return library.MockTransport(answer)


def gpt(*bodies: Any) -> openai.OpenAI:
    """Return a wrapped client of OpenAI's that gets these answers."""
    http = OPENAI_HTTP.Client(transport=answering(OPENAI_HTTP, *bodies))
    return monitoring.wrap(openai.OpenAI(api_key="x", http_client=http))


def claude(*bodies: Any) -> anthropic.Anthropic:
    """Return a wrapped client of Anthropic's that gets these answers."""
    http = ANTHROPIC_HTTP.Client(transport=answering(ANTHROPIC_HTTP, *bodies))
    return monitoring.wrap(anthropic.Anthropic(api_key="x", http_client=http))


def ask(client: Any) -> Any:
    """Ask for a response in the background."""
    return client.responses.create(model=GPT, input="hello", background=True)


def told(sink: MemorySink) -> list[tuple[Any, ...]]:
    """Return how the calls seen so far have ended, and what they used."""
    return [(call.outcome, call.has_usage, call.input_tokens, call.output_tokens) for call in calls(sink)]


# --- responses in the background --------------------------------------------------------------------------------------


def test_a_response_in_the_background_is_a_call_when_it_is_complete(sink: MemorySink) -> None:
    """Not before, and once, however often it is fetched."""
    client = gpt(QUEUED, RUNNING, RUNNING, COMPLETE)
    answer = ask(client)
    for _ in range(2):
        client.responses.retrieve(answer.id)
        assert sink.observations == []
    for _ in range(3):
        client.responses.retrieve(answer.id, include=["reasoning.encrypted_content"])
    (call,) = calls(sink)
    assert (call.outcome, call.name, call.finish_reason, call.tool_calls) == ("ok", f"chat {GPT}", "completed", 1)
    assert (call.input_tokens, call.cache_read_tokens, call.output_tokens) == (100, 40, 50)
    assert call.cost_usd == (60 * Decimal("2.5") + 40 * Decimal("1.25") + 50 * 10) / 1_000_000


def test_an_async_client_fetches_it_too(sink: MemorySink) -> None:
    """The seam is the same."""

    async def scenario() -> None:
        http = OPENAI_HTTP.AsyncClient(transport=answering(OPENAI_HTTP, QUEUED, RUNNING, COMPLETE))
        async with openai.AsyncOpenAI(api_key="x", http_client=http) as client:
            answer = await ask(monitoring.wrap(client))
            for _ in range(3):
                await client.responses.retrieve(answer.id)

    asyncio.run(scenario())
    assert told(sink) == [("ok", True, 100, 50)]


def test_another_client_may_fetch_it(sink: MemorySink) -> None:
    """Clients come and go; so may the raw response be what is fetched, and read."""
    ask(gpt(QUEUED))
    gc.collect()
    raw = gpt(COMPLETE).responses.with_raw_response.retrieve("r")
    assert raw.parse().id == "r"
    assert told(sink) == [("ok", True, 100, 50)]


def test_it_belongs_to_the_request_and_the_agent_that_asked(sink: MemorySink) -> None:
    """Wherever it is fetched."""
    record = RequestRecord()
    token = current_record.set(record)
    with monitoring.agent("writer"):
        client = gpt(QUEUED, COMPLETE)
        ask(client)
    current_record.reset(token)
    client.responses.retrieve("r")
    (call,) = calls(sink)
    assert call.request is record
    assert call.agent == "writer"


@pytest.mark.parametrize(
    ("body", "outcome", "error"),
    [
        ({**QUEUED, "status": "failed", "error": {"code": "server_error", "message": "x"}}, "error", "ResponseFailed"),
        ({**QUEUED, "status": "cancelled"}, "cancelled", ""),
        ({**COMPLETE, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "ok", ""),
    ],
    ids=["failed", "cancelled", "incomplete"],
)
def test_it_ends_as_the_provider_says(sink: MemorySink, body: Any, outcome: str, error: str) -> None:
    """Not all come to a good end."""
    client = gpt(QUEUED, body)
    ask(client)
    client.responses.retrieve("r")
    assert [(call.outcome, call.error_type) for call in calls(sink)] == [(outcome, error)]


def test_cancelling_it_ends_it(sink: MemorySink) -> None:
    """The answer to that is the response."""
    client = gpt(QUEUED, {**QUEUED, "status": "cancelled"})
    ask(client)
    client.responses.cancel("r")
    assert told(sink) == [("cancelled", False, 0, 0)]


def test_a_response_that_this_process_did_not_ask_for_is_no_call(sink: MemorySink) -> None:
    """Somebody else counts it, or has counted it: a stored response may be fetched for ever."""
    gpt(COMPLETE).responses.retrieve("r")
    assert sink.observations == []


def test_nothing_is_looked_at_under_mute(sink: MemorySink) -> None:
    """It ends when somebody fetches it outside."""
    client = gpt(QUEUED, COMPLETE)
    ask(client)
    with muted():
        client.responses.retrieve("r")
    assert sink.observations == []
    client.responses.retrieve("r")
    assert told(sink) == [("ok", True, 100, 50)]


def _call(sink: MemorySink) -> PendingCall:
    recorder = Recorder([sink])
    return PendingCall(Link(lambda: recorder), recorder, "openai", _OPERATIONS["/responses"], GPT)


def test_a_response_that_nobody_fetches_is_abandoned_after_an_hour(sink: MemorySink) -> None:
    """At the next look; its tokens are unknown, and counted as such."""
    clock = FakeClock()
    waiting = Waiting(clock)
    waiting.hold("old", _call(sink))
    clock.advance(3_000)
    waiting.hold("new", _call(sink))
    assert sink.observations == []
    clock.advance(1_000)
    assert waiting.take("other") is None
    assert told(sink) == [("abandoned", False, 0, 0)]
    assert waiting.take("old") is None
    assert waiting.take("new") is not None


def test_only_so_many_responses_are_waited_for(sink: MemorySink) -> None:
    """The oldest goes first."""
    waiting = Waiting()
    for number in range(502):
        waiting.hold(str(number), _call(sink))
    assert [call.outcome for call in calls(sink)] == ["abandoned", "abandoned"]
    assert [waiting.take(number) is None for number in ("1", "2")] == [True, False]


# --- OpenAI's batches -------------------------------------------------------------------------------------------------

BATCH = {
    "id": "batch_1",
    "object": "batch",
    "endpoint": "/v1/chat/completions",
    "input_file_id": "f",
    "completion_window": "24h",
    "created_at": 1,
    "status": "in_progress",
    "model": "gpt-5-2025-08-07",
    "request_counts": {"total": 3, "completed": 2, "failed": 1},
}
USED = {
    "input_tokens": 1_000_000,
    "input_tokens_details": {"cached_tokens": 400_000},
    "output_tokens": 100_000,
    "output_tokens_details": {"reasoning_tokens": 70_000},
    "total_tokens": 1_100_000,
}


def test_a_batch_is_one_call_when_it_is_over(sink: MemorySink) -> None:
    """By the sums that it tells itself, and for half the price; once, however often it is looked at."""
    client = gpt(BATCH, {**BATCH, "status": "completed", "usage": USED})
    for _ in range(4):
        client.batches.retrieve("batch_1")
    (call,) = calls(sink)
    assert (call.name, call.service_tier, call.outcome) == ("batch gpt-5-2025-08-07", "batch", "ok")
    assert (call.input_tokens, call.output_tokens) == (1_000_000, 100_000)
    assert (call.cache_read_tokens, call.reasoning_tokens) == (400_000, 70_000)
    assert call.cost_usd == Decimal("0.6") * Decimal("0.625") + Decimal("0.4") * Decimal("0.0625") + Decimal("0.5")
    assert (call.price_source, call.price_version) == ("snapshot", prices.version())
    assert (call.duration_seconds, call.output_tokens_per_second) == (0.0, 0.0)


@pytest.mark.parametrize(
    "body",
    [
        {**BATCH, "status": "completed"},
        {**BATCH, "status": "completed", "usage": {**USED, "total_tokens": 0}},
        {**BATCH, "status": "finalizing", "usage": USED},
        {**BATCH, "status": "failed"},
    ],
    ids=["old", "nothing used", "not over", "failed"],
)
def test_a_batch_that_tells_no_usage_is_no_call(sink: MemorySink, body: Any) -> None:
    """Nothing is read out of its files."""
    gpt(body).batches.retrieve("batch_1")
    assert sink.observations == []


def test_only_the_batch_price_is_a_batchs_price() -> None:
    """A model that the snapshot has none for is not priced, and neither is a sum if the price depends on the size."""
    usage = plain_usage(1_000_000)
    assert prices.batch_cost_of("openai", "gpt-5", usage) == (Decimal("0.625"), "snapshot")
    assert prices.batch_cost_of("openai", "davinci-002", usage) == (None, "")
    assert prices.batch_cost_of("openai", "nobody-knows-it", usage) == (None, "")
    one, several = Usage(input_tokens=300_000), Usage(input_tokens=300_000, requests=2)
    assert prices.cost_of("gcp.gemini", ("gemini-2.5-pro",), one, {}) == (Decimal("0.75"), "snapshot")
    assert prices.cost_of("gcp.gemini", ("gemini-2.5-pro",), several, {}) == (None, "")
    few = Usage(input_tokens=100_000, requests=2)
    assert prices.cost_of("gcp.gemini", ("gemini-2.5-pro",), few, {}) == (Decimal("0.125"), "snapshot")


# --- Anthropic's batches ----------------------------------------------------------------------------------------------

ENDED = {
    "id": "msgbatch_1",
    "type": "message_batch",
    "processing_status": "ended",
    "request_counts": {"succeeded": 3, "errored": 1, "canceled": 0, "expired": 0, "processing": 0},
    "created_at": "2026-01-01T00:00:00Z",
    "expires_at": "2026-01-02T00:00:00Z",
    "results_url": "https://api.anthropic.com/v1/messages/batches/msgbatch_1/results",
}


def _succeeded(model: str) -> dict[str, Any]:
    usage = {**ANTHROPIC_USAGE, "service_tier": "batch"}
    return {"type": "succeeded", "message": {**MESSAGE, "model": model, "content": [], "usage": usage}}


def _results(*results: dict[str, Any]) -> bytes:
    return b"".join(
        json.dumps({"custom_id": str(place), "result": result}).encode() + b"\n" for place, result in enumerate(results)
    )


SONNET = "claude-sonnet-4-5"
RESULTS = _results(
    _succeeded(CLAUDE),
    _succeeded(SONNET),
    {"type": "errored", "error": {"type": "error", "error": {"type": "invalid_request", "message": "x"}}},
    _succeeded(CLAUDE),
)
EACH = (10 * Decimal(1) + 80 * Decimal("0.1") + 20 * Decimal("1.25") + 50 * 5) / 2 / 1_000_000


def test_the_results_of_a_batch_are_one_call_per_model(sink: MemorySink) -> None:
    """When they are read, with the sum of what each message used, for half the price."""
    client = claude(ENDED, RESULTS)
    results = client.messages.batches.results("msgbatch_1")
    assert type(results).__name__ == "JSONLDecoder"
    assert [entry.custom_id for entry in results] == ["0", "1", "2", "3"]
    assert [(call.name, call.service_tier) for call in calls(sink)] == [
        (f"batch {CLAUDE}", "batch"),
        (f"batch {SONNET}", "batch"),
    ]
    call = calls(sink)[0]
    assert (call.input_tokens, call.cache_read_tokens, call.cache_write_tokens) == (220, 160, 40)
    assert (call.output_tokens, call.reasoning_tokens, call.has_usage) == (100, 60, True)
    assert (call.cost_usd, call.price_source, call.duration_seconds) == (2 * EACH, "snapshot", 0.0)


def test_results_that_are_read_again_are_not_counted_again(sink: MemorySink) -> None:
    """By the beta either; what was left out the first time is counted when it is read."""
    client = claude(ENDED, RESULTS, ENDED, RESULTS, ENDED, RESULTS)
    first = client.messages.batches.results("msgbatch_1")
    assert next(first).custom_id == "0"
    first.close()
    del first
    gc.collect()
    assert told(sink) == [("ok", True, 110, 50)]
    assert len(list(client.messages.batches.results("msgbatch_1"))) == 4
    assert len(list(client.beta.messages.batches.results("msgbatch_1"))) == 4
    assert [(call.model, call.output_tokens) for call in calls(sink)] == [(CLAUDE, 50), (SONNET, 50), (CLAUDE, 50)]


def test_an_async_reader_of_results_is_seen_too(sink: MemorySink) -> None:
    """To where it stops."""

    async def scenario() -> None:
        http = ANTHROPIC_HTTP.AsyncClient(transport=answering(ANTHROPIC_HTTP, ENDED, RESULTS, ENDED, RESULTS))
        async with anthropic.AsyncAnthropic(api_key="x", http_client=http) as client:
            monitoring.wrap(client)
            for expected in (4, 4):
                results = await client.messages.batches.results("msgbatch_1")
                assert len([entry async for entry in results]) == expected

    asyncio.run(scenario())
    assert [(call.model, call.output_tokens) for call in calls(sink)] == [(CLAUDE, 100), (SONNET, 50)]


def test_results_that_are_not_read_are_no_call(sink: MemorySink) -> None:
    """Neither is the batch that is looked at, nor one that is made."""
    client = claude(ENDED, ENDED, ENDED, RESULTS)
    params: Any = {"model": CLAUDE, "max_tokens": 9, "messages": says("hello")}
    client.messages.batches.create(requests=[{"custom_id": "0", "params": params}])
    client.messages.batches.retrieve("msgbatch_1")
    client.messages.batches.results("msgbatch_1").close()
    gc.collect()
    assert sink.observations == []


def test_a_result_without_a_batch_price_makes_the_sum_unknown(sink: MemorySink) -> None:
    """It is not free."""
    client = claude(ENDED, _results(_succeeded("claude-9"), _succeeded("claude-9")))
    list(client.messages.batches.results("msgbatch_1"))
    assert [(call.output_tokens, call.cost_usd, call.price_source) for call in calls(sink)] == [(100, None, "")]


def test_many_models_are_reported_as_they_come(sink: MemorySink, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sums that are held are few, whatever a gateway calls its models."""
    monkeypatch.setattr(batches, "_MODELS", 2)
    client = claude(ENDED, _results(*(_succeeded(f"claude-{number}") for number in range(5))))
    results = client.messages.batches.results("msgbatch_1")
    assert [next(results).custom_id for _ in range(3)] == ["0", "1", "2"]
    assert len(calls(sink)) == 2
    list(results)
    assert sorted(call.model for call in calls(sink)) == [f"claude-{number}" for number in range(5)]


def test_the_batches_that_are_known_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten."""
    monkeypatch.setattr(batches, "_BATCHES", 2)
    known = batches.Counted()
    assert [known.is_new(batch) for batch in "abab"] == [True, True, False, False]
    assert [known.is_new(batch) for batch in "cba"] == [True, False, True]


@pytest.mark.parametrize(
    "fetch",
    [lambda: gpt(COMPLETE).responses.retrieve("r"), lambda: gpt(BATCH).batches.retrieve("batch_1")],
    ids=["response", "batch"],
)
def test_a_bug_in_looking_does_not_reach_the_caller(monkeypatch: pytest.MonkeyPatch, fetch: Callable[[], Any]) -> None:
    """It is counted."""
    from monitoring import integrations

    failures = list[str]()
    recorder = Recorder([MemorySink()], on_failure=lambda part, error: failures.append(part))

    def broken(_: object) -> Any:
        raise RuntimeError("a bug")

    def wrap(client: Any) -> Any:
        return integrations.wrap(client, recorder_of=lambda: recorder)

    monkeypatch.setattr("monitoring.integrations.llm.fetched.fields", broken)
    monkeypatch.setattr(monitoring, "wrap", wrap)
    assert fetch().id
    assert failures == ["monitoring.integrations.llm.fetched.noted: RuntimeError"]
