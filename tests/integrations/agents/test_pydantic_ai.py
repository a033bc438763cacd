"""Pydantic AI's agents, with its own models of tests and with OpenAI's client: runs, tools, and tokens once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import openai
import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.usage import RequestUsage

import monitoring
from monitoring import Budget, BudgetExceeded
from monitoring.calls import LLMCall
from monitoring.testing import MemorySink, use
from tests.integrations.contract import SECRET
from tests.integrations.llm.subjects import GPT, OpenAISubject, calls


@pytest.fixture
def sink() -> Iterator[MemorySink]:
    sink = MemorySink()
    with use(sink):
        yield sink


def answering(messages: list[ModelMessage], info: Any) -> ModelResponse:
    """Answer as a model that calls a tool first."""
    usage = RequestUsage(input_tokens=100, output_tokens=20, cache_read_tokens=40, details={"reasoning_tokens": 5})
    parts: Any = [TextPart(SECRET)] if len(messages) > 1 else [ToolCallPart("search", {"text": SECRET})]
    return ModelResponse(parts=parts, usage=usage, model_name="gpt-4o", provider_name="openai")


def researcher(model: Any = None) -> Agent[None, str]:
    """Return an agent with a tool."""
    agent = Agent(model or FunctionModel(answering, model_name="gpt-4o"), name="researcher")

    @agent.tool_plain
    def search(text: str) -> str:
        return text

    return monitoring.wrap(agent)


def run(agent: Agent[None, str], prompt: str = "find it") -> str:
    """Run an agent to its end, and return what it said."""
    return asyncio.run(agent.run(prompt)).output


def spans(sink: MemorySink) -> list[tuple[str, str, str]]:
    """Return kind, name and outcome of agents and tools, in the order in which they ended."""
    return [(one.kind, one.name, one.outcome) for one in sink.observations if one.kind in ("span", "agent")]


def test_a_run_is_an_agents_with_its_tools_and_what_its_model_used(sink: MemorySink) -> None:
    """Each request to the model is one call, with the tokens that the framework knows, and its price."""
    assert run(researcher()) == SECRET
    assert spans(sink) == [("span", "search", "ok"), ("agent", "researcher", "ok")]
    told = [
        (call.name, call.agent, call.input_tokens, call.output_tokens, call.cache_read_tokens, call.reasoning_tokens)
        for call in calls(sink)
    ]
    assert told == [("chat gpt-4o", "researcher", 100, 20, 40, 5)] * 2
    assert [call.tool_calls for call in calls(sink)] == [1, 0]
    assert [call.price_source for call in calls(sink)] == ["snapshot"] * 2
    ran = cast(Any, sink.of_kind("agent")[0].opened).run
    assert (ran.llm_calls, ran.llm_tokens, ran.tool_calls) == (2, 240, 1)
    assert SECRET not in repr([vars(one) for one in sink.observations])


@pytest.mark.parametrize("way", ["run", "run_stream", "iter"])
def test_each_way_to_run_is_a_run(sink: MemorySink, way: str) -> None:
    """Streamed, or node by node."""
    agent = researcher(TestModel())

    async def main() -> None:
        if way == "run":
            await agent.run("find it")
        elif way == "run_stream":
            async with agent.run_stream("find it") as result:
                async for _ in result.stream_text():
                    pass
        else:
            async with agent.iter("find it") as running:
                async for _ in running:
                    pass

    asyncio.run(main())
    assert spans(sink) == [("span", "search", "ok"), ("agent", "researcher", "ok")]
    assert [call.outcome for call in calls(sink)] == ["ok", "ok"]


def test_what_a_wrapped_client_reports_is_not_reported_again(sink: MemorySink, llm_port: int) -> None:
    """The client's own call is the one, with its exact tokens, inside of the agent."""

    async def main(wrapped: bool) -> None:
        async with openai.AsyncOpenAI(**OpenAISubject(llm_port).settings) as client:
            if wrapped:
                monitoring.wrap(client)
            model = OpenAIChatModel(GPT, provider=OpenAIProvider(openai_client=client))
            await monitoring.wrap(Agent(model, name="greeter")).run("hello")

    for wrapped in (True, False):
        asyncio.run(main(wrapped))
        (call,) = calls(sink)
        assert (call.agent, call.input_tokens, call.output_tokens, call.has_usage) == ("greeter", 111, 22, True)
        assert (call.provider, call.model, call.cost_usd is None) == ("openai", GPT, False)
        sink.observations.clear()


def test_agents_in_tools_are_steps_that_share_the_run(sink: MemorySink) -> None:
    """Each counts its own, and the outermost all."""
    inner = researcher()
    outer = Agent(FunctionModel(answering, model_name="gpt-4o"), name="planner")

    @outer.tool_plain
    async def search(text: str) -> str:
        results = await asyncio.gather(*(inner.run(text) for _ in range(3)))
        return results[0].output

    run(monitoring.wrap(outer), "plan it")
    runs = [cast(Any, one.opened).run for one in sink.of_kind("agent")]
    assert [(run.llm_calls, run.tool_calls) for run in runs] == [(2, 1)] * 3 + [(8, 4)]
    assert {run.root for run in runs} == {runs[-1].id}


def test_what_fails_says_so_and_is_the_same(sink: MemorySink) -> None:
    """A tool's exception ends the tool and the run; a model's the call and the run."""
    failing = Agent(FunctionModel(answering), name="searcher")
    error = LookupError(SECRET)

    @failing.tool_plain
    def search(text: str) -> str:
        raise error

    def fail(messages: Any, info: Any) -> ModelResponse:
        raise error

    with pytest.raises(LookupError) as caught:
        run(monitoring.wrap(failing))
    assert caught.value is error
    assert spans(sink) == [("span", "search", "error"), ("agent", "searcher", "error")]
    sink.observations.clear()
    with pytest.raises(LookupError):
        run(monitoring.wrap(Agent(FunctionModel(fail), name="broken")))
    assert [(call.outcome, call.error_type) for call in calls(sink)] == [("error", "LookupError")]


def test_a_spent_budget_refuses_the_model(sink: MemorySink) -> None:
    """Before it is asked, whatever the model is."""
    with use(sink, budgets=[Budget(0.000001, refuse=True)]):
        agent = researcher()
        with pytest.raises(BudgetExceeded):
            run(agent)
    assert len(calls(sink)) == 1


def test_unwrap_puts_back_what_was_there(sink: MemorySink) -> None:
    """And nothing is observed any more."""
    agent = Agent(TestModel(), name="researcher")
    before = dict(vars(agent))
    monitoring.unwrap(monitoring.wrap(monitoring.wrap(agent)))
    assert vars(agent) == before
    run(agent)
    assert sink.observations == []


def test_a_bug_of_ours_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run goes on, and the failure is counted."""
    failures: list[str] = []

    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    agent = researcher()
    monkeypatch.setattr(LLMCall, "__init__", broken)
    with monitoring.testing.use() as made:
        made.recorder._on_failure = lambda part, error: failures.append(part)
        assert run(agent) == SECRET
    assert len(failures) == 2
