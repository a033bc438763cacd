"""A receiver of log lines as a process of its own, to be killed and started again: Loki's push API and OTLP's logs.

It is strict. Of Loki it follows the rules of a push (labels that are names, times that are text, in order within a
stream; 204); what OTLP gets is parsed by OpenTelemetry's own messages. What it cannot read it answers by 400. A line it
takes is in the file that it was given before it answers. ``POST /die`` kills it, between two requests.
"""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import os
import re
import signal
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.processes import Process, free_port

_ROOT = Path(__file__).parents[2]
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class LogReceiver:
    """The process, as a test sees it; use it as a with-block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "received"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: Process | None = None

    def __enter__(self) -> LogReceiver:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command = [sys.executable, "-m", "tests.support.log_receiver", str(self.port), str(self._file)]
        self._process = Process(command, self._folder / "receiver.log", cwd=_ROOT)
        self._process.wait_until(self._listens)

    def die(self) -> None:
        """Have it killed by SIGKILL, while it works on no request, and see it dead."""
        assert self._process is not None
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("POST", "/die", b"")
            connection.getresponse()
        except (http.client.HTTPException, OSError):
            pass
        finally:
            connection.close()
        assert self._process.kill() == -signal.SIGKILL

    def _listens(self) -> bool:
        socket.create_connection(("127.0.0.1", self.port), 5).close()
        return True

    @property
    def lines(self) -> list[str]:
        """Return what was taken, in order."""
        return self._file.read_text().splitlines() if self._file.exists() else []


def loki_lines(body: bytes) -> list[str]:
    """Return the lines of a push. Raise ValueError for what Loki would not take."""
    lines: list[str] = []
    for stream in json.loads(body)["streams"]:
        if not stream["stream"] or not all(map(_LABEL.fullmatch, stream["stream"])):
            raise ValueError("labels must be names")
        if not all(isinstance(value, str) for value in stream["stream"].values()):
            raise ValueError("labels must be text")
        times = [time for time, _ in stream["values"]]
        if not all(isinstance(time, str) and re.fullmatch(r"\d{19}", time) for time in times):
            raise ValueError("times must be nanoseconds, as text")
        if sorted(times) != times:
            raise ValueError("lines must be in order")
        lines.extend(line for _, line in stream["values"])
    return lines


def otlp_request(body: bytes) -> Any:
    """Return an ``ExportLogsServiceRequest``, read strictly: unknown fields are an error.

    OTLP has IDs in hexadecimal, where protobuf's JSON has Base64.
    """
    from google.protobuf.json_format import ParseDict
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    content = json.loads(body)
    for resource in content["resourceLogs"]:
        for scope in resource["scopeLogs"]:
            for record in scope["logRecords"]:
                for name in ("traceId", "spanId"):
                    if name in record:
                        record[name] = base64.b64encode(bytes.fromhex(record[name])).decode()
    return ParseDict(content, ExportLogsServiceRequest())


def otlp_lines(body: bytes) -> list[str]:
    """Return the bodies of the log records of a request."""
    return [
        record.body.string_value
        for resource in otlp_request(body).resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


def _serve(port: int, file: Path) -> None:
    busy = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            with busy:
                if self.path == "/die":
                    os.kill(os.getpid(), signal.SIGKILL)
                self._take(body)

        def _take(self, body: bytes) -> None:
            try:
                assert self.headers["content-type"] == "application/json"
                read = {"/loki/api/v1/push": loki_lines, "/v1/logs": otlp_lines}[self.path]
                lines = read(gzip.decompress(body))
            except Exception as error:
                self._answer(400, repr(error).encode())
                raise
            with file.open("a") as received:
                received.writelines(f"{line}\n" for line in lines)
            self._answer(204 if "loki" in self.path else 200, b"" if "loki" in self.path else b"{}")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            if status != 204:
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    class Server(ThreadingHTTPServer):
        allow_reuse_address = True

    Server(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), Path(sys.argv[2]))
