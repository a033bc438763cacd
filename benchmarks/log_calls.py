"""What does a line of the app's own cost, and one that is filtered out? Microseconds of CPU time, all threads."""

from __future__ import annotations

import argparse
import contextvars
import json
import logging
import multiprocessing
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from . import scratch
from .harness import Spread, spread
from .report import Bar, Result, publish

ROUNDS, LINES = 60, 2_000
FILTERED_LINES = 20_000
EVENT = "request handled"
PATH = "/items/1"
ID = "0123456789abcdef0123456789abcdef"

Say = Callable[[int], None]
"""Write that many lines."""

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")


@dataclass(frozen=True, slots=True)
class Case:
    """One way of logging. ``make`` sets it up to write to a file, and returns what writes, what is filtered, and what
    makes sure that all is on disk.
    """

    label: str
    make: Callable[[Path], tuple[Say, Say, Callable[[], object]]]
    needs: str
    ours: bool = False


def fields() -> dict[str, Any]:
    """Return the fields of each line."""
    return {"method": "GET", "path": PATH, "status": 200, "duration": 0.0123, "client": "10.0.0.1"}


def _of_structlog(log: Any) -> tuple[Say, Say]:
    def say(times: int) -> None:
        for _ in range(times):
            log.info(EVENT, method="GET", path=PATH, status=200, duration=0.0123, client="10.0.0.1")

    def filtered(times: int) -> None:
        for _ in range(times):
            log.debug(EVENT, method="GET", path=PATH, status=200)

    return say, filtered


def _of_stdlib(log: logging.Logger) -> tuple[Say, Say]:
    def say(times: int) -> None:
        for _ in range(times):
            log.info(EVENT, extra=fields())

    def filtered(times: int) -> None:
        for _ in range(times):
            log.debug(EVENT)

    return say, filtered


def _configured(path: Path, **settings: Any) -> Callable[[], None]:
    import monitoring
    from monitoring.context import current_record

    monitor = monitoring.configure(
        service="bench", log_destination=str(path), cells_folder=str(path.parent), store=None, **settings
    )
    assert monitor.edge is not None
    current_record.set(monitor.edge.begin("GET", PATH))
    monitor.log_lines.writer.start_queue()
    return monitor.log_lines.writer.flush


def ours(path: Path) -> tuple[Say, Say, Callable[[], object]]:
    """monitoring.get_logger: scrubbed, with request, trace and span IDs."""
    import monitoring

    flush = _configured(path)
    return (*_of_structlog(monitoring.get_logger("app")), flush)


def ours_unscrubbed(path: Path) -> tuple[Say, Say, Callable[[], object]]:
    """The same without scrubbing, as the peers."""
    import monitoring

    flush = _configured(path, scrub=False)
    return (*_of_structlog(monitoring.get_logger("app")), flush)


def ours_stdlib(path: Path) -> tuple[Say, Say, Callable[[], object]]:
    """logging.getLogger, through us."""
    flush = _configured(path)
    return (*_of_stdlib(logging.getLogger("app")), flush)


def structlog_documented(path: Path) -> tuple[Say, Say, Callable[[], object]]:
    """The configuration for speed that structlog documents."""
    import orjson
    import structlog

    file = path.open("wb")
    structlog.contextvars.bind_contextvars(request_id=ID)
    structlog.configure(
        cache_logger_on_first_use=True,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        logger_factory=structlog.BytesLoggerFactory(file),
    )
    return (*_of_structlog(structlog.get_logger().bind()), file.flush)


def stdlib_json(path: Path) -> tuple[Say, Say, Callable[[], object]]:
    """logging with the JSON formatter that people write by hand."""

    class Formatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            line = {
                "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
                "level": record.levelname,
                "logger": record.name,
                "event": record.getMessage(),
                "request_id": request_id.get(),
            }
            return json.dumps({**line, **{name: getattr(record, name) for name in fields()}})

    return _stdlib_to(path, Formatter())


def python_json_logger(path: Path) -> tuple[Say, Say, Callable[[], object]]:
    """logging with python-json-logger."""
    from pythonjsonlogger.json import JsonFormatter

    return _stdlib_to(path, JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))


def _stdlib_to(path: Path, formatter: logging.Formatter) -> tuple[Say, Say, Callable[[], object]]:
    handler = logging.FileHandler(path)
    handler.setFormatter(formatter)
    log = logging.getLogger("app")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    request_id.set(ID)
    return (*_of_stdlib(log), handler.flush)


def loguru_serialized(path: Path) -> tuple[Say, Say, Callable[[], object]]:
    """loguru with serialize=True."""
    from loguru import logger

    logger.remove()
    logger.add(path, serialize=True, level="INFO")
    log = logger.bind(request_id=ID)

    def say(times: int) -> None:
        for _ in range(times):
            log.bind(method="GET", path=PATH, status=200, duration=0.0123, client="10.0.0.1").info(EVENT)

    def filtered(times: int) -> None:
        for _ in range(times):
            log.debug(EVENT)

    return say, filtered, lambda: None


CASES = (
    Case("monitoring.get_logger", ours, "monitoring", ours=True),
    Case("the same, scrub=False", ours_unscrubbed, "monitoring", ours=True),
    Case("logging through monitoring", ours_stdlib, "monitoring", ours=True),
    Case("structlog, documented for speed", structlog_documented, "structlog"),
    Case("logging, JSON by hand", stdlib_json, "json"),
    Case("logging, python-json-logger", python_json_logger, "pythonjsonlogger"),
    Case("loguru, serialize=True", loguru_serialized, "loguru"),
)


class Worker:
    """A process that logs in one way."""

    def __init__(self, case: Case) -> None:
        self._connection, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_work, args=(theirs, CASES.index(case)), daemon=True
        )
        self._process.start()
        self._connection.recv()

    def round(self) -> tuple[float, float]:
        """Return the microseconds of a line, and of a filtered one."""
        self._connection.send(True)
        measured: tuple[float, float] = self._connection.recv()
        return measured

    def end(self) -> int:
        """End it, and return how many lines are in its file."""
        self._connection.send(False)
        lines: int = self._connection.recv()
        self._process.join()
        return lines


def _work(connection: Connection, place: int) -> None:
    with scratch.folders() as environment:
        os.environ.update(environment)
        path = scratch.on_disk("lines.log")
        say, filtered, flush = CASES[place].make(path)
        say(LINES)
        connection.send("warm")
        while connection.recv():
            connection.send((_microseconds(say, LINES, flush), _microseconds(filtered, FILTERED_LINES, flush)))
        connection.send(path.read_bytes().count(b"\n"))


def _microseconds(say: Say, times: int, flush: Callable[[], object]) -> float:
    started = time.process_time()
    say(times)
    flush()
    return (time.process_time() - started) / times * 1e6


@dataclass(frozen=True, slots=True)
class Measured:
    """What one way of logging costs."""

    case: Case
    line: Spread
    least: float
    filtered: float
    lines: int


def measure(cases: Sequence[Case], rounds: int) -> list[Measured]:
    """Run rounds of every case in shuffled order, one process at a time."""
    workers = {case.label: Worker(case) for case in cases}
    samples: dict[str, list[tuple[float, float]]] = {case.label: [] for case in cases}
    chance = random.Random(1)
    for _ in range(rounds):
        for label in chance.sample(list(workers), len(workers)):
            samples[label].append(workers[label].round())
    return [
        Measured(
            case,
            spread([line for line, _ in samples[case.label]]),
            min(line for line, _ in samples[case.label]),
            statistics.median(filtered for _, filtered in samples[case.label]),
            workers[case.label].end(),
        )
        for case in cases
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every case and publish the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.log_calls", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a third of the rounds: a first idea")
    rounds = ROUNDS // 3 if parser.parse_args(arguments).quick else ROUNDS
    measured = measure([case for case in CASES if find_spec(case.needs)], rounds)
    wanted = LINES * (rounds + 1)
    publish(
        Result(
            name="log_calls",
            title="What a line of the app's own costs",
            columns=("way", "least", "median", "filtered out", "on disk", ""),
            rows=[
                [
                    one.case.label,
                    f"{one.least:.2f}",
                    f"{one.line.median:.2f}",
                    f"{one.filtered:.2f}",
                    "all" if one.lines == wanted else f"{one.lines} of {wanted}",
                    "",
                ]
                for one in measured
            ],
            unit="microseconds of CPU time per line",
            bars=[Bar(one.case.label, one.line.median, one.line.low, one.line.high, one.case.ours) for one in measured],
            notes=[
                f"{rounds} rounds of {LINES} lines with five fields, each way in a process of its own, to a file on",
                "disk. `least` is the least disturbed round. Ours carry three IDs and the service; the peers one ID.",
            ],
            data={
                one.case.label: {"least": one.least, "median": one.line.median, "filtered": one.filtered}
                for one in measured
            },
        )
    )


if __name__ == "__main__":
    main()
