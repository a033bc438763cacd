"""What does a wrapped client cost more per call, and per chunk of a stream? Microseconds of CPU time.

Beside it, in the same rounds, what OpenTelemetry's instrumentation of the client costs, with an SDK that samples every
span and exports none.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import io
import json
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import anthropic
import cachetools
import django
import httpx2
import ollama
import openai
import psycopg
import pymemcache
import redis
import requests
import urllib3
from django.conf import settings
from django.core.cache.backends.base import BaseCache
from django.db.utils import ConnectionHandler
from google import genai
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from sqlalchemy import create_engine, text
from sqlalchemy.pool import QueuePool

from monitoring import Config, integrations
from monitoring.context import current_record
from monitoring.monitor import Monitoring
from monitoring.observation import KINDS, Kind, RequestRecord
from monitoring.recorder import Fold, NullRecorder, Recorder

from .harness import Spread, spread
from .report import Bar, Result, publish
from .scratch import DISK, MEMORY, folders

ROUNDS = 40
ROUND_SECONDS = 0.02
CHUNKS = 50
MESSAGES: Any = [{"role": "user", "content": "hello"}]
CALLS_PER_REQUEST = 10
BARE, SILENT, WRAPPED, ON, PEER = "bare", "silent", "wrapped", "on", "peer"

Call = Callable[[int], None]
"""Make that many calls."""


class Counting:
    """A sink that only counts: what is measured is the adapter, and the count shows that it did its work."""

    def __init__(self) -> None:
        self.seen = 0

    def folds(self) -> Mapping[Kind, Fold]:
        return dict.fromkeys(KINDS, self._count)

    def _count(self, _: object) -> None:
        self.seen += 1

    def add(self, *_: object) -> None:
        """Take the number of a pool, as the metrics would."""

    observe = add


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of call; `make` returns a client, and `use` the function that calls it. `chunks` of a stream."""

    label: str
    make: Callable[[], Any]
    use: Callable[[Any], Call]
    chunks: int = 0
    peer: Callable[[Any], Any] | None = None
    """Returns a client that OpenTelemetry instruments."""


class SQLiteConnection(sqlite3.Connection):
    """A connection that can be wrapped: it is no C object."""


class AnsweringCursor(psycopg.Cursor[Any]):
    """A psycopg cursor that answers without a server."""

    def execute(self, *args: Any, **options: Any) -> Any:
        return self


class AnsweringRedis(redis.Redis):
    """A Redis client that answers without a server, so that its socket makes no noise."""

    def _execute_command(self, *args: Any, **options: Any) -> bytes:
        return b"value"


class AnsweringAsyncRedis(redis.asyncio.Redis):
    """Its asynchronous twin."""

    async def execute_command(self, *args: Any, **options: Any) -> bytes:
        return b"value"


class AnsweringMemcached(pymemcache.Client):
    """A memcached client that answers without a server."""

    def _fetch_cmd(self, name: bytes, keys: Any, expect_cas: bool, key_prefix: bytes = b"") -> Any:
        return dict.fromkeys(keys, b"value")


class AnsweringCache(BaseCache):
    """A cache of Django that has everything."""

    def get(self, key: Any, default: Any = None, version: Any = None) -> str:
        return "value"


def filled_mapping() -> cachetools.LRUCache[str, str]:
    cache: cachetools.LRUCache[str, str] = cachetools.LRUCache(10)
    cache["users:42"] = "value"
    return cache


def use_engine(engine: Any) -> Call:
    connection, statement = engine.connect(), text("SELECT 1 AS one")

    def call(times: int) -> None:
        for _ in range(times):
            connection.execute(statement).all()

    return call


def use_sqlite(connection: Any) -> Call:
    def call(times: int) -> None:
        for _ in range(times):
            connection.execute("SELECT 1 AS one")

    return call


def use_pool(engine: Any) -> Call:
    def call(times: int) -> None:
        for _ in range(times):
            engine.connect().close()

    return call


def psycopg_connection() -> Any:
    """Return a connection to nothing."""
    connection = psycopg.Connection[Any](psycopg.pq.PGconn.connect(b"host=127.0.0.1 port=1"))
    connection.cursor_factory = AnsweringCursor
    return connection


def use_psycopg(connection: Any) -> Call:
    cursor = connection.cursor_factory(connection)

    def call(times: int) -> None:
        for _ in range(times):
            cursor.execute("SELECT name FROM funders WHERE id = %s", [1])

    return call


def django_connection() -> Any:
    if not settings.configured:
        settings.configure()
        django.setup()
    return ConnectionHandler({"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}})["default"]


def use_django(connection: Any) -> Call:
    def call(times: int) -> None:
        for _ in range(times):
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 AS one").fetchall()

    return call


def use_redis(client: Any) -> Call:
    def call(times: int) -> None:
        for _ in range(times):
            client.get("key")

    return call


def use_cache(client: Any) -> Call:
    def call(times: int) -> None:
        for _ in range(times):
            client.get("users:42")

    return call


def use_http(client: Any) -> Call:
    def call(times: int) -> None:
        for _ in range(times):
            client.get("http://server.test/")

    return call


def use_streamed_http(client: Any) -> Call:
    def call(times: int) -> None:
        for _ in range(times):
            with client.stream("GET", "http://server.test/pieces") as response:
                for _piece in response.iter_raw():
                    pass

    return call


def use_http_pool(pool: Any) -> Call:
    def call(times: int) -> None:
        for _ in range(times):
            pool.urlopen("GET", "/", preload_content=False).close()

    return call


def use_aiohttp(session: Any) -> Call:
    async def calls(times: int) -> None:
        for _ in range(times):
            async with session.get("http://server.test/") as response:
                await response.read()

    return lambda times: LOOP.run_until_complete(calls(times))


def use_openai(client: Any) -> Call:
    def call(times: int) -> None:
        for _ in range(times):
            client.chat.completions.create(model="gpt-4o", messages=MESSAGES)

    return call


def use_openai_stream(client: Any) -> Call:
    def call(times: int) -> None:
        for _ in range(times):
            for _chunk in client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True):
                pass

    return call


def use_anthropic(client: Any) -> Call:
    def call(times: int) -> None:
        for _ in range(times):
            client.messages.create(model="claude-haiku-4-5", max_tokens=9, messages=MESSAGES)

    return call


def use_google(client: Any) -> Call:
    def call(times: int) -> None:
        for _ in range(times):
            client.models.generate_content(model="gemini-2.5-flash", contents="hello")

    return call


def use_ollama_stream(client: Any) -> Call:
    def call(times: int) -> None:
        for _ in range(times):
            for _chunk in client.chat(model="llama3.2", messages=MESSAGES, stream=True):
                pass

    return call


LOOP = asyncio.new_event_loop()
SESSIONS: list[aiohttp.ClientSession] = []
"""To be closed at the end."""


def use_async_redis(client: Any) -> Call:
    async def calls(times: int) -> None:
        for _ in range(times):
            await client.get("key")

    return lambda times: LOOP.run_until_complete(calls(times))


def use_async_openai(client: Any) -> Call:
    async def calls(times: int) -> None:
        for _ in range(times):
            await client.chat.completions.create(model="gpt-4o", messages=MESSAGES)

    return lambda times: LOOP.run_until_complete(calls(times))


def use_async_openai_stream(client: Any) -> Call:
    async def calls(times: int) -> None:
        for _ in range(times):
            async for _chunk in await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True):
                pass
            await asyncio.sleep(0)  # for the generators that the SDK leaves to the loop

    return lambda times: LOOP.run_until_complete(calls(times))


def _chunk(**fields: Any) -> str:
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
    return f"data: {json.dumps({**head, **fields})}\n\n"


USAGE = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}
COMPLETION = {"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o"}
STREAM = (
    "".join(
        _chunk(choices=[{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]) for _ in range(CHUNKS - 1)
    )
    + _chunk(choices=[], usage=USAGE)
    + "data: [DONE]\n\n"
)
MESSAGE = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5",
    "content": [{"type": "text", "text": "Hello."}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 100, "output_tokens": 50},
}


def answer(request: httpx2.Request) -> httpx2.Response:
    """Answer as both providers, as a stream where one is asked for."""
    if request.url.path == "/":
        return httpx2.Response(200)
    if request.url.path == "/pieces":
        return httpx2.Response(200, stream=Pieces())
    if request.url.path == "/v1/messages":
        return httpx2.Response(200, json=MESSAGE)
    if b'"stream":true' in request.content:
        return httpx2.Response(200, text=STREAM, headers={"content-type": "text/event-stream"})
    return httpx2.Response(200, json={**COMPLETION, "choices": [CHOICE], "usage": USAGE})


class Pieces(httpx2.SyncByteStream):
    """A body in many pieces."""

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"piece"] * CHUNKS)


class AnsweringAdapter(requests.adapters.BaseAdapter):
    """Answers a session's requests without a server."""

    def send(self, request: Any, *args: Any, **kwargs: Any) -> requests.Response:
        response = requests.Response()
        response.status_code, response.request, response.url = 200, request, request.url
        response.raw = urllib3.HTTPResponse(io.BytesIO(b"ok"), status=200, preload_content=False)
        return response

    def close(self) -> None:
        pass


class AnsweringPool(urllib3.HTTPConnectionPool):
    """Answers without a server."""

    def _make_request(self, conn: Any, method: str, url: str, *, response_conn: Any = None, **_: Any) -> Any:
        return urllib3.HTTPResponse(io.BytesIO(b"ok"), status=200, preload_content=False)


def answering_session() -> requests.Session:
    session = requests.Session()
    session.mount("http://", AnsweringAdapter())
    return session


class Answering(asyncio.Transport):
    """The server's end of aiohttp's connections."""

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self._protocol = protocol

    def write(self, data: bytes) -> None:
        LOOP.call_soon(self._protocol.data_received, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    def writelines(self, data: Any) -> None:
        self.write(b"")

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass


class AnsweringConnector(aiohttp.BaseConnector):
    """Answers without a server."""

    async def _create_connection(self, *_: Any, **__: Any) -> Any:
        protocol = self._factory()
        protocol.connection_made(Answering(protocol))
        return protocol


def aiohttp_session() -> aiohttp.ClientSession:
    async def made() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=AnsweringConnector())

    SESSIONS.append(LOOP.run_until_complete(made()))
    return SESSIONS[-1]


def http_client() -> httpx2.Client:
    return httpx2.Client(transport=httpx2.MockTransport(answer))


def openai_client() -> openai.OpenAI:
    return openai.OpenAI(api_key="x", http_client=http_client())


def async_openai_client() -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key="x", http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(answer)))


def anthropic_client() -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key="x", http_client=http_client())


TRACES = TracerProvider()


def traced_engine(engine: Any) -> Any:
    SQLAlchemyInstrumentor().instrument(engine=engine, tracer_provider=TRACES, skip_dep_check=True)
    return engine


def traced_redis(client: Any) -> Any:
    RedisInstrumentor.instrument_client(client, tracer_provider=TRACES)
    return client


def traced_http(client: Any) -> Any:
    HTTPX2ClientInstrumentor.instrument_client(client, tracer_provider=TRACES)
    return client


def google_client() -> genai.Client:
    """Return a client whose HTTP layer answers by itself."""
    client = genai.Client(api_key="x")
    client._api_client.request = lambda *_: genai.types.HttpResponse(headers={}, body=CONTENT)
    return client


CONTENT = json.dumps(
    {
        "candidates": [{"content": {"parts": [{"text": "Hello."}], "role": "model"}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 100, "candidatesTokenCount": 50, "totalTokenCount": 150},
        "modelVersion": "gemini-2.5-flash",
    }
)


class AnsweringOllama(ollama.Client):
    """A client of Ollama that answers without a server."""

    def _request(self, *args: Any, **kwargs: Any) -> Any:
        parts = [{"model": "llama3.2", "message": {"role": "assistant", "content": "word "}}] * (CHUNKS - 1)
        end = {**parts[0], "done": True, "done_reason": "stop", "prompt_eval_count": 100, "eval_count": 50}
        return (ollama.ChatResponse(**part) for part in (*parts, end))


CASES = (
    Case("SQLAlchemy, a statement", lambda: create_engine("sqlite://"), use_engine, peer=traced_engine),
    Case("sqlite3, a statement", lambda: sqlite3.connect(":memory:", factory=SQLiteConnection), use_sqlite),
    Case("psycopg, a statement", psycopg_connection, use_psycopg),
    Case("SQLAlchemy, a connection", lambda: create_engine("sqlite://", poolclass=QueuePool), use_pool),
    Case("Django, a statement", django_connection, use_django),
    Case("Redis, get", AnsweringRedis, use_redis, peer=traced_redis),
    Case("Redis, get, async", AnsweringAsyncRedis, use_async_redis, peer=traced_redis),
    Case("httpx, get", http_client, use_http, peer=traced_http),
    Case("Redis, get, key with a prefix", AnsweringRedis, use_cache),
    Case("memcached, get", lambda: AnsweringMemcached(("127.0.0.1", 1)), use_cache),
    Case("Django cache, get", lambda: AnsweringCache({}), use_cache),
    Case("cachetools, get", filled_mapping, use_cache),
    Case(f"httpx, body of {CHUNKS}", http_client, use_streamed_http, CHUNKS),
    Case("requests, get", answering_session, use_http),
    Case("urllib3, get", lambda: AnsweringPool("server.test"), use_http_pool),
    Case("aiohttp, get", aiohttp_session, use_aiohttp),
    Case("OpenAI, chat", openai_client, use_openai),
    Case("OpenAI, chat, async", async_openai_client, use_async_openai),
    Case(f"OpenAI, stream of {CHUNKS}", openai_client, use_openai_stream, CHUNKS),
    Case(f"OpenAI, stream of {CHUNKS}, async", async_openai_client, use_async_openai_stream, CHUNKS),
    Case("Anthropic, message", anthropic_client, use_anthropic),
    Case("Google, content", google_client, use_google),
    Case(f"Ollama, stream of {CHUNKS}", AnsweringOllama, use_ollama_stream, CHUNKS),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one case cost: bare, and beyond that with nobody listening, with a sink that counts, with everything on in
    a request, and under OpenTelemetry.
    """

    case: Case
    bare: Spread
    silent: Spread
    wrapped: Spread
    on: Spread
    peer: Spread | None
    quiet: float
    """The tenth percentile of the wrapped rounds beyond that of the bare ones."""
    seen: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every case and publish the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calls", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a third of the rounds: a first idea")
    rounds = ROUNDS // 3 if parser.parse_args(arguments).quick else ROUNDS
    measured = [measure(case, rounds) for case in CASES]
    for session in SESSIONS:
        LOOP.run_until_complete(session.close())
    LOOP.run_until_complete(LOOP.shutdown_asyncgens())
    LOOP.close()
    publish(
        Result(
            name="calls",
            title="What a wrapped client costs more",
            columns=("call", "bare", "added", "quiet", "per chunk", "unheard", "all on", "peer", "observed", ""),
            rows=[_row(one) for one in measured],
            unit="microseconds of CPU time per call",
            bars=[Bar(one.case.label, one.wrapped.median, one.wrapped.low, one.wrapped.high, True) for one in measured],
            notes=[
                f"`added`: median of {rounds} rounds, each compared with the bare client in the same round;",
                "`quiet` compares the quietest tenths. `unheard`: wrapped, before configure.",
                "`added` is the adapter alone: the sink only counts. `all on`, in requests: metrics, percentiles, N+1",
                "detection, the spans of a request and the store. `peer`: OpenTelemetry's spans, not exported.",
                "A connection is taken from a pool and given back.",
            ],
            data={
                one.case.label: {
                    "bare": one.bare.median,
                    "added": one.wrapped.median,
                    "quiet": one.quiet,
                    "on": one.on.median,
                }
                | ({"peer": one.peer.median} if one.peer else {})
                for one in measured
            },
        )
    )


def _row(one: Measured) -> list[str]:
    per_chunk = f"{one.quiet / one.case.chunks:.2f}" if one.case.chunks else ""
    return [
        one.case.label,
        f"{one.bare.median:,.1f}",
        f"{one.wrapped.median:.2f}",
        f"{one.quiet:.2f}",
        per_chunk,
        f"{one.silent.median:.2f}",
        f"{one.on.median:.2f}",
        f"{one.peer.median:.1f}" if one.peer else "",
        f"{one.seen:,}",
        "",
    ]


def measure(case: Case, rounds: int) -> Measured:
    """Run rounds of the three variants in shuffled order, each for about the same time."""
    with folders() as places:
        everything = Monitoring(Config(service="bench", cells_folder=places[MEMORY], store=places[DISK]))
        try:
            return _measure(case, rounds, everything.recorder)
        finally:
            everything.close()


def _measure(case: Case, rounds: int, everything: Recorder) -> Measured:
    counting = Counting()
    recorders = {SILENT: NullRecorder(), WRAPPED: Recorder([counting], metrics=counting), ON: everything}
    variants = {BARE: case.use(case.make())}
    for name, recorder in recorders.items():
        variants[name] = case.use(integrations.wrap(case.make(), recorder_of=lambda recorder=recorder: recorder))
    variants[ON] = _in_request(variants[ON])
    if case.peer is not None:
        variants[PEER] = case.use(case.peer(case.make()))
    times = _calls_per_round(variants[BARE])
    chance = random.Random(1)
    samples: dict[str, list[float]] = {name: [] for name in variants}
    for call in variants.values():
        call(times)
    gc.collect()
    for _ in range(rounds):
        for name in chance.sample(list(variants), len(variants)):
            samples[name].append(_microseconds(variants[name], times))
    added = {name: spread([ours - bare for ours, bare in zip(samples[name], samples[BARE])]) for name in variants}
    bare = spread(samples[BARE])
    quiet = spread(samples[WRAPPED]).tenth_percentile - bare.tenth_percentile
    return Measured(case, bare, added[SILENT], added[WRAPPED], added[ON], added.get(PEER), quiet, counting.seen)


def _in_request(call: Call) -> Call:
    """Make the calls in requests of ten each, as an app does."""

    def in_requests(times: int) -> None:
        while times > 0:
            record = RequestRecord()
            record.route, record.calls = "/items/{id}", None
            token = current_record.set(record)
            call(min(CALLS_PER_REQUEST, times))
            current_record.reset(token)
            record.calls = None
            times -= CALLS_PER_REQUEST

    return in_requests


def _calls_per_round(call: Call) -> int:
    call(20)
    return max(20, int(ROUND_SECONDS / (_microseconds(call, 50) / 1e6)))


def _microseconds(call: Call, times: int) -> float:
    started = time.process_time()
    call(times)
    return (time.process_time() - started) / times * 1e6


if __name__ == "__main__":
    main()
