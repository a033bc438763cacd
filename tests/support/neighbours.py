"""What a real app stands beside: Redis, a language model's server, a mail server; each a process or a thread here."""

from __future__ import annotations

import email
import email.policy
import http.client
import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any, cast

from tests.support.components import require, unavailable
from tests.support.processes import Process, free_port, running

AIMOCK = Path(__file__).parents[2] / ".venv/npm/node_modules/@copilotkit/aimock/dist/cli.js"


@contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    """Run a Redis that keeps nothing on disk, and give its port."""
    command = partial(redis_command, folder)
    with running(command, redis_answers, folder / "redis.log", cwd=folder) as (_, port):
        yield port


def redis_command(folder: Path, port: int) -> list[str]:
    """Return the command of a Redis that keeps nothing on disk."""
    program = require("redis-server", "redis")
    return [program, *f"--port {port} --bind 127.0.0.1 --appendonly no".split(), "--save", "", "--dir", str(folder)]


def redis_answers(port: int) -> bool:
    """Say whether a Redis answers."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(7) == b"+PONG\r\n"


class LLMServer:
    """A server that speaks OpenAI's and Anthropic's protocols with given answers; it can be stopped and started."""

    def __init__(self, folder: Path, answers: Sequence[dict[str, Any]]) -> None:
        self._node = require("node", "openai")
        if not AIMOCK.exists():
            unavailable("the npm package @copilotkit/aimock is not installed; scripts/install-components installs it.")
        self._folder = folder
        (folder / "answers.json").write_text(json.dumps({"fixtures": list(answers)}))
        self.port = free_port()
        self._process: Process | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [self._node, str(AIMOCK), "-p", str(self.port), "-f", str(self._folder), "-c", "8"]
        self._process = Process(command, self._folder / "llm.log", cwd=self._folder)
        self._process.wait_until(lambda: _is_healthy(self.port))

    def stop(self) -> None:
        """Stop it, if it runs."""
        if self._process is not None:
            self._process.stop()
            self._process = None


class Mailbox:
    """The mails that arrived."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Take a mail."""
        parsed = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.mails.append(cast(EmailMessage, parsed))
        return "250 OK"

    def subjects(self) -> list[str]:
        """Return the subjects in the order of arrival."""
        return [str(mail["subject"]) for mail in self.mails]


@contextmanager
def mail_server() -> Iterator[tuple[int, Mailbox]]:
    """Run a mail server in a thread, and give its port and its mailbox."""
    from aiosmtpd.controller import Controller

    mailbox, port = Mailbox(), free_port()
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield port, mailbox
    finally:
        controller.stop()


def _is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    finally:
        connection.close()
