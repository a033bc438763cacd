"""How much CPU time does one request cost more? The ladder from a bare app to the stack that people assemble."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from .apps import APPS, INSTALLED, ROUTES, WSGI
from .harness import Measured, Spread, measure
from .report import Bar, Result, publish
from .variants import ASGI_LADDER, INSTALLED_LADDER, ROOMS, WSGI_LADDER, Rung, builder

COLUMNS = ("variant", "added", "quiet", "25 %", "75 %", "95 % interval", "x the stack", "evidence")
LONG_ROUND = 4_000
NAMES = {
    "starlette": "Starlette",
    "fastapi": "FastAPI",
    "litestar": "Litestar",
    "quart": "Quart",
    "aiohttp": "aiohttp.web",
    "flask": "Flask",
    "django": "Django",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one framework's ladder and publish it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.request_overhead", description=__doc__)
    parser.add_argument("--framework", choices=list(APPS), default="starlette")
    parser.add_argument("--cycles", type=int, default=60, help="rounds of each variant (default 60)")
    parser.add_argument("--requests", type=int, default=400, help="requests of a round, in hundreds (default 400)")
    parser.add_argument("--long", action="store_true", help=f"12 rounds of {LONG_ROUND}, so that threads really run")
    parser.add_argument("--quick", action="store_true", help="16 rounds of 200: a first idea")
    parser.add_argument("--rooms", action="store_true", help="what each room of ours adds to the one before")
    parser.add_argument("--only", nargs="+", metavar="KEY", help="these rungs only, next to the bare app")
    chosen = parser.parse_args(arguments)
    cycles, requests = (16, 200) if chosen.quick else (chosen.cycles, chosen.requests)
    if chosen.long:
        cycles, requests = (4 if chosen.quick else 12), LONG_ROUND
    if requests % 100:
        parser.error(f"--requests must be in hundreds, so that the mix is whole, got {requests}; for example 400.")
    ladder = _ladder(chosen.framework, chosen.rooms)
    if chosen.only:
        ladder = {key: rung for key, rung in ladder.items() if key == "bare" or key in chosen.only}
    present = [key for key, rung in ladder.items() if not rung.missing()]
    measured = measure({key: builder(chosen.framework, key) for key in present}, cycles=cycles, requests=requests)
    kind = "_rooms" * chosen.rooms + "_long" * chosen.long + "_partial" * bool(chosen.only)
    publish(_result(chosen.framework, kind, ladder, measured, cycles, requests))


def _ladder(framework: str, rooms: bool) -> dict[str, Rung]:
    if framework in WSGI:
        return WSGI_LADDER
    if rooms:
        return ROOMS
    return INSTALLED_LADDER if framework in INSTALLED else ASGI_LADDER


def _result(
    framework: str, kind: str, ladder: dict[str, Rung], measured: dict[str, Measured], cycles: int, requests: int
) -> Result:
    stack = measured["stack-sentry"].added.median if "stack-sentry" in measured else None
    return Result(
        name=f"request_overhead_{framework}{kind}",
        title=f"CPU time added per request, {NAMES[framework]}, {ROUTES} routes",
        columns=COLUMNS,
        rows=[_row(rung, measured.get(key), stack) for key, rung in ladder.items()],
        unit="microseconds of all threads, flush of deferred work included",
        bars=[
            Bar(rung.label, added.median, added.low, added.high, rung.ours)
            for key, rung in ladder.items()
            if key in measured and key != "bare"
            for added in (measured[key].added,)
        ],
        notes=[
            *_comparison(measured),
            "Microseconds of CPU time, all threads and flush, beyond the bare app in the same cycle; "
            f"median of {cycles} rounds of {requests:,}. Quiet: the same of the tenth percentiles.",
            "Mix: 97 % 200 over 1,000 ids, 2 % 404, 1 % unhandled exception; 12 headers, half with an inbound ID.",
        ],
        data={key: _plain(value) for key, value in measured.items()},
    )


def _comparison(measured: dict[str, Measured]) -> list[str]:
    if not {"ours", "correlation-id"} <= measured.keys():
        return []
    beyond = measured["ours"].beyond(measured["correlation-id"])
    return [
        f"Everything on, beyond asgi-correlation-id alone in the same cycle: {beyond.median:+.1f} us "
        f"(95 % interval {beyond.low:+.1f} .. {beyond.high:+.1f})."
    ]


def _row(rung: Rung, measured: Measured | None, stack: float | None) -> list[str]:
    if measured is None:
        return [rung.label, *[""] * (len(COLUMNS) - 2), f"not installed: {', '.join(rung.missing())}"]
    share = f"{measured.added.median / stack:.3f}" if stack else ""
    spread = measured.added
    if rung.label == "bare":
        return [rung.label, f"({measured.total.median:.1f})", "", "", "", "", "", _evidence(measured)]
    return [
        rung.label,
        f"{spread.median:.1f}",
        f"{measured.quiet:.1f}",
        f"{spread.lower_quartile:.1f}",
        f"{spread.upper_quartile:.1f}",
        f"{spread.low:.1f} .. {spread.high:.1f}",
        share,
        _evidence(measured),
    ]


def _evidence(measured: Measured) -> str:
    shown = {what: count for what, count in measured.evidence.items() if not what.startswith("replies")}
    if answered := measured.evidence.get("replies with id"):
        shown["answered with id"] = answered
    text = ", ".join([f"served {measured.served:,}", *(f"{what} {count:,}" for what, count in shown.items())])
    complete = all(shown.get(what, measured.served) == measured.served for what in ("lines", "counted"))
    return text if complete else f"INCOMPLETE: {text}"


def _plain(measured: Measured) -> dict[str, object]:
    def fields(spread: Spread) -> dict[str, float]:
        return {name: round(getattr(spread, name), 3) for name in Spread.__slots__}

    return {
        "total_us": fields(measured.total),
        "added_us": fields(measured.added),
        "quiet_us": round(measured.quiet, 3),
        "served": measured.served,
        "evidence": measured.evidence,
    }


if __name__ == "__main__":
    main()
