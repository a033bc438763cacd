"""The HTTP clients by one set of verbs, so that each claim is written once. Sync clients are called from coroutines."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

import aiohttp
import httpx
import httpx2
import requests
import urllib3

import monitoring

CHUNKS = (b"one", b"two")


class Driver(Protocol):
    """How a client is used."""

    failures: tuple[type[Exception], ...]
    """What it raises when a request or a body fails."""

    def opened(self, **settings: Any) -> Any:
        """Return an async block with a wrapped client."""
        ...

    async def get(self, client: Any, url: str, headers: Mapping[str, str] | None = None, timeout: float = 5) -> bytes:
        """Return the body of a page, redirects followed."""
        ...

    async def post_pieces(self, client: Any, url: str, pieces: Iterator[bytes]) -> bytes:
        """Send a body in pieces."""
        ...

    async def open(self, client: Any, url: str, timeout: float = 5) -> Any:
        """Return a response whose body is not read."""
        ...

    async def read(self, response: Any) -> bytes:
        """Return the body, piece by piece."""
        ...

    async def close(self, response: Any) -> None:
        """Close a response."""
        ...


class HTTPX(Driver):
    """The sync clients of either library."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self.failures = (library.HTTPError,)

    @asynccontextmanager
    async def opened(self, **settings: Any) -> AsyncIterator[Any]:
        with self.library.Client(**settings) as client:
            yield monitoring.wrap(client)

    async def get(self, client: Any, url: str, headers: Any = None, timeout: float = 5) -> bytes:
        content: bytes = client.get(url, headers=headers, timeout=timeout, follow_redirects=True).content
        return content

    async def post_pieces(self, client: Any, url: str, pieces: Iterator[bytes]) -> bytes:
        content: bytes = client.post(url, content=pieces).content
        return content

    async def open(self, client: Any, url: str, timeout: float = 5) -> Any:
        return client.send(client.build_request("GET", url, timeout=timeout), stream=True)

    async def read(self, response: Any) -> bytes:
        return b"".join(response.iter_bytes())

    async def close(self, response: Any) -> None:
        response.close()


class AsyncHTTPX(HTTPX):
    """The async clients of either library."""

    @asynccontextmanager
    async def opened(self, **settings: Any) -> AsyncIterator[Any]:
        async with self.library.AsyncClient(**settings) as client:
            yield monitoring.wrap(client)

    async def get(self, client: Any, url: str, headers: Any = None, timeout: float = 5) -> bytes:
        response = await client.get(url, headers=headers, timeout=timeout, follow_redirects=True)
        content: bytes = response.content
        return content

    async def post_pieces(self, client: Any, url: str, pieces: Iterator[bytes]) -> bytes:
        async def sent() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        content: bytes = (await client.post(url, content=sent())).content
        return content

    async def open(self, client: Any, url: str, timeout: float = 5) -> Any:
        return await client.send(client.build_request("GET", url, timeout=timeout), stream=True)

    async def read(self, response: Any) -> bytes:
        return b"".join([piece async for piece in response.aiter_bytes()])

    async def close(self, response: Any) -> None:
        await response.aclose()


class Requests(Driver):
    """Sessions of requests."""

    failures = (requests.RequestException,)

    @asynccontextmanager
    async def opened(self, **_: Any) -> AsyncIterator[Any]:
        with requests.Session() as session:
            yield monitoring.wrap(session)

    async def get(self, client: Any, url: str, headers: Any = None, timeout: float = 5) -> bytes:
        content: bytes = client.get(url, headers=headers, timeout=timeout).content
        return content

    async def post_pieces(self, client: Any, url: str, pieces: Iterator[bytes]) -> bytes:
        content: bytes = client.post(url, data=pieces).content
        return content

    async def open(self, client: Any, url: str, timeout: float = 5) -> Any:
        return client.get(url, stream=True, timeout=timeout)

    async def read(self, response: Any) -> bytes:
        return b"".join(response.iter_content(None))

    async def close(self, response: Any) -> None:
        response.close()


class RequestsOverURLLib3(Requests):
    """Sessions of requests, with the pools below wrapped, too."""

    @asynccontextmanager
    async def opened(self, **_: Any) -> AsyncIterator[Any]:
        with requests.Session() as session:
            monitoring.wrap(session.get_adapter("http://").poolmanager)  # type: ignore[attr-defined]
            yield monitoring.wrap(session)


class URLLib3(Driver):
    """Managers of urllib3."""

    failures = (urllib3.exceptions.HTTPError,)

    @asynccontextmanager
    async def opened(self, **settings: Any) -> AsyncIterator[Any]:
        with urllib3.PoolManager(**settings) as manager:
            yield monitoring.wrap(manager)

    async def get(self, client: Any, url: str, headers: Any = None, timeout: float = 5) -> bytes:
        retries = urllib3.Retry(connect=0, read=0, other=0)
        data: bytes = client.request("GET", url, headers=headers, timeout=timeout, retries=retries).data
        return data

    async def post_pieces(self, client: Any, url: str, pieces: Iterator[bytes]) -> bytes:
        data: bytes = client.request("POST", url, body=pieces).data
        return data

    async def open(self, client: Any, url: str, timeout: float = 5) -> Any:
        return client.request("GET", url, preload_content=False, timeout=timeout, retries=False)

    async def read(self, response: Any) -> bytes:
        return b"".join(response.stream())

    async def close(self, response: Any) -> None:
        response.close()


class AIOHTTP(Driver):
    """Sessions of aiohttp."""

    failures = (aiohttp.ClientError, TimeoutError)

    @asynccontextmanager
    async def opened(self, **settings: Any) -> AsyncIterator[Any]:
        async with aiohttp.ClientSession(**settings) as session:
            yield monitoring.wrap(session)

    async def get(self, client: Any, url: str, headers: Any = None, timeout: float = 5) -> bytes:
        async with client.get(url, headers=headers, timeout=aiohttp.ClientTimeout(timeout)) as response:
            body: bytes = await response.read()
            return body

    async def post_pieces(self, client: Any, url: str, pieces: Iterator[bytes]) -> bytes:
        async def sent() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        async with client.post(url, data=sent()) as response:
            body: bytes = await response.read()
            return body

    async def open(self, client: Any, url: str, timeout: float = 5) -> Any:
        return await client.get(url, timeout=aiohttp.ClientTimeout(timeout), allow_redirects=False)

    async def read(self, response: Any) -> bytes:
        async with response:
            return b"".join([piece async for piece in response.content.iter_any()])

    async def close(self, response: Any) -> None:
        response.close()


DRIVERS: dict[str, Driver] = {
    "httpx": HTTPX(httpx),
    "httpx, async": AsyncHTTPX(httpx),
    "httpx2": HTTPX(httpx2),
    "httpx2, async": AsyncHTTPX(httpx2),
    "requests": Requests(),
    "requests over urllib3": RequestsOverURLLib3(),
    "urllib3": URLLib3(),
    "aiohttp": AIOHTTP(),
}


def told(body: bytes) -> dict[str, str]:
    """Return the headers that ``/headers`` was asked with."""
    headers: dict[str, str] = json.loads(body)
    return headers
