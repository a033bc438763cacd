"""What a long stream holds: chunks are made as they are read, by the real clients, and none is kept."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any, Final

import anthropic
import httpx
import ollama
import openai
import pytest

import monitoring
from monitoring.testing import MemorySink, use
from tests.integrations.llm.recorded import CHUNK, MESSAGE_EVENTS, OPENAI_USAGE
from tests.integrations.llm.subjects import CLAUDE, GPT, LLAMA, WITH_USAGE, calls, http_library, says

FEW: Final = 2_000
_TEXT: Final = "x" * 40


def _sse(told: dict[str, Any], *, named: bool = False) -> bytes:
    name = f"event: {told['type']}\n" if named else ""
    return f"{name}data: {json.dumps(told)}\n\n".encode()


def _of_openai(chunks: int) -> Iterator[bytes]:
    word = _sse({**CHUNK, "choices": [{"index": 0, "delta": {"content": _TEXT}, "finish_reason": None}]})
    for _ in range(chunks - 1):
        yield word
    yield _sse({**CHUNK, "choices": [], "usage": OPENAI_USAGE})
    yield b"data: [DONE]\n\n"


def _of_anthropic(chunks: int) -> Iterator[bytes]:
    start, end = MESSAGE_EVENTS[0], MESSAGE_EVENTS[-2:]
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": _TEXT}}
    word = _sse(delta, named=True)
    yield _sse(start, named=True)
    for _ in range(chunks - 3):
        yield word
    for event in end:
        yield _sse(event, named=True)


def _of_ollama(chunks: int) -> Iterator[bytes]:
    part = {"model": LLAMA, "created_at": "2026-01-01T00:00:00Z", "done": False}
    word = json.dumps({**part, "message": {"role": "assistant", "content": _TEXT}}).encode() + b"\n"
    for _ in range(chunks - 1):
        yield word
    done = {**part, "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
    yield json.dumps({**done, "prompt_eval_count": 100, "eval_count": 50}).encode() + b"\n"


def _openai(chunks: int) -> tuple[Any, Callable[[Any], Any]]:
    library = http_library(openai)

    def answer(_: Any) -> Any:
        return library.Response(200, content=_of_openai(chunks), headers={"content-type": "text/event-stream"})

    http = library.Client(transport=library.MockTransport(answer))
    client = openai.OpenAI(base_url="http://llm.test/v1", api_key="x", http_client=http)
    ask = {"model": GPT, "messages": says("hello"), "stream": True, "stream_options": WITH_USAGE}
    return client, lambda client: client.chat.completions.create(**ask)


def _anthropic(chunks: int) -> tuple[Any, Callable[[Any], Any]]:
    library = http_library(anthropic)

    def answer(_: Any) -> Any:
        return library.Response(200, content=_of_anthropic(chunks), headers={"content-type": "text/event-stream"})

    http = library.Client(transport=library.MockTransport(answer))
    client = anthropic.Anthropic(api_key="x", http_client=http)
    ask = {"model": CLAUDE, "max_tokens": 9, "messages": says("hello"), "stream": True}
    return client, lambda client: client.messages.create(**ask)


def _ollama(chunks: int) -> tuple[Any, Callable[[Any], Any]]:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=_of_ollama(chunks)))
    client = ollama.Client(transport=transport)
    return client, lambda client: client.chat(model=LLAMA, messages=says("hello"), stream=True)


every_client = pytest.mark.parametrize("make", [_openai, _anthropic, _ollama], ids=["openai", "anthropic", "ollama"])


@every_client
@pytest.mark.parametrize(
    ("chunks", "more_bytes"), [(FEW, 50_000), pytest.param(100_000, 1_000_000, marks=pytest.mark.long)]
)
def test_a_long_stream_takes_no_memory(make: Callable[[int], Any], chunks: int, more_bytes: int) -> None:
    """A hundred thousand chunks take at most a megabyte more than a few do without us; those take even less more."""
    plain = _peak(make, FEW, lambda client: client)
    sink = MemorySink()
    with use(sink):
        assert _peak(make, chunks, monitoring.wrap) < plain + more_bytes
    assert [(call.chunks, call.has_usage, call.output_tokens) for call in calls(sink)][1:] == [(chunks, True, 50)]


def _peak(make: Callable[[int], Any], chunks: int, prepare: Callable[[Any], Any]) -> int:
    """Return the bytes held at most while a stream is read, besides what is made once, for the first."""
    list(_read(make, 10, prepare))
    stream = _read(make, chunks, prepare)
    next(stream)
    gc.collect()
    tracemalloc.start()
    try:
        for _ in stream:
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _read(make: Callable[[int], Any], chunks: int, prepare: Callable[[Any], Any]) -> Iterator[Any]:
    client, ask = make(chunks)
    yield from ask(prepare(client))
