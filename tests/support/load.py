"""A load client in a process of its own that keeps a ledger of what it really received.

Run as a script it reads a `Plan` as a line of JSON from standard input, prints one line when half of the requests are
answered, keeps the last quarter back until standard input is closed, and prints the ledger as one line of JSON.
`run_load` does that from a test. Standard library only, plain TCP.
"""

from __future__ import annotations

import http.client
import itertools
import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

HALF_WAY = "half-way"
CUT = (http.client.HTTPException, OSError)


@dataclass(frozen=True, slots=True)
class Target:
    """A path to ask for, in which `{n}` becomes the number of the request, and the route that the app knows it by."""

    path: str
    route: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What the client does: `count` requests, the targets in turn, `requests_per_connection` before it reconnects."""

    port: int
    targets: tuple[Target, ...]
    count: int
    connections: int = 8
    requests_per_connection: int = 250
    limit_seconds: float = 120


@dataclass(slots=True)
class Ledger:
    """What the client received.

    `complete` counts whole responses by (route, status), and `workers` by the pid in their `x-worker` header;
    `cut` counts the requests whose connection broke before their response was whole.
    """

    complete: Counter[tuple[str, int]] = field(default_factory=Counter)
    cut: int = 0
    request_ids: list[str] = field(default_factory=list)
    workers: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def total(self) -> int:
        """The number of whole responses."""
        return self.complete.total()

    def to_json(self) -> str:
        """Return the ledger as one line."""
        complete = [[route, status, number] for (route, status), number in self.complete.items()]
        return json.dumps(
            {
                "complete": complete,
                "cut": self.cut,
                "request_ids": self.request_ids,
                "workers": self.workers,
                "seconds": self.seconds,
            }
        )

    @classmethod
    def from_json(cls, line: str) -> Ledger:
        """Read back what `to_json` wrote."""
        raw: dict[str, Any] = json.loads(line)
        complete = Counter({(route, status): number for route, status, number in raw["complete"]})
        return cls(complete, raw["cut"], raw["request_ids"], Counter(raw["workers"]), raw["seconds"])


def run_load(
    port: int,
    targets: Sequence[Target],
    count: int,
    *,
    connections: int = 8,
    requests_per_connection: int = 250,
    limit_seconds: float = 120,
    at_half_way: Callable[[], object] | None = None,
) -> Ledger:
    """Run a load in a separate process and return its ledger.

    `at_half_way` is called here while the load goes on there; the last quarter of the requests comes after it.
    """
    plan = Plan(port, tuple(targets), count, connections, requests_per_connection, limit_seconds)
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        try:
            client.stdin.write(json.dumps(asdict(plan)) + "\n")
            client.stdin.flush()
            if client.stdout.readline().strip() != HALF_WAY:
                raise AssertionError(f"The load client stopped before half of {count} requests were answered.")
            if at_half_way is not None:
                at_half_way()
            client.stdin.close()
            ledger = Ledger.from_json(client.stdout.read())
        except BaseException:
            client.kill()
            raise
    asked = ledger.total + ledger.cut
    assert asked == count, f"The load client sent {asked} of {count} requests in {ledger.seconds:.0f} s, its limit."
    return ledger


class _Client:
    """The connections of one plan, one thread each, filling one ledger."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._numbers = itertools.count()
        self._deadline = time.monotonic() + plan.limit_seconds
        self._half = (plan.count + 1) // 2
        self._last_quarter = plan.count * 3 // 4
        self._half_way_is_over = threading.Event()
        self._lock = threading.Lock()
        self._ledger = Ledger()

    def run(self, wait_for_half_way: Callable[[], object]) -> Ledger:
        """Send all requests and return the ledger; the last quarter goes out once `wait_for_half_way` returns."""
        began = time.monotonic()
        threads = [threading.Thread(target=self._keep_asking) for _ in range(self._plan.connections)]
        for thread in threads:
            thread.start()
        wait_for_half_way()
        self._half_way_is_over.set()
        for thread in threads:
            thread.join()
        self._ledger.seconds = time.monotonic() - began
        return self._ledger

    def _keep_asking(self) -> None:
        connection = self._connection()
        used = 0
        while (number := next(self._numbers)) < self._plan.count and self._connect(connection):
            if number >= self._last_quarter:
                self._half_way_is_over.wait(self._plan.limit_seconds)
            target = self._plan.targets[number % len(self._plan.targets)]
            try:
                self._ask(connection, target, number)
            except CUT:
                connection.close()
                self._note_cut()
            used += 1
            if used % self._plan.requests_per_connection == 0:
                connection.close()
        connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._plan.port, timeout=30)

    def _connect(self, connection: http.client.HTTPConnection) -> bool:
        """Open the connection unless it is open; keep trying while the server refuses. False once the time is over."""
        while connection.sock is None:
            if time.monotonic() > self._deadline:
                return False
            try:
                connection.connect()
            except OSError:
                time.sleep(0.01)
        return time.monotonic() <= self._deadline

    def _ask(self, connection: http.client.HTTPConnection, target: Target, number: int) -> None:
        connection.request("GET", target.path.replace("{n}", str(number)))
        _acknowledge_at_once(connection)
        response = connection.getresponse()
        response.read()
        with self._lock:
            self._ledger.complete[target.route, response.status] += 1
            self._ledger.request_ids.append(response.headers.get("x-request-id", ""))
            if worker := response.headers.get("x-worker"):
                self._ledger.workers[worker] += 1
            self._say_half_way()

    def _note_cut(self) -> None:
        with self._lock:
            self._ledger.cut += 1
            self._say_half_way()

    def _say_half_way(self) -> None:
        if self._ledger.total + self._ledger.cut == self._half:
            print(HALF_WAY, flush=True)


def _acknowledge_at_once(connection: http.client.HTTPConnection) -> None:
    """Spare each response the 40 ms that a server without TCP_NODELAY waits between its head and its body."""
    if sys.platform == "linux":
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _main() -> None:
    raw = json.loads(sys.stdin.readline())
    raw["targets"] = tuple(Target(**target) for target in raw["targets"])
    print(_Client(Plan(**raw)).run(sys.stdin.read).to_json(), flush=True)


if __name__ == "__main__":
    _main()
