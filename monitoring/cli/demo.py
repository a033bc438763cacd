"""``monitoring demo``: a small real app under traffic, monitored."""

from __future__ import annotations

import argparse
import sys
from typing import Any


def add_to(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("demo", help="serve a small real app under traffic, monitored")
    parser.add_argument("--port", type=int, default=8000, help="port of the app (default %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default %(default)s)")
    parser.add_argument("--duration", type=float, default=None, help="seconds to run (default: until Ctrl-C)")
    parser.add_argument("--rate", type=float, default=30.0, help="requests per second (default %(default)s)")
    parser.add_argument("--no-traffic", action="store_true", help="serve the app without generated traffic")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Run the demo and return its exit status."""
    try:
        from ..demo.run import run as run_demo
    except ImportError as missing:
        print(f"The demo needs {missing.name}: pip install 'monitoring-kit[demo]'", file=sys.stderr)
        return 1
    return run_demo(
        port=chosen.port,
        workers=chosen.workers,
        duration=chosen.duration,
        rate=chosen.rate,
        traffic=not chosen.no_traffic,
    )
