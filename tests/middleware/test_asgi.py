"""What only the ASGI edge has: scopes, messages, cancellation, websockets, and context across tasks and threads."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.background import BackgroundTask, BackgroundTasks
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from monitoring import ContextExecutor, Monitoring, MonitoringMiddleware, carry_context, request_id, set_user
from monitoring.context import current_record
from monitoring.observation import Observation
from monitoring.testing import MemorySink
from tests.middleware.twins import Message, answer_of, exchange, exchange_in_loop, http_scope, in_flight, using

START: Message = {"type": "http.response.start", "status": 200, "headers": []}
MORE: Message = {"type": "http.response.body", "body": b"more", "more_body": True}
LAST: Message = {"type": "http.response.body", "body": b"last"}


def sends(*messages: Message) -> Any:
    """Return an app that sends these messages."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return MonitoringMiddleware(app)


def starlette_with(endpoint: Any, **options: Any) -> Any:
    """Return a Starlette app with one route, inside the edge."""
    return MonitoringMiddleware(Starlette(routes=[Route("/", endpoint)], **options))


def ended(sink: MemorySink) -> tuple[str, int]:
    """Return outcome and status of the one request that was observed."""
    (observation,) = sink.of_kind("request")
    assert observation.request is not None
    return observation.outcome, observation.request.status


# Scopes


def test_an_unknown_scope_passes_through_untouched(monitoring: Monitoring, sink: MemorySink) -> None:
    """It reaches the app as the same objects, and nothing is observed."""
    seen: list[Any] = []

    async def app(*args: Any) -> None:
        seen.extend(args)

    async def receive() -> Message:
        return {}

    async def send(message: Message) -> None:
        """Take it."""

    scope = {"type": "something.new"}
    asyncio.run(MonitoringMiddleware(app)(scope, receive, send))
    assert [id(one) for one in seen] == [id(scope), id(receive), id(send)]
    assert scope == {"type": "something.new"}
    assert sink.observations == []


def test_a_lifespan_passes_through_and_its_end_writes_what_waits(monitoring: Monitoring, sink: MemorySink) -> None:
    """Scope and messages are the server's and the app's own; servers may leave without running ``atexit``."""
    messages = [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]
    monitoring.log_lines.writer.start_queue()
    scope = {"type": "lifespan"}
    sent, error = exchange(sends(*messages), scope)
    assert (sent, error, scope) == (messages, None, {"type": "lifespan"})
    assert not monitoring.log_lines.writer.queues
    assert sink.observations == []


def test_an_exception_at_start_up_reaches_the_server(monitoring: Monitoring, sink: MemorySink) -> None:
    """What fails in a lifespan is the server's to handle."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("no database")

    _, error = exchange(MonitoringMiddleware(app), {"type": "lifespan"})
    assert str(error) == "no database"
    assert sink.observations == []


def test_a_bare_scope_is_enough(monitoring: Monitoring) -> None:
    """Client, server, state, root path and host may all be missing."""
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    answer = answer_of(*exchange(sends(START, LAST), scope))
    assert answer.request_id
    scope = {**http_scope(), "client": None, "server": None, "root_path": ""}
    assert answer_of(*exchange(sends(START, LAST), scope)).request_id


def test_the_state_has_the_id_and_keeps_what_the_lifespan_put_there(monitoring: Monitoring) -> None:
    """``request.state.request_id`` needs no context variable, so that outer code can read it, too."""
    scope = http_scope(state={"pool": "of the app"})
    answer = answer_of(*exchange(sends(START, LAST), scope))
    assert scope["state"] == {"pool": "of the app", "request_id": answer.request_id}


def test_the_first_of_two_id_headers_counts(sink: MemorySink) -> None:
    """A header that comes twice is read once, as servers that join none of them leave it."""
    with using(sink, trusted_proxies=("*",)):
        scope = http_scope(headers=[("x-request-id", "first"), ("x-request-id", "second")])
        assert answer_of(*exchange(sends(START, LAST), scope)).request_id == "first"


def test_two_traceparents_start_a_new_trace(monitoring: Monitoring, sink: MemorySink) -> None:
    """The W3C takes a repeated ``traceparent`` for invalid."""
    parents = [("traceparent", f"00-{digit * 32}-{'1' * 16}-01") for digit in "ab"]
    exchange(sends(START, LAST), http_scope(headers=parents))
    record = sink.observations[0].request
    assert record is not None
    assert record.trace_id == record.request_id


def test_two_tracestates_are_one_list(monitoring: Monitoring, sink: MemorySink) -> None:
    """The W3C lets a caller cut its list into several headers."""
    headers = [("traceparent", f"00-{'a' * 32}-{'1' * 16}-01"), ("tracestate", "a=1,b=2"), ("tracestate", "c=3")]
    exchange(sends(START, LAST), http_scope(headers=headers))
    record = sink.observations[0].request
    assert record is not None
    assert record.tracestate == "a=1,b=2,c=3"


def test_an_asgi_2_app_is_served(monitoring: Monitoring, sink: MemorySink) -> None:
    """Double callables, as Django Channels had them, work like others."""

    def app(scope: Any) -> Any:
        async def instance(receive: Any, send: Any) -> None:
            await send(START)
            await send({**LAST, "body": (request_id() or "").encode()})

        return instance

    answer = answer_of(*exchange(MonitoringMiddleware(app), http_scope()))
    assert answer.body.decode() == answer.request_id
    assert ended(sink) == ("ok", 200)


# Messages


def test_the_request_body_arrives_unread(monitoring: Monitoring) -> None:
    """The edge takes no message from the server that the app did not ask for, and changes none."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        first, second = await receive(), await receive()
        await send(START)
        await send({**LAST, "body": first["body"] + second["body"]})

    pieces = [{"type": "http.request", "body": b"a", "more_body": True}, {"type": "http.request", "body": b"b"}]
    assert answer_of(*exchange(MonitoringMiddleware(app), http_scope(), *pieces)).body == b"ab"


def test_messages_of_the_app_are_not_changed_in_place(monitoring: Monitoring) -> None:
    """An app may send one message object for many requests."""
    start: Message = {"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1")]}
    app = sends(start, LAST)
    first, second = (answer_of(*exchange(app, http_scope())).request_id for _ in range(2))
    assert first != second
    assert start == {"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1")]}


def test_a_starlette_response_that_is_sent_twice_has_one_id_each_time(monitoring: Monitoring) -> None:
    """A response object kept by the app does not collect IDs."""
    kept = PlainTextResponse("cached")
    client = TestClient(starlette_with(lambda request: kept))
    ids = [client.get("/").headers.get_list("x-request-id") for _ in range(3)]
    assert [len(values) for values in ids] == [1, 1, 1]
    assert len({values[0] for values in ids}) == 3


@pytest.mark.parametrize("headers", [((b"x-a", b"1"),), [[b"x-a", b"1"]], iter([(b"x-a", b"1")])])
def test_headers_may_come_in_any_shape(monitoring: Monitoring, headers: Any) -> None:
    """ASGI allows any iterable of pairs."""
    answer = answer_of(*exchange(sends({**START, "headers": headers}, LAST), http_scope()))
    assert answer.request_id
    assert answer.values("x-a") == ["1"]


def test_a_response_without_headers_gets_the_id(monitoring: Monitoring) -> None:
    """They may be missing from the message."""
    answer = answer_of(*exchange(sends({"type": "http.response.start", "status": 200}, LAST), http_scope()))
    assert answer.headers == [("x-request-id", answer.request_id)]


def test_early_hints_and_trailers_pass(monitoring: Monitoring, sink: MemorySink) -> None:
    """Messages of extensions reach the server; a response is complete at its last byte."""
    hint = {"type": "http.response.early_hint", "links": [b"</a.css>"]}
    trailers = {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]}
    messages, _ = exchange(sends(hint, {**START, "trailers": True}, LAST, trailers), http_scope())
    assert (messages[0], messages[-1]) == (hint, trailers)
    assert ended(sink) == ("ok", 200)


def test_a_response_of_many_pieces_is_one_request(monitoring: Monitoring, sink: MemorySink) -> None:
    """A thousand pieces are counted in bytes, not in observations."""
    messages, _ = exchange(sends(START, *[MORE] * 1000, LAST), http_scope())
    assert len(messages) == 1002
    assert ended(sink) == ("ok", 200)
    assert sink.observations[0].request is not None
    assert sink.observations[0].request.bytes_sent == 4004


def test_a_file_that_the_server_sends_has_its_length(monitoring: Monitoring, sink: MemorySink, tmp_path: Path) -> None:
    """With ``http.response.pathsend`` the edge sees no bytes and takes the response's word for them."""
    (tmp_path / "file").write_bytes(b"x" * 321)
    scope = http_scope(extensions={"http.response.pathsend": {}})
    messages, _ = exchange(starlette_with(lambda request: FileResponse(tmp_path / "file")), scope)
    assert messages[-1]["type"] == "http.response.pathsend"
    assert ended(sink) == ("ok", 200)
    assert sink.observations[0].request is not None
    assert sink.observations[0].request.bytes_sent == 321


def test_a_request_is_counted_before_its_last_byte_is_handed_over(monitoring: Monitoring, sink: MemorySink) -> None:
    """Whoever has the whole response finds it in the metrics."""
    counted: list[tuple[str, int]] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        counted.append((message["type"], len(sink.observations)))

    asyncio.run(sends(START, MORE, LAST)(http_scope(), receive, send))
    assert counted == [("http.response.start", 0), ("http.response.body", 0), ("http.response.body", 1)]


# How requests end


def test_a_stream_whose_client_leaves_is_client_disconnected(monitoring: Monitoring, sink: MemorySink) -> None:
    """Starlette ends such a stream without an exception and without a last piece."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.sleep(60)

    async def endpoint(request: Request) -> Response:
        return StreamingResponse(pieces())

    messages, error = exchange(starlette_with(endpoint), http_scope(), {"type": "http.disconnect"})
    assert error is None
    assert messages[0]["type"] == "http.response.start"
    assert ended(sink) == ("client_disconnected", 200)


def test_a_stream_whose_server_raises_at_send_is_client_disconnected(monitoring: Monitoring, sink: MemorySink) -> None:
    """From ASGI 2.4 on servers raise OSError for a client that left, and Starlette makes it ClientDisconnect."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"first"
        yield b"second"

    async def endpoint(request: Request) -> Response:
        return StreamingResponse(pieces())

    scope = http_scope(asgi={"version": "3.0", "spec_version": "2.4"})
    asyncio.run(serve_until_send_fails(starlette_with(endpoint), scope, sends=2))
    (observation,) = sink.of_kind("request")
    assert observation.outcome == "client_disconnected"


def test_a_request_body_that_never_comes_is_client_disconnected(monitoring: Monitoring, sink: MemorySink) -> None:
    """Starlette raises ClientDisconnect in the view; no error is made of it."""

    async def endpoint(request: Request) -> Response:
        return PlainTextResponse(await request.body())

    exchange(starlette_with(endpoint), http_scope(method="GET"), {"type": "http.disconnect"})
    (observation,) = sink.of_kind("request")
    assert observation.outcome == "client_disconnected"


def test_a_handler_that_sleeps_while_its_client_leaves_ends_ok(monitoring: Monitoring, sink: MemorySink) -> None:
    """Nobody tells the app, which completes its response: how much of it arrived is not known here."""

    async def endpoint(request: Request) -> Response:
        await asyncio.sleep(0.01)
        return PlainTextResponse("done")

    exchange(starlette_with(endpoint), http_scope(), {"type": "http.disconnect"})
    assert ended(sink) == ("ok", 200)


async def serve_until_send_fails(app: Any, scope: Message, sends: int, leaves: bool = False) -> BaseException | None:
    """Serve as ASGI 2.4 asks of servers: ``send`` raises OSError after the client left. Return what the app raised."""
    left = sends

    async def receive() -> Message:
        return {"type": "http.disconnect" if leaves else "http.request"}

    async def send(message: Message) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError("the client left")

    try:
        await app(scope, receive, send)
    except (Exception, asyncio.CancelledError) as error:
        return error
    finally:
        assert current_record.get() is None
    return None


def test_an_exception_is_reported_also_when_no_response_can_be_sent(monitoring: Monitoring, sink: MemorySink) -> None:
    """The client is gone, so that the edge's own 500 cannot be sent: one server error with the app's exception."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("boom")

    raised = asyncio.run(serve_until_send_fails(MonitoringMiddleware(app), http_scope(), sends=0))
    assert repr(raised) == "RuntimeError('boom')"
    (observation,) = sink.of_kind("request")
    assert observation.outcome == "server_error"
    assert observation.exception is raised


def test_an_app_that_fails_without_a_response_gets_a_500_with_the_id(monitoring: Monitoring) -> None:
    """The client of a bare app has an ID to name, and the server has the exception."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("boom")

    answer = answer_of(*exchange(MonitoringMiddleware(app), http_scope()))
    assert (answer.status, answer.body) == (500, b"Internal Server Error")
    assert answer.request_id
    assert repr(answer.error) == "RuntimeError('boom')"


def test_starlette_s_500_page_has_the_id_and_its_exception_is_observed_once(
    monitoring: Monitoring, sink: MemorySink
) -> None:
    """ServerErrorMiddleware sends the page and raises again: that is one request and no background failure."""

    async def endpoint(request: Request) -> Response:
        raise RuntimeError("boom")

    messages, error = exchange(starlette_with(endpoint), http_scope())
    assert answer_of(messages).request_id
    assert ended(sink) == ("server_error", 500)
    assert sink.observations[0].exception is error
    assert len(sink.observations) == 1


def test_background_work_that_fails_leaves_the_request_as_it_was(monitoring: Monitoring, sink: MemorySink) -> None:
    """The response was complete: it stays ok with its 200, and the failure is an observation of its own."""

    async def fail() -> None:
        raise RuntimeError("boom")

    async def endpoint(request: Request) -> Response:
        return PlainTextResponse("done", background=BackgroundTask(fail))

    messages, error = exchange(starlette_with(endpoint), http_scope())
    assert repr(error) == "RuntimeError('boom')"
    assert answer_of(messages).body == b"done"
    assert ended(sink) == ("ok", 200)
    (background,) = sink.of_kind("background")
    assert (background.name, background.outcome, background.exception) == ("/", "background_error", error)
    (request,) = sink.of_kind("request")
    assert background.request is not None
    assert request.request is not None
    assert background.request.request_id == request.request.request_id


def test_a_request_ends_before_its_background_work_begins(monitoring: Monitoring, sink: MemorySink) -> None:
    """Its duration is that of the response: it is observed with the last byte."""
    observed: list[str] = []

    def work() -> None:
        observed.extend(observation.kind for observation in sink.observations)

    async def endpoint(request: Request) -> Response:
        return PlainTextResponse("done", background=BackgroundTask(work))

    exchange(starlette_with(endpoint), http_scope())
    assert observed.count("request") == 1


@pytest.mark.parametrize(
    ("sent", "expected"), [([], ("cancelled", 499)), ([START], ("cancelled", 200)), ([START, MORE], ("cancelled", 200))]
)
def test_a_cancelled_request_is_cancelled_and_no_error(
    monitoring: Monitoring, sink: MemorySink, sent: list[Message], expected: tuple[str, int]
) -> None:
    """Cancellation goes on to whoever cancelled, and no exception is recorded."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in sent:
            await send(message)
        await asyncio.sleep(60)

    async def cancel() -> bool:
        communicator = ApplicationCommunicator(MonitoringMiddleware(app), http_scope())
        task = communicator.future
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return bool(task.cancelled())

    assert asyncio.run(cancel())
    assert ended(sink) == expected
    assert sink.observations[0].exception is None


def test_background_work_that_is_cancelled_is_no_failure(monitoring: Monitoring, sink: MemorySink) -> None:
    """A server that shuts down cancels what still runs after the response."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(LAST)
        raise asyncio.CancelledError

    exchange(MonitoringMiddleware(app), http_scope())
    assert [(one.kind, one.outcome) for one in sink.observations] == [("request", "ok")]


@pytest.mark.parametrize(("sent", "expected"), [([], ("aborted", 499)), ([START, MORE], ("aborted", 200))])
def test_an_app_that_returns_too_early_is_aborted(
    monitoring: Monitoring, sink: MemorySink, sent: list[Message], expected: tuple[str, int]
) -> None:
    """A response that was never completed is not taken for a success."""
    exchange(sends(*sent), http_scope())
    assert ended(sink) == expected


STEPS = ("start", "start 500", "more", "last", "receive", "raise", "cancel", "disconnect error", "return")


def test_every_request_is_observed_exactly_once(monitoring: Monitoring, sink: MemorySink) -> None:
    """Whatever an app sends, in whatever order, however it ends and whenever its server fails: one, with a status."""
    messages = {"start": START, "start 500": {**START, "status": 500}, "more": MORE, "last": LAST}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for step in scope["steps"]:
            if step in messages:
                await send(messages[step])
            elif step == "receive":
                await receive()
            elif step == "raise":
                raise ValueError(step)
            elif step == "cancel":
                raise asyncio.CancelledError
            elif step == "disconnect error":
                raise ClientDisconnect
            else:
                return

    @settings(deadline=None, database=None)
    @given(st.lists(st.sampled_from(STEPS), max_size=6), st.integers(0, 6), st.booleans())
    def holds(steps: list[str], sends: int, leaves: bool) -> None:
        sink.observations.clear()
        asyncio.run(serve_until_send_fails(MonitoringMiddleware(app), http_scope(steps=steps), sends, leaves))
        (observation,) = sink.of_kind("request")
        assert observation.request is not None
        assert observation.request.status >= 200
        assert in_flight(monitoring) == 0

    holds()


class ClientDisconnect(Exception):
    """Looks like the one of Starlette."""


# A route that cannot be read


class BrokenRoute:
    """A route of some framework, whose path cannot be read."""

    @property
    def path(self) -> str:
        raise LookupError("no path here")


@pytest.mark.parametrize("fails", [False, True])
def test_a_route_that_cannot_be_read_breaks_nothing(unguarded: Monitoring, sink: MemorySink, fails: bool) -> None:
    """The response or the app's own exception goes out as if nothing was; the failure is counted."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["route"] = BrokenRoute()
        await send(START)
        if fails:
            raise RuntimeError("boom")
        await send(LAST)

    answer = answer_of(*exchange(MonitoringMiddleware(app), http_scope()))
    assert repr(answer.error) == ("RuntimeError('boom')" if fails else "None")
    assert list(unguarded.recorder.failures.values()) == [1]
    (observation,) = sink.observations
    assert observation.name == "(unmatched)"
    assert observation.outcome == ("error_after_start" if fails else "ok")


# Context


def test_the_edge_is_pure_asgi(monitoring: Monitoring) -> None:
    """A context variable that an endpoint sets is visible after the call, which BaseHTTPMiddleware would prevent."""
    variable = ContextVar("variable", default="unset")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        variable.set("by the endpoint")
        await send(START)
        await send(LAST)

    async def serve() -> str:
        await MonitoringMiddleware(app)(http_scope(), asyncio.Queue().get, asyncio.Queue().put)
        return variable.get()

    assert asyncio.run(serve()) == "by the endpoint"


def test_requests_side_by_side_do_not_see_each_other(monitoring: Monitoring) -> None:
    """Each of many concurrent requests has its own ID, before and after it waited."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        before = request_id()
        await asyncio.sleep(0.01)
        await send(START)
        await send({**LAST, "body": f"{before} {request_id()}".encode()})

    async def ask_all() -> list[Any]:
        return await asyncio.gather(*(exchange_in_loop(MonitoringMiddleware(app), http_scope()) for _ in range(20)))

    answers = [answer_of(*one) for one in asyncio.run(ask_all())]
    assert [answer.body.decode().split() for answer in answers] == [[one.request_id] * 2 for one in answers]
    assert len({answer.request_id for answer in answers}) == 20


async def _in_a_task() -> str | None:
    async def task() -> str | None:
        return request_id()

    return await asyncio.create_task(task())


async def _in_a_later_task() -> str | None:
    await asyncio.sleep(0)
    return await asyncio.ensure_future(_in_a_task())


async def _in_to_thread() -> str | None:
    return await asyncio.to_thread(request_id)


async def _in_a_thread() -> str | None:
    seen: list[str | None] = []
    thread = threading.Thread(target=carry_context(lambda: seen.append(request_id())))
    thread.start()
    thread.join()
    return seen[0]


async def _in_run_in_executor() -> str | None:
    return await asyncio.get_running_loop().run_in_executor(None, carry_context(request_id))


async def _in_run_in_context_executor() -> str | None:
    with ContextExecutor(1) as executor:
        return await asyncio.get_running_loop().run_in_executor(executor, request_id)


async def _in_context_executor() -> str | None:
    with ContextExecutor(1) as executor:
        return executor.submit(request_id).result()


async def _in_context_executor_map() -> str | None:
    with ContextExecutor(1) as executor:
        return next(executor.map(lambda _: request_id(), [None]))


async def _in_a_task_group() -> str | None:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(_in_a_task())
    return task.result()


@pytest.mark.parametrize(
    "place",
    [
        _in_a_task,
        _in_a_later_task,
        _in_a_task_group,
        _in_to_thread,
        _in_a_thread,
        _in_run_in_executor,
        _in_run_in_context_executor,
        _in_context_executor,
        _in_context_executor_map,
    ],
)
def test_the_id_is_visible(monitoring: Monitoring, place: Callable[[], Awaitable[str | None]]) -> None:
    """Tasks and ``to_thread`` carry the context by themselves; threads and executors by our helpers."""

    async def endpoint(request: Request) -> Response:
        return PlainTextResponse(await place() or "nothing")

    answer = answer_of(*exchange(starlette_with(endpoint), http_scope()))
    assert answer.body.decode() == answer.request_id


def test_the_id_is_visible_in_a_sync_endpoint(monitoring: Monitoring) -> None:
    """Starlette runs it in a thread, with the context and with ``request.state``."""

    def endpoint(request: Request) -> Response:
        return JSONResponse([request_id(), request.state.request_id])

    response = TestClient(starlette_with(endpoint)).get("/")
    assert response.json() == [response.headers["x-request-id"]] * 2


def test_the_id_is_visible_in_background_work(monitoring: Monitoring) -> None:
    """Sync and async tasks after the response still belong to the request."""
    seen: list[str | None] = []

    async def async_work() -> None:
        seen.append(request_id())

    def sync_work() -> None:
        seen.append(request_id())

    async def endpoint(request: Request) -> Response:
        work = BackgroundTasks([BackgroundTask(async_work), BackgroundTask(sync_work)])
        return PlainTextResponse("done", background=work)

    response = TestClient(starlette_with(endpoint)).get("/")
    assert seen == [response.headers["x-request-id"]] * 2


@pytest.mark.parametrize("sync", [False, True])
def test_the_id_is_visible_in_starlette_s_streams(monitoring: Monitoring, sync: bool) -> None:
    """Async bodies run in the request's task, sync ones in threads; both see the request."""

    async def async_pieces() -> AsyncIterator[str]:
        for _ in range(2):
            await asyncio.sleep(0)
            yield f"{request_id()} "

    async def endpoint(request: Request) -> Response:
        return StreamingResponse((f"{request_id()} " for _ in range(2)) if sync else async_pieces())

    response = TestClient(starlette_with(endpoint)).get("/")
    assert response.text.split() == [response.headers["x-request-id"]] * 2


def test_a_user_that_is_set_late_and_in_a_thread_is_on_the_observation(
    monitoring: Monitoring, sink: MemorySink
) -> None:
    """Copies of the context share the request's record."""

    async def endpoint(request: Request) -> Response:
        await asyncio.to_thread(set_user, "u1")
        return PlainTextResponse("done")

    exchange(starlette_with(endpoint), http_scope())
    assert sink.observations[0].request is not None
    assert sink.observations[0].request.user_id == "u1"


async def _read_ids(seen: list[Any], request: Request, call_next: Any) -> Response:
    seen.append((request_id(), getattr(request.state, "request_id", None)))
    response: Response = await call_next(request)
    seen.append((request_id(), request.state.request_id))
    return response


def test_a_base_http_middleware_inside_sees_the_id(monitoring: Monitoring, sink: MemorySink) -> None:
    """Before and after ``call_next``; the request is observed once, with its route."""
    seen: list[Any] = []
    inside = Middleware(BaseHTTPMiddleware, dispatch=functools.partial(_read_ids, seen))

    async def endpoint(request: Request) -> Response:
        return PlainTextResponse(request_id())

    response = TestClient(starlette_with(endpoint, middleware=[inside])).get("/")
    the_id = response.headers["x-request-id"]
    assert response.text == the_id
    assert seen == [(the_id, the_id)] * 2
    assert [(one.name, one.outcome) for one in sink.observations] == [("/", "ok")]


def test_a_base_http_middleware_outside_reads_the_id_from_the_state(monitoring: Monitoring) -> None:
    """It has no context of the request, but the state has the ID once the edge has acted."""
    seen: list[Any] = []

    async def endpoint(request: Request) -> Response:
        return PlainTextResponse(request_id())

    app = BaseHTTPMiddleware(starlette_with(endpoint), dispatch=functools.partial(_read_ids, seen))
    response = TestClient(app).get("/")
    the_id = response.headers["x-request-id"]
    assert response.text == the_id
    assert seen == [(None, None), (None, the_id)]


def test_an_exception_through_a_base_http_middleware_is_observed_once(monitoring: Monitoring, sink: MemorySink) -> None:
    """It passes a task group on its way and is still the app's own."""

    async def endpoint(request: Request) -> Response:
        raise RuntimeError("boom")

    inside = Middleware(BaseHTTPMiddleware, dispatch=functools.partial(_read_ids, []))
    _, error = exchange(starlette_with(endpoint, middleware=[inside]), http_scope())
    assert repr(error) == "RuntimeError('boom')"
    assert [(one.kind, one.outcome, one.exception) for one in sink.observations] == [("request", "server_error", error)]


# Websockets


def websocket_app(endpoint: Callable[[WebSocket], Awaitable[None]]) -> TestClient:
    """Return a client of an app with one websocket route."""
    return TestClient(MonitoringMiddleware(Starlette(routes=[WebSocketRoute("/chat/{room}", endpoint)])))


def the_websocket(sink: MemorySink) -> Observation:
    """Return the one websocket that was observed, and nothing else was."""
    (observation,) = sink.observations
    assert observation.kind == "websocket"
    return observation


def test_a_websocket_s_accept_carries_the_id(monitoring: Monitoring, sink: MemorySink) -> None:
    """The handshake's response has the ID that the code inside sees; the app's other headers stay."""

    async def endpoint(socket: WebSocket) -> None:
        await socket.accept(headers=[(b"x-request-id", b"from-the-app"), (b"x-other", b"kept")])
        await socket.send_text(f"{request_id()} {socket.state.request_id}")
        await socket.close()

    with websocket_app(endpoint).websocket_connect("/chat/7") as socket:
        ids = socket.receive_text().split()
        assert socket.extra_headers is not None
        headers = [(name, value.decode()) for name, value in socket.extra_headers]
    assert headers == [(b"x-other", "kept"), (b"x-request-id", ids[0])]
    assert ids[0] == ids[1]
    observation = the_websocket(sink)
    assert (observation.name, observation.outcome) == ("/chat/{room}", "ok")


def test_a_websocket_s_denial_carries_the_id(monitoring: Monitoring, sink: MemorySink) -> None:
    """So does a denial that is a response, and it counts as a client error."""

    async def endpoint(socket: WebSocket) -> None:
        await socket.send_denial_response(PlainTextResponse(request_id(), 401))

    with pytest.raises(WebSocketDenialResponse) as denial, websocket_app(endpoint).websocket_connect("/chat/7"):
        pass
    assert denial.value.status_code == 401
    assert denial.value.headers["x-request-id"] == denial.value.text
    assert the_websocket(sink).outcome == "client_error"


def test_a_websocket_that_is_closed_before_accept_is_a_client_error(monitoring: Monitoring, sink: MemorySink) -> None:
    """Servers answer 403 then."""

    async def endpoint(socket: WebSocket) -> None:
        await socket.close()

    with pytest.raises(WebSocketDisconnect), websocket_app(endpoint).websocket_connect("/chat/7"):
        pass
    assert the_websocket(sink).outcome == "client_error"
    assert sink.observations[0].request is not None
    assert sink.observations[0].request.status == 403


def test_a_websocket_that_fails_is_a_server_error(monitoring: Monitoring, sink: MemorySink) -> None:
    """The exception reaches the server and is on the observation."""

    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError), websocket_app(endpoint).websocket_connect("/chat/7"):
        pass
    observation = the_websocket(sink)
    assert (observation.outcome, repr(observation.exception)) == ("server_error", "RuntimeError('boom')")
    assert current_record.get() is None


def test_a_websocket_whose_client_leaves_is_no_error(monitoring: Monitoring, sink: MemorySink) -> None:
    """The usual loop ends by WebSocketDisconnect, which is how clients leave and no fault of the app."""

    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        while True:
            await socket.receive_text()

    with contextlib.suppress(WebSocketDisconnect), websocket_app(endpoint).websocket_connect("/chat/7") as socket:
        socket.send_text("hello")
    observation = the_websocket(sink)
    assert (observation.outcome, observation.exception) == ("client_disconnected", None)


def test_a_websocket_that_is_cancelled_is_cancelled(monitoring: Monitoring, sink: MemorySink) -> None:
    """A server that shuts down is no error of the app."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        raise asyncio.CancelledError

    exchange(
        MonitoringMiddleware(app), {"type": "websocket", "path": "/", "headers": []}, {"type": "websocket.connect"}
    )
    observation = the_websocket(sink)
    assert (observation.outcome, observation.exception) == ("cancelled", None)


def test_a_websocket_with_an_invalid_id_can_be_rejected(sink: MemorySink) -> None:
    """With ``reject`` the handshake is closed with a policy violation and the app is not called."""
    with using(sink, on_invalid_request_id="reject"):
        scope = {"type": "websocket", "path": "/", "headers": [(b"x-request-id", b"bad id")]}
        (message,), error = exchange(sends(), scope, {"type": "websocket.connect"})
    assert error is None
    assert (message["type"], message["code"]) == ("websocket.close", 1008)
    assert "x-request-id" in message["reason"]
    assert len(message["reason"].encode()) <= 123


def test_websockets_are_not_counted_as_requests(monitoring: Monitoring, sink: MemorySink) -> None:
    """They live long, so they have a metric of their own and leave the requests' one alone."""

    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    with websocket_app(endpoint).websocket_connect("/chat/7"):
        pass
    snapshot = monitoring.metrics.snapshot()
    assert "http_server_request_duration_seconds" not in snapshot
    (series,) = snapshot["monitoring_websocket_duration_seconds"].series
    assert (series.labels, series.count) == ({"http_route": "/chat/{room}", "outcome": "ok"}, 1)
