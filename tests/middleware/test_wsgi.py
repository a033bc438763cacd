"""What only the WSGI edge has: iterables and their close, ``start_response``, file wrappers, and threads."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import pytest
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client
from werkzeug.wrappers import Response

from monitoring import Monitoring, WSGIMonitoringMiddleware, request_id
from monitoring.context import current_record
from monitoring.testing import MemorySink
from tests.middleware.twins import in_flight, serve, wsgi_environ

Start = Callable[..., Any]


class Body:
    """A body with ``close``, as PEP 3333 has it."""

    def __init__(self, *pieces: bytes | Exception, at_close: Exception | None = None) -> None:
        self._pieces = iter(pieces)
        self._at_close = at_close
        self.closes: list[str | None] = []
        """The request ID seen at each call of ``close``."""

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece = next(self._pieces)
        if isinstance(piece, Exception):
            raise piece
        return piece

    def close(self) -> None:
        self.closes.append(request_id())
        if self._at_close is not None:
            raise self._at_close


def answers(body: Iterable[bytes], *headers: tuple[str, str], status: str = "200 OK") -> Any:
    """Return an app, inside the edge, that answers with this body."""

    def app(environ: Any, start_response: Start) -> Iterable[bytes]:
        start_response(status, list(headers))
        return body

    return WSGIMonitoringMiddleware(app)


def ignore(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], object]:
    """Take a response's start, as a server that shows nothing of it."""
    return lambda data: None


def ended(sink: MemorySink) -> tuple[str, int, int]:
    """Return outcome, status and bytes of the one request that was observed."""
    (observation,) = sink.of_kind("request")
    assert observation.request is not None
    return observation.outcome, observation.request.status, observation.request.bytes_sent


# Bodies


@pytest.mark.parametrize("body", [[b"a", b"b"], (b"a", b"b"), []])
def test_a_list_is_handed_on_as_it_is(monitoring: Monitoring, sink: MemorySink, body: Any) -> None:
    """Servers keep their short cuts for it, and it is counted before they get it."""
    assert answers(body)(wsgi_environ(), ignore) is body
    assert ended(sink) == ("ok", 200, len(b"".join(body)))


def test_the_server_s_file_wrapper_is_handed_on_as_it_is(monitoring: Monitoring, sink: MemorySink) -> None:
    """Servers send such a file by themselves and know it by its identity; its size is the response's word."""
    body = FileWrapper(io.BytesIO(b"x" * 321))
    environ = wsgi_environ(**{"wsgi.file_wrapper": FileWrapper})
    assert answers(body, ("Content-Length", "321"))(environ, ignore) is body
    assert ended(sink) == ("ok", 200, 321)


def test_a_file_of_a_wrapper_that_is_a_function_is_handed_on_as_it_is(monitoring: Monitoring, sink: MemorySink) -> None:
    """uWSGI's wrapper is a function, which returns the file itself or an object with ``fileno``."""
    with open(__file__, "rb") as file:
        environ = wsgi_environ(**{"wsgi.file_wrapper": lambda given, size=8192: given})
        assert answers(file, ("Content-Length", "17"))(environ, ignore) is file
    assert ended(sink) == ("ok", 200, 17)


def test_a_file_without_a_wrapper_of_the_server_is_observed_as_a_stream(
    monitoring: Monitoring, sink: MemorySink
) -> None:
    """Without ``wsgi.file_wrapper`` in the environ a server iterates, so every piece is counted."""
    assert serve(answers(FileWrapper(io.BytesIO(b"x" * 321))), wsgi_environ()).body == b"x" * 321
    assert ended(sink) == ("ok", 200, 321)


@pytest.mark.parametrize("chunks", [None, 1])
def test_a_body_is_closed_exactly_once_in_its_context(
    monitoring: Monitoring, sink: MemorySink, chunks: int | None
) -> None:
    """Whether it was read to its end or not; and code in ``close`` sees the request."""
    body = Body(b"a", b"b")
    answer = serve(answers(body), wsgi_environ(), chunks)
    assert body.closes == [answer.request_id]
    assert len(sink.observations) == 1


def test_a_body_without_close_is_served(monitoring: Monitoring, sink: MemorySink) -> None:
    """``close`` is optional."""
    assert serve(answers(iter([b"a", b"b"])), wsgi_environ()).body == b"ab"
    assert ended(sink) == ("ok", 200, 2)


def test_a_body_that_is_closed_early_is_aborted(monitoring: Monitoring, sink: MemorySink) -> None:
    """What was sent until then is on record, and no exception is."""
    body = Body(b"first", b"second")
    serve(answers(body, ("content-length", "11")), wsgi_environ(), chunks=1)
    assert ended(sink) == ("aborted", 200, 5)
    assert sink.observations[0].exception is None


def test_a_generator_that_is_closed_early_runs_its_finally(monitoring: Monitoring, sink: MemorySink) -> None:
    """GeneratorExit is how it ends, and no error."""
    ends: list[str | None] = []

    def pieces() -> Iterator[bytes]:
        try:
            yield b"first"
            yield b"second"
        finally:
            ends.append(request_id())

    answer = serve(answers(pieces()), wsgi_environ(), chunks=1)
    assert ends == [answer.request_id]
    assert ended(sink) == ("aborted", 200, 5)


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")]
)
def test_a_body_that_no_server_sends_is_not_aborted(
    monitoring: Monitoring, sink: MemorySink, method: str, status: str
) -> None:
    """Servers may close it without a look at it."""
    app = answers(Body(), status=status)
    app(wsgi_environ(REQUEST_METHOD=method), ignore).close()
    assert ended(sink) == ("ok", int(status[:3]), 0)


def test_a_body_that_nobody_reads_is_aborted(monitoring: Monitoring, sink: MemorySink) -> None:
    """A GET whose body is closed at once was cut short."""
    answers(Body(b"a"))(wsgi_environ(), ignore).close()
    assert ended(sink) == ("aborted", 200, 0)


def test_an_exception_at_close_after_a_complete_body_is_background(monitoring: Monitoring, sink: MemorySink) -> None:
    """The client has it all: the request stays ok, and the failure is an observation of its own."""
    error = RuntimeError("boom")
    answer = serve(answers(Body(b"a", at_close=error)), wsgi_environ())
    assert answer.error is error
    assert ended(sink) == ("ok", 200, 1)
    (background,) = sink.of_kind("background")
    assert (background.outcome, background.exception) == ("background_error", error)


def test_an_exception_at_an_early_close_is_an_error_after_the_start(monitoring: Monitoring, sink: MemorySink) -> None:
    """The exception says more than that the body was cut short."""
    error = RuntimeError("boom")
    answer = serve(answers(Body(b"a", b"b", at_close=error)), wsgi_environ(), chunks=1)
    assert answer.error is error
    assert ended(sink) == ("error_after_start", 200, 1)


def test_an_exception_in_the_body_is_reported_once_and_the_body_closed(
    monitoring: Monitoring, sink: MemorySink
) -> None:
    """The server closes after it, which adds nothing."""
    body = Body(b"a", RuntimeError("boom"))
    assert repr(serve(answers(body), wsgi_environ()).error) == "RuntimeError('boom')"
    assert len(body.closes) == 1
    assert [(one.kind, one.outcome) for one in sink.observations] == [("request", "error_after_start")]


def test_a_request_is_counted_before_its_last_byte_is_handed_over(monitoring: Monitoring, sink: MemorySink) -> None:
    """With a content length the last byte is known, so whoever has it finds the request in the metrics."""
    body = answers(iter([b"ab", b"c"]), ("Content-Length", "3"))(wsgi_environ(), ignore)
    counted = [len(sink.observations) for _ in body]
    assert counted == [0, 1]


# start_response


def test_start_response_may_be_called_at_the_first_step(monitoring: Monitoring, sink: MemorySink) -> None:
    """A generator as an app starts its response when it is first iterated; its IDs are on it."""

    def app(environ: Any, start_response: Start) -> Iterator[bytes]:
        start_response("201 Created", [])
        yield (request_id() or "").encode()

    answer = serve(WSGIMonitoringMiddleware(app), wsgi_environ())
    assert (answer.status, answer.body.decode()) == (201, answer.request_id)
    assert ended(sink) == ("ok", 201, 32)


def test_start_response_may_be_called_again_with_an_exception(monitoring: Monitoring, sink: MemorySink) -> None:
    """As PEP 3333 has it for errors: the second status counts, the ID is on both, ``exc_info`` gets to the server."""
    calls: list[tuple[Any, ...]] = []

    def start_response(*args: Any) -> Callable[[bytes], object]:
        calls.append(args)
        return lambda data: None

    def app(environ: Any, start_response: Start) -> list[bytes]:
        start_response("200 OK", [("x-request-id", "from-the-app")])
        try:
            raise RuntimeError("boom")
        except RuntimeError:
            start_response("500 Oops", [], sys.exc_info())
        return [b"oops"]

    WSGIMonitoringMiddleware(app)(wsgi_environ(), start_response)
    assert [len(call) for call in calls] == [2, 3]
    assert calls[1][2][0] is RuntimeError
    assert [[name for name, _ in call[1]] for call in calls] == [["x-request-id"], ["x-request-id"]]
    assert calls[0][1] == calls[1][1] != [("x-request-id", "from-the-app")]
    assert ended(sink) == ("server_error", 500, 4)


def test_what_is_given_to_write_is_counted(monitoring: Monitoring, sink: MemorySink) -> None:
    """The old way to send a body works, too."""

    def app(environ: Any, start_response: Start) -> list[bytes]:
        write = start_response("200 OK", [])
        write(b"old ")
        return [b"way"]

    assert serve(WSGIMonitoringMiddleware(app), wsgi_environ()).body == b"old way"
    assert ended(sink) == ("ok", 200, 7)


def test_an_app_that_never_starts_its_response_is_a_server_error(monitoring: Monitoring, sink: MemorySink) -> None:
    """Servers answer 500 then."""
    serve(WSGIMonitoringMiddleware(lambda environ, start_response: [b"a"]), wsgi_environ())
    assert ended(sink)[:2] == ("server_error", 500)


def test_the_edge_keeps_to_the_protocol(monitoring: Monitoring, sink: MemorySink) -> None:
    """The standard library's validator finds nothing, neither on the server's side nor on the app's."""

    def app(environ: Any, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return iter([b"a", b"b"])

    environ = wsgi_environ()
    checked = validator(WSGIMonitoringMiddleware(validator(app)))
    assert serve(checked, environ).body == b"ab"
    assert ended(sink) == ("ok", 200, 2)


# Exits


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (SystemExit(0), "aborted"),
        (SystemExit(), "aborted"),
        (SystemExit(1), "server_error"),
        (KeyboardInterrupt(), "server_error"),
    ],
    ids=repr,
)
def test_exits_reach_the_server(monitoring: Monitoring, sink: MemorySink, error: BaseException, outcome: str) -> None:
    """A worker that ends on purpose is no error; one that is killed while it works is."""

    def app(environ: Any, start_response: Start) -> list[bytes]:
        raise error

    assert serve(WSGIMonitoringMiddleware(app), wsgi_environ()).error is error
    (observation,) = sink.observations
    assert observation.outcome == outcome
    assert observation.exception is (error if outcome == "server_error" else None)


# Context


def test_the_environ_has_the_id(monitoring: Monitoring) -> None:
    """``environ["monitoring.request_id"]`` needs no context variable, so that outer code can read it, too."""
    environ = wsgi_environ()
    answer = serve(answers([b"a"]), environ)
    assert environ["monitoring.request_id"] == answer.request_id


def test_pieces_that_another_thread_takes_see_the_request(monitoring: Monitoring) -> None:
    """Each step of a body enters the context, wherever it runs, and leaves it there."""

    def pieces() -> Iterator[bytes]:
        for _ in range(3):
            yield (request_id() or "nothing").encode()

    environ = wsgi_environ()
    body = iter(answers(pieces())(environ, ignore))
    with ThreadPoolExecutor(1) as other, ThreadPoolExecutor(1) as another:
        seen = [next(body), other.submit(next, body).result(), another.submit(next, body).result()]
        left = [request_id(), other.submit(request_id).result(), another.submit(request_id).result()]
    assert [piece.decode() for piece in seen] == [environ["monitoring.request_id"]] * 3
    assert left == [None] * 3


def test_a_pool_s_thread_does_not_keep_the_former_request(monitoring: Monitoring) -> None:
    """Before, between and after its requests a thread has no request's context."""

    def app(environ: Any, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield (request_id() or "nothing").encode()
        if environ["PATH_INFO"] == "/fails":
            raise RuntimeError("boom")

    observed = WSGIMonitoringMiddleware(app)
    with ThreadPoolExecutor(1) as pool:
        for path in ("/", "/fails", "/"):
            answer = pool.submit(serve, observed, wsgi_environ(path)).result()
            assert answer.body.decode() == answer.request_id
            assert pool.submit(request_id).result() is None
        pool.submit(serve, observed, wsgi_environ(), 1).result()
        assert pool.submit(request_id).result() is None


def test_threads_side_by_side_do_not_see_each_other(monitoring: Monitoring) -> None:
    """Two requests that wait for each other have an ID each."""
    both_are_in = threading.Barrier(2)

    def app(environ: Any, start_response: Start) -> list[bytes]:
        before = request_id()
        both_are_in.wait(5)
        start_response("200 OK", [])
        return [f"{before} {request_id()}".encode()]

    observed = WSGIMonitoringMiddleware(app)
    with ThreadPoolExecutor(2) as pool:
        answers_ = list(pool.map(lambda _: serve(observed, wsgi_environ()), range(2)))
    assert [one.body.decode().split() for one in answers_] == [[one.request_id] * 2 for one in answers_]
    assert answers_[0].request_id != answers_[1].request_id


# The environ


def test_a_bare_environ_is_enough(monitoring: Monitoring, sink: MemorySink) -> None:
    """PATH_INFO, SCRIPT_NAME, REMOTE_ADDR and even the method may be missing."""
    assert serve(answers([b"a"]), {}).request_id
    record = sink.observations[0].request
    assert record is not None
    assert (record.path, record.method) == ("", "GET")


def test_an_app_below_a_dispatcher_has_the_mount_in_its_route(monitoring: Monitoring, sink: MemorySink) -> None:
    """SCRIPT_NAME, as Werkzeug's dispatcher leaves it, comes before the rule."""
    inner = Flask("inner")

    @inner.get("/items/<int:item>")
    def show(item: int) -> str:
        return str(item)

    app = DispatcherMiddleware(Response("not found", 404), {"/shop": inner})
    assert Client(WSGIMonitoringMiddleware(app)).get("/shop/items/7").text == "7"
    assert sink.observations[0].name == "/shop/items/<int:item>"


# Property


def test_every_request_is_observed_exactly_once(monitoring: Monitoring, sink: MemorySink) -> None:
    """Whatever an app answers with, however it ends and whenever the server closes: one, with a status."""

    def app(environ: Any, start_response: Start) -> Iterable[bytes]:
        starts, kind, pieces, headers = environ["plan"]
        if starts in ("at once", "twice"):
            start_response("200 OK", headers)
        if starts == "twice":
            start_response("500 Oops", headers, (None, None, None))
        if kind == "fails":
            raise ValueError("boom")
        if kind == "list":
            return [piece for piece in pieces if isinstance(piece, bytes)]
        return lazily(start_response, *environ["plan"]) if kind == "generator" else Body(*pieces)

    def lazily(start_response: Start, starts: str, kind: str, pieces: Any, headers: Any) -> Iterator[bytes]:
        if starts == "lazily":
            start_response("200 OK", headers)
        yield from Body(*pieces)

    @settings(deadline=None, database=None)
    @given(
        st.sampled_from(["at once", "lazily", "never", "twice"]),
        st.sampled_from(["list", "generator", "body", "fails"]),
        st.lists(st.sampled_from([b"", b"ab", RuntimeError("boom"), SystemExit(0), GeneratorExit()]), max_size=4),
        st.sampled_from([[], [("content-length", "0")], [("content-length", "2")], [("content-length", "99")]]),
        st.sampled_from(["GET", "HEAD"]),
        st.sampled_from([None, 1, 2]),
    )
    def holds(starts: str, kind: str, pieces: Any, headers: Any, method: str, chunks: int | None) -> None:
        sink.observations.clear()
        environ = wsgi_environ(REQUEST_METHOD=method, plan=(starts, kind, pieces, headers))
        serve(WSGIMonitoringMiddleware(app), environ, chunks)
        assert current_record.get() is None
        (observation,) = sink.of_kind("request")
        assert observation.request is not None
        assert observation.request.status >= 200
        assert in_flight(monitoring, method) == 0

    holds()
