"""A small OpenAI-compatible server: chat completions, plain and streamed, with usage, at a believable pace.

It prints one JSON line per completion asked for, with the ids that came in its headers.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

MEDIAN_SECONDS = 0.25
SPREAD = 0.6
BUSY_SHARE = 0.03
BROKEN_SHARE = 0.02
SENTENCES = (
    "Earlier grants paid for the instruments and left the question open.",
    "The panel looks for a plan that a small team can finish.",
    "Our approach needs no new infrastructure and shares all of its data.",
    "The first year ends with a result that can be checked by others.",
    "We expect the method to carry over to neighbouring fields.",
    "Two partners have agreed to test the findings in practice.",
)


async def health(request: Request) -> JSONResponse:
    """Say that the server is up."""
    return JSONResponse({"status": "ok"})


async def chat_completions(request: Request) -> Response:
    """Answer a chat: after a while, now and then with 429 or 500, in one piece or as a stream."""
    try:
        body = await request.json()
        model, messages = str(body["model"]), list(body["messages"])
        prompt = " ".join(str(message["content"]) for message in messages)
    except (ValueError, KeyError, TypeError):
        return _refusal(400, "the body must be a JSON object with `model` and `messages`")
    response = await _answer(model, prompt, body)
    _write_down(request, model, response.status_code)
    return response


async def _answer(model: str, prompt: str, body: dict[str, Any]) -> Response:
    luck = random.random()
    if luck < BUSY_SHARE:
        return _refusal(429, "rate limit reached; try again in a second", {"retry-after": "1"})
    if luck < BUSY_SHARE + BROKEN_SHARE:
        return _refusal(500, "the server had an error while processing your request")
    seconds = random.lognormvariate(0, SPREAD) * MEDIAN_SECONDS
    words = " ".join(random.choices(SENTENCES, k=random.randint(3, 12))).split(" ")
    usage = {"prompt_tokens": _tokens(prompt), "completion_tokens": len(words)}
    usage["total_tokens"] = sum(usage.values())
    head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
    if body.get("stream"):
        with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        return StreamingResponse(
            _stream(head, words, usage if with_usage else None, seconds / len(words)), media_type="text/event-stream"
        )
    await asyncio.sleep(seconds)
    message = {"role": "assistant", "content": " ".join(words)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": usage})


async def _stream(
    head: dict[str, Any], words: list[str], usage: dict[str, int] | None, pause_seconds: float
) -> AsyncIterator[str]:
    head = {**head, "object": "chat.completion.chunk"}
    for number, word in enumerate(words):
        await asyncio.sleep(pause_seconds)
        delta = {"content": f" {word}"} if number else {"role": "assistant", "content": word}
        yield _event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    yield _event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if usage:
        yield _event({**head, "choices": [], "usage": usage})
    yield "data: [DONE]\n\n"


def _event(chunk: dict[str, Any]) -> str:
    return f"data: {json.dumps(chunk)}\n\n"


def _refusal(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": "error", "code": status}}, status, headers)


def _tokens(text: str) -> int:
    return max(1, len(text) // 4)


def _write_down(request: Request, model: str, status: int) -> None:
    names = ("x-request-id", "traceparent")
    print(
        json.dumps({"model": model, "status": status} | {name: request.headers.get(name) for name in names}), flush=True
    )


app = Starlette(
    routes=[
        Route("/health", health),
        Route("/v1/chat/completions", chat_completions, methods=["POST"]),
    ]
)
