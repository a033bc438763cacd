"""``monitoring logs explain`` and ``monitoring logs level``: where a line would go, and changing that for a while."""

from __future__ import annotations

import argparse
import json
import math
from typing import Any, Final

from ..cells import FolderUnusable
from ..config import Config, ConfigError
from ..logs.levels import LEVELS, Levels
from ..monitor import Monitoring, folder_of
from .apps import import_app

_DEFAULT: Final = "default"


def add_to(commands: Any) -> None:
    """Add the two commands; ``monitoring logs`` itself reads lines."""
    explain = commands.add_parser("logs explain", help="print where a line would go, and why")
    _add_app(explain)
    explain.add_argument("logger", nargs="?", default="", help="name of a logger (default: the root)")
    explain.add_argument("--level", choices=LEVELS, default="info", help="level of the line (default: info)")
    explain.add_argument("--json", action="store_true", help="print JSON instead of text")
    explain.set_defaults(run=_explain)
    level = commands.add_parser("logs level", help="change a log level in all running workers of this host")
    _add_app(level)
    level.add_argument("level", choices=[*LEVELS, _DEFAULT], help=f"the level, or {_DEFAULT}, which ends a change")
    level.add_argument("logger", nargs="?", default="", help="name of a logger (default: all)")
    level.add_argument("--minutes", type=float, default=15.0, help="how long it holds (default: 15)")
    level.set_defaults(run=_set_level)


def joined(arguments: list[str]) -> list[str]:
    """Return the arguments with ``logs explain`` and ``logs level`` as one word each."""
    if arguments[:1] == ["logs"] and arguments[1:2] in (["explain"], ["level"]):
        return [" ".join(arguments[:2]), *arguments[2:]]
    return arguments


def _add_app(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--app", help="import this first, such as myapp:app, and take its settings (default: MONITORING_* variables)"
    )


def _explain(chosen: argparse.Namespace) -> int:
    monitoring = import_app(chosen.app) if chosen.app else Monitoring(Config.from_env())
    said = monitoring.explain_log(chosen.logger, chosen.level)
    if not chosen.app:
        said.append("Handlers and loggers that the app sets up in code are not known here: name it with --app.")
    print(json.dumps(said) if chosen.json else "\n".join(said))
    return 0


def _set_level(chosen: argparse.Namespace) -> int:
    if not 0 < chosen.minutes < math.inf:
        raise ConfigError(f"--minutes must be a number above 0, got {chosen.minutes}.")
    config = import_app(chosen.app).config if chosen.app else Config.from_env()
    try:
        folder = folder_of(config)
    except (OSError, FolderUnusable) as refusal:
        raise ConfigError(
            f"The workers' folder cannot be used: {refusal}; run this on their host, as their user."
        ) from None
    workers = sum(file.alive for file in folder.files())
    levels = Levels(config.log_level, config.log_levels, folder=lambda: folder.path)
    level = None if chosen.level == _DEFAULT else chosen.level
    if not levels.set(level, chosen.logger, seconds=chosen.minutes * 60):
        raise ConfigError(f"The workers' folder {folder.path} cannot be written; run this as their user.")
    what = f"{chosen.logger or 'all loggers'} of {config.service}"
    print(f"{what}: {'as configured again' if level is None else f'{level} for {chosen.minutes:g} minutes'}.")
    if workers:
        print(f"{workers} running process{'es' if workers > 1 else ''} of this host will follow within two seconds.")
    else:
        print("No running process was found: it will hold for one that starts meanwhile. Is the service's name right?")
    return 0
