"""Every client in every way: exact tokens, equal answers, nothing buffered, and each end of a stream counted once."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import Any

import pytest

import monitoring
from monitoring.testing import MemorySink
from tests.integrations.llm.recorded import STREAMS, WAYS, Way, closed, read
from tests.integrations.llm.subjects import calls
from tests.support.llm_server import Answer, Server, json_answer

pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.label)
every_stream = pytest.mark.parametrize("way", STREAMS, ids=lambda way: way.label)


def run(way: Way, server: Server, *answers: Answer, act: Any = read, wrapped: bool = True) -> Any:
    """Do something with a fresh client of a way."""

    async def scenario() -> Any:
        client = way.make(server)
        try:
            return await act(way, monitoring.wrap(client) if wrapped else client)
        finally:
            await closed(client)

    server.will(*(answers or (way.answer(),)))
    return asyncio.run(scenario())


@every_way
def test_tokens_are_exact(way: Way, server: Server, sink: MemorySink) -> None:
    """The totals hold what was cached, thought and used by tools, whichever way the provider counts."""
    run(way, server)
    (call,) = calls(sink)
    assert (call.outcome, call.streamed, call.has_usage, call.usage_consistent) == ("ok", way.streamed, True, True)
    expected: dict[str, Any] = {
        "input_tokens": 100,
        "output_tokens": 50,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "reasoning_tokens": 0,
        "tool_calls": 0,
        **way.expected,
    }
    assert {name: getattr(call, name) for name in expected} == expected
    assert call.finish_reason == way.reason
    assert (call.cost_usd is not None, call.price_source) == ((True, "snapshot") if way.priced else (False, ""))


@every_way
def test_the_answer_and_the_request_are_those_of_a_plain_client(way: Way, server: Server, sink: MemorySink) -> None:
    """Objects of the same types with the same content, for the same bytes."""
    plain, asked = run(way, server, wrapped=False), list(server.asked)
    wrapped = run(way, server)
    assert [type(one) for one in wrapped] == [type(one) for one in plain]
    assert list(map(_comparable, wrapped)) == list(map(_comparable, plain))
    assert server.asked == asked
    assert len(calls(sink)) == 1


def _comparable(item: Any) -> Any:
    told = item.model_dump() if hasattr(item, "model_dump") else item
    if isinstance(told, dict):
        told.pop("sdk_http_response", None)  # has the time in it
    return told


@every_stream
def test_nothing_is_buffered(way: Way, server: Server, sink: MemorySink) -> None:
    """The server sends a chunk only when the reader has the one before."""
    answer = way.answer()
    answer.in_steps = True

    async def act(way: Way, client: Any) -> list[Any]:
        return await read(way, client, after_each=server.steps.release)

    chunks = run(way, server, answer, act=act)
    while server.steps.acquire(blocking=False):
        pass
    (call,) = calls(sink)
    assert call.outcome == "ok"
    assert call.chunks >= len(chunks) > 1
    assert call.chunk_seconds > 0


@every_stream
def test_a_cut_stream_is_an_error(way: Way, server: Server, sink: MemorySink) -> None:
    """The connection ends in the middle: tokens are unknown, and not what was known so far."""
    answer = way.answer()
    answer.chunks, answer.is_cut = answer.chunks[:1], True
    with pytest.raises(Exception) as caught:  # noqa: PT011  (each SDK has its own)
        run(way, server, answer)
    (call,) = calls(sink)
    assert (call.outcome, call.error_type, call.has_usage) == ("error", type(caught.value).__name__, False)
    assert (call.refused, call.cost_usd) == (False, None)


@every_stream
def test_a_stream_that_is_left_is_counted_once(way: Way, server: Server, sink: MemorySink) -> None:
    """The reader breaks off and drops it: nobody has to collect garbage for it to be seen."""
    answer = way.answer()
    answer.chunks, answer.hangs = answer.chunks[:1], True

    async def act(way: Way, client: Any) -> None:
        stream = way.ask(client)
        if hasattr(stream, "__await__"):
            stream = await stream
        if hasattr(stream, "__aiter__"):
            async for _ in stream:
                break
        else:
            for _ in stream:
                break
        del stream
        for _ in range(50):
            await asyncio.sleep(0)

    gc.disable()
    try:
        run(way, server, answer, act=act)
    finally:
        gc.enable()
        server.released.set()
        server.released.clear()
    (call,) = calls(sink)
    assert (call.outcome, call.chunks, call.has_usage) == ("abandoned", 1, False)


@every_stream
def test_a_stream_that_is_never_read_is_counted_at_most_once(way: Way, server: Server, sink: MemorySink) -> None:
    """Abandoned where the request was sent; nothing where the client sends it with the first look."""

    async def act(way: Way, client: Any) -> None:
        stream = way.ask(client)
        if hasattr(stream, "__await__"):
            stream = await stream
        del stream
        gc.collect()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        run(way, server, act=act)
    assert [call.outcome for call in calls(sink)] == ["abandoned"] * len(server.asked)


@every_way
def test_a_refusal_costs_nothing(way: Way, server: Server, sink: MemorySink) -> None:
    """An error by its type, no tokens that are missing, and no price that is."""
    told = {"message": "slow down", "code": 429}
    refusal = json_answer({"error": told}, status=429, headers={"retry-after-ms": "1"})
    with pytest.raises(Exception) as caught:  # noqa: PT011  (each SDK has its own)
        run(way, server, *[refusal] * 3)
    (call,) = calls(sink)
    assert (call.outcome, call.error_type, call.refused) == ("error", type(caught.value).__name__, True)
