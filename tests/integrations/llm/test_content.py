"""Prompts and answers: off unless asked for, then scrubbed, bounded, and in the store alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import monitoring
from monitoring import MonitoringMiddleware
from monitoring.calls import CONTENT_CHARACTERS
from monitoring.integrations.llm.content import Content
from monitoring.store import requests
from monitoring.testing import MemorySink, use
from tests.integrations.llm.subjects import CLAUDE, GPT, AnthropicSubject, OpenAISubject, calls, says

ANSWER = "Good morning to you, my friend."
PROMPT: Any = [{"role": "user", "content": "hello, I am ada@example.org"}]


def ask_openai(port: int, prompt: Any, stream: bool) -> None:
    with openai.OpenAI(**OpenAISubject(port).settings) as client:
        answer = monitoring.wrap(client).chat.completions.create(model=GPT, messages=prompt, stream=stream)
        if stream:
            list(answer)


def ask_openai_for_a_response(port: int, prompt: Any, stream: bool) -> None:
    with openai.OpenAI(**OpenAISubject(port).settings) as client:
        answer: Any = monitoring.wrap(client).responses.create(model=GPT, input=prompt, stream=stream)
        if stream:
            list(answer)


def ask_anthropic(port: int, prompt: Any, stream: bool) -> None:
    with anthropic.Anthropic(**AnthropicSubject(port).settings) as client:
        answer: Any = monitoring.wrap(client).messages.create(
            model=CLAUDE, max_tokens=9, messages=prompt, stream=stream
        )
        if stream:
            list(answer)


class App:
    """An app whose one route asks a model, with a store and a log."""

    def __init__(self, folder: Path, ask: Callable[[], None], **settings: Any) -> None:
        self.folder = folder
        self.metrics = ""
        self.sink = MemorySink()

        def answer(request: Request) -> PlainTextResponse:
            ask()
            raise RuntimeError("so that it is kept, with its error")

        with use(self.sink, store=str(folder / "store"), log_destination=str(folder / "log"), **settings) as made:
            app = MonitoringMiddleware(Starlette(routes=[Route("/", answer)]))
            TestClient(app, raise_server_exceptions=False).get("/")
            made.flush()
            self.metrics = repr(made.metrics.snapshot())
            with made.open_database().reading() as connection:
                (row,) = requests.find(connection, requests.RequestFilter(since=0, until=2e10))
                detail = requests.read(connection, row.request_id)
            assert detail is not None
            self.lines = repr(detail.lines)
            (self.span,) = [span for span in detail.spans if span.kind == "llm"]
        self.log = (folder / "log").read_text()


WAYS = [ask_openai, ask_openai_for_a_response, ask_anthropic]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("ask", WAYS)
def test_what_was_asked_and_answered_is_in_the_store_alone(
    ask: Callable[[int, Any, bool], None], stream: bool, llm_port: int, tmp_path: Path
) -> None:
    """Scrubbed, with the kept request's call, and neither in lines, metrics nor errors."""
    app = App(tmp_path, lambda: ask(llm_port, PROMPT, stream), llm_content=1.0)
    assert app.span.detail["prompt"] == "hello, I am [scrubbed: email]"
    assert app.span.detail["answer"] == ANSWER
    for place in (app.log, app.lines, app.metrics):
        assert ANSWER not in place
        assert "ada@" not in place


def test_it_is_off_unless_it_is_asked_for(llm_port: int, tmp_path: Path) -> None:
    """No text is held even for a moment."""
    app = App(tmp_path, lambda: ask_openai(llm_port, PROMPT, False))
    assert app.span.detail.keys().isdisjoint({"prompt", "answer"})
    assert [call.content for call in calls(app.sink)] == [None]


def test_a_share_of_calls_is_sampled(llm_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the call."""
    drawn = iter([0.1, 0.9, 0.24, 0.25])
    monkeypatch.setattr("monitoring.integrations.llm.content.random", lambda: next(drawn))
    sink = MemorySink()
    with use(sink, llm_content=0.25), openai.OpenAI(**OpenAISubject(llm_port).settings) as client:
        monitoring.wrap(client)
        for _ in range(4):
            client.chat.completions.create(model=GPT, messages=says("hello"))
    assert [call.content is not None for call in calls(sink)] == [True, False, True, False]


def test_each_is_four_kilobytes_at_most(llm_port: int, tmp_path: Path) -> None:
    """A secret at the bound leaves no half of it behind."""
    prompt = [{"role": "user", "content": "hello " + "\N{EURO SIGN}" * 1_300 + f" password={'s' * 6_000} "}]
    app = App(tmp_path, lambda: ask_openai(llm_port, prompt, False), llm_content=1.0)
    kept = app.span.detail["prompt"]
    assert len(kept.encode()) <= 4_096
    assert "sss" not in kept
    held = Content({"messages": [{"content": "a" * 100_000}] * 2}).told()["prompt"]
    assert len(held) == CONTENT_CHARACTERS


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        (
            {"system": [{"text": "be kind"}], "messages": [{"content": [{"text": "hello"}, {"image": {"source": 1}}]}]},
            {"output": {"message": {"content": [{"text": "good"}, {"text": "morning"}]}}},
        ),
        (
            {"contents": ["be kind", {"parts": [{"text": "hello"}]}]},
            {"candidates": [{"content": {"parts": [{"text": "good\nmorning"}]}}]},
        ),
        ({"prompt": "be kind\nhello"}, {"choices": [{"text": "good\nmorning"}]}),
        (
            {"instructions": "be kind", "input": "hello"},
            {"output": [{"content": [{"text": "good\nmorning"}]}, {"type": "function_call", "arguments": "x"}]},
        ),
        ({"messages": [{"content": "be kind"}, {"content": "hello"}]}, {"message": {"content": "good\nmorning"}}),
    ],
    ids=["bedrock", "gemini", "completion", "responses", "ollama"],
)
def test_texts_are_found_whatever_the_provider(asked: Any, answered: Any) -> None:
    """By the names that it has for them."""
    content = Content(asked)
    content.take(answered)
    assert content.told() == {"prompt": "be kind\nhello", "answer": "good\nmorning"}
