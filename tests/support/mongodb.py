"""A stand-in for a MongoDB server: it speaks the wire protocol, and gives a few answers in the shape of MongoDB 7's.

No MongoDB server can be installed from the registries that the tests use, so this shows what PyMongo does with
answers, and nothing of what a server does.
"""

from __future__ import annotations

import socketserver
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import bson

_HEADER = struct.Struct("<iiii")
_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_MORE_TO_COME = 2

HELLO = {
    "helloOk": True,
    "ismaster": True,
    "isWritablePrimary": True,
    "maxBsonObjectSize": 16_777_216,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "logicalSessionTimeoutMinutes": 30,
    "minWireVersion": 0,
    "maxWireVersion": 21,
    "readOnly": False,
    "ok": 1.0,
}
DOCUMENTS = [{"_id": 1, "name": "ERC"}, {"_id": 2, "name": "SNF"}]
BAD_STAGE = {
    "ok": 0.0,
    "errmsg": "Unrecognized pipeline stage name: '$nothing'",
    "code": 40324,
    "codeName": "Location40324",
}
NO_COMMAND = {"ok": 0.0, "errmsg": "no such command: 'nothing'", "code": 59, "codeName": "CommandNotFound"}


@contextmanager
def mongodb() -> Iterator[int]:
    """Serve for the length of the block, and give the port. A collection named ``hang`` is not answered for."""
    released = threading.Event()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while message := _read(self.rfile.read):
                request, operation, body, is_answered = message
                name = next(iter(body))
                if body[name] == "hang":
                    released.wait(30)
                    return
                if is_answered:
                    self.wfile.write(_reply(request, operation, _answer(name, body)))

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Say nothing of clients that go away."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            released.set()
            server.shutdown()
            thread.join()


def _answer(name: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    namespace = f"{body.get('$db')}.{body[name]}"
    match name.lower():
        case "hello" | "ismaster":
            return HELLO
        case "find":
            cursor = 7 if body[name] == "many" else 0
            return {"cursor": {"firstBatch": DOCUMENTS, "id": bson.Int64(cursor), "ns": namespace}, "ok": 1.0}
        case "getmore":
            return {"cursor": {"nextBatch": DOCUMENTS, "id": bson.Int64(0), "ns": namespace}, "ok": 1.0}
        case "aggregate":
            return BAD_STAGE
        case "insert":
            return {"n": len(body["documents"]), "ok": 1.0}
        case "update":
            return {"n": 2, "nModified": 1, "ok": 1.0}
        case "ping" | "endsessions":
            return {"ok": 1.0}
        case _:
            return NO_COMMAND


def _read(read: Any) -> tuple[int, int, dict[str, Any], bool] | None:
    """Return a message's request ID, its operation, its document and whether it wants an answer."""
    header = read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    length, request, _, operation = _HEADER.unpack(header)
    content = read(length - _HEADER.size)
    if operation == _OP_QUERY:
        start = content.index(b"\0", 4) + 9
        return request, operation, bson.decode(content[start:]), True
    (flags,) = struct.unpack_from("<i", content)
    return request, operation, _sections(content[4:]), not flags & _MORE_TO_COME


def _sections(content: bytes) -> dict[str, Any]:
    """Return the document of an OP_MSG, with the sequences of documents that follow it."""
    body: dict[str, Any] = {}
    while content:
        kind, (size,) = content[0], struct.unpack_from("<i", content, 1)
        section, content = content[1 : size + 1], content[size + 1 :]
        if kind == 0:
            body = {**bson.decode(section), **body}
        else:
            name, _, documents = section[4:].partition(b"\0")
            body[name.decode()] = bson.decode_all(documents)
    return body


def _reply(request: int, operation: int, answer: Mapping[str, Any]) -> bytes:
    document = bson.encode(answer)
    if operation == _OP_QUERY:
        content, code = struct.pack("<iqii", 8, 0, 0, 1) + document, _OP_REPLY
    else:
        content, code = struct.pack("<ib", 0, 0) + document, _OP_MSG
    return _HEADER.pack(_HEADER.size + len(content), request + 1, request, code) + content
