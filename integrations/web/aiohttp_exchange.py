"""One request of aiohttp and its response: what goes out by the request's writer, and the report of how it ended."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any, Final

from aiohttp import web

from monitoring.middleware import RECORD_KEY, Edge
from monitoring.middleware.edge import CLIENT_CLOSED, attach, is_marked, mark
from monitoring.observation import RequestRecord

_OBSERVED: Final = ("write_headers", "write", "write_eof", RECORD_KEY)


def is_observed(request: web.Request) -> bool:
    """Say whether an outer middleware observes this request."""
    return RECORD_KEY in vars(request.writer)


class Exchange:
    """Stands in for the methods of one request's writer, until the request has ended.

    A request is reported before its last byte goes out. Bytes are those that the app hands over: a stream that aiohttp
    compresses is counted before that.
    """

    __slots__ = ("_length", "_request", "_write", "_write_eof", "_write_headers", "_writer", "edge", "record")

    def __init__(self, edge: Edge, record: RequestRecord, request: web.Request) -> None:
        self.edge = edge
        self.record = record
        self._request = request
        self._length = -1
        writer: Any = request.writer
        self._writer = writer
        self._write_headers, self._write, self._write_eof = writer.write_headers, writer.write, writer.write_eof
        vars(writer).update(zip(_OBSERVED, (self.write_headers, self.write, self.write_eof, record), strict=True))

    async def write_headers(self, status_line: str, headers: Any) -> None:
        """Send the head of the response, with the request ID."""
        try:
            self._note_start(status_line, headers)
        except Exception as error:
            self.edge.recorder.failed("aiohttp.write_headers", error)
        await self._write_headers(status_line, headers)

    async def write(self, chunk: Any, **options: Any) -> None:
        """Send a piece of the body."""
        try:
            self._note_piece(chunk)
        except Exception as error:
            self.edge.recorder.failed("aiohttp.write", error)
        try:
            await self._write(chunk, **options)
        except ConnectionError:
            self.record.disconnected = True
            raise

    async def write_eof(self, chunk: bytes = b"") -> None:
        """Send the last piece of the body."""
        record = self.record
        record.bytes_sent += len(chunk)
        if not record.bytes_sent and self._length > 0:  # the event loop has sent a file
            record.bytes_sent = self._length
        self._finish()
        await self._write_eof(chunk)

    def end_with(self, error: BaseException) -> None:
        """Report a request that an exception ended; aiohttp answers it, unless the response has started."""
        record = self.record
        if record.finished:
            if isinstance(error, Exception) and not is_marked(error, record):
                mark(error, record)
                self.edge.report_background(record, error)
        elif record.disconnected or (_is_of_connection(error) and self.is_client_gone()):
            self._end_early("client_disconnected")
        elif not isinstance(error, Exception):
            self._end_early("cancelled" if isinstance(error, asyncio.CancelledError) else "aborted")
        else:
            attach(error, record)
            if record.status:
                self._finish("error_after_start")
            else:
                self.end_with_task()

    def end_with_task(self) -> None:
        """See to it that the request is reported when its task ends, if its response does not come to its end."""
        task = asyncio.current_task()
        if task is not None and RECORD_KEY in vars(self._writer):
            task.add_done_callback(self._end_of_task)

    def is_client_gone(self) -> bool:
        """Say whether the client has closed the connection; a server that shuts down does not take its manager away."""
        return self._request.transport is None and getattr(self._request.protocol, "_manager", None) is None

    def route(self) -> str:
        """Return the template of the resource that serves the request, or "" when none does."""
        try:
            resource = self._request.match_info.route.resource
            if resource is None:
                return ""
            return f"{resource.canonical}/{{path}}" if isinstance(resource, web.StaticResource) else resource.canonical
        except Exception as error:
            self.edge.recorder.failed("aiohttp route", error)
            return ""

    def _note_start(self, status_line: str, headers: Any) -> None:
        record = self.record
        headers[self.edge.request_id_header] = record.request_id  # the app's own is replaced, not joined
        if record.finished:
            return
        record.status = status = int(status_line.split(" ", 2)[1])
        length = headers.get("Content-Length", "")
        self._length = int(length) if length.isdecimal() else -1
        if record.method == "HEAD" or status in (204, 304) or self._length == 0:
            self._finish()  # the head is all that there is

    def _note_piece(self, chunk: Any) -> None:
        record = self.record
        if record.finished:
            return
        record.bytes_sent += chunk.nbytes if isinstance(chunk, memoryview) else len(chunk)
        if record.bytes_sent == self._length:
            self._finish()
        elif not record.streamed:
            record.streamed = record.noted = True
            record.first_byte_seconds = perf_counter() - record.started

    def _end_early(self, outcome: str) -> None:
        self.record.status = self.record.status or CLIENT_CLOSED
        self._finish(outcome)

    def _end_of_task(self, task: asyncio.Task[Any]) -> None:
        record = self.record
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if not record.finished and error is not None:
            self.end_with(error)
        if not record.finished:
            if record.exception is not None:  # no page could be sent for it
                record.status = record.status or 500
                self._finish("server_error")
            elif record.streamed or not record.status:
                self._end_early("client_disconnected")
            else:
                self._finish()
        self._release()

    def _finish(self, outcome: str = "") -> None:
        self._release()
        if not self.record.finished:
            self.edge.finish(self.record, self.route(), outcome)

    def _release(self) -> None:
        """Take the methods away again: they and the writer hold each other."""
        for name in _OBSERVED:
            vars(self._writer).pop(name, None)


def _is_of_connection(error: BaseException) -> bool:
    """Say whether this is how aiohttp tells a handler that its client left."""
    return isinstance(error, (ConnectionError, asyncio.CancelledError)) or type(error).__name__ == "RequestPayloadError"
