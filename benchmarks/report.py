"""How every result is shown: a table on stdout, a JSON file and an SVG picture, with the machine they came from."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "starlette",
    "fastapi",
    "flask",
    "django",
    "uvicorn",
    "httptools",
    "uvloop",
    "prometheus-client",
    "structlog",
    "orjson",
    "asgi-correlation-id",
    "prometheus-fastapi-instrumentator",
    "opentelemetry-sdk",
    "opentelemetry-instrumentation-asgi",
    "opentelemetry-instrumentation-genai-openai",
    "opentelemetry-instrumentation-google-genai",
    "opentelemetry-instrumentation-ollama",
    "django-prometheus",
    "sentry-sdk",
)


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of the picture; `low` and `high` are its interval, in the unit of the picture."""

    label: str
    value: float
    low: float
    high: float
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to one question, ready to be shown."""

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    unit: str
    bars: Sequence[Bar] = ()
    notes: Sequence[str] = ()
    data: dict[str, Any] = field(default_factory=dict)


def publish(result: Result) -> None:
    """Print the table, and write `results/NAME.json` and, where there are bars, `results/NAME.svg`."""
    where = machine()
    print(f"\n{result.title}\n")
    print(table(result.columns, result.rows))
    for note in result.notes:
        print(f"  {note}")
    print(f"  {describe(where)}", flush=True)
    RESULTS.mkdir(exist_ok=True)
    document = {"machine": where, **asdict(result)}
    (RESULTS / f"{result.name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if result.bars:
        (RESULTS / f"{result.name}.svg").write_text(picture(result, describe(where)), encoding="utf-8")


def machine() -> dict[str, Any]:
    """Return what a figure depends on: processor, Python, packages, and the load of the last minute."""
    return {
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "load": round(os.getloadavg()[0], 2),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def describe(where: dict[str, Any]) -> str:
    """Return the machine in one line."""
    frameworks = ", ".join(
        f"{name} {where['packages'][name]}" for name in ("starlette", "uvicorn") if name in where["packages"]
    )
    busy = " (not quiet: the figures are rough)" if where["load"] > where["cpus"] else ""
    return f"{where['cpus']} x {where['processor']}, {where['python']}, {frameworks}, load {where['load']}{busy}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned text: the first and last column to the left, figures to the right."""
    widths = [max(len(row[place]) for row in (columns, *rows)) for place in range(len(columns))]
    last = len(columns) - 1

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if place in (0, last) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  " + "  ".join(padded).rstrip()

    return "\n".join([line(columns), line(["-" * width for width in widths]), *map(line, rows)])


# --- the picture ------------------------------------------------------------------------------------------------------

WIDTH, LABELS, FIGURES, ROW, TOP = 900, 320, 80, 26, 48
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600; font-size: 15px } .small { font-size: 11px; fill: #6e7781 }
  .bar { fill: #8c959f } .ours { fill: #0a7f5a } .interval { stroke: #24292f; stroke-width: 1.5 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #8d96a0 }
    .bar { fill: #6e7681 } .ours { fill: #2ea77f } .interval { stroke: #e6edf3 }
  }
"""


def picture(result: Result, footer: str) -> str:
    """Return horizontal bars with their intervals as an SVG that reads on light and on dark ground."""
    scale = (WIDTH - LABELS - FIGURES) / max(bar.high for bar in result.bars)
    height = TOP + ROW * len(result.bars) + 34
    bars = [_bar(bar, TOP + ROW * place, scale) for place, bar in enumerate(result.bars)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            f"<title>{escape(result.title)}</title>",
            f"<style>{STYLE}</style>",
            f'<text class="title" x="8" y="22">{escape(result.title)}</text>',
            f'<text class="small" x="8" y="39">{escape(result.unit)}; the line is the 95 % interval</text>',
            *bars,
            f'<text class="small" x="8" y="{height - 10}">{escape(footer)}</text>',
            "</svg>\n",
        ]
    )


def _bar(bar: Bar, top: int, scale: float) -> str:
    left, right = (LABELS + max(0.0, edge) * scale for edge in (bar.low, bar.high))
    length = max(1.0, bar.value * scale)
    middle = top + ROW / 2
    return (
        f'<text x="{LABELS - 8}" y="{middle + 4:.0f}" text-anchor="end">{escape(bar.label)}</text>'
        f'<rect class="{"ours" if bar.ours else "bar"}" x="{LABELS}" y="{top + 4}" width="{length:.1f}" height="18"/>'
        f'<line class="interval" x1="{left:.1f}" x2="{right:.1f}" y1="{middle:.0f}" y2="{middle:.0f}"/>'
        f'<text x="{max(right, LABELS + length) + 8:.1f}" y="{middle + 4:.0f}">{_figure(bar.value)}</text>'
    )


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 2 else f"{value:.2f}"
