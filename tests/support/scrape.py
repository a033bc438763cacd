"""Scrapes of /metrics over new connections, read with the official parser."""

from __future__ import annotations

import http.client
import threading
from collections import defaultdict
from types import TracebackType

from prometheus_client.parser import text_string_to_metric_families

CLASSIC_TEXT = "text/plain; version=0.0.4"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
REQUESTS = "http_server_request_duration_seconds_count"
WATCH_SECONDS = 0.05


class Scrape:
    """The samples of one scrape, summed as asked."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the samples called `name` that carry `labels`; 0 where there are none."""
        return sum(
            sample.value for sample in self._samples if sample.name == name and labels.items() <= sample.labels.items()
        )

    def by(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Return the samples called `name` that have all of `labels`, summed by the values of these."""
        sums: defaultdict[tuple[str, ...], float] = defaultdict(float)
        for sample in self._samples:
            if sample.name == name and all(label in sample.labels for label in labels):
                sums[tuple(sample.labels[label] for label in labels)] += sample.value
        return dict(sums)

    def requests(self) -> int:
        """Return the number of requests over all routes and statuses."""
        return int(self.total(REQUESTS))

    def requests_by_route(self) -> dict[tuple[str, int], int]:
        """Return the number of requests by (route, status)."""
        rows = self.by(REQUESTS, "http_route", "http_response_status_code")
        return {(route, int(status)): int(number) for (route, status), number in rows.items()}


def fetch_metrics(port: int, token: str, *, accept: str = CLASSIC_TEXT, path: str = "/metrics") -> str:
    """Return the body of one scrape, over a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    try:
        headers = {"Authorization": f"Bearer {token}", "Accept": accept, "Connection": "close"}
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = response.read().decode()
    finally:
        connection.close()
    assert response.status == 200, f"{path} answered {response.status}: {body[:200]!r}"
    return body


def scrape(port: int, token: str) -> Scrape:
    """Scrape once, over a connection of its own."""
    return Scrape(fetch_metrics(port, token))


class Watcher:
    """Scrapes again and again in a thread for the length of a block, and keeps the totals in the order they were seen.

    A scrape whose connection breaks, as it may while a worker is killed, is counted in `failed` and has no total.
    """

    def __init__(self, port: int, token: str) -> None:
        self.totals: list[int] = []
        self.failed = 0
        self._port, self._token = port, token
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(WATCH_SECONDS):
            try:
                self.totals.append(scrape(self._port, self._token).requests())
            except (OSError, http.client.HTTPException):
                self.failed += 1
