"""aiohttp.web: what it has beyond the claims of all, which are its own responses, its connections and its sub-apps."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import monitoring
from monitoring import Config, Monitoring, request_id
from monitoring.integrations.web.aiohttp_asgi import AsgiBridge
from monitoring.monitor import make_current
from tests.integrations.web.installer import STEPS_ASIDE, Installer
from tests.integrations.web.kits.of_aiohttp import AiohttpKit, serving_aiohttp, show
from tests.support.processes import poll


def serving(install: Installer, *routes: Any, **options: Any) -> Any:
    """Install into an app with these routes, and serve it."""
    app = web.Application()
    app.add_routes(routes)
    install(app)
    return serving_aiohttp(app, **options)


def leave(port: int, request: bytes, seen: bytes) -> None:
    """Send a request by hand, and go away without a word once ``seen`` has come."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(request)
        got = b""
        while seen not in got:
            got += connection.recv(4096)


GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


# The seam


def test_an_app_that_is_started_or_part_of_another_is_refused(install: Installer) -> None:
    """Its middlewares cannot be changed any more; the sentence says what to do."""
    started, part = web.Application(), web.Application()
    started.freeze()
    web.Application().add_subapp("/part", part)
    for app in (started, part):
        with pytest.raises(TypeError, match="install into the outermost app, before it is run"):
            install(app)


def test_a_refused_app_leaves_everything_as_it_was(install: Installer) -> None:
    """No Monitoring has taken the place of the one before, and lines go where they went."""
    before, handlers = monitoring.current(), list(logging.getLogger().handlers)
    app = web.Application()
    app.freeze()
    with pytest.raises(TypeError):
        install(app)
    assert monitoring.current() is before
    assert logging.getLogger().handlers == handlers


def test_a_part_that_is_installed_itself_acts_once(install: Installer) -> None:
    """The outer one acts; one ID, one observation, the full name."""
    part, app = web.Application(), web.Application()
    part.router.add_get("/items/{item}", show)
    install(part)
    app.add_subapp("/part", part)
    install(app)
    with serving_aiohttp(app) as client:
        assert client.ask("/part/items/7").request_id
    assert install.routes == ["/part/items/{item}"]


def test_a_middleware_that_comes_later_is_inside(install: Installer) -> None:
    """Appended after ``install``, as any other."""
    seen: list[str | None] = []

    @web.middleware
    async def look(request: web.Request, handler: Any) -> web.StreamResponse:
        seen.append(request_id())
        response: web.StreamResponse = await handler(request)
        return response

    app = web.Application()
    app.router.add_get("/", show)
    install(app)
    app.middlewares.append(look)
    with serving_aiohttp(app) as client:
        assert client.ask("/").text == seen[0]


def test_the_health_of_an_app_of_a_domain_stays_its_own(install: Installer) -> None:
    """Its routes have no prefix."""
    part, app = web.Application(), web.Application()
    part.router.add_get("/health", show)
    app.add_domain("app.test", part)
    install(app)
    with serving_aiohttp(app) as client:
        answer = client.ask("/health", headers={"host": "app.test"})
    assert answer.text == answer.request_id
    assert len(install.lines(STEPS_ASIDE)) == 1


# Responses


def test_static_files_are_one_name_and_have_their_bytes(install: Installer, tmp_path: Path) -> None:
    """Also where the event loop sends the file by itself."""
    (tmp_path / "a.css").write_bytes(b"x" * 100_000)
    with serving(install, web.static("/static", tmp_path)) as client:
        assert len(client.ask("/static/a.css").text) == 100_000
        client.ask("/static/missing.css")
        poll(lambda: len(install.requests) == 2, "both requests")
    assert sorted(install.requests) == [("/static/{path}", 200, "ok"), ("/static/{path}", 404, "client_error")]
    assert sorted(line["bytes"] for line in install.lines("request"))[1] == 100_000


def test_a_body_in_pieces_sees_the_request_after_its_handler_has_returned(install: Installer) -> None:
    """aiohttp sends it then."""

    async def answer(request: web.Request) -> web.Response:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(2):
                yield f"{request_id()} ".encode()

        return web.Response(body=pieces())

    with serving(install, web.get("/", answer)) as client:
        answered = client.ask("/")
    assert answered.text.split() == [answered.request_id] * 2
    assert [line["bytes"] for line in install.lines("request")] == [66]


@pytest.mark.parametrize("size", [0, 5])
def test_a_stream_of_a_declared_length_is_counted_before_its_last_byte(install: Installer, size: int) -> None:
    """Its client knows the end before the handler returns."""
    over = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-length": str(size)})
        await response.prepare(request)
        if size:
            await response.write(b"x" * size)
        await over.wait()
        return response

    with serving(install, web.get("/", answer)) as client:
        assert client.ask("/").text == "x" * size
        assert install.requests == [("/", 200, "ok")]

        async def end() -> None:
            over.set()

        client.run(end())


def test_a_compressed_response_has_the_bytes_that_went_out(install: Installer) -> None:
    """Fewer than the app wrote."""

    async def answer(request: web.Request) -> web.Response:
        response = web.Response(text="x" * 5_000)
        response.enable_compression()
        return response

    with serving(install, web.get("/", answer)) as client:
        assert client.ask("/", headers={"accept-encoding": "gzip"}).text == "x" * 5_000
    (line,) = install.lines("request")
    assert 0 < line["bytes"] < 200


@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [
        (web.HTTPForbidden(), 403, "client_error"),
        (web.HTTPServiceUnavailable(), 503, "server_error"),
        (web.HTTPOk(), 200, "ok"),
        (TimeoutError(), 504, "server_error"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_exception_is_what_aiohttp_answers_for_it(
    install: Installer, error: Exception, status: int, outcome: str
) -> None:
    """Its own are responses, and a timeout is 504."""

    async def answer(request: web.Request) -> web.Response:
        raise error

    with serving(install, web.get("/", answer)) as client:
        assert client.ask("/").request_id
    assert install.requests == [("/", status, outcome)]


def test_a_handler_that_answers_nothing_is_a_server_error(install: Installer) -> None:
    """aiohttp makes a page or, an older one, closes the connection."""

    async def answer(request: web.Request) -> Any:
        return None

    with serving(install, web.get("/", answer)) as client:
        with socket.create_connection(("127.0.0.1", client.port), 10) as connection:
            connection.sendall(GET)
            connection.recv(4096)
        poll(lambda: install.requests, "the request")
    assert install.requests == [("/", 500, "server_error")]


def test_a_hook_that_fails_while_the_response_is_prepared_is_a_server_error(install: Installer) -> None:
    """Nothing was sent; the connection is closed."""

    async def fail(request: web.Request, response: web.StreamResponse) -> None:
        raise RuntimeError("boom")

    app = web.Application()
    app.router.add_get("/", show)
    app.on_response_prepare.append(fail)
    install(app)
    with serving_aiohttp(app) as client:
        with socket.create_connection(("127.0.0.1", client.port), 10) as connection:
            connection.sendall(GET)
            assert connection.recv(4096) == b""
        poll(lambda: install.requests, "the request")
    assert install.requests == [("/", 500, "server_error")]
    assert [line["exception"][0]["message"] for line in install.lines("unhandled exception")] == ["boom"]


def test_work_after_a_complete_response_that_fails_is_background(install: Installer) -> None:
    """The request's line says ok; a line of its own has the failure."""

    async def answer(request: web.Request) -> web.Response:
        response = web.Response(text="accepted")
        await response.prepare(request)
        await response.write_eof()
        raise RuntimeError("boom")

    with serving(install, web.get("/", answer)) as client:
        client.ask("/")
        poll(lambda: install.lines("background"), "the failure")
    assert install.requests == [("/", 200, "ok")]
    assert [line["outcome"] for line in install.lines("background")] == ["background_error"]


# Clients that leave


async def endless(request: web.Request) -> web.StreamResponse:
    """Send pieces for ever."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"chunk\n")
        await asyncio.sleep(0.01)


def test_a_stream_whose_client_leaves_is_client_disconnected(install: Installer) -> None:
    """The next piece tells, and it is no error of the app."""
    with serving(install, web.get("/", endless)) as client:
        leave(client.port, GET, b"chunk")
        poll(lambda: install.requests, "the request's end")
    assert install.requests == [("/", 200, "client_disconnected")]
    assert install.lines("unhandled exception") == []


def test_a_handler_that_is_cancelled_because_its_client_left_is_client_disconnected(install: Installer) -> None:
    """With ``handler_cancellation``; nothing was answered."""
    waiting = asyncio.Event()

    async def wait(request: web.Request) -> web.StreamResponse:
        waiting.set()
        await asyncio.Event().wait()
        raise AssertionError

    with serving(install, web.get("/", wait), handler_cancellation=True) as client:
        with socket.create_connection(("127.0.0.1", client.port), 10) as connection:
            connection.sendall(GET)
            client.run(asyncio.wait_for(waiting.wait(), 10))
        poll(lambda: install.requests, "the request's end")
    assert install.requests == [("/", 499, "client_disconnected")]


def test_a_handler_that_the_server_cancels_is_cancelled(install: Installer) -> None:
    """At its end, when the patience is over."""
    waiting = asyncio.Event()

    async def wait(request: web.Request) -> web.StreamResponse:
        waiting.set()
        await asyncio.Event().wait()
        raise AssertionError

    with socket.socket() as connection:
        with serving(install, web.get("/", wait)) as client:
            connection.connect(("127.0.0.1", client.port))
            connection.sendall(GET)
            client.run(asyncio.wait_for(waiting.wait(), 10))
        poll(lambda: install.requests, "the request's end")
    assert install.requests == [("/", 499, "cancelled")]


def test_a_plain_answer_to_a_client_that_has_left_is_ok(install: Installer) -> None:
    """A handler that never looks at its client ends well."""
    waiting, go_on = asyncio.Event(), asyncio.Event()

    async def wait(request: web.Request) -> web.Response:
        waiting.set()
        await go_on.wait()
        return web.Response(text="late")

    async def gone(client: Any) -> None:
        await waiting.wait()
        go_on.set()

    with serving(install, web.get("/", wait)) as client:
        with socket.create_connection(("127.0.0.1", client.port), 10) as connection:
            connection.sendall(GET)
            client.run(asyncio.wait_for(waiting.wait(), 10))
        client.run(gone(client))
        poll(lambda: install.requests, "the request's end")
    assert install.requests == [("/", 200, "ok")]


def test_a_body_that_never_comes_is_client_disconnected(install: Installer) -> None:
    """What the handler gets is an exception of the connection."""
    reading = asyncio.Event()

    async def read(request: web.Request) -> web.Response:
        reading.set()
        return web.Response(body=await request.read())

    with serving(install, web.post("/", read)) as client:
        with socket.create_connection(("127.0.0.1", client.port), 10) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nfirst")
            client.run(asyncio.wait_for(reading.wait(), 10))
        poll(lambda: install.requests, "the request's end")
    assert install.requests == [("/", 499, "client_disconnected")]


# Websockets


def test_a_websocket_whose_client_leaves_is_no_error(install: Installer) -> None:
    """The loop over its messages ends."""

    async def listen(request: web.Request) -> web.WebSocketResponse:
        connection = web.WebSocketResponse()
        await connection.prepare(request)
        async for message in connection:
            await connection.send_str(message.data)
        return connection

    with serving(install, web.get("/", listen)) as client:
        assert client.converse("/", "hello").text == "hello"
        poll(lambda: install.sink.of_kind("websocket"), "the websocket's end")
    (one,) = install.sink.of_kind("websocket")
    assert (one.name, one.outcome) == ("/", "ok")


def test_a_websocket_that_its_app_refuses_is_a_client_error(install: Installer) -> None:
    """The refusal carries the ID."""

    async def refuse(request: web.Request) -> web.StreamResponse:
        raise web.HTTPForbidden

    with serving(install, web.get("/", refuse)) as client:
        answer = client.converse("/", "hello")
    assert (answer.status, bool(answer.request_id)) == (403, True)
    (one,) = install.sink.of_kind("websocket")
    assert (one.name, one.outcome) == ("/", "client_error")


# Own paths and failures of the pack


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Send back the body and then say "tick" until the client is gone."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    gone = asyncio.ensure_future(receive())
    while not gone.done():
        await send({"type": "http.response.body", "body": b"tick\n", "more_body": True})
        await asyncio.wait([gone], timeout=0.02)
    ended.append((await gone)["type"])


ended: list[str] = []


@pytest.mark.parametrize("leaves", [True, False])
def test_a_live_stream_of_an_own_app_is_sent_piece_by_piece_and_ends(leaves: bool) -> None:
    """When its client leaves, and when the server ends."""
    ended.clear()
    bridge, app = AsgiBridge(), web.Application()

    async def answer(request: web.Request) -> web.StreamResponse:
        return await bridge.answer(echo, "", request)

    app.router.add_post("/", answer)
    app.on_shutdown.append(bridge.end)
    request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello"
    with socket.socket() as connection, serving_aiohttp(app) as client:
        connection.connect(("127.0.0.1", client.port))
        connection.sendall(request)
        got = b""
        while b"hello" not in got or b"tick" not in got:
            got += connection.recv(4096)
        if leaves:
            connection.close()
            poll(lambda: ended, "the end of the stream")
    assert set(ended) <= {"http.disconnect"}
    assert leaves is False or ended == ["http.disconnect"]


def test_what_fails_in_the_pack_changes_no_response() -> None:
    """It is counted and goes no further, whether the policy, the route or a sink fails."""

    class Broken:
        """A sink, a policy and cells in one, none of which works."""

        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("broken")

    app = AiohttpKit().app()
    made = Monitoring(Config(log_destination=os.devnull, store=None))
    made.registry.keep_in_memory()
    make_current(made).close()
    from monitoring.integrations.web import aiohttp as integration

    integration.install(app, made)
    assert made.edge is not None
    try:
        with serving_aiohttp(app) as client:
            made.edge.active = Broken()  # type: ignore[assignment]
            assert client.ask("/items/7").text
            made.edge.request_id_header = None  # type: ignore[assignment]
            assert client.ask("/items/7").status == 200
            made.edge.policy = Broken()  # type: ignore[assignment]
            assert client.ask("/items/7").text == "nothing"
        failed = {name.partition(":")[0] for name in made.recorder.failures}
        assert failed == {"active requests", "aiohttp.write_headers", "aiohttp middleware"}
    finally:
        monitoring.shutdown()
