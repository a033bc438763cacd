"""LiteLLM: what is one call, whose it is, what it costs, and how its streams end."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from types import ModuleType
from typing import Any

import httpx
import litellm
import openai
import pytest
from litellm.caching.caching import Cache
from litellm.llms.custom_httpx.http_handler import HTTPHandler

import monitoring
from monitoring import Budget, BudgetExceeded
from monitoring.calls import LLMCall
from monitoring.context import muted
from monitoring.integrations.llm.calls import status_of
from monitoring.integrations.llm.litellm_answers import Asked, provider_and_model
from monitoring.testing import MemorySink, use
from tests.integrations.llm import recorded
from tests.integrations.llm.litellm_subjects import at, close_clients, closed, its_own_warnings, router
from tests.integrations.llm.subjects import CLAUDE, GPT, WITH_USAGE, OpenAISubject, calls, says
from tests.support.llm_server import Server, json_answer

pytestmark = its_own_warnings

HELLO = says("hello")
LIMITED = json_answer({"error": {"message": "slow down"}}, status=429)


@pytest.fixture(scope="module", autouse=True)
def closed_clients() -> Iterator[None]:
    """Leave no connection open."""
    yield
    close_clients()


@pytest.fixture
def module() -> Any:
    """The module, wrapped."""
    return monitoring.wrap(litellm)


def to_claude(server: Server) -> dict[str, Any]:
    """Return where a call goes that LiteLLM sends by its own HTTP client."""
    return {"model": f"anthropic/{CLAUDE}", "messages": HELLO, "api_base": server.url, "api_key": "x", "max_tokens": 9}


def run(coroutine: Any) -> Any:
    """Run a coroutine, and close the connections of its event loop."""

    async def until_closed() -> Any:
        try:
            return await coroutine
        finally:
            await closed()

    return asyncio.run(until_closed())


async def drained(stream: Any) -> list[Any]:
    """Return what a stream of a coroutine's tells."""
    return [chunk async for chunk in await stream]


def outcomes(sink: MemorySink) -> list[str]:
    """Return how the calls seen so far have ended."""
    return [call.outcome for call in calls(sink)]


@pytest.mark.parametrize(
    ("ask", "name"),
    [
        (lambda where: litellm.completion(GPT, HELLO, **where), f"chat {GPT}"),
        (lambda where: litellm.responses("hello", f"openai/{GPT}", **where), f"chat {GPT}"),
        (lambda where: litellm.text_completion("hello", GPT, **where), f"text_completion {GPT}"),
        (lambda where: litellm.embedding("text-embedding-3-small", ["hello"], **where), "embeddings"),
        (lambda where: run(litellm.acompletion(GPT, HELLO, **where)), f"chat {GPT}"),
        (lambda where: run(litellm.aresponses("hello", f"openai/{GPT}", **where)), f"chat {GPT}"),
        (lambda where: run(litellm.atext_completion("hello", GPT, **where)), f"text_completion {GPT}"),
        (lambda where: run(litellm.aembedding("text-embedding-3-small", ["hello"], **where)), "embeddings"),
        (lambda where: list(litellm.text_completion("hello", GPT, stream=True, **where)), f"text_completion {GPT}"),
        (lambda where: litellm.completion_with_retries(GPT, HELLO, **where), None),
    ],
)
def test_each_function_is_one_call(
    ask: Callable[[Any], Any], name: str | None, llm_port: int, module: Any, sink: MemorySink
) -> None:
    """Also where LiteLLM does one by another; the old function of retries asks past the module, and is not seen."""
    ask(at(llm_port))
    seen = [(call.name.removesuffix(" text-embedding-3-small"), call.provider) for call in calls(sink)]
    assert seen == ([] if name is None else [(name, "openai")])


@pytest.mark.parametrize(
    ("asked", "told", "expected"),
    [
        (Asked("gpt-4o"), {}, ("openai", "gpt-4o")),
        (Asked("openai/gpt-4o"), {}, ("openai", "gpt-4o")),
        (Asked("gpt-4o", "openai"), {}, ("openai", "gpt-4o")),
        (Asked("openai/meta/llama", base="http://127.0.0.1:1/v1"), {}, ("openai", "meta/llama")),
        (Asked("hosted_vllm/llama"), {}, ("openai", "llama")),
        (Asked("openai/x", base="https://openrouter.ai/api/v1"), {}, ("openrouter", "x")),
        (Asked("openrouter/anthropic/claude-haiku-4-5"), {}, ("openrouter", "anthropic/claude-haiku-4-5")),
        (Asked("anthropic/claude-haiku-4-5"), {}, ("anthropic", "claude-haiku-4-5")),
        (Asked("azure/mine"), {}, ("azure.ai.openai", "mine")),
        (
            Asked("gemini/gemini-2.5-flash"),
            {"custom_llm_provider": "vertex_ai_beta"},
            ("gcp.gemini", "gemini-2.5-flash"),
        ),
        (Asked("vertex_ai/gemini-2.5-flash"), {}, ("gcp.vertex_ai", "gemini-2.5-flash")),
        (Asked("bedrock/converse/us.anthropic.claude"), {}, ("aws.bedrock", "us.anthropic.claude")),
        (Asked("ollama_chat/llama3.2"), {}, ("ollama", "llama3.2")),
        (Asked("xai/grok-4"), {}, ("x_ai", "grok-4")),
        (Asked("no-such"), {"is_failure": True, "custom_llm_provider": ""}, ("litellm", "no-such")),
        (Asked("smart", is_group=True), {"litellm_model_name": "groq/llama"}, ("groq", "llama")),
        (Asked("smart", is_group=True), {}, ("litellm", "smart")),
    ],
)
def test_provider_and_model_are_named_as_by_the_providers_client(
    asked: Asked, told: dict[str, Any], expected: tuple[str, str]
) -> None:
    """So that both ways to the same model are one series."""
    assert provider_and_model(litellm, asked, told) == expected


def test_litellms_own_retries_belong_to_one_call(server: Server, module: Any, sink: MemorySink) -> None:
    """Each has its reason."""
    server.will(LIMITED, LIMITED, json_answer(recorded.WHOLE_MESSAGE))
    module.completion(**to_claude(server), num_retries=2)
    (call,) = calls(sink)
    assert (call.outcome, call.retries, call.input_tokens, len(server.asked)) == ("ok", ("429", "429"), 110, 3)


def test_retries_of_a_coroutine_belong_to_one_call(server: Server, module: Any, sink: MemorySink) -> None:
    """All of them fail, and the caller gets the last."""
    server.will(LIMITED, LIMITED)
    with pytest.raises(litellm.RateLimitError):
        run(module.acompletion(**to_claude(server), num_retries=1))
    (call,) = calls(sink)
    assert (call.outcome, call.retries, call.refused, len(server.asked)) == ("error", ("429",), True, 2)


@pytest.mark.parametrize("is_async", [False, True])
def test_each_model_of_fallbacks_is_a_call(is_async: bool, server: Server, module: Any, sink: MemorySink) -> None:
    """They are other models, with prices of their own."""
    server.will(LIMITED, json_answer(recorded.WHOLE_MESSAGE))
    how = {**to_claude(server), "fallbacks": ["anthropic/claude-opus-4-5"]}
    if is_async:
        run(module.acompletion(**how))
    else:
        module.completion(**how)
    assert [(call.model, call.outcome) for call in calls(sink)] == [(CLAUDE, "error"), ("claude-opus-4-5", "ok")]


@pytest.mark.parametrize("of_module", [False, True])
@pytest.mark.parametrize("of_router", [False, True])
def test_a_call_through_a_router_is_counted_once(
    of_module: bool, of_router: bool, server: Server, sink: MemorySink
) -> None:
    """By the router, with its retries if the module is wrapped too; else by the module, each attempt by itself."""
    server.will(LIMITED, json_answer(recorded.WHOLE_MESSAGE))
    told = to_claude(server)
    del told["messages"]
    client = router({"group": "smart", **told}, num_retries=1, retry_after=0)
    if of_module:
        monitoring.wrap(litellm)
    if of_router:
        monitoring.wrap(client)
    client.completion("smart", HELLO)
    seen = [(call.model, call.outcome, call.retries) for call in calls(sink)]
    expected = {
        (True, True): [(CLAUDE, "ok", ("429",))],
        (False, True): [(CLAUDE, "ok", ())],
        (True, False): [(CLAUDE, "error", ()), (CLAUDE, "ok", ())],
        (False, False): [],
    }
    assert seen == expected[of_module, of_router]


@pytest.mark.parametrize("stream", [False, True])
def test_a_wrapped_client_below_counts_the_call(stream: bool, llm_port: int, module: Any, sink: MemorySink) -> None:
    """Once: the innermost."""
    with openai.OpenAI(**OpenAISubject(llm_port).settings) as client:
        answer = module.completion(GPT, HELLO, stream=stream, client=monitoring.wrap(client), **at(llm_port))
        if stream:
            list(answer)
    assert outcomes(sink) == ["ok"]


def test_a_stream_of_a_wrapped_client_below_is_closed_early_once(llm_port: int, module: Any, sink: MemorySink) -> None:
    """By the innermost, whoever closes it."""

    async def scenario() -> None:
        async with openai.AsyncOpenAI(**OpenAISubject(llm_port).settings) as client:
            how = {"stream": True, "client": monitoring.wrap(client), **at(llm_port)}
            await (await module.acompletion(GPT, HELLO, **how)).aclose()

    run(scenario())
    assert outcomes(sink) == ["closed_early"]


def test_the_http_layer_below_keeps_quiet(server: Server, module: Any, sink: MemorySink) -> None:
    """Where LiteLLM's HTTP client is wrapped too, it is one observation."""
    server.will(json_answer(recorded.WHOLE_MESSAGE))
    with httpx.Client() as http:
        module.completion(**to_claude(server), client=HTTPHandler(client=monitoring.wrap(http)))
    assert [call.kind for call in sink.observations] == ["llm"]


def test_an_answer_of_its_cache_is_no_call(
    llm_port: int, module: Any, sink: MemorySink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody was asked, and nothing is paid."""
    monkeypatch.setitem(sys.modules, "soundfile", ModuleType("soundfile"))  # its caches import its proxy, which has it
    litellm.cache = Cache(type="local")
    try:
        for _ in range(2):
            module.embedding("text-embedding-3-small", ["hello"], caching=True, **at(llm_port))
    finally:
        litellm.cache = None
    assert outcomes(sink) == ["ok"]


def test_what_the_provider_bills_goes_before_all_prices(server: Server, module: Any, sink: MemorySink) -> None:
    """OpenRouter tells the cost, and not LiteLLM."""
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "cost": 0.00042}
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}}
    server.will(json_answer({**recorded.CHAT, "choices": [choice], "usage": usage}))
    module.completion("openrouter/openai/gpt-4o", HELLO, api_base=f"{server.url}/v1", api_key="x")
    (call,) = calls(sink)
    assert (call.provider, call.cost_usd, call.price_source) == ("openrouter", Decimal("0.00042"), "provider")


def test_a_time_out_is_no_refusal(http_port: int, module: Any, sink: MemorySink) -> None:
    """LiteLLM gives it a status that no server has sent: what was used until then nobody knows."""
    hanging = {**at(http_port), "api_base": f"http://127.0.0.1:{http_port}/hang"}
    with pytest.raises(litellm.Timeout) as caught:
        module.completion(GPT, HELLO, timeout=0.2, **hanging)
    (call,) = calls(sink)
    assert (call.outcome, call.error_type, call.refused) == ("error", "Timeout", False)
    assert (caught.value.status_code, status_of(caught.value)) == (408, None)


def test_usage_that_we_ask_for_is_not_shown(llm_port: int, module: Any) -> None:
    """The chunk that tells it is taken out again; the reader's own wish is left alone."""
    bare = len(list(litellm.completion(GPT, HELLO, stream=True, **at(llm_port))))
    sink = MemorySink()
    with use(sink, llm_stream_usage=True):
        ours = list(module.completion(GPT, HELLO, stream=True, **at(llm_port)))
        own = list(module.completion(GPT, HELLO, stream=True, stream_options=WITH_USAGE, **at(llm_port)))
    assert (len(ours), len(own)) == (bare, bare + 1)
    assert [(call.has_usage, call.input_tokens) for call in calls(sink)] == [(True, 111)] * 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("function", ["completion", "responses"])
def test_texts_are_kept_where_they_are_asked_for(function: str, stream: bool, llm_port: int, module: Any) -> None:
    """Once, however often the answer repeats them."""
    sink = MemorySink()
    first = HELLO if function == "completion" else "hello"
    named = {"messages": first} if function == "completion" else {"input": first}
    with use(sink, llm_content=1.0):
        answer = getattr(module, function)(model=f"openai/{GPT}", stream=stream, **named, **at(llm_port))
        if stream:
            list(answer)
    (call,) = calls(sink)
    assert call.content is not None
    assert call.content["prompt"].startswith("hello")
    assert call.content["answer"] == "Good morning to you, my friend."


@pytest.mark.parametrize("more", [{}, {"stream": True}, {"fallbacks": ["gpt-4o-mini"]}])
@pytest.mark.parametrize("of_router", [False, True])
def test_a_refused_call_is_not_sent(more: dict[str, Any], of_router: bool, server: Server) -> None:
    """The caller gets BudgetExceeded, and no call is observed."""
    sink = MemorySink()
    server.will()
    where = {"api_base": server.url, "api_key": "x"}
    client = router({"model": GPT, **where}) if of_router else litellm
    with use(sink, budgets=[Budget(0.0001, refuse=True)]) as made:
        spent = LLMCall(0.0)
        spent.cost_usd = Decimal(1)
        made.recorder.record(spent)
        with pytest.raises(BudgetExceeded):
            monitoring.wrap(client).completion(GPT, HELLO, **more, **({} if of_router else where))
    assert (len(calls(sink)), server.asked) == (1, [])


def test_a_stream_that_is_closed_is_closed_early(llm_port: int, module: Any, sink: MemorySink) -> None:
    """Once, by its reader, who may hold it still."""

    async def scenario() -> None:
        stream = await module.acompletion(GPT, HELLO, stream=True, **at(llm_port))
        assert isinstance(stream, litellm.CustomStreamWrapper)
        assert type(stream).__name__ == "CustomStreamWrapper"
        await anext(stream)
        assert outcomes(sink) == []
        await stream.aclose()
        await stream.aclose()

    run(scenario())
    assert outcomes(sink) == ["closed_early"]


def test_a_stream_that_the_reader_breaks_off_is_abandoned(llm_port: int, module: Any, sink: MemorySink) -> None:
    """As soon as nothing holds it."""

    async def scenario() -> None:
        async for _ in await module.acompletion(GPT, HELLO, stream=True, **at(llm_port)):
            break

    run(scenario())
    assert outcomes(sink) == ["abandoned"]


def test_a_cancelled_stream_is_cancelled(llm_port: int, module: Any, sink: MemorySink) -> None:
    """The reader's task is cancelled while it waits for a chunk."""
    reading = drained(module.acompletion(GPT, says("slow"), stream=True, **at(llm_port)))
    with pytest.raises(asyncio.TimeoutError):
        run(asyncio.wait_for(reading, 0.5))
    assert outcomes(sink) == ["cancelled"]


def test_a_stream_belongs_to_where_it_was_started(llm_port: int, module: Any, sink: MemorySink) -> None:
    """Wherever it is read, and also when it is read after unwrap."""
    with monitoring.agent("writer"):
        stream = module.completion(GPT, HELLO, stream=True, **at(llm_port))
    monitoring.unwrap(module)
    with muted():
        assert len(list(stream)) > 1
    (call,) = calls(sink)
    assert (call.agent, call.outcome) == ("writer", "ok")


def test_functions_look_as_before(module: Any) -> None:
    """Their names, signatures and kinds are LiteLLM's."""
    former = module.completion.__wrapped__
    assert inspect.signature(module.completion) == inspect.signature(former)
    assert (module.completion.__name__, module.acompletion.__name__) == ("completion", "acompletion")
    assert inspect.iscoroutinefunction(module.acompletion)
    assert inspect.iscoroutinefunction(module.acompletion_with_retries)


def test_other_modules_are_refused() -> None:
    """With a word on what to do instead."""
    with pytest.raises(TypeError, match=r"the module httpx, and of modules it takes litellm alone; wrap a client"):
        monitoring.wrap(httpx)
