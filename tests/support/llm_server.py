"""A server of recorded answers, for the protocols and details that the npm server does not speak.

It answers each request with the next answer of a list, and notes what was asked. A stream can be sent chunk by chunk,
each after the client has said that it has the one before.
"""

from __future__ import annotations

import json
import threading
from binascii import crc32
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from struct import pack
from typing import Any

PATIENCE_SECONDS = 10.0


@dataclass
class Answer:
    """What the server sends: a body in one or more chunks."""

    chunks: Sequence[bytes]
    kind: str = "application/json"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    is_cut: bool = False
    """Whether the connection ends before the body does."""
    in_steps: bool = False
    """Whether each chunk but the first waits for a step of the client's."""
    hangs: bool = False
    """Whether nothing more comes after the chunks."""


@dataclass
class Server:
    """The running server: `answers` to come, and what was asked so far."""

    port: int
    answers: deque[Answer] = field(default_factory=deque)
    asked: list[tuple[str, bytes]] = field(default_factory=list)
    steps: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Return the address, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    def will(self, *answers: Answer) -> None:
        """Answer the next requests so, and forget what was to come."""
        self.answers.clear()
        self.answers.extend(answers)
        self.asked.clear()


@contextmanager
def llm_server() -> Iterator[Server]:
    """Run the server for a block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            told.asked.append((self.path, self.rfile.read(int(self.headers.get("content-length") or 0))))
            answer = told.answers.popleft()
            self.send_response(answer.status)
            for name, value in {"content-type": answer.kind, **answer.headers}.items():
                self.send_header(name, value)
            if "content-length" in answer.headers:
                self.end_headers()
                self.wfile.write(b"".join(answer.chunks))
                return
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for place, chunk in enumerate(answer.chunks):
                if place and answer.in_steps:
                    assert told.steps.acquire(timeout=PATIENCE_SECONDS)
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                self.wfile.flush()
            if answer.hangs:
                told.released.wait(PATIENCE_SECONDS)
            if answer.is_cut or answer.hangs:
                self.close_connection = True
            else:
                self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Say nothing of clients that go away."""

    server = Quiet(("127.0.0.1", 0), Handler)
    told = Server(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        told.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def json_answer(body: object, **more: Any) -> Answer:
    """Return a whole answer."""
    return Answer([json.dumps(body).encode()], **more)


def sse(events: Iterable[dict[str, Any]], done: bool = True, named: bool = False, **more: Any) -> Answer:
    """Return a stream of server-sent events, one a chunk; ``named`` by their type, as Anthropic's are."""
    lines = [(f"event: {one['type']}\n" if named else "") + f"data: {json.dumps(one)}\n\n" for one in events]
    if done:
        lines[-1] += "data: [DONE]\n\n"
    return Answer([line.encode() for line in lines], kind="text/event-stream", **more)


def lines(parts: Iterable[dict[str, Any]], **more: Any) -> Answer:
    """Return a stream of JSON lines, as Ollama's are."""
    return Answer([json.dumps(part).encode() + b"\n" for part in parts], kind="application/x-ndjson", **more)


def aws_events(events: Iterable[tuple[str, dict[str, Any]]], **more: Any) -> Answer:
    """Return a stream of AWS's events, each with its type; ``!Name`` is an exception."""
    return Answer([_frame(*one) for one in events], kind="application/vnd.amazon.eventstream", **more)


def _frame(kind: str, told: dict[str, Any]) -> bytes:
    is_error = kind.startswith("!")
    named = {
        ":exception-type" if is_error else ":event-type": kind.lstrip("!"),
        ":content-type": "application/json",
        ":message-type": "exception" if is_error else "event",
    }
    headers = b"".join(_header(name, value) for name, value in named.items())
    payload = json.dumps(told).encode()
    prelude = pack("!II", 16 + len(headers) + len(payload), len(headers))
    body = prelude + pack("!I", crc32(prelude)) + headers + payload
    return body + pack("!I", crc32(body))


def _header(name: str, value: str) -> bytes:
    return pack("!B", len(name)) + name.encode() + pack("!BH", 7, len(value)) + value.encode()
