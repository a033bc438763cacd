"""What is known of a call besides its tokens: retries, limits, tiers, images and sound; and usage that is asked for."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import anthropic
import openai
import pytest

import monitoring
from monitoring.integrations.llm.rate_limits import RateLimits, remaining
from monitoring.testing import FakeClock, MemorySink, use
from tests.integrations.llm.recorded import (
    ANTHROPIC_USAGE,
    CHAT,
    CHUNK,
    CONVERSED,
    MESSAGE,
    OPENAI_USAGE,
    TOOL,
    WHOLE_MESSAGE,
    google,
)
from tests.integrations.llm.subjects import (
    BEDROCK,
    CLAUDE,
    COMMAND,
    GEMINI,
    GPT,
    LLAMA,
    MISTRAL,
    bedrock,
    calls,
    http_library,
    ollama,
    says,
)
from tests.support.llm_server import Server, aws_events, json_answer, sse

LIMITED = {"x-ratelimit-remaining-requests": "59", "x-ratelimit-remaining-tokens": "149984"}


def openai_client(server: Server, **settings: Any) -> openai.OpenAI:
    """Return a wrapped client."""
    settings = {"max_retries": 0, **settings}
    return monitoring.wrap(openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", **settings))


def chat(client: Any, **more: Any) -> Any:
    """Ask for a completion."""
    return client.chat.completions.create(model=GPT, messages=says("hello"), **more)


# --- retries and limits -----------------------------------------------------------------------------------------------

SLOW_DOWN = {"retry-after-ms": "1", **LIMITED}


def _refusals(*statuses: int) -> list[Any]:
    return [json_answer({"error": {"message": "slow"}}, status=status, headers=SLOW_DOWN) for status in statuses]


def test_retries_are_counted_by_their_reason(server: Server, sink: MemorySink) -> None:
    """Three attempts are one call that tells why it was tried again."""
    server.will(*_refusals(429, 503), json_answer({**CHAT, "choices": []}))
    with openai_client(server, max_retries=2) as client:
        chat(client)
    (call,) = calls(sink)
    assert (call.outcome, call.retries, len(server.asked)) == ("ok", ("429", "503"), 3)


def test_retries_that_do_not_help_are_counted_too(server: Server, sink: MemorySink) -> None:
    """The last attempt is the error, and those before it are retries."""
    server.will(*_refusals(429, 429, 429))
    with openai_client(server, max_retries=2) as client, pytest.raises(openai.RateLimitError):
        chat(client)
    (call,) = calls(sink)
    assert (call.error_type, call.retries, call.refused) == ("RateLimitError", ("429", "429"), True)
    assert call.rate_limits == {"requests": 59, "tokens": 149_984}


def test_anthropics_retries_are_counted(server: Server, sink: MemorySink) -> None:
    """Its SDK sleeps in the same place."""
    server.will(*_refusals(529), json_answer(WHOLE_MESSAGE, headers={"anthropic-ratelimit-tokens-remaining": "7000"}))
    with anthropic.Anthropic(base_url=server.url, api_key="x", max_retries=1) as client:
        monitoring.wrap(client).messages.create(model=CLAUDE, max_tokens=9, messages=says("hello"))
    (call,) = calls(sink)
    assert (call.outcome, call.retries, dict(call.rate_limits)) == ("ok", ("529",), {"tokens": 7000})


def test_botos_retries_are_counted(server: Server, sink: MemorySink) -> None:
    """By its own events, which tell of each attempt."""
    server.will(
        json_answer({"message": "slow"}, status=429, headers={"x-amzn-errortype": "ThrottlingException"}),
        json_answer(CONVERSED),
    )
    client = monitoring.wrap(bedrock(server.port, attempts=2))
    client.converse(modelId=BEDROCK, messages=[{"role": "user", "content": [{"text": "hello"}]}])
    client.close()
    (call,) = calls(sink)
    assert (call.outcome, call.retries) == ("ok", ("429",))


def test_googles_retries_are_counted(server: Server, sink: MemorySink) -> None:
    """Where the user has asked for them."""
    from google.genai.types import HttpOptions, HttpRetryOptions

    content = {"candidates": [{"content": {"parts": [{"text": "x"}], "role": "model"}, "finishReason": "STOP"}]}
    server.will(json_answer({"error": {"code": 503, "message": "busy"}}, status=503), json_answer(content))
    retrying = HttpRetryOptions(attempts=2, initial_delay=0.001, max_delay=0.001)
    client = google(server)
    options = {"http_options": HttpOptions(retry_options=retrying)}
    monitoring.wrap(client).models.generate_content(model=GEMINI, contents="hello", config=options)
    client.close()
    (call,) = calls(sink)
    assert (call.outcome, call.retries) == ("ok", ("503",))


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_mistrals_retries_are_counted(server: Server, sink: MemorySink, is_async: bool) -> None:
    """Where the user has asked for them: the SDK tells nobody, so its HTTP client is watched."""
    from mistralai.client import Mistral
    from mistralai.client.utils import BackoffStrategy, RetryConfig

    retrying = RetryConfig("backoff", BackoffStrategy(1, 1, 1.0, 60_000), retry_connection_errors=True)
    ask: dict[str, Any] = {"model": MISTRAL, "messages": says("hello"), "retries": retrying}

    async def scenario() -> None:
        async with Mistral(server_url=server.url, api_key="x") as client:
            chat = monitoring.wrap(client).chat
            assert await chat.complete_async(**ask) if is_async else chat.complete(**ask)

    server.will(*_refusals(429, 503), json_answer({**CHAT, "choices": []}))
    asyncio.run(scenario())
    (call,) = calls(sink)
    assert (call.outcome, call.retries, len(server.asked)) == ("ok", ("429", "503"), 3)


@pytest.mark.parametrize("kind", ["ClientV2", "AsyncClientV2", "v2"])
def test_coheres_retries_are_counted(server: Server, sink: MemorySink, kind: str) -> None:
    """They are the SDK's own, up to two, and its HTTP client is watched."""
    import cohere

    settings: dict[str, Any] = {"base_url": server.url, "api_key": "x"}

    async def scenario() -> None:
        if kind == "AsyncClientV2":
            async with cohere.AsyncClientV2(**settings) as client:
                await monitoring.wrap(client).chat(model=COMMAND, messages=says("hello"))
        else:
            with cohere.ClientV2(**settings) if kind == "ClientV2" else cohere.Client(**settings) as client:
                asked = client if kind == "ClientV2" else client.v2
                monitoring.wrap(asked).chat(model=COMMAND, messages=says("hello"))

    message = {"role": "assistant", "content": []}
    server.will(*_refusals(429, 503), json_answer({"id": "1", "finish_reason": "COMPLETE", "message": message}))
    asyncio.run(scenario())
    (call,) = calls(sink)
    assert (call.outcome, call.retries, len(server.asked)) == ("ok", ("429", "503"), 3)


def test_clients_that_share_an_http_client_count_a_retry_once(server: Server, sink: MemorySink) -> None:
    """However many were wrapped, it is watched once."""
    import cohere
    import httpx

    with httpx.Client() as http:
        for _ in range(3):
            client = monitoring.wrap(cohere.ClientV2(base_url=server.url, api_key="x", httpx_client=http))
        send = http.send
        monitoring.wrap(cohere.ClientV2(base_url=server.url, api_key="x", httpx_client=http))
        assert http.send is send
        message = {"role": "assistant", "content": []}
        server.will(*_refusals(429), json_answer({"id": "1", "finish_reason": "COMPLETE", "message": message}))
        client.chat(model=COMMAND, messages=says("hello"))
    assert [call.retries for call in calls(sink)] == [("429",)]


def test_what_is_left_of_a_limit_is_read_once_a_second() -> None:
    """Headers are slow to search, and a gauge need not be newer."""
    clock = FakeClock()
    limits = RateLimits(clock)
    assert limits.of(LIMITED) == {"requests": 59, "tokens": 149_984}
    assert limits.of(LIMITED) == {}
    clock.advance(1.1)
    assert limits.of(LIMITED) == {"requests": 59, "tokens": 149_984}


def test_only_counts_are_limits() -> None:
    """Of both spellings; what is no number is left out."""
    headers = {
        "Anthropic-RateLimit-Input-Tokens-Remaining": "10",
        "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:00Z",
        "x-ratelimit-remaining-tokens": "many",
        "x-ratelimit-reset-requests": "1s",
    }
    assert remaining(headers) == {"input-tokens": 10}


# --- time-outs and cancellation ---------------------------------------------------------------------------------------


def test_a_time_out_is_an_error_that_may_have_cost_something(server: Server, sink: MemorySink) -> None:
    """Nobody knows whether the model answered."""
    silent = json_answer({})
    silent.chunks, silent.hangs = [], True
    server.will(silent)
    with openai_client(server, timeout=0.2) as client, pytest.raises(openai.APITimeoutError):
        chat(client)
    server.released.set()
    server.released.clear()
    (call,) = calls(sink)
    assert (call.outcome, call.error_type, call.refused, call.has_usage) == ("error", "APITimeoutError", False, False)


def test_a_cancelled_call_is_counted_once(server: Server, sink: MemorySink) -> None:
    """Before its answer, by the task it is in."""

    async def scenario() -> None:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="x") as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(chat(monitoring.wrap(client)), 0.2)

    silent = json_answer({})
    silent.chunks, silent.hangs = [], True
    server.will(silent)
    asyncio.run(scenario())
    server.released.set()
    server.released.clear()
    assert [(call.outcome, call.retries) for call in calls(sink)] == [("cancelled", ())]


# --- usage of streams -------------------------------------------------------------------------------------------------

TEXT = [{**CHUNK, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]} for word in "abc"]
USAGE_CHUNK = {**CHUNK, "choices": [], "usage": OPENAI_USAGE}


def test_a_stream_that_tells_no_usage_is_missing_it(server: Server, sink: MemorySink) -> None:
    """Nothing is estimated, and nothing is asked for."""
    server.will(sse(TEXT))
    with openai_client(server) as client:
        list(chat(client, stream=True))
    (call,) = calls(sink)
    assert (call.has_usage, call.output_tokens, call.cost_usd, call.price_source) == (False, 0, None, "")
    assert "stream_options" not in json.loads(server.asked[0][1])


def test_usage_is_asked_for_when_that_is_switched_on(server: Server) -> None:
    """The caller gets the chunks that it would have got, and we the one that it did not ask for."""
    sink = MemorySink()
    with use(sink, llm_stream_usage=True), openai_client(server) as client:
        server.will(sse([*TEXT, USAGE_CHUNK]))
        told = [chunk.choices[0].delta.content for chunk in chat(client, stream=True)]
    (call,) = calls(sink)
    assert told == ["a", "b", "c"]
    assert (call.has_usage, call.input_tokens, call.output_tokens) == (True, 100, 50)
    assert json.loads(server.asked[0][1])["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(("wanted", "chunks", "known"), [(True, 4, True), (False, 3, False)])
def test_what_the_caller_says_of_usage_goes_first(server: Server, wanted: bool, chunks: int, known: bool) -> None:
    """Who asks for it gets it, and who declines has reasons."""
    sink = MemorySink()
    with use(sink, llm_stream_usage=True), openai_client(server) as client:
        server.will(sse([*TEXT, USAGE_CHUNK] if wanted else TEXT))
        told = list(chat(client, stream=True, stream_options={"include_usage": wanted}))
    assert (len(told), calls(sink)[0].has_usage) == (chunks, known)
    assert json.loads(server.asked[0][1])["stream_options"] == {"include_usage": wanted}


def test_readers_of_bytes_are_left_alone(server: Server) -> None:
    """From them the chunk could not be hidden."""
    sink = MemorySink()
    with use(sink, llm_stream_usage=True), openai_client(server) as client:
        server.will(sse(TEXT))
        raw = client.chat.completions.with_raw_response
        list(raw.create(model=GPT, messages=says("hello"), stream=True).parse())
    assert "stream_options" not in json.loads(server.asked[0][1])


def test_usage_that_contradicts_itself_is_cut_and_has_no_price(server: Server, sink: MemorySink) -> None:
    """Seen in the wild: more tokens from the cache than tokens."""
    usage = {**OPENAI_USAGE, "prompt_tokens_details": {"cached_tokens": 400}}
    server.will(json_answer({**CHAT, "choices": [], "usage": usage}))
    with openai_client(server) as client:
        chat(client)
    (call,) = calls(sink)
    assert (call.cache_read_tokens, call.usage_consistent, call.cost_usd) == (100, False, None)


# --- tiers, tools, images and sound -----------------------------------------------------------------------------------


def test_who_says_the_price_is_known(server: Server, sink: MemorySink) -> None:
    """The provider, or the snapshot by its version; and the tier that it is for."""
    bodies = [
        {**CHAT, "usage": {**OPENAI_USAGE, "cost": 0.5}},
        {**CHAT, "model": "gpt-5", "service_tier": "flex"},
        {**CHAT, "model": "mine"},
    ]
    with openai_client(server) as client:
        for body in bodies:
            server.will(json_answer({**body, "choices": []}))
            client.chat.completions.create(model="mine", messages=says("hello"))
    told = [(call.price_source, call.price_version[:12], call.service_tier) for call in calls(sink)]
    assert told == [("provider", "", ""), ("snapshot", "genai-prices", "flex"), ("", "", "")]


def test_several_tools_of_one_stream_are_counted(server: Server, sink: MemorySink) -> None:
    """By their index: each is told in many chunks."""
    deltas = [[{"index": 0, **TOOL}], [{"index": 1, **TOOL}], [{"index": 1, "function": {"arguments": "{}"}}]]
    chunks = [{**CHUNK, "choices": [{"index": 0, "delta": {"tool_calls": asked}}]} for asked in deltas]
    server.will(sse(chunks))
    with openai_client(server) as client:
        list(chat(client, stream=True))
    assert [call.tool_calls for call in calls(sink)] == [2]


def test_images_are_priced_as_images(server: Server, sink: MemorySink) -> None:
    """Their tokens have another price than those of text."""
    usage = {
        "input_tokens": 1_000,
        "input_tokens_details": {"text_tokens": 400, "image_tokens": 600},
        "output_tokens": 2_000,
        "total_tokens": 3_000,
    }
    server.will(json_answer({"created": 1, "data": [], "usage": usage}))
    with openai_client(server) as client:
        client.images.generate(model="gpt-image-1.5", prompt="hello")
    (call,) = calls(sink)
    assert (call.operation, call.input_tokens, call.output_tokens) == ("image_generation", 1_000, 2_000)
    assert call.cost_usd == (400 * 5 + 600 * 8 + 2_000 * Decimal(32)) / 1_000_000


def test_transcriptions_tell_tokens_or_nothing(server: Server, sink: MemorySink) -> None:
    """Those that are billed by the minute have none."""
    tokens = {"type": "tokens", "input_tokens": 14, "output_tokens": 45, "total_tokens": 59}
    details = {"input_token_details": {"audio_tokens": 14, "text_tokens": 0}}
    with openai_client(server) as client:
        for usage in ({**tokens, **details}, {"type": "duration", "seconds": 9}):
            server.will(json_answer({"text": "hello", "usage": usage}))
            client.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.wav", b"..."))
    told = [(call.name, call.has_usage, call.input_tokens, call.cost_usd) for call in calls(sink)]
    cost = (14 * Decimal(6) + 45 * 10) / 1_000_000
    name = "transcription gpt-4o-transcribe"
    assert told == [(name, True, 14, cost), (name, False, 0, None)]


def test_speech_is_a_call_without_tokens(server: Server, sink: MemorySink) -> None:
    """The answer is nothing but sound."""
    server.will(json_answer("sound"))
    with openai_client(server) as client:
        client.audio.speech.create(model="tts-1", voice="alloy", input="hello")
    assert [(call.name, call.outcome, call.has_usage) for call in calls(sink)] == [("speech tts-1", "ok", False)]


def test_vertex_is_a_provider_of_its_own(sink: MemorySink) -> None:
    """The SDK is the same, and the models have long names."""
    from google import genai
    from google.auth.credentials import AnonymousCredentials

    client = genai.Client(vertexai=True, project="p", location="eu", credentials=AnonymousCredentials())
    client._api_client.request = lambda *_: _Answered({"usageMetadata": {"promptTokenCount": 5}})  # type: ignore[method-assign]
    name = f"projects/p/locations/eu/publishers/google/models/{GEMINI}"
    monitoring.wrap(client).models.generate_content(model=name, contents="hello")
    client.close()
    assert [(call.provider, call.model, call.input_tokens) for call in calls(sink)] == [("gcp.vertex_ai", GEMINI, 5)]


class _Answered:
    """An answer of Google's HTTP layer."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.headers: dict[str, str] = {}
        self.body = json.dumps(body)


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")  # google-genai's
def test_the_async_side_of_google_is_wrapped_once(server: Server, sink: MemorySink) -> None:
    """With the client, and by itself."""
    client = google(server)

    async def scenario() -> None:
        async with client.aio as aio:
            await aio.models.generate_content(model=GEMINI, contents="hello")

    monitoring.wrap(client.aio)
    monitoring.wrap(client)
    server.will(json_answer({"candidates": []}))
    asyncio.run(scenario())
    client.close()
    assert len(calls(sink)) == 1


def _gemini_stream() -> Any:
    part = {"candidates": [{"content": {"parts": [{"text": "x"}], "role": "model"}, "index": 0}]}
    return sse([part, part, part], done=False)


@pytest.mark.parametrize("with_tools", [False, True], ids=["plain", "functions"])
@pytest.mark.parametrize("holds", [True, False], ids=["held", "dropped"])
def test_a_stream_of_googles_that_is_closed_is_closed_early(
    server: Server, sink: MemorySink, with_tools: bool, holds: bool
) -> None:
    """The SDK has generators of its own around ours, and its object is what the reader gets."""
    server.will(_gemini_stream(), _gemini_stream())
    client = google(server)
    ask = _asking_google(with_tools)
    plain = client.models.generate_content_stream(**ask)
    assert next(plain)
    plain.close()
    stream = monitoring.wrap(client).models.generate_content_stream(**ask)
    assert (type(stream), stream.gi_code) == (type(plain), plain.gi_code)
    assert next(stream)
    stream.close()
    if not holds:
        del stream
    client.close()
    assert [call.outcome for call in calls(sink)] == ["closed_early"]


@pytest.mark.parametrize("with_tools", [False, True], ids=["plain", "functions"])
@pytest.mark.parametrize(
    ("closes", "holds", "outcome"),
    [(True, True, "closed_early"), (True, False, "closed_early"), (False, False, "abandoned")],
    ids=["held", "closed and dropped", "dropped"],
)
@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
def test_an_async_stream_of_googles_that_is_closed_is_closed_early(
    server: Server, sink: MemorySink, with_tools: bool, closes: bool, holds: bool, outcome: str
) -> None:
    """Also where the reader drops it before the event loop has closed the generators within."""

    async def scenario() -> None:
        client = monitoring.wrap(google(server))
        async with client.aio as aio:
            stream: Any = await aio.models.generate_content_stream(**_asking_google(with_tools))
            await anext(stream)
            if closes:
                await stream.aclose()
            if not holds:
                del stream
            while not sink.observations:
                await asyncio.sleep(0)
        client.close()

    server.will(_gemini_stream())
    asyncio.run(asyncio.wait_for(scenario(), 10))
    assert [call.outcome for call in calls(sink)] == [outcome]


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
@pytest.mark.parametrize(("closes", "outcome"), [(True, "closed_early"), (False, "abandoned")])
def test_a_stream_of_an_older_sdk_of_googles_ends_alike(
    server: Server, sink: MemorySink, monkeypatch: pytest.MonkeyPatch, closes: bool, outcome: str
) -> None:
    """That one has one generator less between the reader's and ours."""
    from google.genai.models import AsyncModels, Models

    def older(models: Any, **asked: Any) -> Iterator[Any]:
        yield from models._generate_content_stream(**asked)

    async def older_async(models: Any, **asked: Any) -> Any:
        async def stream() -> Any:
            async for chunk in await models._generate_content_stream(**asked):
                yield chunk

        return stream()

    async def scenario() -> None:
        client = monitoring.wrap(google(server))
        stream: Any = client.models.generate_content_stream(**_asking_google())
        assert next(stream)
        if closes:
            stream.close()
        del stream
        async with client.aio as aio:
            stream = await aio.models.generate_content_stream(**_asking_google())
            await anext(stream)
            if closes:
                await stream.aclose()
            del stream
            while len(sink.observations) < 2:
                await asyncio.sleep(0)
        client.close()

    for kind, method in ((Models, older), (AsyncModels, older_async)):
        monkeypatch.setattr(kind, "generate_content_stream", method)
        monkeypatch.delattr(kind, "_generate_content_stream_with_continuation", raising=False)
    server.will(_gemini_stream(), _gemini_stream())
    asyncio.run(asyncio.wait_for(scenario(), 10))
    assert [call.outcome for call in calls(sink)] == [outcome, outcome]


def test_a_stream_of_googles_that_is_dropped_is_abandoned(server: Server, sink: MemorySink) -> None:
    """At once, and so is one that the garbage collector finds."""
    server.will(_gemini_stream(), _gemini_stream())
    client = monitoring.wrap(google(server))
    stream = client.models.generate_content_stream(**_asking_google())
    assert next(stream)
    del stream
    assert [call.outcome for call in calls(sink)] == ["abandoned"]
    ring: list[Any] = [client.models.generate_content_stream(**_asking_google())]
    ring.append(ring)
    assert next(ring[0])
    del ring
    gc.collect()
    client.close()
    assert [call.outcome for call in calls(sink)] == ["abandoned", "abandoned"]


def _asking_google(with_tools: bool = False) -> dict[str, Any]:
    def weather(city: str) -> str:
        """Tell the weather."""
        raise AssertionError(city)

    return {"model": GEMINI, "contents": "hello", "config": {"tools": [weather]} if with_tools else None}


# --- Bedrock's bodies -------------------------------------------------------------------------------------------------

HEADERS = {"x-amzn-bedrock-input-token-count": "10", "x-amzn-bedrock-output-token-count": "5"}


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"generation": "hello", "stop_reason": "stop"}, (True, 10, 5)),
        ({"usage": {"inputTokens": 7, "outputTokens": 3, "cacheReadInputTokens": 2}}, (True, 9, 3)),
        ({"usage": {"prompt_tokens": 8, "completion_tokens": 4}}, (True, 8, 4)),
    ],
    ids=["headers", "nova", "openai"],
)
def test_bodies_are_read_in_their_models_format(
    server: Server, sink: MemorySink, body: dict[str, Any], tokens: tuple[bool, int, int]
) -> None:
    """The headers are asked only where the body tells nothing: they leave out what the cache held."""
    server.will(json_answer(body, headers=HEADERS))
    client = monitoring.wrap(bedrock(server.port))
    assert json.loads(client.invoke_model(modelId=BEDROCK, body="{}")["body"].read()) == body
    client.close()
    assert [(call.has_usage, call.input_tokens, call.output_tokens) for call in calls(sink)] == [tokens]


LONG = "x" * 20_000
LONG_MESSAGE: dict[str, Any] = {
    **MESSAGE,
    "content": [
        {"type": "text", "text": LONG},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"usage": {"input_tokens": 1, "output_tokens": 1}}},
        {"type": "text", "text": 'He said "usage": {"output_tokens": 2}}'},
    ],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": ANTHROPIC_USAGE,
}
LONG_ANSWERS: dict[str, tuple[dict[str, Any], tuple[int, int, int], str]] = {
    "anthropic": (LONG_MESSAGE, (110, 80, 50), "end_turn"),
    "nova": (
        {"output": LONG, "stopReason": "max_tokens", "usage": {"inputTokens": 7, "outputTokens": 3}},
        (7, 0, 3),
        "max_tokens",
    ),
    "openai": ({"choices": [{"text": LONG}], "usage": {"prompt_tokens": 8, "completion_tokens": 4}}, (8, 0, 4), ""),
    "headers": ({"generation": LONG}, (19, 4, 5), ""),
    "usage far from the end": ({"usage": {"inputTokens": 7}, "output": LONG}, (19, 4, 5), ""),
}
CACHED_HEADERS = {
    **HEADERS,
    "x-amzn-bedrock-cache-read-input-token-count": "4",
    "x-amzn-bedrock-cache-write-input-token-count": "5",
}


def _by_size(body: Any) -> bytes:
    return b"".join(iter(lambda: body.read(700), b""))


def _first_and_rest(body: Any) -> bytes:
    return bytes(body.read(5) + body.read() + body.read())


def _into(body: Any) -> bytes:
    read, buffer = bytearray(), bytearray(3_000)
    while size := body.readinto(buffer):
        read += buffer[:size]
    return bytes(read)


@pytest.mark.parametrize("answer", LONG_ANSWERS)
@pytest.mark.parametrize(
    "read",
    [
        _by_size,
        _first_and_rest,
        _into,
        lambda body: b"".join(body.iter_chunks(50)),
        lambda body: b"".join(body.iter_lines(keepends=True)),
        lambda body: b"".join(body),
    ],
    ids=["read", "rest", "readinto", "chunks", "lines", "iteration"],
)
def test_a_body_that_is_read_in_pieces_tells_its_tokens_too(
    server: Server, sink: MemorySink, answer: str, read: Callable[[Any], bytes]
) -> None:
    """By its last bytes, which are looked at when the reader has them; nothing is put together for us."""
    told, (asked, cached, answered), reason = LONG_ANSWERS[answer]
    server.will(json_answer(told, headers=CACHED_HEADERS))
    client = monitoring.wrap(bedrock(server.port))
    assert json.loads(read(client.invoke_model(modelId=BEDROCK, body="{}")["body"])) == told
    client.close()
    (call,) = calls(sink)
    assert (call.outcome, call.has_usage, call.finish_reason) == ("ok", True, reason)
    assert (call.input_tokens, call.cache_read_tokens, call.output_tokens) == (asked, cached, answered)


def test_a_body_that_tells_nothing_at_its_end_has_no_tokens(server: Server, sink: MemorySink) -> None:
    """Where the headers do not tell them either."""
    server.will(json_answer({"usage": {"inputTokens": 7}, "output": LONG}))
    client = monitoring.wrap(bedrock(server.port))
    assert _by_size(client.invoke_model(modelId=BEDROCK, body="{}")["body"])
    client.close()
    assert [(call.outcome, call.has_usage) for call in calls(sink)] == [("ok", False)]


def test_a_short_body_in_pieces_is_known_whole(server: Server, sink: MemorySink) -> None:
    """Its calls to tools too."""
    server.will(json_answer(WHOLE_MESSAGE))
    client = monitoring.wrap(bedrock(server.port))
    assert json.loads(_by_size(client.invoke_model(modelId=BEDROCK, body="{}")["body"])) == WHOLE_MESSAGE
    client.close()
    assert [(call.has_usage, call.output_tokens, call.tool_calls) for call in calls(sink)] == [(True, 50, 1)]


def test_a_body_of_known_length_ends_with_its_last_byte(server: Server, sink: MemorySink) -> None:
    """A reader who knows the length does not ask for more."""
    body = json.dumps(LONG_MESSAGE).encode()
    server.will(json_answer(LONG_MESSAGE, headers={"content-length": str(len(body))}))
    client = monitoring.wrap(bedrock(server.port))
    answer = client.invoke_model(modelId=BEDROCK, body="{}")["body"]
    assert answer.read(len(body) - 1)
    assert sink.observations == []
    assert answer.read(1)
    assert [(call.outcome, call.output_tokens) for call in calls(sink)] == [("ok", 50)]
    client.close()


def test_an_exception_within_a_stream_of_events_is_an_error(server: Server, sink: MemorySink) -> None:
    """It comes as an event, after the answer has begun."""
    from botocore.exceptions import EventStreamError

    server.will(aws_events([("messageStart", {"role": "assistant"}), ("!throttlingException", {"message": "slow"})]))
    client = monitoring.wrap(bedrock(server.port))
    answer = client.converse_stream(modelId=BEDROCK, messages=[{"role": "user", "content": [{"text": "x"}]}])
    with pytest.raises(EventStreamError):
        list(answer["stream"])
    client.close()
    assert [(call.outcome, call.error_type) for call in calls(sink)] == [("error", "throttlingException")]


@pytest.mark.parametrize("part", ["stream", "body"])
def test_a_closed_answer_of_bedrock_is_closed_early(server: Server, sink: MemorySink, part: str) -> None:
    """By its reader, who still holds it."""
    server.will(aws_events([("messageStart", {"role": "assistant"})]) if part == "stream" else json_answer({}))
    client = monitoring.wrap(bedrock(server.port))
    if part == "stream":
        answer = client.converse_stream(modelId=BEDROCK, messages=[{"role": "user", "content": [{"text": "x"}]}])
    else:
        answer = client.invoke_model(modelId=BEDROCK, body="{}")
    answer[part].close()
    client.close()
    assert [call.outcome for call in calls(sink)] == ["closed_early"]


def test_a_prompt_that_ollama_does_not_count_is_unknown(server: Server, sink: MemorySink) -> None:
    """It leaves the count out when the prompt is in its cache; that is not 0 tokens."""
    done = {"model": LLAMA, "created_at": "2026-01-01T00:00:00Z", "done": True, "eval_count": 5}
    server.will(json_answer({**done, "message": {"role": "assistant", "content": "x"}}))
    client = ollama.Client(host=server.url)
    monitoring.wrap(client).chat(model=LLAMA, messages=says("hello"))
    client._client.close()
    assert [(call.outcome, call.has_usage) for call in calls(sink)] == [("ok", False)]


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("api.groq.com", "groq"),
        ("api.mistral.ai", "mistral_ai"),
        ("openrouter.ai", "openrouter"),
        ("api.deepseek.com", "deepseek"),
        ("localhost", "openai"),
    ],
)
def test_the_provider_is_the_hosts(sink: MemorySink, host: str, provider: str) -> None:
    """Whoever speaks OpenAI's protocol."""
    httpx = http_library(openai)
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={**CHAT, "choices": []}))
    http = httpx.Client(transport=transport)
    client = openai.OpenAI(base_url=f"https://{host}/v1", api_key="x", http_client=http)
    chat(monitoring.wrap(client))
    assert [call.provider for call in calls(sink)] == [provider]
