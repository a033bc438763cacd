"""The OpenAI Agents SDK with models of tests and with OpenAI's client: runs, tools, and tokens once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import agents
import openai
import pytest
from agents.models.interface import Model
from agents.tracing import TracingProcessor, generation_span
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputItem,
    ResponseOutputMessage,
    ResponseOutputText,
)

import monitoring
from monitoring.integrations.agents.openai_agents import TraceProcessor
from monitoring.testing import MemorySink, use
from tests.integrations.contract import SECRET
from tests.integrations.llm.subjects import GPT, OpenAISubject, calls


@pytest.fixture(autouse=True)
def sink() -> Iterator[MemorySink]:
    """What is observed, by our processor alone: the SDK's own would send its spans to OpenAI."""
    sink = MemorySink()
    agents.set_trace_processors([])
    agents.add_trace_processor(TraceProcessor())
    with use(sink):
        yield sink
    agents.set_trace_processors([])


class FakeModel(Model):
    """Calls a tool, then answers; it tells of its tokens as the SDK's models do."""

    async def get_response(
        self, system_instructions: Any, input: Any, model_settings: Any, tools: Any, *args: Any, **kwargs: Any
    ) -> agents.ModelResponse:
        usage = agents.Usage(requests=1, input_tokens=100, output_tokens=20, total_tokens=120)
        with generation_span(model=GPT) as span:
            span.span_data.usage = {
                "input_tokens": 100,
                "output_tokens": 20,
                "input_tokens_details": {"cached_tokens": 40},
                "output_tokens_details": {"reasoning_tokens": 5},
            }
        item: ResponseOutputItem
        if tools and isinstance(input, (str, list)) and "function_call_output" not in str(input):
            (argument,) = tools[0].params_json_schema["properties"]
            item = ResponseFunctionToolCall(
                type="function_call", call_id="1", name=tools[0].name, arguments=json.dumps({argument: SECRET})
            )
        else:
            text = ResponseOutputText(type="output_text", text=SECRET, annotations=[])
            item = ResponseOutputMessage(id="1", type="message", role="assistant", status="completed", content=[text])
        return agents.ModelResponse(output=[item], usage=usage, response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        raise NotImplementedError


@agents.function_tool
def search(text: str) -> str:
    """Search."""
    return text


@agents.function_tool
def break_down(text: str) -> str:
    """Fail."""
    raise LookupError(text)


def run(agent: Any, prompt: str = "find it") -> str:
    """Run an agent to its end, and return what it said."""
    return str(asyncio.run(agents.Runner.run(agent, prompt)).final_output)


def spans(sink: MemorySink) -> list[tuple[str, str, str]]:
    """Return kind, name and outcome of agents and tools, in the order in which they ended."""
    return [(one.kind, one.name, one.outcome) for one in sink.observations if one.kind in ("span", "agent")]


def test_a_run_is_an_agents_with_its_tools_and_what_its_model_used(sink: MemorySink) -> None:
    """Each request to the model is one call, with the tokens that the framework tells, and its price."""
    assert run(agents.Agent(name="researcher", model=FakeModel(), tools=[search])) == SECRET
    assert spans(sink) == [("span", "search", "ok"), ("agent", "researcher", "ok")]
    told = [
        (call.name, call.agent, call.input_tokens, call.output_tokens, call.cache_read_tokens, call.price_source)
        for call in calls(sink)
    ]
    assert told == [(f"chat {GPT}", "researcher", 100, 20, 40, "snapshot")] * 2
    ran = cast(Any, sink.of_kind("agent")[0].opened).run
    assert (ran.llm_calls, ran.llm_tokens, ran.tool_calls) == (2, 240, 1)
    assert SECRET not in repr([vars(one) for one in sink.observations])


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("wrapped", [True, False])
def test_what_a_wrapped_client_reports_is_not_reported_again(
    sink: MemorySink, llm_port: int, wrapped: bool, streamed: bool
) -> None:
    """The client's own call is the one, with its exact tokens, inside of the agent."""

    async def main() -> None:
        async with openai.AsyncOpenAI(**OpenAISubject(llm_port).settings) as client:
            if wrapped:
                monitoring.wrap(client)
            settings = agents.ModelSettings(include_usage=True)
            model = agents.OpenAIChatCompletionsModel(GPT, client)
            agent = agents.Agent(name="greeter", model=model, model_settings=settings)
            if streamed:
                result = agents.Runner.run_streamed(agent, "hello")
                async for _ in result.stream_events():
                    pass
            else:
                await agents.Runner.run(agent, "hello")

    asyncio.run(main())
    (call,) = calls(sink)
    assert (call.agent, call.input_tokens, call.output_tokens, call.has_usage) == ("greeter", 111, 22, True)
    assert (call.provider, call.model, call.cost_usd is None) == ("openai", GPT, False)
    assert spans(sink) == [("agent", "greeter", "ok")]


def test_an_agent_that_is_a_tool_is_a_step_that_shares_the_run(sink: MemorySink) -> None:
    """It counts its own, and the outermost all."""
    inner = agents.Agent(name="researcher", model=FakeModel(), tools=[search])
    tool = inner.as_tool("research", "Research.")
    assert run(agents.Agent(name="planner", model=FakeModel(), tools=[tool])) == SECRET
    assert spans(sink)[-3:] == [("agent", "researcher", "ok"), ("span", "research", "ok"), ("agent", "planner", "ok")]
    inner_run, outer_run = (cast(Any, one.opened).run for one in sink.of_kind("agent"))
    assert (inner_run.llm_calls, inner_run.tool_calls) == (2, 1)
    assert (outer_run.llm_calls, outer_run.tool_calls) == (4, 2)
    assert inner_run.root == outer_run.id


def test_a_tool_that_fails_is_an_error_and_its_agent_may_go_on(sink: MemorySink) -> None:
    """The SDK tells the model of it."""
    assert run(agents.Agent(name="searcher", model=FakeModel(), tools=[break_down])) == SECRET
    assert spans(sink) == [("span", "break_down", "error"), ("agent", "searcher", "ok")]


def test_other_processors_stay(sink: MemorySink) -> None:
    """Ours is added, and what it does not know is passed over."""
    seen: list[str] = []

    class Other(TracingProcessor):
        def on_trace_start(self, trace: Any) -> None: ...
        def on_trace_end(self, trace: Any) -> None: ...
        def on_span_start(self, span: Any) -> None:
            seen.append(span.span_data.type)

        def on_span_end(self, span: Any) -> None: ...
        def shutdown(self) -> None: ...
        def force_flush(self) -> None: ...

    agents.set_trace_processors([Other()])
    agents.add_trace_processor(TraceProcessor())
    agents.add_trace_processor(TraceProcessor())
    run(agents.Agent(name="greeter", model=FakeModel()))
    assert {"agent", "generation"} <= set(seen)
    assert (len(calls(sink)), len(sink.of_kind("agent"))) == (1, 1)


def test_wrap_names_the_way(sink: MemorySink) -> None:
    """An agent has no place for us; the SDK has one for all of them."""
    agent = agents.Agent(name="greeter")
    for act in (monitoring.wrap, monitoring.unwrap):
        with pytest.raises(TypeError, match=r"agents\.add_trace_processor\(monitoring\.integrations\.agents\."):
            act(agent)
