"""SDKs of model providers, with transports that answer at once, in the providers' own words."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import anthropic
import httpx
import httpx2
import ollama
import openai
from google import genai

from .measuring import Case, streams
from .peers import instrumented, traced

MESSAGES: Any = [{"role": "user", "content": "hello"}]

HEAD = {"id": "c", "created": 1, "model": "gpt-4o"}
USAGE = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
COMPLETION = {
    **HEAD,
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}],
    "usage": USAGE,
}
WORD = [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]
EVENT = {**HEAD, "object": "chat.completion.chunk"}


@cache
def events(chunks: int) -> str:
    told = [{"choices": WORD}] * (chunks - 1) + [{"choices": [], "usage": USAGE}]
    return "".join(f"data: {data}\n\n" for data in [*(json.dumps({**EVENT, **one}) for one in told), "[DONE]"])


def answer(request: httpx2.Request) -> httpx2.Response:
    """Answer as OpenAI, as a stream where one is asked for, with as many chunks as tokens are allowed."""
    asked = json.loads(request.content)
    if asked.get("stream"):
        return httpx2.Response(200, text=events(asked["max_tokens"]), headers={"content-type": "text/event-stream"})
    return httpx2.Response(200, json=COMPLETION)


def openai_client() -> openai.OpenAI:
    return openai.OpenAI(api_key="x", http_client=httpx2.Client(transport=httpx2.MockTransport(answer)))


def async_openai_client() -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key="x", http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(answer)))


class ReadyOpenAI(openai.OpenAI):
    """A client whose answers are parsed already: the SDK's own work is thirty times ours, and makes noise."""

    def request(self, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
        return ReadyStream(ready_chunks(options.json_data["max_tokens"])) if stream else ready_completion()


class ReadyStream(openai.Stream[Any]):
    def __init__(self, chunks: list[Any]) -> None:
        self.response = httpx2.Response(200)
        self._chunks = chunks
        self._iterator = self.__stream__()

    def __stream__(self) -> Iterator[Any]:
        yield from self._chunks
        self.response.close()  # as the SDK does


@cache
def ready_completion() -> Any:
    return openai_client().chat.completions.create(model="gpt-4o", messages=MESSAGES)


@cache
def ready_chunks(chunks: int) -> list[Any]:
    create = openai_client().chat.completions.create
    return list(create(model="gpt-4o", messages=MESSAGES, stream=True, max_tokens=chunks))


def ready_openai_client() -> ReadyOpenAI:
    return ReadyOpenAI(api_key="x")


def chat(client: Any) -> None:
    client.chat.completions.create(model="gpt-4o", messages=MESSAGES)


async def chat_async(client: Any) -> None:
    await client.chat.completions.create(model="gpt-4o", messages=MESSAGES)


def stream(client: Any, chunks: int) -> None:
    for _chunk in client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True, max_tokens=chunks):
        pass


async def stream_async(client: Any, chunks: int) -> None:
    create = client.chat.completions.create
    async for _chunk in await create(model="gpt-4o", messages=MESSAGES, stream=True, max_tokens=chunks):
        pass
    await asyncio.sleep(0)  # for the generators that the SDK leaves to the loop


@contextmanager
def traced_openai(_client: Any) -> Iterator[None]:
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    with instrumented(OpenAIInstrumentor()):
        yield


MESSAGE = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5",
    "content": [{"type": "text", "text": "Hello."}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 100, "output_tokens": 50},
}


def anthropic_client() -> anthropic.Anthropic:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json=MESSAGE))
    return anthropic.Anthropic(api_key="x", http_client=httpx2.Client(transport=transport))


def message(client: Any) -> None:
    client.messages.create(model="claude-haiku-4-5", max_tokens=9, messages=MESSAGES)


@contextmanager
def traced_anthropic(_client: Any) -> Iterator[None]:
    from opentelemetry.instrumentation.genai.anthropic import AnthropicInstrumentor

    with instrumented(AnthropicInstrumentor()):
        yield


CONTENT = json.dumps(
    {
        "candidates": [{"content": {"parts": [{"text": "Hello."}], "role": "model"}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 100, "candidatesTokenCount": 50, "totalTokenCount": 150},
        "modelVersion": "gemini-2.5-flash",
    }
)


def google_client() -> genai.Client:
    """Return a client whose HTTP layer answers by itself."""
    client = genai.Client(api_key="x")
    client._api_client.request = lambda *_: genai.types.HttpResponse(headers={}, body=CONTENT)
    return client


def content(client: Any) -> None:
    client.models.generate_content(model="gemini-2.5-flash", contents="hello")


@contextmanager
def traced_google(_client: Any) -> Iterator[None]:
    """The instrumentor names versions below 3, and works with later ones."""
    from opentelemetry.instrumentation.google_genai import GoogleGenAiSdkInstrumentor

    with instrumented(GoogleGenAiSdkInstrumentor()):
        yield


PART = {"model": "llama3.2", "message": {"role": "assistant", "content": "word "}}
END = {**PART, "done": True, "done_reason": "stop", "prompt_eval_count": 100, "eval_count": 50}


@cache
def lines(chunks: int) -> str:
    return "".join(json.dumps(part) + "\n" for part in [PART] * (chunks - 1) + [END])


def answer_ollama(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, text=lines(json.loads(request.content)["options"]["num_predict"]))


def ollama_client() -> ollama.Client:
    return ollama.Client(transport=httpx.MockTransport(answer_ollama))


def ollama_stream(client: Any, chunks: int) -> None:
    for _chunk in client.chat(model="llama3.2", messages=MESSAGES, stream=True, options={"num_predict": chunks}):
        pass


@contextmanager
def traced_ollama(_client: Any) -> Iterator[None]:
    """Undo by hand what is patched: the instrumentor forgets it."""
    from opentelemetry.instrumentation.ollama import OllamaInstrumentor
    from opentelemetry.instrumentation.utils import unwrap

    os.environ["TRACELOOP_TRACE_CONTENT"] = "false"  # the others copy no prompts and answers either
    try:
        with instrumented(OllamaInstrumentor()):
            yield
    finally:
        for kind in (ollama.Client, ollama.AsyncClient):
            unwrap(kind, "_request")
        unwrap(ollama._client, "_copy_messages")


OPENAI = traced(during=traced_openai)

CASES = (
    Case("OpenAI, chat", openai_client, chat, OPENAI),
    Case("OpenAI, chat, parsed before", ready_openai_client, chat, OPENAI),
    Case("OpenAI, chat, async", async_openai_client, chat_async, OPENAI),
    *streams("OpenAI, stream", openai_client, stream, OPENAI),
    *streams("OpenAI, stream parsed before", ready_openai_client, stream, OPENAI),
    *streams("OpenAI, async stream", async_openai_client, stream_async, OPENAI),
    Case("Anthropic, message", anthropic_client, message, traced(during=traced_anthropic)),
    Case("Google, content", google_client, content, traced(during=traced_google)),
    *streams("Ollama, stream", ollama_client, ollama_stream, traced(during=traced_ollama, name="OpenLLMetry")),
)
