"""How a stream ends: read, failed, cancelled, closed early or abandoned; each is reported once, and at once."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import openai
import pytest

import monitoring
from monitoring.cells import registry
from monitoring.context import current_record, muted
from monitoring.integrations import dropped
from monitoring.integrations.llm import calls as pending
from monitoring.integrations.llm import openai as openai_adapter
from monitoring.integrations.llm.usage import openai_usage
from monitoring.observation import Observation, RequestRecord
from monitoring.recorder import Recorder
from monitoring.testing import MemorySink, use
from tests.integrations.llm.subjects import CLAUDE, GPT, AnthropicSubject, OpenAISubject, calls, http_library, says


@pytest.fixture
def sink() -> Iterator[MemorySink]:
    """What was observed, with the garbage collector off: nothing may need it."""
    sink = MemorySink()
    gc.collect()
    gc.disable()
    with use(sink):
        yield sink
    gc.enable()


@pytest.fixture(params=["openai", "anthropic"])
def start(request: pytest.FixtureRequest, llm_port: int) -> Iterator[Callable[..., Any]]:
    """A function that starts a stream of either SDK."""
    if request.param == "openai":
        with monitoring.wrap(openai.OpenAI(**OpenAISubject(llm_port).settings)) as client:
            yield lambda text="hello": client.chat.completions.create(model=GPT, messages=says(text), stream=True)
    else:
        with monitoring.wrap(anthropic.Anthropic(**AnthropicSubject(llm_port).settings)) as claude:
            yield lambda text="hello": claude.messages.create(
                model=CLAUDE, max_tokens=9, messages=says(text), stream=True
            )


@pytest.fixture(params=["openai", "anthropic"])
def opened(request: pytest.FixtureRequest, llm_port: int) -> Callable[[], Any]:
    """A block with a function that starts an async stream of either SDK."""

    @asynccontextmanager
    async def openai_streams() -> AsyncIterator[Any]:
        async with monitoring.wrap(openai.AsyncOpenAI(**OpenAISubject(llm_port).settings)) as client:
            yield lambda text="hello": client.chat.completions.create(model=GPT, messages=says(text), stream=True)

    @asynccontextmanager
    async def anthropic_streams() -> AsyncIterator[Any]:
        async with monitoring.wrap(anthropic.AsyncAnthropic(**AnthropicSubject(llm_port).settings)) as client:
            yield lambda text="hello": client.messages.create(
                model=CLAUDE, max_tokens=9, messages=says(text), stream=True
            )

    return openai_streams if request.param == "openai" else anthropic_streams


def outcomes(sink: MemorySink) -> list[str]:
    """Return how the calls seen so far have ended."""
    return [call.outcome for call in calls(sink)]


def test_a_stream_is_not_reported_before_it_ends(start: Callable[..., Any], sink: MemorySink) -> None:
    """Nothing is said of a stream that is being read."""
    stream = start()
    next(stream)
    assert outcomes(sink) == []
    list(stream)
    assert outcomes(sink) == ["ok"]
    stream.close()
    assert outcomes(sink) == ["ok"]


def test_a_closed_stream_is_closed_early(start: Callable[..., Any], sink: MemorySink) -> None:
    """The reader closes it, and holds it still."""
    stream = start()
    next(stream)
    stream.close()
    stream.close()
    assert outcomes(sink) == ["closed_early"]


def test_a_stream_that_is_never_read_is_closed_early(start: Callable[..., Any], sink: MemorySink) -> None:
    """Closing it before its first chunk ends the call too."""
    with start():
        pass
    assert outcomes(sink) == ["closed_early"]


def test_leaving_the_block_closes_early(start: Callable[..., Any], sink: MemorySink) -> None:
    """So does an exception of the reader's own, which is not the stream's."""
    with pytest.raises(ZeroDivisionError), start() as stream:
        raise ZeroDivisionError(next(stream))
    assert outcomes(sink) == ["closed_early"]


def test_a_dropped_stream_is_abandoned(start: Callable[..., Any], sink: MemorySink) -> None:
    """At once, without the garbage collector."""
    stream = start()
    next(stream)
    del stream
    assert outcomes(sink) == ["abandoned"]


def test_a_dropped_stream_closes_its_connection_if_the_sdk_does(start: Callable[..., Any], sink: MemorySink) -> None:
    """Old SDKs leave it open; others close it when the garbage collector comes, and wrapped ones need not wait."""
    with muted():
        bare = start()
    stream = start()
    next(bare), next(stream)
    bare_response, response = bare.response, stream.response
    del bare, stream
    closed = response.is_closed
    gc.collect()
    assert closed == bare_response.is_closed


def test_an_abandoned_stream_lasted_until_its_last_chunk(start: Callable[..., Any], sink: MemorySink) -> None:
    """Not until somebody noticed."""
    stream = start()
    next(stream)
    del stream
    (call,) = calls(sink)
    assert call.duration_seconds == call.first_chunk_seconds > 0


def test_a_broken_stream_is_an_error(start: Callable[..., Any], sink: MemorySink) -> None:
    """The connection ends in the middle; the reader gets the SDK's own exception."""
    broken = (http_library(sdk).RemoteProtocolError for sdk in (openai, anthropic))
    with pytest.raises((openai.APIConnectionError, *broken)) as caught:
        list(start("cut"))
    (call,) = calls(sink)
    assert (call.outcome, call.error_type) == ("error", type(caught.value).__name__)


def test_a_helper_that_is_left_is_closed_early(llm_port: int, sink: MemorySink) -> None:
    """The SDKs' helpers close the response past the stream, and that is seen at once."""
    with (
        openai.OpenAI(**OpenAISubject(llm_port).settings) as gpt,
        anthropic.Anthropic(**AnthropicSubject(llm_port).settings) as claude,
    ):
        with monitoring.wrap(gpt).chat.completions.stream(model=GPT, messages=says("hello")) as stream:
            next(stream)
        assert outcomes(sink) == ["closed_early"]
        with monitoring.wrap(claude).messages.stream(model=CLAUDE, max_tokens=9, messages=says("hello")) as message:
            next(message)
        assert outcomes(sink) == ["closed_early", "closed_early"]


def test_a_raw_response_that_is_left_unread_is_closed_early(llm_port: int, sink: MemorySink) -> None:
    """Only the headers were of interest."""
    with (
        monitoring.wrap(openai.OpenAI(**OpenAISubject(llm_port).settings)) as client,
        client.chat.completions.with_streaming_response.create(model=GPT, messages=says("hello")) as response,
    ):
        assert response.status_code == 200
    assert outcomes(sink) == ["closed_early"]


def test_an_async_stream_is_seen_to_its_end(opened: Callable[[], Any], sink: MemorySink) -> None:
    """Chunks by ``async for`` are watched like the others."""

    async def scenario() -> None:
        async with opened() as start:
            assert [chunk async for chunk in await start()]

    asyncio.run(scenario())
    (call,) = calls(sink)
    assert (call.outcome, call.streamed, call.first_chunk_seconds > 0) == ("ok", True, True)


def test_a_closed_async_stream_is_closed_early(opened: Callable[[], Any], sink: MemorySink) -> None:
    """By ``close`` and by the end of its block."""

    async def scenario() -> None:
        async with opened() as start:
            stream = await start()
            await anext(stream)
            await stream.close()
            async with await start() as other:
                await anext(other)

    asyncio.run(scenario())
    assert outcomes(sink) == ["closed_early", "closed_early"]


def test_a_dropped_async_stream_is_abandoned(opened: Callable[[], Any], sink: MemorySink) -> None:
    """The event loop ends a dropped generator in a task of its own, at its next turn."""

    async def scenario() -> None:
        async with opened() as start:
            stream = await start()
            await anext(stream)
            del stream
            while not sink.observations:
                await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(scenario(), 10))
    assert outcomes(sink) == ["abandoned"]


def test_a_cancelled_async_stream_is_cancelled(opened: Callable[[], Any], sink: MemorySink) -> None:
    """The reader's task is cancelled while it waits for a chunk."""

    async def read(start: Any) -> None:
        async for _ in await start("slow"):
            pass

    async def scenario() -> None:
        async with opened() as start:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(read(start), 0.3)

    asyncio.run(scenario())
    assert outcomes(sink) == ["cancelled"]


def test_a_stream_belongs_to_the_request_that_started_it(start: Callable[..., Any], sink: MemorySink) -> None:
    """Wherever it is read, or dropped: in another thread, in another request, or under ``muted``."""
    record = RequestRecord()
    token = current_record.set(record)
    with monitoring.agent("writer"):
        stream = start()
    current_record.reset(token)
    with muted():
        list(stream)
    (call,) = calls(sink)
    assert call.request is record
    assert call.agent == "writer"


def test_a_bug_in_reading_chunks_does_not_reach_the_reader(llm_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chunks come through, the failure is counted, and the call is reported with what is known."""
    from monitoring import integrations

    sink, failures = MemorySink(), list[str]()
    recorder = Recorder([sink], on_failure=lambda part, error: failures.append(part))

    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    with openai.OpenAI(**OpenAISubject(llm_port).settings) as client:
        reading = pending.Operation("chat", broken, broken, openai_usage)
        monkeypatch.setitem(openai_adapter._OPERATIONS, "/chat/completions", reading)
        integrations.wrap(client, recorder_of=lambda: recorder)
        chunks = list(client.chat.completions.create(model=GPT, messages=says("hello"), stream=True))
    assert len(chunks) == len(failures) > 1
    assert outcomes(sink) == ["ok"]


class Dropping(MemorySink):
    """Drops the streams of a list within its fold, as the garbage collector may."""

    def __init__(self, streams: list[Any]) -> None:
        super().__init__()
        self.seen: list[str] = []
        self._streams = streams

    def _keep(self, observation: Observation) -> None:
        self.seen.append(observation.outcome)
        self._streams.clear()


@pytest.mark.parametrize("kind", ["span", "request"])
def test_a_stream_dropped_within_a_fold_is_reported_by_the_next_call(start: Callable[..., Any], kind: str) -> None:
    """The garbage collector may run in the middle of a fold, with its locks held: the report waits."""
    streams: list[Any] = []
    sink = Dropping(streams)
    with use(sink):
        streams.append(start())
        next(streams[0])
        if kind == "span":
            with monitoring.observe("anything"):
                pass
        else:
            edge = monitoring.current().edge
            assert edge is not None
            record = edge.begin("GET", "/")
            record.status = 200
            edge.finish(record, "/")
        assert sink.seen == ["ok"]
        assert len(dropped.waiting) == 1
        with start():
            assert sink.seen == ["ok", "abandoned"]


def test_a_stream_dropped_while_a_series_is_made_is_reported_by_the_next_call(
    start: Callable[..., Any], sink: MemorySink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app counts something of its own: what the report adds may not be written into the same place."""
    streams: list[Any] = [start()]
    next(streams[0])
    admit = registry._Admitted.admit

    def admit_after_a_collection(*given: Any) -> tuple[str, ...]:
        streams.clear()
        return admit(*given)

    monkeypatch.setattr(registry._Admitted, "admit", admit_after_a_collection)
    monitoring.counter("dropped_meanwhile_total", "Anything.").inc()
    assert (outcomes(sink), len(dropped.waiting)) == ([], 1)
    with start():
        assert outcomes(sink) == ["abandoned"]
