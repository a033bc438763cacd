"""Real servers for the clients to talk to: Redis, an LLM server that speaks both protocols, and plain HTTP."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

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


@pytest.fixture(scope="session")
def http_port() -> Iterator[int]:
    """The port of a server: ``/hang`` does not answer, ``/moved`` redirects, ``/NNN`` has that status."""
    released = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path.startswith("/hang"):
                released.wait(30)
                return
            is_redirect = self.path.startswith("/moved")
            self.send_response(302 if is_redirect else int(self.path[1:4]))
            if is_redirect:
                self.send_header("location", "/200")
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.do_GET()

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
