"""Run every benchmark and write the results: `python -m benchmarks [--quick]`."""

from __future__ import annotations

import argparse

from . import (
    calls,
    cells_scrape,
    errors,
    log_calls,
    log_files,
    pieces,
    report,
    request_overhead,
    server_throughput,
    tasks,
)

THREADED = ("again", "ours", "correlation-id", "stack-sentry")
"""Rungs worth a long round: ours, which has a thread, and what it is judged by."""


def main() -> None:
    """Run all questions in turn, the framework ladders first."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a first idea in about five minutes")
    quick = ["--quick"] if parser.parse_args().quick else []
    for framework in ("starlette", "fastapi", "litestar", "quart", "aiohttp", "flask", "django"):
        request_overhead.main(["--framework", framework, *quick])
    request_overhead.main(["--rooms", *quick])
    request_overhead.main(["--long", *quick, "--only", *THREADED])
    server_throughput.main(quick)
    cells_scrape.main(quick)
    pieces.main(quick)
    errors.main(quick)
    calls.main(quick)
    tasks.main(quick)
    log_calls.main(quick)
    log_files.main(quick)
    print(f"\nWritten to {report.RESULTS}/")


if __name__ == "__main__":
    main()
