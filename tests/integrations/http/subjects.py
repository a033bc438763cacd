"""The HTTP clients that the contract is asked of, each with its one way to make a request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import requests
import urllib3

from monitoring.observation import Kind
from tests.integrations.contract import SECRET, Subject
from tests.support.processes import free_port

HEADERS = {"authorization": f"Bearer {SECRET}"}


class HTTPSubject(Subject):
    """A client of the server on loopback."""

    kind: Kind = "http"

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.refused = f"http://127.0.0.1:{free_port()}"


class SessionSubject(HTTPSubject):
    """requests."""

    client = "requests `Session`"
    library = "requests"
    error = requests.ReadTimeout

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        with requests.Session() as session:
            session.headers.update(HEADERS)
            yield session

    def unused(self) -> Any:
        return requests.Session()

    async def succeed(self, client: Any) -> object:
        response = client.get(f"{self.url}/200?token={SECRET}")
        return response.status_code, response.text

    async def fail(self, client: Any) -> object:
        client.headers.update(HEADERS)
        return client.get(f"{self.url}/hang/{SECRET}", timeout=0.02)  # a refusal tells an address in memory


class PoolManagerSubject(HTTPSubject):
    """urllib3, by a manager."""

    client = "urllib3 `PoolManager`"
    library = "urllib3"
    error = urllib3.exceptions.ReadTimeoutError

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        with urllib3.PoolManager(headers=HEADERS) as manager:
            yield manager

    def unused(self) -> Any:
        return urllib3.PoolManager()

    async def succeed(self, client: Any) -> object:
        response = client.request("GET", f"{self.url}/200?token={SECRET}")
        return response.status, response.data

    async def fail(self, client: Any) -> object:
        return client.request("GET", f"{self.url}/hang/{SECRET}", retries=False, timeout=0.02)


class PoolSubject(HTTPSubject):
    """urllib3, by a pool."""

    client = "urllib3 `HTTPConnectionPool`"
    library = "urllib3"
    error = urllib3.exceptions.ReadTimeoutError

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        with self.unused() as pool:
            yield pool

    def unused(self) -> Any:
        return urllib3.connection_from_url(self.url, headers=HEADERS)

    async def succeed(self, client: Any) -> object:
        response = client.request("GET", f"/200?token={SECRET}")
        return response.status, response.data

    async def fail(self, client: Any) -> object:
        return client.request("GET", f"/hang/{SECRET}", retries=False, timeout=0.02)


class ClientSessionSubject(HTTPSubject):
    """aiohttp."""

    client = "aiohttp `ClientSession`"
    library = "aiohttp"
    error = aiohttp.ClientConnectorError

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        async with aiohttp.ClientSession(headers=HEADERS) as session:
            yield session

    def unused(self) -> None:
        return None  # a session belongs to a running loop

    async def succeed(self, client: Any) -> object:
        async with client.get(f"{self.url}/200?token={SECRET}") as response:
            return response.status, await response.text()

    async def fail(self, client: Any) -> object:
        return await client.get(f"{self.refused}/{SECRET}")

    async def hang(self, client: Any) -> object:
        return await client.get(f"{self.url}/hang?token={SECRET}")
