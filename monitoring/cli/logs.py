"""``monitoring logs``: the lines that the pack has written, from files and their rotated ones."""

from __future__ import annotations

import argparse
import math
import os
import re
import stat
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from typing import Any, Final

import orjson

from ..config import Config, ConfigError
from ..logs.levels import LEVELS
from ..logs.pretty import pretty, visible
from ..logs.reading import WINDOW_SECONDS, Log, Timed, follow, lines_of, merged, object_of
from ..logs.retention import Rotated, rotated_files
from ..logs.selection import Selection, Selector

_RELATIVE: Final = re.compile(r"-?([0-9]{1,9})(s|m|h|d)", re.ASCII)
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LOOK_SECONDS: Final = 0.2
_LINES_BEFORE_FOLLOWING: Final = 10
_STDIN: Final = "-"
_INTERRUPTED: Final = 130

_EXAMPLES: Final = f"""\
Lines of several files and workers are merged by time; one that is late by more than {WINDOW_SECONDS:.0f} s comes out
late. With each file its rotated ones are read, such as app.log.20261124T101226.123456Z and the same with .gz.
A line without a time has that of the line before it. Lines that are no JSON objects are shown as text, with control
characters as escapes, and with --json as {{"event": "the text", "raw": true}}.

examples:
  monitoring logs app.log --level warning --since 1h
  monitoring logs app.log --follow --logger app.billing
  monitoring logs app.log --request 4bf92f3577b34da6
  monitoring logs web-1.log web-2.log --where status=500 --where method=POST --limit 20
  monitoring logs app.log --event 'charge *' --since 2026-11-24T10:00:00Z --until 2026-11-24T11:00:00Z --json | jq .
  kubectl logs deploy/web | monitoring logs - --user ada
"""

Write = Callable[[bytes], object]


def add_to(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "logs",
        help="read log files: merged by time, filtered, followed",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="log files, - for standard input (default: MONITORING_LOG_DESTINATION)"
    )
    parser.add_argument("--request", default="", metavar="ID", help="ID of a request or trace, or 8 characters of it")
    parser.add_argument("--user", default="", metavar="ID", help="user of the request")
    parser.add_argument("--level", default="", choices=[*LEVELS], help="the lowest level to show")
    parser.add_argument("--event", default="", help="the event, or a pattern such as 'charge *'")
    parser.add_argument("--logger", default="", help="what the logger's name begins with")
    parser.add_argument("--grep", default="", metavar="TEXT", help="a text in the line as it is written")
    parser.add_argument(
        "--where", action="append", default=[], metavar="FIELD=VALUE", help="a field's value; a.b for one within"
    )
    parser.add_argument("--since", metavar="TIME", help="such as 15m, 1h, 7d, or 2026-11-24T10:00:00Z")
    parser.add_argument("--until", metavar="TIME", help="the same")
    parser.add_argument("--limit", type=_count, metavar="N", help="the last N lines only")
    parser.add_argument(
        "--follow",
        "-f",
        action="store_true",
        help=f"go on with new lines; before them the last {_LINES_BEFORE_FOLLOWING} of FILE itself, "
        "or what --since or --limit says",
    )
    parser.add_argument("--json", action="store_true", help="print the lines exactly as they were written")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Print the lines; the exit status is 1 when a file could not be read."""
    selection = selection_of(chosen, time.time())
    reading = _Reading(_each_once(chosen.files or [_default_file()]), selection, chosen.follow)
    show = _json if chosen.json else partial(_pretty, colours=_has_colours())
    try:
        for line in reading.lines(chosen.limit):
            reading.write(show(line.text))
        sys.stdout.buffer.flush()
    except KeyboardInterrupt:
        sys.stdout.buffer.flush()
        return 0 if chosen.follow else _INTERRUPTED
    finally:
        reading.close()
    return int(reading.has_failed)


def selection_of(chosen: argparse.Namespace, now: float) -> Selection:
    """Return what the options ask for at ``now`` (unix seconds). Raise ConfigError for one that cannot be used."""
    since = _moment("--since", chosen.since, now, -math.inf)
    until = _moment("--until", chosen.until, now, math.inf)
    if since > until:
        raise ConfigError(f"--since {chosen.since} is after --until {chosen.until}; give an earlier --since.")
    return Selection(
        request=chosen.request,
        user=chosen.user,
        level=chosen.level,
        event=chosen.event,
        logger=chosen.logger,
        grep=chosen.grep,
        where=tuple(map(_condition, chosen.where)),
        since=since,
        until=until,
    )


class _Reading:
    """The lines of files and standard input. Raise ConfigError for what cannot be read in this way."""

    def __init__(self, files: Sequence[str], selection: Selection, follows: bool) -> None:
        for file in files:
            _check(file, follows)
        streams = [file for file in files if _is_stream(file)]
        if follows and streams:
            raise ConfigError(f"{streams[0]} cannot be followed; leave --follow out: it is read until it ends.")
        self.has_failed = False
        self._selection = selection
        self._follows = follows
        self._logs = [Log(file, self._complain) for file in files if file not in streams]
        self._streams = streams
        self._is_live = len(files) == len(streams) == 1
        """Whether lines are printed as they come, in the order of a single stream."""

    def lines(self, limit: int | None) -> Iterator[Timed]:
        """Yield what is there, the last ``limit`` lines of it, and then what comes."""
        selectors = [Selector(self._selection) for _ in self._logs]
        since = self._selection.since
        if limit is None and self._follows and since == -math.inf:
            limit, since = _LINES_BEFORE_FOLLOWING, math.inf  # no rotated file is read for these
        present = self._present(selectors, since)
        yield from present if limit is None else deque(present, maxlen=limit)
        if self._follows:
            yield from follow(self._logs, selectors, _wait)

    def write(self, text: bytes) -> None:
        """Write a line to standard output."""
        sys.stdout.buffer.write(text + b"\n")
        if self._is_live:
            sys.stdout.buffer.flush()

    def close(self) -> None:
        """Close the files."""
        for log in self._logs:
            log.close()

    def _present(self, selectors: Sequence[Selector], since: float) -> Iterator[Timed]:
        sources = [selector(self._lines_of(log, since)) for log, selector in zip(self._logs, selectors, strict=True)]
        sources += [Selector(self._selection)(_stream_lines(stream)) for stream in self._streams]
        return sources[0] if self._is_live else merged(sources)

    def _lines_of(self, log: Log, since: float) -> Iterable[bytes]:
        lines = log.lines(since)
        return lines if self._follows else chain(lines, log.rest())

    def _complain(self, sentence: str) -> None:
        self.has_failed = True
        print(f"monitoring logs: {sentence}", file=sys.stderr)


def _wait() -> bool:
    sys.stdout.buffer.flush()
    time.sleep(_LOOK_SECONDS)
    return True


def _json(line: bytes) -> bytes:
    if object_of(line) is not None:
        return line
    return orjson.dumps({"event": line.decode("utf-8", "replace"), "raw": True})


def _pretty(line: bytes, colours: bool) -> bytes:
    found = object_of(line)
    text = pretty(found, colours) if found is not None else visible(line.decode("utf-8", "backslashreplace"))
    return text.encode(sys.stdout.encoding or "utf-8", "backslashreplace")


def _has_colours() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _default_file() -> str:
    destination = Config.from_env().log_destination
    if destination in ("stdout", "stderr"):
        raise ConfigError(
            f"There is no file to read: MONITORING_LOG_DESTINATION is {destination!r}; "
            "name log files, or - for standard input."
        )
    return destination


def _check(file: str, follows: bool) -> None:
    if file == _STDIN or os.path.exists(file):
        if os.path.isdir(file):
            raise ConfigError(f"{file} is a folder; name a log file in it.")
    elif not follows and not _rotated(file):
        raise ConfigError(f"There is no log {file}; name a file that exists, or add --follow to wait for it.")


def _each_once(files: Sequence[str]) -> list[str]:
    """Return files without those that are read with another, as a shell's ``app.log*`` names them."""
    rotated = {one.path for file in files for one in _rotated(file)}
    return [file for file in dict.fromkeys(files) if os.path.realpath(file) not in rotated]


def _rotated(file: str) -> list[Rotated]:
    try:
        return rotated_files(os.path.realpath(file))
    except OSError:
        return []


def _is_stream(file: str) -> bool:
    """Whether a source is read once and in order, such as a pipe."""
    return file == _STDIN or (os.path.exists(file) and not stat.S_ISREG(os.stat(file).st_mode))


def _stream_lines(file: str) -> Iterator[bytes]:
    if file == _STDIN:
        yield from lines_of(sys.stdin.buffer)
    else:
        with open(file, "rb") as stream:
            yield from lines_of(stream)


def _moment(option: str, text: str | None, now: float, default: float) -> float:
    if text is None:
        return default
    if relative := _RELATIVE.fullmatch(text):
        return now - int(relative[1]) * _UNIT_SECONDS[relative[2]]
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ConfigError(
            f"{option} must be a time such as 15m, 1h, 7d or 2026-11-24T10:00:00Z, got {text!r}."
        ) from None


def _condition(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ConfigError(f"--where must be a field and its value such as status=500, got {text!r}.")
    return name, value


def _count(text: str) -> int:
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"must be a number from 1, got {text!r}")
