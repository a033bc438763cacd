"""MCP's clients against a server in this process: calls to tools, and nothing of what goes in and out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import mcp
import pytest
from mcp.server import MCPServer

import monitoring
from monitoring.observation import Kind
from monitoring.testing import MemorySink, use
from tests.integrations.contract import SECRET, CancellableContract, Subject


def server() -> Any:
    """Return a server with a tool that works, one that fails, and one that takes its time."""
    made = MCPServer("tools")

    @made.tool()
    def shout(text: str) -> str:
        return text.upper()

    @made.tool()
    def fail() -> str:
        raise LookupError(SECRET)

    @made.tool()
    async def hang(text: str) -> str:
        await asyncio.sleep(60)
        return text

    return made


class ClientSubject(Subject):
    """``Client``: a call to a tool."""

    client = "mcp `Client`"
    library = "mcp"
    kind: Kind = "span"
    error = mcp.MCPError

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        async with mcp.Client(server()) as client:
            yield client

    def unused(self) -> Any:
        return None

    async def succeed(self, client: Any) -> object:
        return (await client.call_tool("shout", {"text": SECRET})).content[0].text

    async def fail(self, client: Any) -> object:
        return await client.call_tool(name="hang", arguments={"text": SECRET}, read_timeout_seconds=0.01)

    async def hang(self, client: Any) -> object:
        return await client.call_tool("hang", {"text": SECRET})


class SessionSubject(ClientSubject):
    """``ClientSession``: the same."""

    client = "mcp `ClientSession`"

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        async with mcp.Client(server()) as client:
            yield client.session


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """The server logs what fails, at length."""
    logging.getLogger("mcp").setLevel(logging.CRITICAL + 1)
    yield
    logging.getLogger("mcp").setLevel(logging.NOTSET)


class TestClient(CancellableContract):
    @pytest.fixture
    def subject(self) -> ClientSubject:
        return ClientSubject()


class TestSession(CancellableContract):
    @pytest.fixture
    def subject(self) -> SessionSubject:
        return SessionSubject()


async def tools(sink: MemorySink, *, session_too: bool = False) -> list[tuple[str, str, str]]:
    """Have an agent call two tools; return name, outcome and error of each."""
    async with mcp.Client(server()) as client:
        monitoring.wrap(client)
        if session_too:
            monitoring.wrap(client.session)
        with monitoring.agent("writer"):
            await client.call_tool("shout", {"text": "a"})
            await client.call_tool("fail")
    calls: list[Any] = list(sink.of_kind("span"))
    return [(call.name, call.outcome, call.error_type) for call in calls]


@pytest.mark.parametrize("session_too", [False, True])
def test_a_call_is_a_tool_of_its_agent_once(session_too: bool) -> None:
    """Also where a client and its session are wrapped. What a tool answers as an error is one."""
    sink = MemorySink()
    with use(sink) as made:
        told = asyncio.run(tools(sink, session_too=session_too))
        numbers = made.metrics.snapshot()
    assert told == [("shout", "ok", ""), ("fail", "error", "tool_error")]
    (per_run,) = numbers["gen_ai_invoke_agent_tool_calls"].series
    assert (per_run.labels, per_run.value) == ({"gen_ai_agent_name": "writer"}, 2)
    durations = numbers["gen_ai_execute_tool_duration_seconds"].series
    assert {(one.labels["gen_ai_tool_name"], one.labels["error_type"]) for one in durations} == {
        ("shout", ""),
        ("fail", "tool_error"),
    }


def test_a_tool_that_a_framework_tells_of_is_not_counted_again() -> None:
    """Its own block has the same name."""
    sink = MemorySink()

    async def main() -> None:
        async with mcp.Client(server()) as client:
            monitoring.wrap(client)
            with monitoring.observe("shout", tool=True):
                await client.call_tool("shout", {"text": "a"})

    with use(sink):
        asyncio.run(main())
    assert len(sink.of_kind("span")) == 1
