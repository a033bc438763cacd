"""How many requests per second remain? One uvicorn process under wrk, with and without our pack, in turns."""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from . import scratch
from .apps import ROUTES
from .harness import spread
from .report import Bar, Result, publish
from .request_overhead import NAMES
from .variants import ASGI_LADDER, builder

CONNECTIONS = 32
RUN_SECONDS = 2
FEWEST_RUNS = 3
START_LIMIT_SECONDS = 30
LINES_ARRIVE_SECONDS = 1
LUA = f"""
local n = 0
function request()
  n = n + 1
  return wrk.format("GET", "/r" .. (n * 7 % {ROUTES}) .. "/items/" .. (n * 13 % 1000))
end
"""


@dataclass(frozen=True, slots=True)
class Server:
    """One way to run the app: the rung it serves, and whether uvicorn writes its own access log to a file."""

    label: str
    rung: str
    access_log: bool = False


SERVERS = (
    Server("bare, no access log", "bare"),
    Server("bare, uvicorn's own access log", "bare", access_log=True),
    Server("monitoring, everything on", "ours"),
    Server("asgi-correlation-id", "correlation-id"),
)
BARE, WITH_ACCESS_LOG = SERVERS[0], SERVERS[1]


@dataclass(frozen=True, slots=True)
class Run:
    """What wrk said of one run."""

    requests: int
    requests_per_second: float
    slowest_hundredth_ms: float


def app() -> Any:
    """Make the app that the environment names; uvicorn calls this factory."""
    return builder(os.environ["BENCH_FRAMEWORK"], os.environ["BENCH_RUNG"])().app


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every server in short interleaved runs and publish the medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server_throughput", description=__doc__)
    parser.add_argument("--framework", choices=("starlette", "fastapi"), default="starlette")
    parser.add_argument("--seconds", type=int, default=60, help="about how long to measure in all (default 60)")
    parser.add_argument("--quick", action="store_true", help="the fewest runs: a first idea")
    chosen = parser.parse_args(arguments)
    if not shutil.which("wrk"):
        print("server_throughput: skipped, wrk is not installed; on Debian: apt-get install wrk.")
        return
    servers = [server for server in SERVERS if not ASGI_LADDER[server.rung].missing()]
    runs = FEWEST_RUNS if chosen.quick else max(FEWEST_RUNS, chosen.seconds // (RUN_SECONDS * len(servers)))
    measured, lines = _measure(servers, chosen.framework, runs)
    publish(_result(chosen.framework, measured, lines))


def _measure(servers: Sequence[Server], framework: str, runs: int) -> tuple[dict[Server, list[Run]], dict[Server, int]]:
    order = random.Random(1)
    measured: dict[Server, list[Run]] = {server: [] for server in servers}
    with contextlib.ExitStack() as running:
        places = {server: running.enter_context(scratch.folders()) for server in servers}
        ports = {server: running.enter_context(_serve(server, framework, places[server])) for server in servers}
        script = Path(places[BARE][scratch.DISK], "paths.lua")
        script.write_text(LUA, encoding="utf-8")
        warm_up = {server: _wrk(ports[server], script) for server in servers}
        for _ in range(runs):
            for server in order.sample(servers, len(servers)):
                measured[server].append(_wrk(ports[server], script))
        time.sleep(LINES_ARRIVE_SECONDS)
        lines = {server: _lines(Path(places[server][scratch.DISK])) for server in servers}
    return measured, {server: count - warm_up[server].requests for server, count in lines.items()}


@contextlib.contextmanager
def _serve(server: Server, framework: str, places: dict[str, str]) -> Iterator[int]:
    """Run uvicorn for `server` until the block ends; yield its port. What it writes stays in its places."""
    home = Path(places[scratch.DISK])
    port = _free_port()
    command = [sys.executable, "-m", "uvicorn", f"{__package__}.server_throughput:app", "--factory", f"--port={port}"]
    command += [] if server.access_log else ["--no-access-log"]
    environment = {**os.environ, "BENCH_FRAMEWORK": framework, "BENCH_RUNG": server.rung, **places}
    with (home / "stdout.log").open("wb") as stdout, (home / "stderr.txt").open("wb") as stderr:
        process = subprocess.Popen(command, env=environment, stdout=stdout, stderr=stderr)
    try:
        _wait_until_it_listens(process, port, home / "stderr.txt")
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, stderr: Path) -> None:
    limit = time.monotonic() + START_LIMIT_SECONDS
    while time.monotonic() < limit and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"uvicorn does not listen on port {port}; it said: {stderr.read_text()[-2000:]}")


def _wrk(port: int, script: Path) -> Run:
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{RUN_SECONDS}s", "--latency", "-s", str(script)]
    command.append(f"http://127.0.0.1:{port}")
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"Not every request was answered with 200; wrk said: {said}")
    requests, rate = _find(r"(\d+) requests in", said)[0], _find(r"Requests/sec:\s+([\d.]+)", said)[0]
    tail, unit = _find(r"99%\s+([\d.]+)(us|ms|s)", said)
    return Run(int(requests), float(rate), float(tail) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit])


def _find(pattern: str, said: str) -> tuple[str, ...]:
    if found := re.search(pattern, said):
        return found.groups()
    raise RuntimeError(f"wrk did not say {pattern!r}; it said: {said}")


def _lines(home: Path) -> int:
    """Return how many request lines lie in the log files under `home`."""
    return sum(
        sum(b'"event":"request"' in line or b"HTTP/1.1" in line for line in path.open("rb"))
        for path in home.rglob("*.log")
    )


def _result(framework: str, measured: dict[Server, list[Run]], lines: dict[Server, int]) -> Result:
    rates = {server: spread([run.requests_per_second for run in runs]) for server, runs in measured.items()}
    tails = {server: spread([run.slowest_hundredth_ms for run in runs]).median for server, runs in measured.items()}
    rows = [
        [
            server.label,
            f"{rate.median:,.0f}",
            f"{rate.lower_quartile:,.0f} .. {rate.upper_quartile:,.0f}",
            f"{rate.median / rates[BARE].median:.2f}",
            f"{rate.median / rates[WITH_ACCESS_LOG].median:.2f}",
            f"{tails[server]:.1f}",
            f"{sum(run.requests for run in measured[server]):,} requests, {max(0, lines[server]):,} lines",
        ]
        for server, rate in rates.items()
    ]
    parser = "httptools" if find_spec("httptools") else "h11"
    loop = "uvloop" if find_spec("uvloop") else "asyncio"
    return Result(
        name=f"server_throughput_{framework}",
        title=f"Requests per second, {NAMES[framework]}, {ROUTES} routes, one uvicorn process",
        columns=("server", "per second", "quartiles", "x bare", "x access log", "p99 ms", "evidence"),
        rows=rows,
        unit="requests per second",
        bars=[
            Bar(server.label, rate.median, rate.low, rate.high, server.rung == "ours") for server, rate in rates.items()
        ],
        notes=[
            f"wrk, {CONNECTIONS} connections, {len(measured[BARE])} interleaved runs of {RUN_SECONDS} s each; "
            f"uvicorn on {loop} with {parser}. All answers 200.",
            "Our canonical line replaces uvicorn's access log, which is therefore off next to it.",
        ],
        data={server.label: asdict(rate) for server, rate in rates.items()},
    )


if __name__ == "__main__":
    main()
