"""A prober that goes by Kubernetes' rules, and keeps what it was answered."""

from __future__ import annotations

import http.client
import threading
import time
from dataclasses import dataclass
from types import TracebackType


@dataclass(frozen=True, slots=True)
class Answer:
    """What one probe got: ``status`` is 0 for a connection that was refused, cut or too slow. ``at`` is monotonic,
    ``seconds`` is the time from the first byte sent to the last one read.
    """

    at: float
    status: int
    body: str = ""
    connection: str = ""
    seconds: float = 0.0

    @property
    def passes(self) -> bool:
        """Say whether Kubernetes takes it for a success."""
        return 200 <= self.status < 400

    @property
    def is_refused(self) -> bool:
        """Say whether nobody answered."""
        return self.status == 0


class Prober:
    """Asks one path now and then in a thread, over a new connection each time, for the length of a with-block.

    It starts out as passing. ``failure_threshold`` failures in a row turn it over, ``success_threshold`` successes turn
    it back; a probe has a second to be answered.
    """

    def __init__(
        self,
        port: int,
        path: str,
        *,
        period_seconds: float = 0.1,
        timeout_seconds: float = 1.0,
        failure_threshold: int = 3,
        success_threshold: int = 1,
    ) -> None:
        self.answers: list[Answer] = []
        self._port = port
        self._path = path
        self._period_seconds = period_seconds
        self._timeout_seconds = timeout_seconds
        self._failure_threshold = failure_threshold
        self._success_threshold = success_threshold
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"prober of {path}")

    def __enter__(self) -> Prober:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    @property
    def passes(self) -> bool:
        """Say how the container stands by its answers so far."""
        return self.turned_at() is None

    def turned_at(self) -> float | None:
        """Return the moment of the answer that turned the container over, None while it passes."""
        turned: float | None = None
        row = 0
        for answer in list(self.answers):
            if answer.passes == (turned is None):
                row = 0
                continue
            row += 1
            if turned is None and row >= self._failure_threshold:
                turned, row = answer.at, 0
            elif turned is not None and row >= self._success_threshold:
                turned, row = None, 0
        return turned

    def _run(self) -> None:
        while not self._over.is_set():
            self.answers.append(self._ask())
            self._over.wait(self._period_seconds)

    def _ask(self) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._timeout_seconds)
        began = time.monotonic()
        try:
            connection.request("GET", self._path)
            response = connection.getresponse()
            body, now = response.read().decode(), time.monotonic()
            closing = response.headers.get("connection", "").lower()
            return Answer(now, response.status, body, closing, now - began)
        except (http.client.HTTPException, OSError):
            return Answer(time.monotonic(), 0)
        finally:
            connection.close()
