"""How long does /metrics take, with 10,000 exposed lines over the cell files of 8 worker processes?"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import random
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from . import scratch
from .harness import spread
from .report import Bar, Result, publish

WORKERS = 8
ROUTES, STATUSES, FUNDERS = 50, 10, 30
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
OBSERVATIONS_OF_A_SERIES = 20
SCRAPERS_AT_ONCE = 4
TOKEN = "bench-token"
TICK_SECONDS = 0.001


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill the cells of 8 processes, scrape them, and publish the times."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cells_scrape", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="5 scrapes instead of 20: a first idea")
    chosen = parser.parse_args(arguments)
    spawn = multiprocessing.get_context("spawn")
    with scratch.folders() as places:
        folder = places[scratch.MEMORY]
        _configure(folder)
        fill(seed=0)  # this process is one of the 8, and alive first: the others join its generation
        ours, theirs = zip(*(spawn.Pipe() for _ in range(WORKERS - 1)), strict=True)
        workers = [
            spawn.Process(target=_fill_and_wait, args=(pipe, folder, seed), daemon=True)
            for seed, pipe in enumerate(theirs, start=1)
        ]
        for worker in workers:
            worker.start()
        memory = [int(pipe.recv()) for pipe in ours]
        publish(_scrape(5 if chosen.quick else 20, memory, folder))
        for pipe in ours:
            pipe.send("stop")
        for worker in workers:
            worker.join()
        _monitoring().shutdown()


def fill(seed: int) -> None:
    """Make every series and observe into it, through the public API: 500 histograms and 1,500 counters."""
    monitoring = _monitoring()
    chance = random.Random(seed)
    seconds = monitoring.histogram("bench_render_seconds", "Time to render.", ("route", "status"), buckets=BUCKETS)
    total = monitoring.counter("bench_proposals_total", "Proposals made.", labels=("route", "funder"))
    for route in range(ROUTES):
        for status in range(STATUSES):
            series = seconds.labels(f"/r{route}/items/{{id}}", str(200 + status))
            for _ in range(OBSERVATIONS_OF_A_SERIES):
                series.observe(chance.lognormvariate(-4.0, 0.8))
        for funder in range(FUNDERS):
            total.labels(f"/r{route}/items/{{id}}", f"funder {funder}").inc()


def _monitoring() -> Any:
    import monitoring

    return monitoring


def _configure(folder: str) -> None:
    _monitoring().configure(service="bench", cells_folder=f"{folder}/cells", log_destination="stderr", token=TOKEN)


def _fill_and_wait(pipe: Connection, folder: str, seed: int) -> None:
    _monitoring()
    before = _resident_bytes()
    _configure(folder)
    fill(seed)
    pipe.send(_resident_bytes() - before)
    pipe.recv()
    _monitoring().shutdown()


def _resident_bytes() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def _scrape(scrapes: int, memory: list[int], folder: str) -> Result:
    first, body, _ = asyncio.run(_timed_scrape())
    timed = [asyncio.run(_timed_scrape()) for _ in range(scrapes)]
    at_once = [asyncio.run(_several_at_once()) for _ in range(scrapes)]
    _check_exact(body)
    lines = sum(not line.startswith(b"#") for line in body.splitlines())
    cells = sum(path.stat().st_blocks * 512 for path in Path(folder).rglob("*") if path.is_file())
    measured = {
        "first scrape: files mapped, labels rendered": [first],
        "each further scrape: sum and render": [took for took, _, _ in timed],
        f"{SCRAPERS_AT_ONCE} scrapers at once, until all are answered": at_once,
        "longest pause of the event loop meanwhile": [pause for _, _, pause in timed],
    }
    spreads = {what: spread(samples) for what, samples in measured.items()}
    return Result(
        name="cells_scrape",
        title=f"/metrics, {lines:,} exposed lines over {WORKERS} processes",
        columns=("what", "median ms", "25 %", "75 %", "slowest"),
        rows=[
            [what, *(f"{ms:.1f}" for ms in (s.median, s.lower_quartile, s.upper_quartile, max(measured[what])))]
            for what, s in spreads.items()
        ],
        unit="milliseconds",
        bars=[Bar(what, s.median, s.low, s.high, ours=True) for what, s in spreads.items()],
        notes=[
            f"{len(body) / 1e6:.2f} MB of text, rendered in a thread; every total equals what the processes counted.",
            f"Memory of a worker, configured and filled: {sorted(memory)[len(memory) // 2] / 1e6:.1f} MB; "
            f"cell files {cells / WORKERS / 1e6:.2f} MB a process.",
        ],
        data={
            "lines": lines,
            "worker_bytes": memory,
            "cell_bytes": cells,
            **{what: asdict(s) for what, s in spreads.items()},
        },
    )


async def _several_at_once() -> float:
    """Return the milliseconds until several scrapes that came together are answered."""
    started = time.perf_counter()
    await asyncio.gather(*(_timed_scrape() for _ in range(SCRAPERS_AT_ONCE)))
    return (time.perf_counter() - started) * 1e3


async def _timed_scrape() -> tuple[float, bytes, float]:
    """Return the milliseconds and body of one scrape, and the longest the event loop was kept from a tick meanwhile."""
    app = _metrics_app()
    parts: list[bytes] = []
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        statuses.append(message.get("status", 0))
        parts.append(message.get("body", b""))

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"authorization", b"Bearer " + TOKEN.encode())],
        "client": ("127.0.0.1", 40_000),
    }
    pauses: list[float] = []
    ticker = asyncio.create_task(_tick(pauses))
    await asyncio.sleep(0)
    started = time.perf_counter()
    await app(scope, receive, send)
    took = time.perf_counter() - started
    await asyncio.sleep(2 * TICK_SECONDS)
    ticker.cancel()
    if statuses[0] != 200:
        raise RuntimeError(f"The scrape was answered with {statuses[0]}: {b''.join(parts)[:200]!r}")
    return took * 1e3, b"".join(parts), max(pauses) * 1e3


@cache
def _metrics_app() -> Any:
    return _monitoring().current().metrics_app()


async def _tick(pauses: list[float]) -> None:
    while True:
        asked = time.perf_counter()
        await asyncio.sleep(TICK_SECONDS)
        pauses.append(time.perf_counter() - asked - TICK_SECONDS)


def _check_exact(body: bytes) -> None:
    """Raise RuntimeError when the exposed totals are not what the processes counted."""
    wanted = {
        b"bench_proposals_total{": WORKERS * ROUTES * FUNDERS,
        b"bench_render_seconds_count{": WORKERS * ROUTES * STATUSES * OBSERVATIONS_OF_A_SERIES,
    }
    for prefix, count in wanted.items():
        found = sum(float(line.rsplit(b" ", 1)[1]) for line in body.splitlines() if line.startswith(prefix))
        if found != count:
            raise RuntimeError(f"{prefix.decode()} sums to {found:,.0f} over the processes, {count:,} were counted.")


if __name__ == "__main__":
    main()
