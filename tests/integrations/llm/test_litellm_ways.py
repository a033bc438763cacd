"""LiteLLM with recorded answers of several providers: exact tokens, equal answers, and each end of a stream."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import litellm
import pytest

import monitoring
from monitoring.testing import MemorySink
from tests.integrations.llm import recorded, test_clients
from tests.integrations.llm.litellm_subjects import close_clients, closed, its_own_warnings, router
from tests.integrations.llm.recorded import ADDED, ALL, Way
from tests.integrations.llm.subjects import BEDROCK, CLAUDE, GEMINI, GPT, calls, says
from tests.support.llm_server import Answer, Server, json_answer, llm_server, sse

pytestmark = its_own_warnings

HELLO: dict[str, Any] = {"messages": says("hello"), "max_retries": 0}
WITH_USAGE = {"stream": True, "stream_options": {"include_usage": True}}
TO_GPT: dict[str, Any] = {**HELLO, "model": f"openai/{GPT}", "api_key": "x"}
TO_CLAUDE: dict[str, Any] = {**HELLO, "model": f"anthropic/{CLAUDE}", "api_key": "x", "max_tokens": 9}
TO_GEMINI: dict[str, Any] = {**HELLO, "model": f"gemini/{GEMINI}", "api_key": "x"}
TO_BEDROCK: dict[str, Any] = {
    **HELLO,
    "model": f"bedrock/converse/{BEDROCK}",
    "aws_access_key_id": "x",
    "aws_secret_access_key": "x",
    "aws_region_name": "us-east-1",
}
ANSWERS = {way.label: way.answer for way in recorded.WAYS}
THINKING = {**ADDED, "reasoning_tokens": 30}


def _way(label: str, like: str, function: str, told: dict[str, Any], expected: dict[str, Any], **more: Any) -> Way:
    """Return a way through one of the module's functions, that is answered like one of another client."""
    base = "{}/v1" if told["model"].startswith("openai/") else "{}"
    how: dict[str, Any] = {"reason": "tool_calls", **more}

    def ask(client: Any, url: str) -> Any:
        return getattr(client, function)(**told, api_base=base.format(url))

    return Way(label, lambda _: litellm, ANSWERS[like], ask, expected=expected, **how)  # type: ignore[arg-type]


def _by_router(label: str, like: str, function: str, told: dict[str, Any], expected: dict[str, Any]) -> Way:
    """Return a way through a router, whose group has a name of its own."""
    asked = {name: told[name] for name in ("messages", "stream", "stream_options") if name in told}

    def make(server: Server) -> Any:
        base = f"{server.url}/v1" if told["model"].startswith("openai/") else server.url
        return router({"group": "smart", "model": told["model"], "api_key": "x", "api_base": base, "max_retries": 0})

    def ask(client: Any, url: str) -> Any:
        return getattr(client, function)(model="smart", **asked)

    return Way(label, make, ANSWERS[like], ask, "tool_calls", expected, "stream" in asked)  # type: ignore[arg-type]


RESPONSE: dict[str, Any] = {"model": f"openai/{GPT}", "input": "hello", "api_key": "x"}
STREAMED: dict[str, Any] = {"streamed": True}
WAYS = (
    _way("chat", "openai chat", "completion", TO_GPT, ALL),
    _way("async chat", "openai chat", "acompletion", TO_GPT, ALL),
    _way("stream", "openai stream", "completion", {**TO_GPT, **WITH_USAGE}, ALL, **STREAMED),
    _way("async stream", "openai async stream", "acompletion", {**TO_GPT, **WITH_USAGE}, ALL, **STREAMED),
    _way("response", "openai response", "responses", RESPONSE, ALL, reason="completed"),
    _way(
        "response stream",
        "openai response stream",
        "aresponses",
        {**RESPONSE, "stream": True},
        ALL,
        reason="completed",
        **STREAMED,
    ),
    _way("anthropic", "anthropic message", "completion", TO_CLAUDE, THINKING),
    _way("anthropic stream", "anthropic stream", "completion", {**TO_CLAUDE, "stream": True}, THINKING, **STREAMED),
    _way(
        "anthropic async stream", "anthropic stream", "acompletion", {**TO_CLAUDE, **WITH_USAGE}, THINKING, **STREAMED
    ),
    _way("gemini", "google content", "acompletion", TO_GEMINI, ALL),
    _way("gemini stream", "google stream", "completion", {**TO_GEMINI, "stream": True}, ALL, **STREAMED),
    _way("bedrock", "bedrock converse", "completion", TO_BEDROCK, ADDED),
    _way("bedrock stream", "bedrock converse_stream", "completion", {**TO_BEDROCK, "stream": True}, ADDED, **STREAMED),
    _by_router("router", "openai chat", "acompletion", TO_GPT, ALL),
    _by_router("router's stream", "openai stream", "completion", {**TO_GPT, **WITH_USAGE}, ALL),
    _by_router("router's async stream", "openai stream", "acompletion", {**TO_GPT, **WITH_USAGE}, ALL),
)
PROVIDERS = {CLAUDE: "anthropic", GEMINI: "gcp.gemini", BEDROCK: "aws.bedrock", GPT: "openai"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of recorded answers."""
    with llm_server() as server:
        yield server
    close_clients()


@pytest.fixture(params=WAYS, ids=lambda way: way.label)
def way(request: pytest.FixtureRequest, server: Server) -> Way:
    """One way to ask, at the server."""
    made: Way = request.param
    return replace(made, ask=partial(made.ask, url=server.url))


@pytest.fixture
def stream(way: Way) -> Way:
    """One way to ask for a stream."""
    if not way.streamed:
        pytest.skip("it is no stream")
    return way


async def ask(way: Way, client: Any, after_each: Callable[[], object] = lambda: None) -> list[Any]:
    """Ask, read in the way that was asked in, and close the connections of this event loop."""
    answer, chunks = way.ask(client), []
    try:
        if not inspect.isawaitable(answer):
            for chunk in answer if way.streamed else [answer]:
                chunks.append(chunk)
                after_each()
        elif not way.streamed:
            chunks.append(await answer)
        else:
            async for chunk in await answer:
                chunks.append(chunk)
                after_each()
        return chunks
    finally:
        await closed()


def test_tokens_are_exact(way: Way, server: Server, sink: MemorySink) -> None:
    """As they are through the provider's own client, under the same names, and priced by the same table: LiteLLM's
    own cost, which it writes into the usage, is not taken.
    """
    test_clients.run(way, server, act=ask)
    (call,) = calls(sink)
    assert (call.outcome, call.streamed, call.has_usage, call.usage_consistent) == ("ok", way.streamed, True, True)
    expected = {"input_tokens": 100, "output_tokens": 50, "cache_write_tokens": 0, "reasoning_tokens": 0} | way.expected
    assert {name: getattr(call, name) for name in expected} == expected
    assert (call.finish_reason, call.price_source) == (way.reason, "snapshot")
    assert (call.name, call.provider) == (f"chat {call.model}", PROVIDERS[call.model])


def test_the_answer_and_the_request_are_those_of_a_bare_module(way: Way, server: Server, sink: MemorySink) -> None:
    """Objects of the same types with the same content, but for what LiteLLM draws by lot, for the same bytes."""
    plain, asked = test_clients.run(way, server, act=ask, wrapped=False), list(server.asked)
    wrapped = test_clients.run(way, server, act=ask)
    assert [type(one) for one in wrapped] == [type(one) for one in plain]
    assert list(map(_comparable, wrapped)) == list(map(_comparable, plain))
    assert server.asked == asked
    assert len(calls(sink)) == 1


def _comparable(told: Any) -> Any:
    if hasattr(told, "model_dump"):
        told = told.model_dump()
    if isinstance(told, dict):
        return {name: _comparable(value) for name, value in told.items() if name not in ("id", "created", "item_id")}
    return [_comparable(one) for one in told] if isinstance(told, list) else told


def test_nothing_is_buffered(stream: Way, server: Server, sink: MemorySink) -> None:
    """The server sends a chunk only when the reader has the one before, or a few before: LiteLLM keeps some."""
    answer = stream.answer()
    answer.in_steps = True
    plain = _read_in_steps(stream, server, answer, wrapped=False)
    assert _read_in_steps(stream, server, answer, wrapped=True) == plain
    (call,) = calls(sink)
    assert (call.outcome, call.chunks) == ("ok", plain)


def _read_in_steps(way: Way, server: Server, answer: Answer, *, wrapped: bool) -> int:
    for _ in range(3):  # LiteLLM keeps as many events of Anthropic's to itself
        server.steps.release()

    async def act(way: Way, client: Any) -> list[Any]:
        return await ask(way, client, after_each=server.steps.release)

    chunks = test_clients.run(way, server, answer, act=act, wrapped=wrapped)
    while server.steps.acquire(blocking=False):
        pass
    return len(chunks)


def test_a_cut_stream_is_an_error(stream: Way, server: Server, sink: MemorySink) -> None:
    """The connection ends in the middle: tokens are unknown, and not what LiteLLM makes of what came."""
    answer = stream.answer()
    answer.chunks, answer.is_cut = answer.chunks[:1], True
    with pytest.raises(Exception) as caught:  # noqa: PT011  (LiteLLM has several)
        test_clients.run(stream, server, answer, act=ask)
    (call,) = calls(sink)
    assert (call.outcome, call.error_type, call.has_usage) == ("error", type(caught.value).__name__, False)
    assert call.cost_usd is None


def test_a_refusal_costs_nothing(way: Way, server: Server, sink: MemorySink) -> None:
    """An error by its type, no tokens that are missing, and no price that is."""
    refusal = json_answer({"error": {"message": "slow down", "code": 429}}, status=429)
    with pytest.raises(Exception) as caught:  # noqa: PT011
        test_clients.run(way, server, *[refusal] * 3, act=ask)
    (call,) = calls(sink)
    assert (call.outcome, call.error_type, call.refused) == ("error", type(caught.value).__name__, True)


def test_a_stream_that_is_dropped_unread_is_abandoned(stream: Way, server: Server, sink: MemorySink) -> None:
    """Once; LiteLLM holds some streams in a cycle of its own, until the garbage collector comes."""

    async def act(way: Way, client: Any) -> None:
        answer = way.ask(client)
        if inspect.isawaitable(answer):
            answer = await answer
        assert calls(sink) == []
        del answer
        gc.collect()
        await closed()

    test_clients.run(stream, server, act=act)
    assert [call.outcome for call in calls(sink)] == ["abandoned"]


def test_a_stream_without_usage_has_no_cost(server: Server, sink: MemorySink) -> None:
    """LiteLLM counts words where the provider tells nothing: that is not taken."""
    server.will(sse(recorded._openai_chunks(has_usage=False)))
    chunks = list(litellm.completion(**TO_GPT, **WITH_USAGE, api_base=f"{server.url}/v1"))
    assert chunks[-1].usage.completion_tokens > 0
    server.will(sse(recorded._openai_chunks(has_usage=False)))
    list(monitoring.wrap(litellm).completion(**TO_GPT, **WITH_USAGE, api_base=f"{server.url}/v1"))
    (call,) = calls(sink)
    assert (call.outcome, call.has_usage, call.input_tokens, call.cost_usd) == ("ok", False, 0, None)
