"""What does an error cost the request that it happens in, and what a request without one? Microseconds each."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import timeit
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitoring.error_groups import Grouper, InApp
from monitoring.error_tracker import CAPTURED, ErrorSettings, ErrorTracker
from monitoring.observation import RequestRecord
from monitoring.outbox import Outbox
from monitoring.utils.redaction import scrub, scrub_text

from .report import Bar, Result, publish

REPEATS = 15
FRAMES = 30
"""Frames of the error, half of them the app's: a view below a framework's stack."""

PLAIN = "could not load the proposal"
MESSAGE = "OperationalError: connection to postgresql://ada:secret@db/proposals failed, token=abc123, funder=NSF"
CONTEXT = {
    "order": 7,
    "user": {"name": "Ada", "api_key": "abc"},
    "tags": ["a", "b", "c"],
    "url": "https://example.org/x",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is timed; ``loops`` times at once."""

    label: str
    run: Callable[[], Any]
    loops: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Time every step and publish the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.errors", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a third of the repeats: a first idea")
    repeats = REPEATS // 3 if parser.parse_args(arguments).quick else REPEATS
    with tempfile.TemporaryDirectory() as folder, _raised(Path(folder)) as error:
        timed = [(step.label, _microseconds(step, repeats)) for step in _steps(folder, error)]
    publish(
        Result(
            name="errors",
            title="An error, from the request to the outbox",
            columns=("us", "quickest", "what"),
            rows=[[f"{statistics.median(us):,.2f}", f"{min(us):,.2f}", label] for label, us in timed],
            unit="microseconds, quickest to slowest",
            bars=[Bar(label, statistics.median(us), min(us), max(us), True) for label, us in timed],
            notes=[
                f"A stack of {FRAMES} frames, half of them the app's. Median of {repeats} repeats, reports included."
            ],
            data={label: [round(value, 3) for value in us] for label, us in timed},
        )
    )


def _steps(folder: str, error: BaseException) -> list[Step]:
    grouper = Grouper(InApp(folder))
    counting = _tracker(folder, first_kept=0, kept_per_second=0.0)
    keeping = _tracker(folder, first_kept=10**9, kept_per_minute=1e9, kept_per_second=1e9)
    fine = RequestRecord()
    fine.outcome = "ok"
    without = counting.folds()["request"]
    return [
        Step("request without an exception", lambda: without(fine), 20_000),
        Step("request with an error of a known group, counted only", lambda: _report(counting, error), 2_000),
        Step("request with an error that is kept whole", lambda: _report(keeping, error), 200),
        Step("fingerprint alone", lambda: grouper.of_exception(error), 2_000),
        Step("scrub a short plain text", lambda: scrub_text(PLAIN), 20_000),
        Step("scrub a message with two secrets", lambda: scrub_text(MESSAGE), 2_000),
        Step("scrub a context of nine values", lambda: scrub(CONTEXT), 2_000),
    ]


def _tracker(folder: str, **settings: Any) -> ErrorTracker:
    return ErrorTracker(Outbox(capacity=4), _ignore, _ignore, ErrorSettings(project_root=folder, **settings))


def _ignore(*_: object) -> None:
    """Do nothing, as the metric that is measured elsewhere."""


def _report(tracker: ErrorTracker, error: BaseException) -> None:
    vars(error).pop(CAPTURED, None)
    record = RequestRecord()
    record.request_id, record.route, record.outcome, record.exception = "r1", "/proposals/{id}", "server_error", error
    tracker._fold_request(record)


@contextmanager
def _raised(folder: Path) -> Iterator[BaseException]:
    """Give an error with a stack of functions of the app below functions of a library."""
    library = _written(folder / "site-packages" / "framework.py", FRAMES // 2, "call()")
    app = _written(folder / "shop.py", FRAMES // 2 - 1, "raise ValueError('no funder')")
    library["call"] = app["step_0"]
    try:
        library["step_0"]()
    except ValueError as error:
        yield error


def _written(path: Path, functions: int, last: str) -> dict[str, Any]:
    path.parent.mkdir(exist_ok=True)
    bodies = [*(f"step_{number + 1}()" for number in range(functions - 1)), last]
    path.write_text("\n".join(f"def step_{number}():\n    x = 1\n    {body}\n" for number, body in enumerate(bodies)))
    namespace: dict[str, Any] = {"__name__": path.stem}
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    return namespace


def _microseconds(step: Step, repeats: int) -> list[float]:
    step.run()
    return [seconds / step.loops * 1e6 for seconds in timeit.repeat(step.run, repeat=repeats, number=step.loops)]


if __name__ == "__main__":
    main()
