"""The Prometheus exposition: classic text or OpenMetrics, whichever the scraper asks for.

Cells are written here, with label strings made once per series, because the library's renderer costs twenty times as
much; what the app registered with prometheus_client itself is written by that library.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Final

import psutil
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from .cells import Declaration, MetricTotals, Total, Totals
from .cells.scale import fine_bounds

CLASSIC: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_EOF: Final = b"# EOF\n"
_SERIES_REMEMBERED: Final = 50_000
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_WRITTEN_PER_WORKER: Final = frozenset(
    {"process_cpu_seconds", "process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds"}
)
"""Families of the library that describe one process: they are written here, for all of them."""


def wants_openmetrics(accept: str) -> bool:
    """Say whether an ``Accept`` header prefers OpenMetrics to the classic text format."""
    weights = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for part in accept.lower().split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        if media in weights:
            weights[media] = max(weights[media], _weight(parameters))
    return weights["application/openmetrics-text"] >= max(weights["text/plain"], 0.001)


class Exposition:
    """Writes totals as text. Thread-safe under the GIL: the remembered strings are only ever the same."""

    def __init__(self) -> None:
        self._foreign_failed = False
        self._prefixes: dict[Hashable, list[str]] = {}

    def render(self, totals: Totals, *, openmetrics: bool) -> bytes:
        """Return the exposition of the cells, of the service's processes and of prometheus_client's own registry."""
        lines: list[str] = []
        for name in sorted(totals.metrics):
            self._write(lines, totals.metrics[name], openmetrics)
        workers = sorted({header.pid for header in totals.living})
        foreign = self._render_foreign(len(workers) > 1, openmetrics)
        processes = _render_families(_process_families(workers), openmetrics)
        end = _EOF if openmetrics else b""
        return "".join(lines).encode() + processes + foreign + end

    def _render_foreign(self, several_workers: bool, openmetrics: bool) -> bytes:
        try:
            return _render_foreign(several_workers, openmetrics)
        except Exception as error:
            if not self._foreign_failed:
                self._foreign_failed = True
                logging.getLogger("monitoring").error("a collector of the app's own failed at a scrape", exc_info=error)
            return b""

    def _write(self, lines: list[str], metric: MetricTotals, openmetrics: bool) -> None:
        declaration = metric.declaration
        family = declaration.name
        if openmetrics and declaration.kind == "counter":
            family = family.removesuffix("_total")
        lines.append(
            f"# HELP {family} {_escape_help(declaration.help, openmetrics)}\n# TYPE {family} {declaration.kind}\n"
        )
        for values, total in sorted(metric.series.items()):
            prefixes = self._prefixes_of(declaration, values)
            if declaration.kind == "histogram":
                lines.extend(_histogram_lines(declaration, total, prefixes))
            else:
                lines.append(f"{prefixes[0]}{total.value!r}\n")

    def _prefixes_of(self, declaration: Declaration, values: tuple[str, ...]) -> list[str]:
        key = (declaration.name, declaration.labels, declaration.le, values)
        prefixes = self._prefixes.get(key)
        if prefixes is None:
            if len(self._prefixes) >= _SERIES_REMEMBERED:
                self._prefixes.clear()
            prefixes = self._prefixes[key] = list(_prefixes(declaration, values))
        return prefixes


class CellCollector(Collector):
    """The cells as prometheus_client families, for an app that serves a registry of its own."""

    def __init__(self, totals: Totals) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        """Yield a family for each metric."""
        for name in sorted(self._totals.metrics):
            metric = self._totals.metrics[name]
            declaration = metric.declaration
            family = Metric(name.removesuffix("_total"), declaration.help, declaration.kind)
            for values, total in sorted(metric.series.items()):
                labels = dict(zip(declaration.labels, values))
                if declaration.kind != "histogram":
                    family.add_sample(name, labels, total.value)
                    continue
                for bound, count in zip([*declaration.le, float("inf")], _cumulative(declaration, total)):
                    le = "+Inf" if bound == float("inf") else repr(bound)
                    family.add_sample(f"{name}_bucket", {**labels, "le": le}, count)
                family.add_sample(f"{name}_count", labels, total.count())
                family.add_sample(f"{name}_sum", labels, total.value)
            yield family


def _prefixes(declaration: Declaration, values: tuple[str, ...]) -> Iterator[str]:
    name = declaration.name
    pairs = [f'{label}="{value.translate(_ESCAPES)}"' for label, value in zip(declaration.labels, values)]
    labels = f"{{{','.join(pairs)}}}" if pairs else ""
    if declaration.kind != "histogram":
        yield f"{name}{labels} "
        return
    for bound in [*map(repr, declaration.le), "+Inf"]:
        joined = ",".join([*pairs, f'le="{bound}"'])
        yield f"{name}_bucket{{{joined}}} "
    yield f"{name}_count{labels} "
    yield f"{name}_sum{labels} "


def _histogram_lines(declaration: Declaration, total: Total, prefixes: list[str]) -> Iterator[str]:
    cumulative = _cumulative(declaration, total)
    values = [*cumulative, cumulative[-1], total.value]
    return (f"{prefix}{value!r}\n" for prefix, value in zip(prefixes, values))


def _cumulative(declaration: Declaration, total: Total) -> list[float]:
    """Return the counts up to each exposed bound and up to +Inf: plain sums of fine buckets, whose bounds hold each
    of them.
    """
    bounds = fine_bounds(declaration.unit, declaration.le)
    counts = sorted(total.counts().items())
    cumulative = []
    seen, position = 0.0, 0
    for le in declaration.le:
        while position < len(counts) and counts[position][0] < len(bounds) and bounds[counts[position][0]] <= le:
            seen += counts[position][1]
            position += 1
        cumulative.append(seen)
    return [*cumulative, seen + sum(count for _, count in counts[position:])]


def _process_families(workers: list[int]) -> Iterator[Metric]:
    """Yield what the living processes use, each under its ``worker`` label: the operating system knows it of all of
    them.
    """
    cpu = Metric("process_cpu_seconds", "CPU time of a worker process, user and system.", "counter")
    resident = Metric("process_resident_memory_bytes", "Resident memory of a worker process.", "gauge")
    threads = Metric("process_threads", "Threads of a worker process.", "gauge")
    descriptors = Metric("process_open_fds", "Open file descriptors of a worker process.", "gauge")
    started = Metric("process_start_time_seconds", "Start of a worker process in unix seconds.", "gauge")
    for pid in workers:
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                times, labels = process.cpu_times(), {"worker": str(pid)}
                cpu.add_sample("process_cpu_seconds_total", labels, times.user + times.system)
                resident.add_sample(resident.name, labels, process.memory_info().rss)
                threads.add_sample(threads.name, labels, process.num_threads())
                started.add_sample(started.name, labels, process.create_time())
                if hasattr(process, "num_fds"):
                    descriptors.add_sample(descriptors.name, labels, process.num_fds())
        except psutil.Error:  # it ended just now, or lives in another container
            continue
    yield from (cpu, resident, threads, descriptors, started)


def _render_foreign(several_workers: bool, openmetrics: bool) -> bytes:
    """Render what the app registered with prometheus_client itself.

    Those numbers are of the answering process only, so with several workers they carry a ``worker`` label, unless
    that library's own multiprocess mode is on.
    """
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        families: Iterable[Metric] = registry.collect()
    else:
        families = REGISTRY.collect()
    label = {"worker": str(os.getpid())} if several_workers and "PROMETHEUS_MULTIPROC_DIR" not in os.environ else {}
    kept = (_labelled(family, label) for family in families if family.name not in _WRITTEN_PER_WORKER)
    return _render_families(kept, openmetrics)


def _render_families(families: Iterable[Metric], openmetrics: bool) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Families(families))
    if not openmetrics:
        return generate_latest(registry)
    rendered: bytes = generate_openmetrics(registry)  # type: ignore[no-untyped-call]
    return rendered.removesuffix(_EOF)


class _Families(Collector):
    """Families that were collected already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = [family for family in families if family.samples]

    def collect(self) -> Iterable[Metric]:
        """Return them."""
        return self._families


def _labelled(family: Metric, extra: Mapping[str, str]) -> Metric:
    if not extra:
        return family
    labelled = Metric(family.name, family.documentation, family.type, family.unit)
    labelled.samples = [
        Sample(sample.name, {**sample.labels, **extra}, sample.value, sample.timestamp, sample.exemplar)
        for sample in family.samples
    ]
    return labelled


def _weight(parameters: Iterable[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def _escape_help(text: str, openmetrics: bool) -> str:
    escaped = text.replace("\\", r"\\").replace("\n", r"\n")
    return escaped.replace('"', r"\"") if openmetrics else escaped
