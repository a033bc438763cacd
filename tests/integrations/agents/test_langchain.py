"""LangChain with its own models of tests, and one that works through OpenAI's client: chains, tools, tokens once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import openai
import pytest
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.language_models.llms import LLM
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool

import monitoring
from monitoring import Budget, BudgetExceeded
from monitoring.context import present_block
from monitoring.integrations.agents.langchain import Callbacks
from monitoring.testing import MemorySink, use
from tests.integrations.contract import SECRET
from tests.integrations.llm.subjects import GPT, OpenAISubject, calls, says

USAGE: Any = {
    "input_tokens": 100,
    "output_tokens": 20,
    "total_tokens": 120,
    "input_token_details": {"cache_read": 40},
    "output_token_details": {"reasoning": 5},
}


@pytest.fixture
def sink() -> Iterator[MemorySink]:
    sink = MemorySink()
    with use(sink):
        yield sink


class Model(BaseChatModel):
    """Answers with what it used, as the packages of providers do; or asks OpenAI's client."""

    client: Any = None

    @property
    def _llm_type(self) -> str:
        return "fake"

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": GPT, "ls_model_type": "chat"}

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        text = SECRET
        if self.client is not None:
            prompt: Any = [{"role": "user", "content": messages[0].content}]
            text = self.client.chat.completions.create(model=GPT, messages=prompt).choices[0].message.content
        elif messages[0].content == "fail":
            raise LookupError(SECRET)
        message = AIMessage(text, usage_metadata=USAGE, response_metadata={"model_name": "gpt-4o-2024-08-06"})
        return ChatResult(generations=[ChatGeneration(message=message)])


class Completing(LLM):
    """Completes texts, and knows no tokens."""

    @property
    def _llm_type(self) -> str:
        return "fake"

    def _call(self, prompt: str, *args: Any, **kwargs: Any) -> str:
        return SECRET


@tool
def search(text: str) -> str:
    """Search."""
    return text


@tool
def break_down(text: str) -> str:
    """Fail."""
    raise LookupError(text)


def observed(name: str = "researcher") -> Any:
    """Return a config with our callbacks."""
    return {"callbacks": [Callbacks()], "run_name": name}


def spans(sink: MemorySink) -> list[tuple[str, str, str]]:
    """Return kind, name and outcome of agents and tools, in the order in which they ended."""
    return [(one.kind, one.name, one.outcome) for one in sink.observations if one.kind in ("span", "agent")]


def chain(model: Any = None) -> Any:
    """Return a chain that asks a model and uses a tool."""
    return (model or Model()) | RunnableLambda(lambda message: {"text": message.content}) | search


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
def test_a_chain_is_an_agent_with_its_tools_and_what_its_model_used(sink: MemorySink, way: str) -> None:
    """Whatever the way; nothing of what was said is kept."""

    async def consume(chunks: Any) -> list[Any]:
        return [chunk async for chunk in chunks]

    answer = getattr(chain(), way)("find it", config=observed())
    if way == "stream":
        answer = list(answer)
    elif way != "invoke":
        answer = asyncio.run(consume(answer) if way == "astream" else answer)
    assert answer in (SECRET, [SECRET])
    assert spans(sink) == [("span", "search", "ok"), ("agent", "researcher", "ok")]
    (call,) = calls(sink)
    assert (call.name, call.agent, call.provider, call.response_model) == (
        f"chat {GPT}",
        "researcher",
        "openai",
        "gpt-4o-2024-08-06",
    )
    told = (call.input_tokens, call.output_tokens, call.cache_read_tokens, call.reasoning_tokens, call.price_source)
    assert told == (100, 20, 40, 5, "snapshot")
    ran = cast(Any, sink.of_kind("agent")[0].opened).run
    assert (ran.llm_calls, ran.llm_tokens, ran.tool_calls) == (1, 120, 1)
    assert SECRET not in repr([vars(one) for one in sink.observations])


@pytest.mark.parametrize("wrapped", [True, False])
def test_what_a_wrapped_client_reports_is_not_reported_again(sink: MemorySink, llm_port: int, wrapped: bool) -> None:
    """The client's own call is the one, with its exact tokens, inside of the agent; else the framework's."""
    with openai.OpenAI(**OpenAISubject(llm_port).settings) as client:
        if wrapped:
            monitoring.wrap(client)
        chain(Model(client=client)).invoke("hello", config=observed())
    (call,) = calls(sink)
    assert (call.agent, call.input_tokens) == ("researcher", 111 if wrapped else 100)


def test_a_call_after_one_of_the_framework_is_counted(sink: MemorySink, llm_port: int) -> None:
    """The framework ends its calls in other contexts than it began them in; what comes later is no part of them."""

    async def main() -> None:
        async with openai.AsyncOpenAI(**OpenAISubject(llm_port).settings) as client:
            monitoring.wrap(client)
            await monitoring.wrap(Model()).ainvoke("find it")
            await client.chat.completions.create(model=GPT, messages=says("hello"))

    asyncio.run(main())
    assert [call.input_tokens for call in calls(sink)] == [100, 111]


def test_parallel_branches_and_nodes_of_graphs_are_of_one_run(sink: MemorySink) -> None:
    """In threads or tasks; a node is a step."""
    node = chain().with_config(run_name="reader", metadata={"langgraph_node": "reader"})
    branches = RunnableParallel(a=node, b=node, c=chain())
    branches.invoke("find it", config=observed("planner"))
    asyncio.run(branches.ainvoke("find it", config=observed("planner")))
    runs = [(one.name, cast(Any, one.opened).run) for one in sink.of_kind("agent")]
    assert sorted((name, run.llm_calls, run.tool_calls) for name, run in runs) == [
        ("planner", 3, 3),
        ("planner", 3, 3),
        *[("reader", 1, 1)] * 4,
    ]
    roots = {run.id for name, run in runs if name == "planner"}
    assert {run.root for _, run in runs} == roots
    assert sorted(call.agent for call in calls(sink)) == ["planner"] * 2 + ["reader"] * 4


def test_a_wrapped_model_and_a_wrapped_tool_are_observed_alone(sink: MemorySink) -> None:
    """In place, twice is once, and also in a chain that is observed."""
    model, searching = Model(), search.model_copy()
    assert monitoring.wrap(monitoring.wrap(model)) is model
    monitoring.wrap(searching)
    model.invoke("find it")
    searching.invoke({"text": "it"})
    assert (len(calls(sink)), spans(sink)) == (1, [("span", "search", "ok")])
    sink.observations.clear()
    (model | RunnableLambda(lambda message: {"text": message.content}) | searching).invoke("it", config=observed())
    assert (len(calls(sink)), len(spans(sink))) == (1, 2)
    sink.observations.clear()
    for one in (model, searching):
        monitoring.unwrap(one)
        assert one.callbacks is None
    model.invoke("find it")
    assert sink.observations == []


def test_another_runnable_is_told_the_way() -> None:
    """It has no place for callbacks."""
    with pytest.raises(TypeError, match=r"config=\{'callbacks': \[monitoring\.integrations\.agents\.langchain\."):
        monitoring.wrap(chain())


def test_what_fails_says_so(sink: MemorySink) -> None:
    """A model, a tool, and the chain around them."""
    with pytest.raises(LookupError):
        chain().invoke("fail", config=observed())
    with pytest.raises(LookupError):
        (Model() | RunnableLambda(lambda message: {"text": message.content}) | break_down).invoke(
            "find it", config=observed("searcher")
        )
    assert spans(sink) == [
        ("agent", "researcher", "error"),
        ("span", "break_down", "error"),
        ("agent", "searcher", "error"),
    ]
    assert [(call.outcome, call.error_type) for call in calls(sink)] == [("error", "LookupError"), ("ok", "")]


def test_models_that_complete_texts_are_observed(sink: MemorySink) -> None:
    """Without tokens, where they tell none."""
    monitoring.wrap(Completing()).invoke("find it")
    (call,) = calls(sink)
    assert (call.has_usage, call.cost_usd, call.outcome) == (False, None, "ok")


def test_a_streamed_answer_is_one_call(sink: MemorySink) -> None:
    """Of a model that does stream."""
    model = GenericFakeChatModel(messages=iter([AIMessage("one two three")]))
    assert len(list(monitoring.wrap(model).stream("find it"))) > 1
    assert [call.outcome for call in calls(sink)] == ["ok"]


def test_a_spent_budget_refuses_the_model() -> None:
    """Before it is asked; a bug of ours would be swallowed."""
    sink = MemorySink()
    with use(sink, budgets=[Budget(0.000001, refuse=True)]):
        model = monitoring.wrap(Model())
        model.invoke("find it")
        with pytest.raises(BudgetExceeded):
            model.invoke("find it")
        with pytest.raises(BudgetExceeded):
            asyncio.run(chain().ainvoke("find it", config=observed()))
    assert len(calls(sink)) == 1
    assert spans(sink) == [("agent", "researcher", "error")]


def test_nothing_is_left_behind(sink: MemorySink) -> None:
    """What comes after a chain is not inside of it."""

    async def main() -> None:
        await chain().ainvoke("find it", config=observed())
        assert present_block() is None

    chain().invoke("find it", config=observed())
    assert present_block() is None
    asyncio.run(main())
