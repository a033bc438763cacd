"""The check of an LLM provider, by the clients of openai and anthropic on a server that lists models, or does not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anthropic
import openai
import pytest

import monitoring
from monitoring.health.checks import llm, models
from monitoring.testing import MemorySink, use
from tests.health.checks.support import silent_server
from tests.support.processes import free_port

MODEL = {"id": "m", "object": "model", "created": 0, "owned_by": "me", "type": "model", "display_name": "M"}
LIST = {"object": "list", "data": [MODEL], "has_more": False, "first_id": "m", "last_id": "m"}


@dataclass
class Provider:
    """A server with one model."""

    port: int = 0
    status: int = 200
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.asked.append(self.path)
            body = json.dumps(LIST if provider.status == 200 else {"error": {"message": "no"}}).encode()
            self.send_response(provider.status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield provider
    server.shutdown()
    thread.join()
    server.server_close()


CLIENTS = ["OpenAI", "AsyncOpenAI", "Anthropic", "AsyncAnthropic"]


async def look(name: str, port: int, wrapped: bool = False) -> Any:
    """Run the check with a client of a kind, and return what it says."""
    async with contextlib.AsyncExitStack() as stack:
        kind: Any = getattr(openai, name, None) or getattr(anthropic, name)
        path = "/v1" if "OpenAI" in name else ""
        client = kind(base_url=f"http://127.0.0.1:{port}{path}", api_key="sk-hunter2hunter2hunter2")
        if name.startswith("Async"):
            await stack.enter_async_context(client)
        else:
            stack.enter_context(client)
        answer: Any = llm(monitoring.wrap(client) if wrapped else client)()
        return await answer if name.startswith("Async") else answer


def run(name: str, port: int, wrapped: bool = False) -> Any:
    """Do so in a loop."""
    return asyncio.run(look(name, port, wrapped))


@pytest.mark.parametrize("name", CLIENTS)
def test_a_provider_that_lists_models_passes(name: str, provider: Provider) -> None:
    """One request, for one model where that can be said."""
    assert run(name, provider.port) is None
    assert provider.asked == ["/v1/models" + ("?limit=1" if "Anthropic" in name else "")]


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("status", [401, 429, 500])
def test_a_provider_that_refuses_fails_without_another_try(name: str, status: int, provider: Provider) -> None:
    """The key is in no output."""
    provider.status = status
    found = run(name, provider.port)
    assert (found.status, len(provider.asked)) == ("fail", 1)
    assert "hunter2" not in found.output


@pytest.mark.parametrize("name", CLIENTS)
def test_a_provider_that_is_gone_or_silent_fails(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After three seconds, here less."""
    assert run(name, free_port()).output.startswith("APIConnectionError")
    monkeypatch.setattr(models, "PATIENCE_SECONDS", 0.2)
    with silent_server() as port:
        assert run(name, port).output.startswith("APITimeoutError")


def test_a_wrapped_client_reports_no_call_to_a_model(provider: Provider) -> None:
    """The list of models is none."""
    sink = MemorySink()
    with use(sink):
        assert run("OpenAI", provider.port, wrapped=True) is None
    assert sink.of_kind("llm") == []
