"""The SDKs' clients as subjects of the contract, and calls that the tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import anthropic
import openai

from monitoring.calls import LLMCall
from monitoring.observation import Kind
from monitoring.testing import MemorySink
from tests.integrations.contract import SECRET, Subject

GPT, CLAUDE = "gpt-4o", "claude-haiku-4-5"
WITH_USAGE = {"include_usage": True}


def says(text: str) -> Any:
    """Return a conversation of one message, which carries the secret."""
    return [{"role": "user", "content": f"{text} {SECRET}"}]


def calls(sink: MemorySink) -> list[LLMCall]:
    """Return the LLM calls seen."""
    return cast("list[LLMCall]", sink.of_kind("llm"))


class OpenAISubject(Subject):
    """``OpenAI``: a chat completion."""

    client = "openai `OpenAI`"
    library = "openai"
    kind: Kind = "llm"
    error = openai.RateLimitError

    def __init__(self, port: int, hanging_port: int = 0) -> None:
        self.settings: dict[str, Any] = {
            "base_url": f"http://127.0.0.1:{port}/v1",
            "api_key": f"sk-{SECRET}",
            "max_retries": 0,
        }
        self.hanging_url = f"http://127.0.0.1:{hanging_port}/hang"

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        with openai.OpenAI(**self.settings) as client:
            yield client

    def unused(self) -> Any:
        return openai.OpenAI(**self.settings)

    async def succeed(self, client: Any) -> object:
        return client.chat.completions.create(model=GPT, messages=says("hello")).choices[0].message.content

    async def fail(self, client: Any) -> object:
        return client.chat.completions.create(model=GPT, messages=says("limit me"))


class AsyncOpenAISubject(OpenAISubject):
    """``AsyncOpenAI``: a chat completion."""

    client = "openai `AsyncOpenAI`"

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        async with openai.AsyncOpenAI(**self.settings) as client:
            yield client

    def unused(self) -> Any:
        return openai.AsyncOpenAI(**self.settings)

    async def succeed(self, client: Any) -> object:
        answer = await client.chat.completions.create(model=GPT, messages=says("hello"))
        return answer.choices[0].message.content

    async def fail(self, client: Any) -> object:
        return await client.chat.completions.create(model=GPT, messages=says("limit me"))

    async def hang(self, client: Any) -> object:
        hanging = client.with_options(base_url=self.hanging_url)
        return await hanging.chat.completions.create(model=GPT, messages=says("hello"))


class AnthropicSubject(Subject):
    """``Anthropic``: a message."""

    client = "anthropic `Anthropic`"
    library = "anthropic"
    kind: Kind = "llm"
    error = anthropic.RateLimitError

    def __init__(self, port: int, hanging_port: int = 0) -> None:
        self.settings: dict[str, Any] = {
            "base_url": f"http://127.0.0.1:{port}",
            "api_key": f"sk-{SECRET}",
            "max_retries": 0,
        }
        self.hanging_url = f"http://127.0.0.1:{hanging_port}/hang"

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        with anthropic.Anthropic(**self.settings) as client:
            yield client

    def unused(self) -> Any:
        return anthropic.Anthropic(**self.settings)

    async def succeed(self, client: Any) -> object:
        return client.messages.create(model=CLAUDE, max_tokens=9, messages=says("hello")).content[0].text

    async def fail(self, client: Any) -> object:
        return client.messages.create(model=CLAUDE, max_tokens=9, messages=says("limit me"))


class AsyncAnthropicSubject(AnthropicSubject):
    """``AsyncAnthropic``: a message."""

    client = "anthropic `AsyncAnthropic`"

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        async with anthropic.AsyncAnthropic(**self.settings) as client:
            yield client

    def unused(self) -> Any:
        return anthropic.AsyncAnthropic(**self.settings)

    async def succeed(self, client: Any) -> object:
        answer = await client.messages.create(model=CLAUDE, max_tokens=9, messages=says("hello"))
        return answer.content[0].text

    async def fail(self, client: Any) -> object:
        return await client.messages.create(model=CLAUDE, max_tokens=9, messages=says("limit me"))

    async def hang(self, client: Any) -> object:
        hanging = client.with_options(base_url=self.hanging_url)
        return await hanging.messages.create(model=CLAUDE, max_tokens=9, messages=says("hello"))
