"""Users at work: a process of its own that asks the app over TCP and keeps a ledger of the answers."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import signal
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote_plus

import httpx

from monitoring.demo.world import AIMS, SEEDED_PROPOSALS, TOPICS, TRAFFIC_HEADER, USER_HEADER, USERS

USERS_PER_RATE = 0.5
"""So many users at once for each request per second: each asks every other second, as long as answers are quick."""
THINKING_SPREAD = 0.8
LEAVING_SHARE = 0.05
DRAIN_SECONDS = 20.0
HABITS = {"index": 6, "funders": 14, "list": 20, "show": 22, "search": 22, "write": 8, "submit": 7, "knock": 1}
"""What users do, by how often."""
POPULARITY = [1 / rank for rank in range(1, len(TOPICS) + 1)]
"""How often each topic is searched for: a few are on everybody's mind."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to send, with the route template that the app should find for it."""

    route: str
    path: str
    method: str = "GET"
    body: dict[str, str] | None = None


@dataclass(slots=True)
class Ledger:
    """What came back, and how often nothing did: the truth that the app's metrics are compared with."""

    responses: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    """Complete responses by method, route template and status."""
    connections_cut: int = 0
    """Requests whose connection broke before the response was complete."""
    proposals: Counter[str] = field(default_factory=Counter)
    """Proposals that were written, by funder."""
    tokens: int = 0
    """Tokens that these took, as the answers say."""

    @property
    def server_errors(self) -> int:
        """The number of responses with a status of 500 or more."""
        return sum(count for (_, _, status), count in self.responses.items() if status >= 500)

    def as_json(self) -> str:
        """Return the ledger as one JSON object, its responses sorted by method, route and status."""
        complete = self.responses.total()
        totals = {"sent": complete + self.connections_cut, "complete": complete, "cut": self.connections_cut}
        names = ("method", "route", "status", "count")
        rows = [dict(zip(names, (*key, count), strict=True)) for key, count in sorted(self.responses.items())]
        written = {"proposals": dict(sorted(self.proposals.items())), "tokens": self.tokens}
        return json.dumps({**totals, **written, "responses": rows}, indent=1)


class Visit:
    """One user's stay: what they do depends on the funders they write to and on what they wrote."""

    def __init__(self) -> None:
        self.user = random.choice(USERS)
        self._written: deque[int] = deque(maxlen=10)

    def next_ask(self) -> Ask:
        """Choose what the user does next."""
        match random.choices(list(HABITS), list(HABITS.values()))[0]:
            case "funders":
                return Ask("/funders", "/funders")
            case "list":
                return Ask("/proposals", "/proposals?sort=similar" if random.random() < 0.04 else "/proposals")
            case "show":
                stale_link = random.random() < 0.03
                return Ask("/proposals/{proposal_id}", f"/proposals/{10**9 if stale_link else self._a_proposal()}")
            case "search":
                topic = random.choices(TOPICS, POPULARITY)[0]
                return Ask("/search", f"/search?q={quote_plus(topic[: random.randint(3, len(topic))])}")
            case "write":
                funder = self.user.funders[0] if random.random() < 0.7 else random.choice(self.user.funders)
                title = f"{random.choice(TOPICS).capitalize()}: {random.choice(AIMS)}"
                return Ask("/proposals", "/proposals", "POST", {"funder": funder, "title": title})
            case "submit":
                return Ask("/proposals/{proposal_id}/submit", f"/proposals/{self._a_proposal()}/submit", "POST")
            case "knock":
                return Ask("(unmatched)", f"/wp-admin/{random.randint(1, 1000)}.php")
            case _:
                return Ask("/", "/")

    def remember(self, ask: Ask, response: httpx.Response) -> None:
        """Keep in mind which proposals are the user's own."""
        if ask.method == "POST" and response.status_code == 201:
            self._written.append(response.json()["id"])

    def _a_proposal(self) -> int:
        return random.choice(self._written or range(1, SEEDED_PROPOSALS + 1))


class Crowd:
    """Users at once, each on a keep-alive connection, together at about `rate` requests per second."""

    def __init__(self, url: str, rate: float) -> None:
        self.ledger = Ledger()
        self.stop = asyncio.Event()
        self._url = url
        self._rate = rate
        self._started = time.monotonic()
        self._shown = 0
        self._users = max(8, round(rate * USERS_PER_RATE))

    async def run(self, duration_seconds: float | None) -> None:
        """Send requests until told to stop, then let the last ones be answered."""
        browsing = [asyncio.create_task(self._browse()) for _ in range(self._users)]
        reporting = asyncio.create_task(self._report())
        await self._stopped_within(duration_seconds)
        self.stop.set()
        _, unfinished = await asyncio.wait(browsing, timeout=DRAIN_SECONDS)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*browsing, return_exceptions=True)
        reporting.cancel()
        self._show_progress(end="\n")

    async def _browse(self) -> None:
        visit = Visit()
        pause_seconds = self._thinking_seconds() * random.random()
        async with httpx.AsyncClient(base_url=self._url, timeout=30, verify=False, trust_env=False) as http:
            while not await self._stopped_within(pause_seconds):
                started = time.monotonic()
                leaves = random.random() < LEAVING_SHARE
                await self._send(http, visit, leaves=leaves)
                if leaves:
                    visit = Visit()
                pause_seconds = max(0.0, self._thinking_seconds() - (time.monotonic() - started))

    async def _send(self, http: httpx.AsyncClient, visit: Visit, *, leaves: bool) -> None:
        ask = visit.next_ask()
        headers = {USER_HEADER: visit.user.id, TRAFFIC_HEADER: "1", "connection": "close" if leaves else "keep-alive"}
        try:
            response = await http.request(ask.method, ask.path, json=ask.body, headers=headers)
        except httpx.ConnectError:
            return
        except (httpx.TransportError, asyncio.CancelledError):
            self.ledger.connections_cut += 1
            return
        self.ledger.responses[ask.method, ask.route, response.status_code] += 1
        if response.status_code == 201:
            answer = response.json()
            self.ledger.proposals[answer["funder"]] += 1
            self.ledger.tokens += answer["tokens"]
        visit.remember(ask, response)

    async def _report(self) -> None:
        parent = os.getppid()
        while True:
            await asyncio.sleep(1.0)
            self._show_progress(end="\r" if sys.stderr.isatty() else "\n")
            if os.getppid() != parent:
                self.stop.set()

    def _show_progress(self, end: str) -> None:
        total = self.ledger.responses.total()
        print(
            f"{time.monotonic() - self._started:6.0f} s {total - self._shown:6,} requests/s {total:10,} total "
            f"{self.ledger.server_errors:6,} server errors {self.ledger.connections_cut:4,} cut",
            end=end,
            file=sys.stderr,
            flush=True,
        )
        self._shown = total

    def _thinking_seconds(self) -> float:
        mean = self._users / (self._rate * daily_shape(time.localtime().tm_hour))
        return random.lognormvariate(math.log(mean) - THINKING_SPREAD**2 / 2, THINKING_SPREAD)

    async def _stopped_within(self, seconds: float | None) -> bool:
        try:
            await asyncio.wait_for(self.stop.wait(), seconds)
        except TimeoutError:
            return False
        return True


def daily_shape(hour: float) -> float:
    """Return the share of the full rate at an hour of the day: 1.0 at 15:00, 0.4 at 03:00."""
    return 0.7 - 0.3 * math.cos((hour - 3) / 24 * math.tau)


async def send_traffic(url: str, rate: float, duration_seconds: float | None) -> Ledger:
    """Send traffic for a while, or until SIGINT, SIGTERM or the end of the parent process; return the ledger."""
    crowd = Crowd(url, rate)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, crowd.stop.set)
    await crowd.run(duration_seconds)
    return crowd.ledger


def main() -> None:
    """Send traffic as the command line says, and write the ledger."""
    parser = argparse.ArgumentParser(prog="python -m monitoring.demo.traffic", description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="where the app is (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=30.0, help="requests per second at 15:00 (default: %(default)s)")
    parser.add_argument("--duration", type=float, help="seconds after which to stop (default: when told)")
    parser.add_argument("--ledger", type=Path, help="write the ledger to this file as JSON, at the end")
    options = parser.parse_args()
    ledger = asyncio.run(send_traffic(options.url, options.rate, options.duration))
    if options.ledger:
        options.ledger.write_text(ledger.as_json(), encoding="utf-8")


if __name__ == "__main__":
    main()
