"""Adding cell files up: where a file's series lie, and the totals they are added to."""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import add
from typing import Final

from . import layout, scale
from .declaration import OTHER, Declaration, Merge
from .layout import Header

_MERGES: Final[Mapping[str, Callable[[float, float], float]]] = {"sum": add, "max": max, "min": min}


@dataclass(slots=True)
class Total:
    """One label set, summed: ``value`` of a counter or gauge, the sum of a histogram and its pages of fine buckets."""

    value: float = 0.0
    pages: dict[int, list[float]] = field(default_factory=dict)

    def counts(self) -> dict[int, float]:
        """Return the histogram's samples by fine bucket, empty buckets left out."""
        return {
            number * scale.PAGE + offset: count
            for number, page in self.pages.items()
            for offset, count in enumerate(page)
            if count
        }

    def count(self) -> float:
        """Return the number of a histogram's samples."""
        return sum(map(sum, self.pages.values()))

    def add_page(self, number: int, counts: list[float]) -> None:
        """Add a page of bucket counts."""
        own = self.pages.get(number)
        self.pages[number] = counts if own is None else list(map(add, own, counts))

    def add(self, other: Total, merge: Merge) -> None:
        """Add another label set's total."""
        self.value = _MERGES[merge](self.value, other.value)
        for number, counts in other.pages.items():
            self.add_page(number, counts)


@dataclass(slots=True)
class MetricTotals:
    """A metric's declaration and its label sets."""

    declaration: Declaration
    series: dict[tuple[str, ...], Total] = field(default_factory=dict)


@dataclass(slots=True)
class Totals:
    """Every metric of the service at one moment, and who was counted."""

    metrics: dict[str, MetricTotals] = field(default_factory=dict)
    living: list[Header] = field(default_factory=list)
    unreadable: int = 0
    """Files skipped because they do not parse."""

    @property
    def generation(self) -> str:
        """Return what changes when the sums begin at zero again: a restart of the service."""
        header = self.living[0] if self.living else Header(0, 0.0, "", "")
        return header.generation or f"process {header.pid}"

    def takes(self, declaration: Declaration) -> bool:
        """Say whether a metric's series can be added to those that are here already under its name."""
        known = self.metrics.get(declaration.name)
        return known is None or known.declaration.adds_up_with(declaration)

    def metric(self, declaration: Declaration) -> MetricTotals:
        """Return the metric's totals, made empty at first."""
        return self.metrics.setdefault(declaration.name, MetricTotals(declaration))


class FileIndex:
    """Where a file's series and pages lie. Parsed as far as the file went when last looked at."""

    def __init__(self) -> None:
        self.declarations: dict[int, Declaration] = {}
        self.scalars: dict[int, tuple[Declaration, tuple[str, ...], int]] = {}
        self.pages: list[tuple[Declaration, tuple[str, ...], int, int]] = []
        self.sources: set[str] = set()
        self._position = layout.HEADER_SIZE

    def parse(self, buffer: mmap.mmap, base: int = 0) -> None:
        """Index the records that were committed since the last look.

        ``base`` is where ``buffer`` starts in its file.
        """
        for record in layout.read_records(buffer, max(self._position - base, 0)):
            self._position = base + record.end
            self._add(record._replace(offset=base + record.offset, cell=base // 8 + record.cell))

    def _add(self, record: layout.Record) -> None:
        if record.kind == layout.DECLARATION:
            self.declarations[record.offset] = Declaration.from_json(record.text)
        elif record.kind == layout.SERIES:
            declaration, values = self.declarations[record.parent], json.loads(record.text)
            if not isinstance(values, list) or len(values) != len(declaration.labels):
                raise ValueError(f"{declaration.name} has the labels {declaration.labels}, not the values {values!r}.")
            if not all(isinstance(value, str) for value in values):
                raise ValueError(f"The values {values!r} of {declaration.name} are not text.")
            self.scalars[record.offset] = (declaration, tuple(values), record.cell)
        elif record.kind == layout.PAGE:
            declaration, values, _ = self.scalars[record.parent]
            self.pages.append((declaration, values, record.page, record.cell))
        else:
            self.sources.add(record.text.decode())


def add_file(totals: Totals, index: FileIndex, buffer: mmap.mmap | bytes, *, alive: bool) -> None:
    """Add the cells of one file to ``totals``; gauges of the dead do not count."""
    cells: memoryview[float] = memoryview(buffer)[: len(buffer) & ~7].cast("d")
    series: dict[tuple[str, tuple[str, ...]], Total] = {}
    for declaration, values, cell in index.scalars.values():
        if (declaration.kind == "gauge" and not alive) or not totals.takes(declaration):
            continue
        known = totals.metric(declaration).series
        total = known.get(values)
        if total is None:
            total = known[values] = Total(cells[cell])
        else:
            total.value = _MERGES[declaration.merge](total.value, cells[cell])
        series[declaration.name, values] = total
    for declaration, values, number, cell in index.pages:
        if total := series.get((declaration.name, values)):
            total.add_page(number, cells[cell : cell + scale.PAGE].tolist())  # type: ignore[arg-type]


def cap_union(metric: MetricTotals, max_series: int, max_label_values: int) -> None:
    """Fold label sets past the caps into ``(other)``, in sorted order, so that every process answers the same."""
    declaration = metric.declaration
    limits = [declaration.limits.get(label, max_label_values) for label in declaration.labels]
    known: list[set[str]] = [set() for _ in limits]
    if len(metric.series) <= min([max_series, *limits]):
        return  # nothing can be past a cap
    capped: dict[tuple[str, ...], Total] = {}
    rest = (OTHER,) * len(limits)
    for values in sorted(metric.series):
        kept = tuple(
            value if value in seen or len(seen) < limit or value == OTHER else OTHER
            for value, seen, limit in zip(values, known, limits)
        )
        if kept not in capped and len(capped) - (rest in capped) >= max_series:
            kept = rest
        for value, seen in zip(kept, known):
            if value != OTHER:
                seen.add(value)
        if kept in capped:
            capped[kept].add(metric.series[values], declaration.merge)
        else:
            capped[kept] = metric.series[values]
    metric.series = capped
