"""Budgets with the real clients: a call that is refused is not sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import anthropic
import ollama
import openai
import pytest

import monitoring
from monitoring import Budget, BudgetExceeded
from monitoring.calls import LLMCall
from monitoring.testing import MemorySink, use
from tests.integrations.llm.subjects import CLAUDE, GPT, OpenAISubject, says

NOBODY = {"base_url": "http://127.0.0.1:9", "api_key": "sk-x", "max_retries": 0}
"""Where nothing listens: what is sent fails."""


def ask_openai(**how: Any) -> Any:
    client = monitoring.wrap(openai.OpenAI(**NOBODY))
    return client.chat.completions.create(model=GPT, messages=says("hello"), **how)


def ask_openai_async() -> Any:
    client = monitoring.wrap(openai.AsyncOpenAI(**NOBODY))
    return asyncio.run(client.chat.completions.create(model=GPT, messages=says("hello")))


def ask_anthropic() -> Any:
    client = monitoring.wrap(anthropic.Anthropic(**NOBODY))
    return client.messages.create(model=CLAUDE, max_tokens=9, messages=says("hello"))


def ask_anthropic_for_a_stream() -> Any:
    client = monitoring.wrap(anthropic.Anthropic(**NOBODY))
    with client.messages.stream(model=CLAUDE, max_tokens=9, messages=says("hello")) as stream:
        return list(stream)


def ask_ollama() -> Any:
    return monitoring.wrap(ollama.Client("http://127.0.0.1:9")).chat(model="llama", messages=says("hello"))


def ask_ollama_for_a_stream() -> Any:
    client = monitoring.wrap(ollama.Client("http://127.0.0.1:9"))
    return list(client.chat(model="llama", messages=says("hello"), stream=True))


WAYS = [
    ask_openai,
    lambda: ask_openai(stream=True),
    ask_openai_async,
    ask_anthropic,
    ask_anthropic_for_a_stream,
    ask_ollama,
    ask_ollama_for_a_stream,
]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("ask", WAYS)
def test_a_refused_call_is_not_sent(ask: Callable[[], Any]) -> None:
    """Whatever the client and the way: the caller gets BudgetExceeded, and no call is observed."""
    sink = MemorySink()
    with use(sink, budgets=[Budget(0.0001, refuse=True)]) as made:
        spent = LLMCall(0.0)
        spent.cost_usd = Decimal(1)
        made.recorder.record(spent)
        with pytest.raises(BudgetExceeded):
            ask()
        (refusals,) = made.metrics.snapshot()["monitoring_budget_refusals_total"].series
    assert len(sink.of_kind("llm")) == 1
    assert (refusals.labels, refusals.value) == ({"budget": "all/day"}, 1)


@monitoring.agent("writer")
def ask_twice(client: openai.OpenAI) -> None:
    for _ in range(2):
        client.chat.completions.create(model=GPT, messages=says("hello"))


def test_a_run_whose_call_is_refused_fails_with_it(llm_port: int) -> None:
    """Its agent's end says why."""
    sink = MemorySink()
    with (
        use(sink, budgets=[Budget(0.0001, by="agent", refuse=True)]),
        openai.OpenAI(**OpenAISubject(llm_port).settings) as client,
    ):
        monitoring.wrap(client)
        with pytest.raises(BudgetExceeded):
            ask_twice(client)
        client.chat.completions.create(model=GPT, messages=says("hello"))
    (run,) = sink.of_kind("agent")
    assert (run.outcome, type(run.exception)) == ("error", BudgetExceeded)
    assert len(sink.of_kind("llm")) == 2
