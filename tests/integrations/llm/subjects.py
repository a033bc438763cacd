"""The SDKs' clients as subjects of the contract, and calls that the tests share."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import ModuleType
from typing import Any, cast

import anthropic
import boto3
import botocore.config
import botocore.exceptions
import cohere
import cohere.core.api_error
import ollama
import openai
from google import genai
from mistralai.client import Mistral
from mistralai.client.errors import MistralError

from monitoring.calls import LLMCall
from monitoring.observation import Kind
from monitoring.testing import MemorySink
from tests.integrations.contract import SECRET, Subject

GPT, CLAUDE, GEMINI, COMMAND = "gpt-4o", "claude-haiku-4-5", "gemini-2.5-flash", "command-r-plus"
MISTRAL, LLAMA, BEDROCK = "mistral-small-latest", "llama3.2", "us.anthropic.claude-haiku-4-5-20251001-v1:0"
WITH_USAGE = {"include_usage": True}


def says(text: str) -> Any:
    """Return a conversation of one message, which carries the secret."""
    return [{"role": "user", "content": f"{text} {SECRET}"}]


def http_library(sdk: ModuleType) -> Any:
    """Return what an SDK sends its requests with: httpx2, or httpx when it is an old one."""
    return importlib.import_module(sdk.DefaultHttpxClient.__mro__[1].__module__)


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


class GoogleSubject(Subject):
    """``genai.Client``: content."""

    client = "google-genai `Client`"
    library = "google-genai"
    kind: Kind = "llm"
    error = genai.errors.APIError

    def __init__(self, port: int) -> None:
        self.options = genai.types.HttpOptions(base_url=f"http://127.0.0.1:{port}", api_version="v1beta")

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        client = self.unused()
        yield client
        client.close()

    def unused(self) -> Any:
        return genai.Client(api_key=f"sk-{SECRET}", http_options=self.options)

    async def succeed(self, client: Any) -> object:
        return client.models.generate_content(model=GEMINI, contents=f"hello {SECRET}").text

    async def fail(self, client: Any) -> object:
        return client.models.generate_content(model=GEMINI, contents=f"limit me {SECRET}")


class AsyncGoogleSubject(GoogleSubject):
    """``genai.Client().aio``: content."""

    client = "google-genai `AsyncClient`"

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        async with self.unused() as client:
            yield client

    def unused(self) -> Any:
        return super().unused().aio

    async def succeed(self, client: Any) -> object:
        return (await client.models.generate_content(model=GEMINI, contents=f"hello {SECRET}")).text

    async def fail(self, client: Any) -> object:
        return await client.models.generate_content(model=GEMINI, contents=f"limit me {SECRET}")

    async def hang(self, client: Any) -> object:
        stream = await client.models.generate_content_stream(model=GEMINI, contents="slow")
        return [chunk async for chunk in stream]


class BedrockSubject(Subject):
    """boto3's ``bedrock-runtime``: Converse."""

    client = "boto3 `bedrock-runtime`"
    library = "boto3"
    kind: Kind = "llm"
    error = botocore.exceptions.ClientError

    def __init__(self, port: int) -> None:
        self.port = port

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        client = self.unused()
        yield client
        client.close()

    def unused(self) -> Any:
        return bedrock(self.port)

    async def succeed(self, client: Any) -> object:
        messages = [{"role": "user", "content": [{"text": f"hello {SECRET}"}]}]
        return client.converse(modelId=BEDROCK, messages=messages)["output"]

    async def fail(self, client: Any) -> object:
        messages = [{"role": "user", "content": [{"text": f"limit me {SECRET}"}]}]
        return client.converse(modelId=BEDROCK, messages=messages)


def bedrock(port: int, attempts: int = 1) -> Any:
    """Return a client of boto3's that is not wrapped."""
    return boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key=SECRET,
        endpoint_url=f"http://127.0.0.1:{port}",
        config=botocore.config.Config(retries={"total_max_attempts": attempts, "mode": "standard"}),
    )


class OllamaSubject(Subject):
    """``ollama.Client``: chat."""

    client = "ollama `Client`"
    library = "ollama"
    kind: Kind = "llm"
    error = ollama.ResponseError

    def __init__(self, port: int) -> None:
        self.host = f"http://127.0.0.1:{port}"

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        client = self.unused()
        yield client
        client._client.close()

    def unused(self) -> Any:
        return ollama.Client(host=self.host)

    async def succeed(self, client: Any) -> object:
        return client.chat(model=LLAMA, messages=says("hello")).message.content

    async def fail(self, client: Any) -> object:
        return client.chat(model=LLAMA, messages=says("limit me"))


class AsyncOllamaSubject(OllamaSubject):
    """``ollama.AsyncClient``: chat."""

    client = "ollama `AsyncClient`"

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        client = self.unused()
        yield client
        await client._client.aclose()

    def unused(self) -> Any:
        return ollama.AsyncClient(host=self.host)

    async def succeed(self, client: Any) -> object:
        return (await client.chat(model=LLAMA, messages=says("hello"))).message.content

    async def fail(self, client: Any) -> object:
        return await client.chat(model=LLAMA, messages=says("limit me"))

    async def hang(self, client: Any) -> object:
        return [part async for part in await client.chat(model=LLAMA, messages=says("slow"), stream=True)]


class MistralSubject(Subject):
    """``Mistral``: a chat completion."""

    client = "mistralai `Mistral`"
    library = "mistralai"
    kind: Kind = "llm"
    error = MistralError

    def __init__(self, port: int) -> None:
        self.settings: dict[str, Any] = {"server_url": f"http://127.0.0.1:{port}", "api_key": f"sk-{SECRET}"}

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        with Mistral(**self.settings) as client:
            client.chat  # noqa: B018  (its parts are made when they are first asked for)
            client.agents, client.fim, client.embeddings  # noqa: B018
            yield client

    def unused(self) -> Any:
        return Mistral(**self.settings)

    async def succeed(self, client: Any) -> object:
        return client.chat.complete(model=MISTRAL, messages=says("hello")).choices[0].message.content

    async def fail(self, client: Any) -> object:
        return client.chat.complete(model=MISTRAL, messages=says("limit me"))


class AsyncMistralSubject(MistralSubject):
    """``Mistral``: a chat completion, by its async methods."""

    client = "mistralai `Mistral`, async"

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        async with Mistral(**self.settings) as client:
            client.chat, client.agents, client.fim, client.embeddings  # noqa: B018
            yield client

    async def succeed(self, client: Any) -> object:
        answer = await client.chat.complete_async(model=MISTRAL, messages=says("hello"))
        return answer.choices[0].message.content

    async def fail(self, client: Any) -> object:
        return await client.chat.complete_async(model=MISTRAL, messages=says("limit me"))

    async def hang(self, client: Any) -> object:
        return [part async for part in await client.chat.stream_async(model=MISTRAL, messages=says("slow"))]


@contextmanager
def told_alike() -> Iterator[None]:
    """Take the answer's headers out of Cohere's exceptions, which differ by the date and the request."""
    try:
        yield
    except cohere.core.api_error.ApiError as error:
        error.headers = None
        raise


class CohereSubject(Subject):
    """``cohere.ClientV2``: chat."""

    client = "cohere `ClientV2`"
    library = "cohere"
    kind: Kind = "llm"
    error = cohere.core.api_error.ApiError

    def __init__(self, port: int) -> None:
        self.settings: dict[str, Any] = {"base_url": f"http://127.0.0.1:{port}", "api_key": f"sk-{SECRET}"}
        self.options = cohere.core.RequestOptions(max_retries=0)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        with self.unused() as client:
            yield client

    def unused(self) -> Any:
        return cohere.ClientV2(**self.settings)

    async def succeed(self, client: Any) -> object:
        return client.chat(model=COMMAND, messages=says("hello")).message.content[0].text

    async def fail(self, client: Any) -> object:
        with told_alike():
            return client.chat(model=COMMAND, messages=says("limit me"), request_options=self.options)


class AsyncCohereSubject(CohereSubject):
    """``cohere.AsyncClientV2``: chat."""

    client = "cohere `AsyncClientV2`"

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        async with self.unused() as client:
            yield client

    def unused(self) -> Any:
        return cohere.AsyncClientV2(**self.settings)

    async def succeed(self, client: Any) -> object:
        return (await client.chat(model=COMMAND, messages=says("hello"))).message.content[0].text

    async def fail(self, client: Any) -> object:
        with told_alike():
            return await client.chat(model=COMMAND, messages=says("limit me"), request_options=self.options)

    async def hang(self, client: Any) -> object:
        return [event async for event in client.chat_stream(model=COMMAND, messages=says("slow"))]
