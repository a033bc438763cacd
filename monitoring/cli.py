"""The ``monitoring`` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from . import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (by default the process's) and return its exit status."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if chosen.command is None:
        parser.print_help()
        return 2
    return _demo(chosen)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="monitoring", description="Monitoring for Python web apps.")
    parser.add_argument("--version", action="version", version=f"monitoring-kit {__version__}")
    commands = parser.add_subparsers(dest="command")
    demo = commands.add_parser("demo", help="serve a small real app under traffic, monitored")
    demo.add_argument("--port", type=int, default=8000, help="port of the app (default %(default)s)")
    demo.add_argument("--workers", type=int, default=2, help="worker processes (default %(default)s)")
    demo.add_argument("--duration", type=float, default=None, help="seconds to run (default: until Ctrl-C)")
    demo.add_argument("--rate", type=float, default=30.0, help="requests per second (default %(default)s)")
    demo.add_argument("--no-traffic", action="store_true", help="serve the app without generated traffic")
    return parser


def _demo(chosen: argparse.Namespace) -> int:
    try:
        from .demo.run import run
    except ImportError as missing:
        print(f"The demo needs {missing.name}: pip install 'monitoring-kit[demo]'", file=sys.stderr)
        return 1
    return run(
        port=chosen.port,
        workers=chosen.workers,
        duration=chosen.duration,
        rate=chosen.rate,
        traffic=not chosen.no_traffic,
    )


if __name__ == "__main__":
    sys.exit(main())
