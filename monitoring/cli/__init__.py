"""The ``monitoring`` command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .. import __version__
from ..config import ConfigError
from . import dashboard, demo, doctor, lists, log_levels, logs

_COMMANDS = (demo, dashboard, lists, logs, log_levels, doctor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (by default the process's) and return its exit status."""
    parser = _parser()
    chosen = parser.parse_args(log_levels.joined(list(sys.argv[1:] if arguments is None else arguments)))
    if chosen.command is None:
        parser.print_help()
        return 2
    try:
        status: int = chosen.run(chosen)
        sys.stdout.flush()
    except ConfigError as error:
        print(f"monitoring {chosen.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, such as head, has enough; what is left has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="monitoring", description="Monitoring for Python web apps.")
    parser.add_argument("--version", action="version", version=f"monitoring-kit {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    for module in _COMMANDS:
        module.add_to(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
