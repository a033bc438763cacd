"""aiohttp: trace configs of the user's, websockets, redirects that are not followed, lost connections."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import aiohttp
import aiohttp.web
import pytest

import monitoring
from monitoring.calls import HTTPCall
from monitoring.context import current_record
from monitoring.observation import RequestRecord
from monitoring.testing import MemorySink, use


@pytest.fixture
def sink() -> Iterator[MemorySink]:
    sink = MemorySink()
    with use(sink, propagate_to=("*",)):
        yield sink


@pytest.fixture
def url(http_port: int) -> str:
    return f"http://127.0.0.1:{http_port}"


def calls(sink: MemorySink) -> list[HTTPCall]:
    """Return the requests seen."""
    return cast("list[HTTPCall]", sink.of_kind("http"))


def run(scenario: Callable[[aiohttp.ClientSession], Awaitable[Any]], **settings: Any) -> Any:
    """Run a scenario with an open, wrapped session."""

    async def with_session() -> Any:
        async with aiohttp.ClientSession(**settings) as session:
            return await scenario(monitoring.wrap(session))

    return asyncio.run(with_session())


def test_the_users_trace_configs_go_on(sink: MemorySink, url: str) -> None:
    """They see what they saw, and the list that the user made, perhaps for several sessions, is not changed."""

    async def on_end(*_: Any) -> None:
        seen.append("end")

    async def scenario(session: aiohttp.ClientSession) -> None:
        async with (
            session.get(f"{url}/200"),
            aiohttp.ClientSession(trace_configs=own) as other,
            other.get(f"{url}/200"),
        ):
            pass

    seen: list[str] = []
    config = aiohttp.TraceConfig()
    config.on_request_end.append(on_end)
    own = [config]
    run(scenario, trace_configs=own)
    assert (seen, own) == (["end", "end"], [config])
    assert len(calls(sink)) == 1


def test_a_users_trace_config_that_raises_is_the_users(sink: MemorySink, url: str) -> None:
    """Its error reaches the caller, and the request ends as an error."""

    async def broken(_: Any, __: Any, parameters: aiohttp.TraceRequestEndParams) -> None:
        parameters.response.close()  # as later versions of aiohttp do themselves
        raise LookupError

    async def scenario(session: aiohttp.ClientSession) -> None:
        with pytest.raises(LookupError):
            await session.get(f"{url}/200")

    config = aiohttp.TraceConfig()
    config.on_request_end.append(broken)
    run(scenario, trace_configs=[config])
    assert [call.error_type for call in calls(sink)] == ["LookupError"]


def test_too_many_redirects_are_those_that_were_sent(sink: MemorySink, url: str) -> None:
    """The last, which is not followed, leads to no request."""

    async def scenario(session: aiohttp.ClientSession) -> None:
        with pytest.raises(aiohttp.TooManyRedirects):
            await session.get(f"{url}/moved", max_redirects=1)

    run(scenario)
    assert [(call.status, call.outcome) for call in calls(sink)] == [(302, "ok")]


def test_a_status_that_is_raised_is_told(sink: MemorySink, url: str) -> None:
    """``raise_for_status`` makes an error of a response."""

    async def scenario(session: aiohttp.ClientSession) -> None:
        with pytest.raises(aiohttp.ClientResponseError):
            await session.get(f"{url}/404")

    run(scenario, raise_for_status=True)
    assert [(call.status, call.error_type) for call in calls(sink)] == [(404, "ClientResponseError")]


@contextmanager
def forgetful_server() -> Iterator[int]:
    """Answer the first request of each connection, and close it at the second, as idle ones are."""

    def serve() -> None:
        for answers in (1, 1):
            connection, _ = listener.accept()
            with connection:
                for _ in range(answers):
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                connection.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)


def test_a_request_that_is_sent_again_is_a_retry(sink: MemorySink) -> None:
    """aiohttp does so when a kept connection turns out to be closed."""

    async def scenario(session: aiohttp.ClientSession) -> None:
        for _ in range(2):
            async with session.get(f"http://127.0.0.1:{port}/") as response:
                await response.read()

    with forgetful_server() as port:
        run(scenario)
    assert [(call.status, call.retries) for call in calls(sink)] == [(200, 0), (200, 1)]


def test_the_sessions_own_headers_are_not_changed(sink: MemorySink, url: str) -> None:
    """aiohttp's copy for one request is."""

    async def scenario(session: aiohttp.ClientSession) -> tuple[Any, Any]:
        async with session.get(f"{url}/headers") as response:
            return await response.json(content_type=None), dict(session.headers)

    record = RequestRecord()
    record.request_id = record.trace_id = "a" * 32
    token = current_record.set(record)
    told, kept = run(scenario, headers={"x-own": "1"})
    current_record.reset(token)
    assert "traceparent" in told
    assert kept == {"x-own": "1"}


def test_a_websocket_is_told_when_it_is_open(sink: MemorySink) -> None:
    """Its messages are no body."""

    async def echo(request: aiohttp.web.Request) -> aiohttp.web.WebSocketResponse:
        socket = aiohttp.web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("hello")
        await socket.close()
        return socket

    async def scenario(session: aiohttp.ClientSession) -> None:
        app = aiohttp.web.Application()
        app.router.add_get("/", echo)
        runner = aiohttp.web.AppRunner(app)
        await runner.setup()
        site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        async with session.ws_connect(f"ws://127.0.0.1:{runner.addresses[0][1]}/") as opened:
            assert [call.status for call in calls(sink)] == [101]
            assert (await opened.receive()).data == "hello"
        await runner.cleanup()

    run(scenario)
    assert [(call.status, call.outcome) for call in calls(sink)] == [(101, "ok")]
