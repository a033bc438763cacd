"""Metric cells: exact numbers over many processes, at the cost of a list increment.

Each process keeps its series as float64 cells in a memory-mapped file of its own; a reader sums the files of all
living processes and of the retired ones, so counts survive ``kill -9`` of any of them.
"""

from .declaration import OTHER, Declaration, Kind, Merge
from .folder import CellFolder, FolderUnusable, default_folder
from .folding import fold_dead
from .reader import CellReader
from .registry import CellRegistry, HistogramSeries, Nowhere, NullRegistry, Series, Table
from .sums import MetricTotals, Total, Totals

__all__ = [
    "OTHER",
    "CellFolder",
    "CellReader",
    "CellRegistry",
    "Declaration",
    "FolderUnusable",
    "HistogramSeries",
    "Kind",
    "Merge",
    "MetricTotals",
    "Nowhere",
    "NullRegistry",
    "Series",
    "Table",
    "Total",
    "Totals",
    "default_folder",
    "fold_dead",
]
