"""Answers of each provider in its own protocol, and every way to ask for them: what the tests of all clients share."""

from __future__ import annotations

import base64
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anthropic
import cohere
import ollama
import openai
from google import genai
from mistralai.client import Mistral

from tests.integrations.llm.subjects import BEDROCK, CLAUDE, COMMAND, GEMINI, GPT, LLAMA, MISTRAL, bedrock, says
from tests.support.llm_server import Answer, Server, aws_events, json_answer, lines, sse

OPENAI_USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 40},
    "completion_tokens_details": {"reasoning_tokens": 30},
}
TOOL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
CHAT = {"id": "1", "object": "chat.completion", "created": 1, "model": GPT, "usage": OPENAI_USAGE}
CHUNK = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": GPT}
MESSAGE = {"id": "1", "type": "message", "role": "assistant", "model": CLAUDE, "stop_sequence": None}
ANTHROPIC_USAGE = {
    "input_tokens": 10,
    "cache_read_input_tokens": 80,
    "cache_creation_input_tokens": 20,
    "output_tokens": 50,
    "output_tokens_details": {"thinking_tokens": 30},
}
GEMINI_USAGE = {
    "promptTokenCount": 95,
    "toolUsePromptTokenCount": 5,
    "cachedContentTokenCount": 40,
    "candidatesTokenCount": 20,
    "thoughtsTokenCount": 30,
    "totalTokenCount": 150,
}
CONVERSE_USAGE = {"inputTokens": 10, "cacheReadInputTokens": 80, "cacheWriteInputTokens": 20, "outputTokens": 50}
COHERE_USAGE = {"billed_units": {"input_tokens": 100, "output_tokens": 50}, "tokens": {"input_tokens": 170}}
BILLED = {"billed_units": COHERE_USAGE["billed_units"]}
STAMP = "2026-01-01T00:00:00Z"


def _choice(**told: Any) -> dict[str, Any]:
    return {"index": 0, "finish_reason": None, **told}


def _openai_chunks(*, has_usage: bool = True, **more: Any) -> list[dict[str, Any]]:
    called = [{"index": 0, **TOOL}]
    chunks = [
        {**CHUNK, "choices": [], "prompt_filter_results": []},  # Azure's first
        {**CHUNK, "choices": [_choice(delta={"role": "assistant", "content": "Good"})]},
        {**CHUNK, "choices": [_choice(delta={"tool_calls": called})]},
        {**CHUNK, "choices": [_choice(delta={"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]})]},
        {**CHUNK, "choices": [_choice(delta={}, finish_reason="tool_calls")], **more},
    ]
    return [*chunks, {**CHUNK, "choices": [], "usage": OPENAI_USAGE}] if has_usage else chunks


def _gemini(text: str, **more: Any) -> dict[str, Any]:
    call = {"functionCall": {"name": "weather", "args": {}}}
    parts = [{"text": text}, call] if "finishReason" in more else [{"text": text}]
    return {
        "candidates": [{"content": {"parts": parts, "role": "model"}, "index": 0, **more}],
        "usageMetadata": GEMINI_USAGE if "finishReason" in more else {"promptTokenCount": 95},
        "modelVersion": GEMINI,
    }


def _event(told: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "chunk", {"bytes": base64.b64encode(json.dumps(told).encode()).decode()}


RESPONSE = {
    "id": "r",
    "object": "response",
    "created_at": 1,
    "model": GPT,
    "status": "completed",
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "output": [{"type": "function_call", "id": "1", "call_id": "1", "name": "weather", "arguments": "{}"}],
    "usage": {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 40},
        "output_tokens": 50,
        "output_tokens_details": {"reasoning_tokens": 30},
        "total_tokens": 150,
    },
}
MESSAGE_EVENTS: list[dict[str, Any]] = [
    {
        "type": "message_start",
        "message": {
            **MESSAGE,
            "content": [],
            "stop_reason": None,
            "usage": {**ANTHROPIC_USAGE, "output_tokens": 1, "output_tokens_details": None},
        },
    },
    {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "tool_use", "id": "t", "name": "weather", "input": {}},
    },
    {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 50, "output_tokens_details": {"thinking_tokens": 30}},
    },
    {"type": "message_stop"},
]
WHOLE_MESSAGE = {
    **MESSAGE,
    "stop_reason": "tool_use",
    "content": [{"type": "tool_use", "id": "t", "name": "weather", "input": {}}],
    "usage": ANTHROPIC_USAGE,
}
CONVERSED = {
    "output": {
        "message": {"role": "assistant", "content": [{"toolUse": {"toolUseId": "1", "name": "weather", "input": {}}}]}
    },
    "stopReason": "tool_use",
    "usage": {**CONVERSE_USAGE, "totalTokens": 160},
    "metrics": {"latencyMs": 5},
}
CONVERSED_EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("messageStart", {"role": "assistant"}),
    ("contentBlockStart", {"start": {"toolUse": {"toolUseId": "1", "name": "weather"}}, "contentBlockIndex": 0}),
    ("contentBlockDelta", {"delta": {"toolUse": {"input": "{}"}}, "contentBlockIndex": 0}),
    ("messageStop", {"stopReason": "tool_use"}),
    ("metadata", {"usage": {**CONVERSE_USAGE, "totalTokens": 160}, "metrics": {"latencyMs": 5}}),
]
MISTRAL_TOOL = {"id": "1", "function": {"name": "weather", "arguments": "{}"}}
MISTRAL_USAGE = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
MISTRAL_CHAT = {"id": "1", "object": "chat.completion", "created": 1, "model": MISTRAL, "usage": MISTRAL_USAGE}
MISTRAL_CHUNKS: list[dict[str, Any]] = [
    {**MISTRAL_CHAT, "usage": None, "choices": [_choice(delta={"role": "assistant", "content": "Good"})]},
    {**MISTRAL_CHAT, "choices": [_choice(delta={"tool_calls": [MISTRAL_TOOL]}, finish_reason="tool_calls")]},
]
OLLAMA_PART = {"model": LLAMA, "created_at": STAMP, "done": False}
OLLAMA_CALL = {"function": {"name": "weather", "arguments": {}}}
OLLAMA_END = {
    **OLLAMA_PART,
    "done": True,
    "done_reason": "stop",
    "prompt_eval_count": 100,
    "eval_count": 50,
    "message": {"role": "assistant", "content": "", "tool_calls": [OLLAMA_CALL]},
}
OLLAMA_PARTS: list[dict[str, Any]] = [
    {**OLLAMA_PART, "message": {"role": "assistant", "content": "Good"}},
    {**OLLAMA_PART, "message": {"role": "assistant", "content": " day"}},
    OLLAMA_END,
]
COHERE_CHAT = {
    "id": "1",
    "finish_reason": "TOOL_CALL",
    "message": {"role": "assistant", "tool_calls": [TOOL]},
    "usage": COHERE_USAGE,
}
COHERE_EVENTS: list[dict[str, Any]] = [
    {"type": "message-start", "id": "1", "delta": {"message": {"role": "assistant"}}},
    {"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": TOOL}}},
    {"type": "tool-call-end", "index": 0},
    {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL", "usage": COHERE_USAGE}},
]

ALL = {"cache_read_tokens": 40, "reasoning_tokens": 30, "tool_calls": 1}
ADDED = {"input_tokens": 110, "cache_read_tokens": 80, "cache_write_tokens": 20, "tool_calls": 1}


@dataclass(frozen=True)
class Way:
    """One way to ask one client: how it is made and asked, what it is answered, and what has to be known then."""

    label: str
    make: Callable[[Server], Any]
    answer: Callable[[], Answer]
    ask: Callable[[Any], Any]
    reason: str
    expected: dict[str, Any] = field(default_factory=dict)
    streamed: bool = False
    priced: bool = True
    """Whether the snapshot has a price."""


def _openai(server: Server) -> Any:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0)


def _async_openai(server: Server) -> Any:
    return openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0)


def _anthropic(server: Server) -> Any:
    return anthropic.Anthropic(base_url=server.url, api_key="x", max_retries=0)


def _async_anthropic(server: Server) -> Any:
    return anthropic.AsyncAnthropic(base_url=server.url, api_key="x", max_retries=0)


def google(server: Server) -> Any:
    """Return a client for Gemini."""
    return genai.Client(api_key="x", http_options=genai.types.HttpOptions(base_url=server.url))


def _bedrock(server: Server) -> Any:
    return bedrock(server.port)


def _ollama(server: Server) -> Any:
    return ollama.Client(host=server.url)


def _async_ollama(server: Server) -> Any:
    return ollama.AsyncClient(host=server.url)


def _mistral(server: Server) -> Any:
    return Mistral(server_url=server.url, api_key="x")


def _cohere(server: Server) -> Any:
    return cohere.ClientV2(base_url=server.url, api_key="x")


def _async_cohere(server: Server) -> Any:
    return cohere.AsyncClientV2(base_url=server.url, api_key="x")


def _cohere_v1(server: Server) -> Any:
    return cohere.Client(base_url=server.url, api_key="x")


def _send_in_chat(client: Any) -> Any:
    return client.chats.create(model=GEMINI).send_message("hello")


def _stream_in_chat(client: Any) -> Any:
    return client.chats.create(model=GEMINI).send_message_stream("hello")


def _body(client: Any) -> Any:
    return client.invoke_model(modelId=BEDROCK, body="{}")["body"].read()


def _turns() -> Any:
    return [{"role": "user", "content": [{"text": "hello"}]}]


_STREAM = {"model": GPT, "messages": says("hello"), "stream": True, "stream_options": {"include_usage": True}}
_ASK_CLAUDE = {"model": CLAUDE, "max_tokens": 9, "messages": says("hello")}
_ASK_MISTRAL: dict[str, Any] = {"model": MISTRAL, "messages": says("hello")}
_ASK_COHERE: dict[str, Any] = {"model": COMMAND, "messages": says("hello")}
_TOOL_CHOICE = [
    _choice(message={"role": "assistant", "content": None, "tool_calls": [TOOL]}, finish_reason="tool_calls")
]

WAYS = (
    Way(
        "openai chat",
        _openai,
        lambda: json_answer({**CHAT, "choices": _TOOL_CHOICE}),
        lambda client: client.chat.completions.create(model=GPT, messages=says("hello")),
        "tool_calls",
        ALL,
    ),
    Way(
        "openai stream",
        _openai,
        lambda: sse(_openai_chunks()),
        lambda client: client.chat.completions.create(**_STREAM),
        "tool_calls",
        ALL,
        streamed=True,
    ),
    Way(
        "openai async stream",
        _async_openai,
        lambda: sse(_openai_chunks()),
        lambda client: client.chat.completions.create(**_STREAM),
        "tool_calls",
        ALL,
        streamed=True,
    ),
    Way(
        "openai response",
        _openai,
        lambda: json_answer(RESPONSE),
        lambda client: client.responses.create(model=GPT, input="hello"),
        "completed",
        ALL,
    ),
    Way(
        "openai response stream",
        _openai,
        lambda: sse(
            [
                {
                    "type": "response.created",
                    "sequence_number": 0,
                    "response": {**RESPONSE, "status": "in_progress", "usage": None, "output": []},
                },
                {"type": "response.completed", "sequence_number": 1, "response": RESPONSE},
            ],
            named=True,
            done=False,
        ),
        lambda client: client.responses.create(model=GPT, input="hello", stream=True),
        "completed",
        ALL,
        streamed=True,
    ),
    Way(
        "anthropic message",
        _anthropic,
        lambda: json_answer(WHOLE_MESSAGE),
        lambda client: client.messages.create(**_ASK_CLAUDE),
        "tool_use",
        {**ADDED, "reasoning_tokens": 30},
    ),
    Way(
        "anthropic stream",
        _anthropic,
        lambda: sse(MESSAGE_EVENTS, named=True, done=False),
        lambda client: client.messages.create(**_ASK_CLAUDE, stream=True),
        "tool_use",
        {**ADDED, "reasoning_tokens": 30},
        streamed=True,
    ),
    Way(
        "anthropic async stream",
        _async_anthropic,
        lambda: sse(MESSAGE_EVENTS, named=True, done=False),
        lambda client: client.messages.create(**_ASK_CLAUDE, stream=True),
        "tool_use",
        {**ADDED, "reasoning_tokens": 30},
        streamed=True,
    ),
    Way(
        "google content",
        google,
        lambda: json_answer(_gemini("Good day", finishReason="STOP")),
        lambda client: client.models.generate_content(model=GEMINI, contents="hello"),
        "stop",
        ALL,
    ),
    Way(
        "google chat",
        google,
        lambda: json_answer(_gemini("Good day", finishReason="STOP")),
        _send_in_chat,
        "stop",
        ALL,
    ),
    Way(
        "google stream",
        google,
        lambda: sse([_gemini("Good"), _gemini(" day", finishReason="STOP")], done=False),
        lambda client: client.models.generate_content_stream(model=GEMINI, contents="hello"),
        "stop",
        ALL,
        streamed=True,
    ),
    Way(
        "google chat stream",
        google,
        lambda: sse([_gemini("Good"), _gemini(" day", finishReason="STOP")], done=False),
        _stream_in_chat,
        "stop",
        ALL,
        streamed=True,
    ),
    Way(
        "google async content",
        lambda server: google(server).aio,
        lambda: json_answer(_gemini("Good day", finishReason="STOP")),
        lambda client: client.models.generate_content(model=GEMINI, contents="hello"),
        "stop",
        ALL,
    ),
    Way(
        "google async stream",
        lambda server: google(server).aio,
        lambda: sse([_gemini("Good"), _gemini(" day", finishReason="STOP")], done=False),
        lambda client: client.models.generate_content_stream(model=GEMINI, contents="hello"),
        "stop",
        ALL,
        streamed=True,
    ),
    Way(
        "bedrock converse",
        _bedrock,
        lambda: json_answer(CONVERSED),
        lambda client: client.converse(modelId=BEDROCK, messages=_turns())["output"],
        "tool_use",
        ADDED,
    ),
    Way(
        "bedrock converse_stream",
        _bedrock,
        lambda: aws_events(CONVERSED_EVENTS),
        lambda client: client.converse_stream(modelId=BEDROCK, messages=_turns())["stream"],
        "tool_use",
        ADDED,
        streamed=True,
    ),
    Way(
        "bedrock invoke_model",
        _bedrock,
        lambda: json_answer(
            WHOLE_MESSAGE,
            headers={"x-amzn-bedrock-input-token-count": "10", "x-amzn-bedrock-output-token-count": "50"},
        ),
        _body,
        "tool_use",
        {**ADDED, "reasoning_tokens": 30},
    ),
    Way(
        "bedrock invoke_model stream",
        _bedrock,
        lambda: aws_events(
            [
                *map(_event, MESSAGE_EVENTS[:-1]),
                _event({"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 10}}),
            ]
        ),
        lambda client: client.invoke_model_with_response_stream(modelId=BEDROCK, body="{}")["body"],
        "tool_use",
        {**ADDED, "reasoning_tokens": 30},
        streamed=True,
    ),
    Way(
        "ollama chat",
        _ollama,
        lambda: json_answer(OLLAMA_END),
        lambda client: client.chat(model=LLAMA, messages=says("hello")),
        "stop",
        {"tool_calls": 1},
        priced=False,
    ),
    Way(
        "ollama stream",
        _ollama,
        lambda: lines(OLLAMA_PARTS),
        lambda client: client.chat(model=LLAMA, messages=says("hello"), stream=True),
        "stop",
        {"tool_calls": 1},
        streamed=True,
        priced=False,
    ),
    Way(
        "ollama async stream",
        _async_ollama,
        lambda: lines(OLLAMA_PARTS),
        lambda client: client.chat(model=LLAMA, messages=says("hello"), stream=True),
        "stop",
        {"tool_calls": 1},
        streamed=True,
        priced=False,
    ),
    Way(
        "mistral chat",
        _mistral,
        lambda: json_answer(
            {
                **MISTRAL_CHAT,
                "choices": [
                    _choice(
                        message={"role": "assistant", "content": "", "tool_calls": [MISTRAL_TOOL]},
                        finish_reason="tool_calls",
                    )
                ],
            }
        ),
        lambda client: client.chat.complete(**_ASK_MISTRAL),
        "tool_calls",
        {"tool_calls": 1},
    ),
    Way(
        "mistral stream",
        _mistral,
        lambda: sse(MISTRAL_CHUNKS),
        lambda client: client.chat.stream(**_ASK_MISTRAL),
        "tool_calls",
        {"tool_calls": 1},
        streamed=True,
    ),
    Way(
        "mistral async stream",
        _mistral,
        lambda: sse(MISTRAL_CHUNKS),
        lambda client: client.chat.stream_async(**_ASK_MISTRAL),
        "tool_calls",
        {"tool_calls": 1},
        streamed=True,
    ),
    Way(
        "cohere chat",
        _cohere,
        lambda: json_answer(COHERE_CHAT),
        lambda client: client.chat(**_ASK_COHERE),
        "tool_call",
        {"tool_calls": 1},
    ),
    Way(
        "cohere stream",
        _cohere,
        lambda: sse(COHERE_EVENTS, named=True),
        lambda client: client.chat_stream(**_ASK_COHERE),
        "tool_call",
        {"tool_calls": 1},
        streamed=True,
    ),
    Way(
        "cohere async stream",
        _async_cohere,
        lambda: sse(COHERE_EVENTS, named=True),
        lambda client: client.chat_stream(**_ASK_COHERE),
        "tool_call",
        {"tool_calls": 1},
        streamed=True,
    ),
    Way(
        "cohere v1 chat",
        _cohere_v1,
        lambda: json_answer({"text": "Good day", "finish_reason": "COMPLETE", "meta": BILLED}),
        lambda client: client.chat(model=COMMAND, message="hello"),
        "complete",
    ),
)
STREAMS = tuple(way for way in WAYS if way.streamed)


async def read(way: Way, client: Any, after_each: Callable[[], object] = lambda: None) -> list[Any]:
    """Ask in this way, and return the answer: all chunks of a stream, or one item."""
    answer = way.ask(client)
    if inspect.isawaitable(answer):
        answer = await answer
    if not way.streamed:
        return [answer]
    chunks = []
    if hasattr(answer, "__aiter__"):
        async for chunk in answer:
            chunks.append(chunk)
            after_each()
    else:
        for chunk in answer:
            chunks.append(chunk)
            after_each()
    return chunks


async def closed(client: Any) -> None:
    """Close a client, whatever it calls that."""
    if isinstance(client, (ollama.Client, ollama.AsyncClient)):
        client = client._client  # older versions cannot be closed
    for name in ("aclose", "close"):
        close = getattr(client, name, None)
        if close is not None:
            done = close()
            if inspect.isawaitable(done):
                await done
            return
    for name in ("__aexit__", "__exit__"):
        leave = getattr(client, name, None)
        if leave is not None:
            done = leave(None, None, None)
            if inspect.isawaitable(done):
                await done
