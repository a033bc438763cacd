"""Explaining where a line would go, and why."""

from __future__ import annotations

import logging

from .levels import LEVELS, LevelError
from .lines import LogLines
from .outlets import Route


def explain(lines: LogLines, logger: str = "", level: str = "info") -> list[str]:
    """Return, as sentences, whether a line of this logger and level is written, where it goes, and what is in its way.

    Structlog and stdlib loggers are told together: they share names and lines. Raise LevelError for a level that does
    not exist.
    """
    if level not in LEVELS:
        raise LevelError(f"level must be one of {', '.join(LEVELS)}, got {level!r}.")
    found, why = lines.levels.explain(logger)
    said = [f"{logger or 'The root logger'} writes from {found} on ({why}): a line of level {level} is "]
    if LEVELS[level] < LEVELS[found]:
        said[0] += "held until its request fails." if lines.hold else "not written."
        return [*said, *_stdlib_exception(lines, logger, level), *_stdlib_obstacles(logger, level)]
    said[0] += "written."
    if lines.sample_rate < 1 and LEVELS[level] < LEVELS["warning"]:
        said.append(f"Of requests, {lines.sample_rate:.0%} write lines of this level.")
    said.append(f"It goes to {lines.writer.destination}.")
    return [*said, *(_way(route, logger, level) for route in lines.routes), *_stdlib_obstacles(logger, level)]


def _way(route: Route, logger: str, level: str) -> str:
    kind = repr(route.handler)
    if LEVELS[level] < route.floor:
        return f"It does not go to {kind}: that takes lines from {route.handler.level} on."
    if reason := route.leaves_out(logger):
        return f"It does not go to {kind}: {reason}."
    return f"It goes to {kind}{', if its filter says yes to the line' if route.where is not None else ''}."


def _stdlib_exception(lines: LogLines, name: str, level: str) -> list[str]:
    """Return that a stdlib logger writes what is below our level, where the app has set one of its own."""
    logger = logging.getLogger(name)
    if lines.hold or logger.disabled or not logger.isEnabledFor(LEVELS[level]):
        return []
    standing = logging.getLevelName(logger.getEffectiveLevel())
    return [f"As a stdlib logger it is set to {standing} by the app, and writes it."]


def _stdlib_obstacles(name: str, level: str) -> list[str]:
    """Return what keeps a stdlib logger's records from the root logger, where the lines are made."""
    said = []
    logger: logging.Logger | None = logging.getLogger(name)
    assert logger is not None
    if logger.disabled:
        said.append(f"The stdlib logger {name} is disabled, as by a dictConfig that does not name it: it is silent.")
    elif not logger.isEnabledFor(LEVELS[level]):
        standing = logging.getLevelName(logger.getEffectiveLevel())
        said.append(f"As a stdlib logger it is set to {standing}: less than that makes no record.")
    while logger is not None and logger.parent is not None:
        if logger.handlers:
            handlers = ", ".join(type(handler).__name__ for handler in logger.handlers)
            said.append(f"The stdlib logger {logger.name} has handlers of its own as well: {handlers}.")
        if not logger.propagate:
            said.append(f"The stdlib logger {logger.name} does not propagate: its records end there.")
            break
        logger = logger.parent
    return said
