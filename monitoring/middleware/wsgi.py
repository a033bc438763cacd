"""The WSGI edge: the ASGI edge's twin, with the same policy, outcomes and observation.

A response lives until its iterable is closed, perhaps in another thread. So the context is entered for the app's
call, for each step of the body and for its close, and never left set on a pool's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping
from time import perf_counter
from typing import Any

from ..context import current_record, reset
from ..observation import RequestRecord
from .edge import RECORD_KEY, Edge, HasEdge, WSGIApp, attach, current_edge, is_marked, mark
from .inbound import InvalidRequestId

Environ = MutableMapping[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]


class WSGIMonitoringMiddleware:
    """Observe a WSGI app: the same options and outcomes as ``MonitoringMiddleware``, whose twin this is.

    A body that is a list or the server's own file wrapper is handed on as it is, so that servers keep their short
    cuts for them.
    """

    def __init__(self, app: WSGIApp, monitoring: HasEdge | None = None) -> None:
        self.app = app
        self._monitoring = monitoring

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        edge = current_edge() if self._monitoring is None else self._monitoring.edge
        if edge is None or RECORD_KEY in environ:
            return self._pass_through(environ, start_response)
        path = environ.get("PATH_INFO", "")
        if path.startswith(edge.prefixes):
            own = edge.own_app(path)
            if own is not None:
                body: Iterable[bytes] = own[1].wsgi(_below(environ, own[0]), start_response)
                return body
        try:
            record = _begin(edge, environ)
        except InvalidRequestId as refusal:
            return _refuse(edge, environ, start_response, str(refusal))
        except Exception as error:
            edge.recorder.failed("WSGIMonitoringMiddleware", error)
            return self._pass_through(environ, start_response)
        return self._serve(edge, record, environ, start_response)

    def _pass_through(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        body: Iterable[bytes] = self.app(environ, start_response)
        return body

    def _serve(
        self, edge: Edge, record: RequestRecord, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        response = _Response(edge, record, environ, start_response)
        token = current_record.set(record)
        try:
            body = self.app(environ, response.start)
        except BaseException as error:
            response.end_with(error)
            raise
        finally:
            current_record.reset(token)
        return response.observed(body)


class _Response:
    """One response on its way: the body's iterator, and the report of how it ended."""

    __slots__ = ("_body", "_edge", "_environ", "_iterator", "_length", "_record", "_start_response", "_write")

    def __init__(self, edge: Edge, record: RequestRecord, environ: Environ, start_response: StartResponse) -> None:
        self._edge = edge
        self._record = record
        self._environ = environ
        self._start_response = start_response
        self._length = -1
        self._body: Iterable[bytes] = ()
        self._iterator: Iterator[bytes] | None = None

    def start(self, status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Callable[[bytes], object]:
        """Start the response with the request ID among its headers."""
        record, name = self._record, self._edge.request_id_header
        try:
            record.status = int(status[:3])
            record.first_byte_seconds = perf_counter() - record.started
            record.route = record.route or _werkzeug_route(self._environ)
            kept = [*headers]
            for pair in headers:
                lowered = pair[0].lower()
                if lowered == name:  # the app's own is replaced, not joined
                    kept.remove(pair)
                elif lowered == "content-length" and pair[1].isdigit():
                    self._length = int(pair[1])
            kept.append((name, record.request_id))
            headers = kept
        except Exception as error:
            self._edge.recorder.failed("WSGIMonitoringMiddleware.start_response", error)
        self._write = self._start_response(status, headers, *exc_info)
        return self._observed_write

    def _observed_write(self, data: bytes) -> object:
        self._record.bytes_sent += len(data)
        return self._write(data)

    def observed(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Return the body to hand to the server: observed, or as it is where all of it is known."""
        record = self._record
        if record.status and type(body) in (list, tuple):
            record.bytes_sent += sum(map(len, body))
            self._finish()
            return body
        if self._is_servers_own(body):
            record.bytes_sent += max(self._length, 0)
            self._finish()
            return body
        self._body = body
        return self

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        record = self._record
        token = current_record.set(record)
        try:
            if self._iterator is None:
                self._iterator = iter(self._body)
            chunk = next(self._iterator)
        except StopIteration:
            self._finish()
            raise
        except BaseException as error:
            self.end_with(error)
            raise
        finally:
            try:
                current_record.reset(token)
            except ValueError:  # the body changed its context
                pass
        if record.bytes_sent:
            record.streamed = record.noted = True
        record.bytes_sent += len(chunk)
        if record.bytes_sent == self._length:
            self._finish()
        return chunk

    def close(self) -> None:
        """Close the app's body, as servers must, and report a response that was cut short."""
        close = getattr(self._body, "close", None)
        record = self._record
        token = current_record.set(record)
        try:
            if close is not None:
                close()
        except BaseException as error:
            self.end_with(error)
            raise
        finally:
            reset(current_record, token)
            if not record.finished:
                if self._iterator is None and self._has_no_body():
                    self._finish()
                self._finish("aborted")

    def end_with(self, error: BaseException) -> None:
        """Report a request that an exception ended."""
        record = self._record
        if record.finished:
            if isinstance(error, Exception) and not is_marked(error, record):
                mark(error, record)
                self._edge.report_background(record, error)
            return
        if isinstance(error, GeneratorExit) or (isinstance(error, SystemExit) and not error.code):
            self._finish("aborted")
            return
        attach(error, record)
        started = bool(record.status)
        record.status = record.status or 500
        self._finish("error_after_start" if started else "server_error")

    def _is_servers_own(self, body: Iterable[bytes]) -> bool:
        """Say whether the server knows a short cut for this body: servers compare its identity."""
        wrapper = self._environ.get("wsgi.file_wrapper")
        if wrapper is None:
            return False
        return hasattr(body, "fileno") or (isinstance(wrapper, type) and isinstance(body, wrapper))

    def _has_no_body(self) -> bool:
        """Say whether a server may skip the body without cutting the response short."""
        return self._record.method == "HEAD" or self._record.status in (204, 304)

    def _finish(self, outcome: str = "") -> None:
        record = self._record
        if record.finished:
            return
        if not record.status:
            record.status = 500 if outcome == "" else 499
        route = record.route
        self._edge.finish(record, self._environ.get("SCRIPT_NAME", "") + route if route else "", outcome)


def _begin(edge: Edge, environ: Environ) -> RequestRecord:
    headers: dict[str, str] | None = None
    for key, name in edge.policy.wsgi_names.items():
        if key in environ:
            if headers is None:
                headers = {}
            headers[name] = environ[key]
    record = edge.begin(
        environ.get("REQUEST_METHOD"), environ.get("PATH_INFO", ""), headers, environ.get("REMOTE_ADDR")
    )
    if edge.consumers is not None:
        edge.name_consumer(edge.consumers.name_wsgi, record, environ)
    environ["monitoring.request_id"] = record.request_id
    environ[RECORD_KEY] = record
    return record


def _refuse(edge: Edge, environ: Environ, start_response: StartResponse, reason: str) -> Iterable[bytes]:
    record = edge.begin(environ.get("REQUEST_METHOD"), environ.get("PATH_INFO", ""))
    response = _Response(edge, record, environ, start_response)
    body = reason.encode()
    response.start(
        "400 Bad Request", [("content-type", "text/plain; charset=utf-8"), ("content-length", str(len(body)))]
    )
    return response.observed([body])


def _below(environ: Environ, prefix: str) -> Environ:
    """Return the environ of a sub-app mounted at ``prefix``."""
    return {
        **environ,
        "SCRIPT_NAME": environ.get("SCRIPT_NAME", "") + prefix,
        "PATH_INFO": environ.get("PATH_INFO", "").removeprefix(prefix),
    }


def _werkzeug_route(environ: Environ) -> str:
    """Return the matched rule that Werkzeug's request holds (Flask, and whatever else is built on it)."""
    rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
    return getattr(rule, "rule", "")
