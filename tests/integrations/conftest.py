"""Real servers for the clients to talk to: Redis, an LLM server that speaks both protocols, and plain HTTP."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.support.components import require, unavailable
from tests.support.mariadb import mariadb
from tests.support.postgresql import postgresql
from tests.support.processes import running

AIMOCK = Path(__file__).parents[2] / ".venv/npm/node_modules/@copilotkit/aimock/dist/cli.js"
USAGE = {"prompt_tokens": 111, "completion_tokens": 22, "total_tokens": 133}
ANSWERS = [
    {
        "match": {"userMessage": "limit me"},
        "response": {"error": {"message": "slow down", "type": "rate_limit_error"}, "status": 429},
    },
    {
        "match": {"userMessage": "cut"},
        "response": {"content": "one two three four"},
        "truncateAfterChunks": 2,
        "chunkSize": 4,
        "latency": 20,
    },
    {
        "match": {"userMessage": "slow"},
        "response": {"content": "one two three four"},
        "chunkSize": 4,
        "latency": 2_000,
    },
    {"match": {"inputText": "hello"}, "response": {"embedding": [0.1, 0.2, 0.3]}},
    {
        "match": {"userMessage": "hello"},
        "response": {"content": "Good morning to you, my friend.", "usage": USAGE},
    },
]


@pytest.fixture(scope="session")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Redis that keeps nothing on disk."""
    folder = tmp_path_factory.mktemp("redis")
    program = require("redis-server", "redis")

    def command(port: int) -> list[str]:
        return [program, *f"--port {port} --bind 127.0.0.1 --appendonly no".split(), "--save", "", "--dir", str(folder)]

    with running(command, _answers_ping, folder / "log", cwd=folder) as (_, port):
        yield port


@pytest.fixture(scope="session")
def memcached_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a memcached."""
    folder = tmp_path_factory.mktemp("memcached")
    program = require("memcached", "pymemcache")

    def command(port: int) -> list[str]:
        return [program, *f"-u nobody -l 127.0.0.1 -p {port} -U 0 -m 16".split()]

    with running(command, _answers_version, folder / "log", cwd=folder) as (_, port):
        yield port


def _answers_version(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"version\r\n")
        return connection.recv(7) == b"VERSION"


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """The URL, as SQLAlchemy and psycopg take it, of a PostgreSQL that keeps statistics of its statements."""
    with postgresql("shared_preload_libraries=pg_stat_statements") as url:
        yield url


@pytest.fixture(scope="session")
def mariadb_port() -> Iterator[int]:
    """The port of a MariaDB, whose user ``root`` has no password."""
    with mariadb() as port:
        yield port


def _answers_ping(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(7) == b"+PONG\r\n"


@pytest.fixture(scope="session")
def llm_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server that answers as OpenAI and as Anthropic, with the answers above."""
    folder = tmp_path_factory.mktemp("llm")
    program = require("node", "openai", "anthropic")
    if not AIMOCK.exists():
        unavailable("the npm package @copilotkit/aimock is not installed; scripts/install-components installs it.")
    (folder / "answers.json").write_text(json.dumps({"fixtures": ANSWERS}))

    def command(port: int) -> list[str]:
        return [program, str(AIMOCK), "-p", str(port), "-f", str(folder), "-c", "8"]

    with running(command, _is_healthy, folder / "log", cwd=folder) as (_, port):
        yield port


def _is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    finally:
        connection.close()


LIMITS = {"x-ratelimit-limit": "100", "x-ratelimit-remaining": "42", "ratelimit-policy": '"burst";q=10;w=1'}


@pytest.fixture(scope="session")
def http_port() -> Iterator[int]:
    """The port of a server. ``/NNN`` has that status, ``/moved`` leads to ``/headers``, ``/elsewhere`` to the same by
    another name of the host; ``/headers`` tells those of the request, ``/chunks`` is in pieces, ``/limited`` has a
    quota, ``/secret`` asks for a digest; ``/hang`` does not answer, ``/stuck`` not to its end, ``/cut`` ends too early.
    """
    released = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            page = self.path.partition("?")[0].split("/")[1]
            if page == "hang":
                released.wait(30)
            elif page in ("stuck", "cut"):
                self._answer(200, b"first", {"content-length": "100"})
                self.wfile.flush()
                if page == "stuck":
                    released.wait(30)
                self.close_connection = True
            elif page == "chunks":
                self._answer(200, b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n", {"transfer-encoding": "chunked"})
            elif page in ("moved", "elsewhere"):
                host = "" if page == "moved" else f"http://localhost:{self.server.server_address[1]}"
                self._answer(302, b"", {"location": f"{host}/headers", "content-length": "0"})
            elif page == "secret" and "authorization" not in self.headers:
                self._answer(
                    401, b"", {"www-authenticate": 'Digest realm="r", nonce="n", qop="auth"', "content-length": "0"}
                )
            elif page == "headers":
                told = [*self.headers.items(), ("peer", str(self.client_address[1]))]
                self._answer(200, json.dumps({name.lower(): value for name, value in told}).encode())
            else:
                self._answer(int(page) if page.isdigit() else 200, b"ok", LIMITS if page == "limited" else {})

        def do_POST(self) -> None:
            if self.headers.get("transfer-encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    self.rfile.read(size + 2)
                self.rfile.readline()
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.do_GET()

        def _answer(self, status: int, body: bytes, headers: Mapping[str, str] = MappingProxyType({})) -> None:
            self.send_response(status)
            if not {"content-length", "transfer-encoding"} & set(headers):
                self.send_header("content-length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    released.set()
    server.shutdown()
    server.server_close()
    thread.join()
