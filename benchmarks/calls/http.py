"""HTTP clients, with transports that answer without a server."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import httpx2
import requests
import urllib3

from .measuring import Case, streams
from .peers import instrumented, traced, traces

URL = "http://server.test/"


class Pieces(httpx2.SyncByteStream):
    """A body in so many pieces."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"piece"] * self._number)


def httpx_client() -> httpx2.Client:
    return httpx2.Client(transport=httpx2.MockTransport(lambda _: httpx2.Response(200)))


def in_pieces(request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, stream=Pieces(int(request.url.path[1:])))


def streaming_httpx_client() -> httpx2.Client:
    return httpx2.Client(transport=httpx2.MockTransport(in_pieces))


def get(client: Any) -> None:
    client.get(URL)


def stream(client: Any, chunks: int) -> None:
    with client.stream("GET", f"{URL}{chunks}") as response:
        for _piece in response.iter_raw():
            pass


def traced_httpx(client: Any) -> Any:
    from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor

    HTTPX2ClientInstrumentor.instrument_client(client, tracer_provider=traces())
    return client


class AnsweringAdapter(requests.adapters.BaseAdapter):
    """Answers a session's requests without a server."""

    def send(self, request: Any, *args: Any, **kwargs: Any) -> requests.Response:
        response = requests.Response()
        response.status_code, response.request, response.url = 200, request, request.url
        response.raw = urllib3.HTTPResponse(io.BytesIO(b"ok"), status=200, preload_content=False)
        return response

    def close(self) -> None:
        pass


def requests_session() -> requests.Session:
    session = requests.Session()
    session.mount("http://", AnsweringAdapter())
    return session


@contextmanager
def traced_requests(_session: Any) -> Iterator[None]:
    from opentelemetry.instrumentation.requests import RequestsInstrumentor

    with instrumented(RequestsInstrumentor()):
        yield


class AnsweringPool(urllib3.HTTPConnectionPool):
    """Answers without a server."""

    def _make_request(self, conn: Any, method: str, url: str, *, response_conn: Any = None, **_: Any) -> Any:
        return urllib3.HTTPResponse(io.BytesIO(b"ok"), status=200, preload_content=False)


def open_url(pool: Any) -> None:
    pool.urlopen("GET", "/", preload_content=False).close()


@contextmanager
def traced_urllib3(_pool: Any) -> Iterator[None]:
    from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor

    with instrumented(URLLib3Instrumentor()):
        yield


class Answering(asyncio.Transport):
    """The server's end of aiohttp's connections."""

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self._protocol = protocol

    def write(self, data: bytes) -> None:
        answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
        asyncio.get_running_loop().call_soon(self._protocol.data_received, answer)

    def writelines(self, data: Any) -> None:
        self.write(b"")

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)


class AnsweringConnector(aiohttp.BaseConnector):
    """Answers without a server."""

    async def _create_connection(self, *_: Any, **__: Any) -> Any:
        protocol = self._factory()
        protocol.connection_made(Answering(protocol))
        return protocol


async def aiohttp_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=AnsweringConnector())


async def get_async(session: Any) -> None:
    async with session.get(URL) as response:
        await response.read()


def traced_aiohttp(session: Any) -> Any:
    """Add to a session what the instrumentor adds to those that are made while it is on."""
    from opentelemetry.instrumentation.aiohttp_client import create_trace_config

    trace = create_trace_config(tracer_provider=traces())
    trace.freeze()
    session.trace_configs.append(trace)
    return session


CASES = (
    Case("httpx, get", httpx_client, get, traced(traced_httpx)),
    *streams("httpx, body", streaming_httpx_client, stream, traced(traced_httpx)),
    Case("requests, get", requests_session, get, traced(during=traced_requests)),
    Case("urllib3, get", lambda: AnsweringPool("server.test"), open_url, traced(during=traced_urllib3)),
    Case("aiohttp, get", aiohttp_session, get_async, traced(traced_aiohttp), close=aiohttp.ClientSession.close),
)
