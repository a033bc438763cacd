"""httpx and httpx2 clients, sync and async, against a server on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import httpx
import httpx2
import pytest

import monitoring
from monitoring.calls import HTTPCall
from monitoring.context import current_record
from monitoring.observation import Kind, RequestRecord
from monitoring.testing import MemorySink, use
from tests.integrations.contract import SECRET, CancellableContract, Contract, Subject
from tests.support.processes import free_port

HEADERS = {"authorization": f"Bearer {SECRET}"}


class SyncClient(Subject):
    """``Client`` of either library."""

    name = "Client"
    kind: Kind = "http"

    def __init__(self, library: Any, port: int) -> None:
        self.library = library.__name__
        self.client = f"{self.library} `{self.name}`"
        self._make = getattr(library, self.name)
        self._base_url = f"http://127.0.0.1:{port}"
        self._refused = f"http://127.0.0.1:{free_port()}"
        self.error: type[Exception] = library.ConnectError

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        with self._make(base_url=self._base_url, headers=HEADERS) as client:
            yield client

    def unused(self) -> Any:
        return self._make(base_url=self._base_url)

    async def succeed(self, client: Any) -> object:
        response = client.get(f"/200?token={SECRET}")
        return response.status_code, response.text

    async def fail(self, client: Any) -> object:
        return client.get(f"{self._refused}/{SECRET}")


class AsynchronousClient(SyncClient):
    """``AsyncClient`` of either library."""

    name = "AsyncClient"

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        async with self._make(base_url=self._base_url, headers=HEADERS) as client:
            yield client

    async def succeed(self, client: Any) -> object:
        response = await client.get(f"/200?token={SECRET}")
        return response.status_code, response.text

    async def fail(self, client: Any) -> object:
        return await client.get(f"{self._refused}/{SECRET}")

    async def hang(self, client: Any) -> object:
        return await client.get(f"/hang?token={SECRET}", timeout=30)


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> Any:
    """Each of the two libraries."""
    return request.param


class TestClient(Contract):
    """The contract, for a client."""

    @pytest.fixture
    def subject(self, library: Any, http_port: int) -> Subject:
        return SyncClient(library, http_port)


class TestAsyncClient(CancellableContract):
    """The contract, for an async client."""

    @pytest.fixture
    def subject(self, library: Any, http_port: int) -> Subject:
        return AsynchronousClient(library, http_port)


@pytest.fixture
def client(library: Any, http_port: int) -> Iterator[Any]:
    with library.Client(base_url=f"http://127.0.0.1:{http_port}") as client:
        yield monitoring.wrap(client)


@pytest.fixture
def sink() -> Iterator[MemorySink]:
    sink = MemorySink()
    with use(sink):
        yield sink


def calls(sink: MemorySink) -> list[HTTPCall]:
    """Return the requests seen."""
    return cast("list[HTTPCall]", sink.of_kind("http"))


def test_a_request_tells_method_host_port_and_status(client: Any, http_port: int, sink: MemorySink) -> None:
    """The name is the method and the host, and has no path."""
    client.post("/503/path", content=b"body")
    (call,) = calls(sink)
    assert (call.name, call.method, call.host) == ("POST 127.0.0.1", "POST", "127.0.0.1")
    assert (call.port, call.status, call.outcome) == (http_port, 503, "ok")


def test_an_unknown_method_is_other(client: Any, sink: MemorySink) -> None:
    """A method that nobody knows makes no label of its own."""
    client.request("GETTT", "/200")
    assert [call.method for call in calls(sink)] == ["_OTHER"]


def test_each_redirect_is_a_request(client: Any, sink: MemorySink) -> None:
    """Two requests leave, and two are seen."""
    client.get("/moved", follow_redirects=True)
    assert [call.status for call in calls(sink)] == [302, 200]


def test_a_request_without_an_answer_has_no_status(client: Any, sink: MemorySink, library: Any) -> None:
    """A refused connection is an error of its exception's class, with status 0."""
    with pytest.raises(library.ConnectError):
        client.get(f"http://127.0.0.1:{free_port()}/")
    (call,) = calls(sink)
    assert (call.status, call.outcome, call.error_type) == (0, "error", "ConnectError")


def test_a_mounted_transport_is_seen_and_stays_as_it_is(library: Any, sink: MemorySink) -> None:
    """Every transport and mount of the client is covered, and none is touched: another client may share it."""
    transport = library.MockTransport(lambda request: library.Response(200))
    with (
        library.Client(mounts={"https://mounted.test": transport}) as client,
        library.Client(transport=transport) as other,
    ):
        monitoring.wrap(client).get("https://mounted.test/x")
        other.get("https://other.test/x")
    assert [(call.name, call.port) for call in calls(sink)] == [("GET mounted.test", 443)]
    assert "handle_request" not in vars(transport)


def test_without_a_setting_no_header_is_added(library: Any, sink: MemorySink) -> None:
    """What leaves is what left before."""

    def answer(request: Any) -> Any:
        seen.append(sorted(request.headers))
        return library.Response(200)

    seen: list[list[str]] = []
    with library.Client(transport=library.MockTransport(answer)) as client:
        client.get("http://x.test/")
        monitoring.wrap(client).get("http://x.test/")
    assert len(calls(sink)) == 1
    assert seen[0] == seen[1]


def test_the_users_request_is_not_changed(library: Any) -> None:
    """What was added is sent, and is neither in the request that the user holds nor in that of the response."""

    def answer(request: Any) -> Any:
        seen.append(request)
        return library.Response(200)

    seen: list[Any] = []
    with use(MemorySink(), propagate_to=("x.test",)), in_request():
        client = library.Client(transport=library.MockTransport(answer))
        request = monitoring.wrap(client).build_request("GET", "http://x.test/")
        before = list(request.headers.raw)
        response = client.send(request)
    assert "traceparent" in seen[0].headers
    assert response.request is request
    assert request.headers.raw == before


def test_an_exception_holds_the_users_request(library: Any) -> None:
    """And not the twin that was sent."""
    with use(MemorySink(), propagate_to=("*",)), in_request(), library.Client() as client:
        request = monitoring.wrap(client).build_request("GET", f"http://127.0.0.1:{free_port()}/")
        with pytest.raises(library.ConnectError) as caught:
            client.send(request)
    assert caught.value.request is request


def test_a_body_that_was_read_to_send_it_can_be_sent_again(library: Any) -> None:
    """A redirect that keeps the body finds it where the transport has read it, as without us."""

    def answer(request: Any) -> Any:
        seen.append((request.url.path, request.read()))
        if request.url.path == "/first":
            return library.Response(307, headers={"location": "/second"})
        return library.Response(200)

    seen: list[tuple[str, bytes]] = []
    with use(MemorySink(), propagate_to=("*",)), in_request():
        client = monitoring.wrap(library.Client(transport=library.MockTransport(answer)))
        client.post("http://x.test/first", content=iter([b"a", b"b"]), follow_redirects=True)
    assert seen == [("/first", b"ab"), ("/second", b"ab")]


def test_authentication_is_a_request_but_no_resend(library: Any, sink: MemorySink) -> None:
    """A digest's challenge is answered by a second request."""

    def answer(request: Any) -> Any:
        if "authorization" in request.headers:
            return library.Response(200)
        return library.Response(401, headers={"www-authenticate": 'Digest realm="r", nonce="n", qop="auth"'})

    client = monitoring.wrap(library.Client(transport=library.MockTransport(answer)))
    client.get("http://x.test/", auth=library.DigestAuth("u", "p"))
    assert [(call.status, call.redirects, call.retries) for call in calls(sink)] == [(401, 0, 0), (200, 0, 0)]


def test_a_redirect_that_the_user_follows_is_one(client: Any, sink: MemorySink) -> None:
    """``next_request`` is what httpx made of a redirect."""
    client.send(client.get("/moved").next_request)
    assert [(call.status, call.redirects) for call in calls(sink)] == [(302, 0), (200, 1)]


@contextmanager
def in_request() -> Iterator[None]:
    record = RequestRecord()
    record.request_id = record.trace_id = "a" * 32
    token = current_record.set(record)
    yield
    current_record.reset(token)
