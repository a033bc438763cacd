"""Adding cell files up: where a file's series lie, and the totals they are added to."""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import add
from typing import Final

from . import layout, scale
from .declaration import Declaration
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

    def add(self, other: Total) -> None:
        """Add another label set's total."""
        self.value += other.value
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
            values = tuple(json.loads(record.text))
            self.scalars[record.offset] = (self.declarations[record.parent], values, record.cell)
        elif record.kind == layout.PAGE:
            declaration, values, _ = self.scalars[record.parent]
            self.pages.append((declaration, values, record.page, record.cell))
        else:
            self.sources.add(record.text.decode())


def add_file(totals: Totals, index: FileIndex, buffer: mmap.mmap | bytes, *, alive: bool) -> None:
    """Add the cells of one file to ``totals``; gauges of the dead do not count."""
    cells: memoryview[float] = memoryview(buffer).cast("d")
    series: dict[tuple[str, tuple[str, ...]], Total] = {}
    for declaration, values, cell in index.scalars.values():
        if declaration.kind == "gauge" and not alive:
            continue
        known = totals.metric(declaration).series
        total = known.get(values)
        if total is None:
            total = known[values] = Total(cells[cell])
        else:
            total.value = _MERGES[declaration.merge](total.value, cells[cell])
        series[declaration.name, values] = total
    for declaration, values, number, cell in index.pages:
        series[declaration.name, values].add_page(number, cells[cell : cell + scale.PAGE].tolist())  # type: ignore[arg-type]
