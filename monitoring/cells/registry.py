"""A process's own series: declared metrics, their cells in this process's file, and the caps that bound them.

Increments take no lock: ``cells[0] += x`` on a memoryview loses nothing under the GIL. Making a series takes one.
Without the GIL each thread writes a file of its own, as a process would.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
import weakref
from bisect import bisect_left
from collections.abc import Callable, Hashable
from types import SimpleNamespace
from typing import Any, Final, NamedTuple, TypeVar

from . import layout, scale
from .declaration import OTHER, Declaration
from .folder import CellFolder, FolderUnusable
from .folding import fold_dead
from .layout import Appended, CellFile, Header

VALUE_LIMIT: Final = 200
"""Characters kept of a label's value."""

T = TypeVar("T")

_RETRY_SECONDS: Final = 1.0
assert scale.PAGE == 1 << 6


DROPPED: Final = Declaration(
    name="monitoring_series_dropped_total",
    kind="counter",
    help="Look-ups that were counted under (other), or not at all, because of a cap or for want of space.",
    labels=("metric",),
)


class HistogramSeries:
    """One label set's histogram: a sum and pages of fine buckets, each page made when a value first falls into it.

    The page that was counted in last stays open, and cells are numbers of a view that all series share: an app with
    many routes has emptied the processor's caches whenever it comes to this one, and has little to fetch.
    """

    __slots__ = ("_add_page", "_bounds", "_buckets", "_first", "_page", "_pages", "_sum", "_sums")

    def __init__(
        self, bounds: tuple[float, ...], sum_cell: Appended, add_page: Callable[[int], Appended | None]
    ) -> None:
        self._bounds = bounds
        self._sums = sum_cell.chunk
        self._sum = sum_cell.first
        self._page = -1
        self._buckets = sum_cell.chunk
        self._first = 0
        self._pages: dict[int, Appended] = {}
        self._add_page = add_page

    def observe(self, value: float) -> None:
        """Count one value. NaN is the caller's to refuse: it would spoil the sum."""
        index = bisect_left(self._bounds, value)
        page, bucket = index >> 6, index & 63
        if page == self._page:  # from here to the increments nothing is called, so that no thread comes in between
            self._buckets[self._first + bucket] += 1.0
            self._sums[self._sum] += value
        elif (cells := self._open(page)) is not None:
            cells[bucket] += 1.0
            self._sums[self._sum] += value

    def _open(self, number: int) -> memoryview[float] | None:
        """Return a page's cells, made at first, and have it open for the next value."""
        page = self._pages.get(number)
        if page is None:
            page = self._add_page(number)
            if page is None:
                return None
            page = self._pages.setdefault(number, page)
        self._page, self._buckets, self._first = number, page.chunk, page.first
        return page.cells


class Nowhere:
    """A histogram for which there is no space: it counts nowhere."""

    __slots__ = ()

    def observe(self, value: float) -> None:
        """Do nothing."""


NOWHERE: Final = Nowhere()


class Series(NamedTuple):
    """Where one label set is counted: the cell of a counter or gauge, or a histogram. Both are None when there is no
    space.

    ``values`` are the label values it stands for; where they are not those asked for, a cap was reached: do not
    remember it.
    """

    values: tuple[str, ...]
    cell: memoryview[float] | None
    histogram: HistogramSeries | None


class CellRegistry:
    """The series of this process. Thread-safe; after a fork the child starts a file of its own at its first series."""

    def __init__(
        self,
        open_folder: Callable[[], CellFolder] | None = None,
        *,
        max_series: int = 2000,
        max_label_values: int = 500,
        on_degraded: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.max_series = max_series
        self.max_label_values = max_label_values
        self.degraded = ""
        """Why cells are not shared or not growing; "" when all is well."""
        self._open_folder = open_folder
        self._folder: CellFolder | None = None
        self._on_degraded = on_degraded
        self._tables: list[weakref.ref[Table[Any]]] = []
        self._forget()
        _registries.add(self)

    def cells(self, declaration: Declaration) -> Table[memoryview[float] | list[float]]:
        """Return the cells of a counter or gauge by label values: ``cells[values][0] += 1.0``."""

        def make(values: tuple[str, ...]) -> tuple[memoryview[float] | list[float], bool]:
            series = self.series(declaration, values)
            return (series.cell, series.values == values) if series.cell is not None else ([0.0], False)

        return self.table(make)

    def histograms(self, declaration: Declaration) -> Table[HistogramSeries | Nowhere]:
        """Return the series of a histogram by label values: ``histograms[values].observe(seconds)``."""

        def make(values: tuple[str, ...]) -> tuple[HistogramSeries | Nowhere, bool]:
            series = self.series(declaration, values)
            return (series.histogram, series.values == values) if series.histogram is not None else (NOWHERE, False)

        return self.table(make)

    def table(self, make: Callable[[Any], tuple[T, bool]]) -> Table[T]:
        """Return an empty look-up for series; it is emptied in a forked child, whose series are others."""
        table: Table[T] = Table(make) if _gil_is_on() else _TablePerThread(make)
        self._tables.append(weakref.ref(table))
        return table

    def folder(self) -> CellFolder | None:
        """Return the shared folder, or None while there is none."""
        if self._folder is None and not self.degraded and self._open_folder is not None:
            try:
                self._folder = self._open_folder()
            except (OSError, FolderUnusable) as refusal:
                self._degrade(f"cells are kept in this process's memory alone: {refusal}")
        return self._folder

    def join(self) -> None:
        """Make this process one of the service's, as its first series would."""
        with self._lock, contextlib.suppress(OSError):
            self._writer()

    def keep_in_memory(self) -> None:
        """Share nothing with other processes from now on."""
        self._open_folder = None

    def own_files(self) -> list[CellFile]:
        """Return the files this process writes: what a reader sums when there is no folder."""
        return [writer.file for writer in self._writers]

    def series(self, declaration: Declaration, values: tuple[str, ...]) -> Series:
        """Return the series of a label set, made at first. Past a cap it is that of ``(other)``; see ``Series``."""
        with self._lock:
            return self._series(declaration, values)

    def release(self) -> None:
        """Close this process's files: to the others it is dead from now on, and its counts are folded."""
        with self._lock:
            joined = [writer.file for writer in self._writers if writer.file.fd is not None]
            for file in joined:
                file.close()
            if joined and self._folder is not None:
                self._folder.leave()
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.RLock()
        self._writers: list[_Writer] = []
        self._current: Any = SimpleNamespace() if _gil_is_on() else threading.local()
        self._admitted = _Admitted(self.max_series, self.max_label_values)
        self._retry_at = 0.0
        for reference in self._tables:
            if (table := reference()) is not None:
                table.clear()

    def _after_fork(self) -> None:
        for writer in self._writers:
            writer.file.close()
        self._forget()

    def _series(self, declaration: Declaration, wanted: tuple[str, ...]) -> Series:
        wanted = tuple(str(value)[:VALUE_LIMIT] for value in wanted)
        values = self._admitted.admit(declaration, wanted)
        if values != wanted:
            self._count_dropped(declaration)
        writer = self._writer()
        if made := writer.made(declaration, values):
            return made
        if time.monotonic() < self._retry_at:
            return self._refuse(declaration, values)
        try:
            made = writer.series(declaration, values)
        except OSError as error:
            self._run_short(f"new series are dropped while there is no space: {error}")
            return self._refuse(declaration, values)
        if self._retry_at:
            self._retry_at, self.degraded = 0.0, ""
        return made

    def _run_short(self, reason: str) -> None:
        self._retry_at = time.monotonic() + _RETRY_SECONDS
        self._degrade(reason)

    def _refuse(self, declaration: Declaration, values: tuple[str, ...]) -> Series:
        self._count_dropped(declaration)
        return Series(values, None, None)

    def _count_dropped(self, declaration: Declaration) -> None:
        writer = self._writer()
        for metric in (declaration.name, OTHER):
            with contextlib.suppress(OSError):
                cell = writer.series(DROPPED, (metric,)).cell
                assert cell is not None
                cell[0] += 1.0
                return

    def _writer(self) -> _Writer:
        writer: _Writer | None = getattr(self._current, "writer", None)
        if writer is None:
            writer = self._current.writer = self._abandoned_writer() or self._new_writer()
            writer.thread = threading.current_thread()
        return writer

    def _new_writer(self) -> _Writer:
        writer = _Writer(self._new_file(), self._page_refused)
        self._writers.append(writer)
        return writer

    def _abandoned_writer(self) -> _Writer | None:
        """Return a writer whose thread has ended: many short threads, without the GIL, need no file each."""
        return next((writer for writer in self._writers if not writer.thread.is_alive()), None)

    def _new_file(self) -> CellFile:
        folder = self.folder()
        if folder is not None:
            try:
                file = folder.join()
                fold_dead(folder, self.max_series, self.max_label_values)
                return file
            except (OSError, FolderUnusable) as refusal:
                self._folder = None
                self._degrade(f"cells are kept in this process's memory alone: {refusal}")
        return CellFile(None, Header(os.getpid(), time.time(), "", ""))

    def _page_refused(self, declaration: Declaration, error: OSError) -> None:
        with self._lock:
            self._count_dropped(declaration)
            self._run_short(f"new buckets are dropped while there is no space: {error}")

    def _degrade(self, reason: str) -> None:
        first = not self.degraded
        self.degraded = reason
        if first:
            self._on_degraded(reason)


class Table(dict[Hashable, T]):
    """A look-up of series, each made when it is first asked for by ``table[key]``: a look-up costs what a dict's does.

    What stands for more than its own key, as past a cap, or counts nowhere, for want of space, is not remembered.
    """

    __slots__ = ("__weakref__", "_make")

    def __init__(self, make: Callable[[Any], tuple[T, bool]]) -> None:
        """``make`` returns the series of a key, and whether it stands for that key alone."""
        self._make = make

    def __missing__(self, key: Hashable) -> T:
        series, is_of_key = self._make(key)
        if is_of_key:
            self[key] = series
        return series


class _TablePerThread(Table[T]):
    """The same without the GIL: each thread looks up the series of its own file."""

    __slots__ = ("_local",)

    def __init__(self, make: Callable[[Any], tuple[T, bool]]) -> None:
        super().__init__(make)
        self._local = threading.local()

    def __getitem__(self, key: Hashable) -> T:
        series: T | None = self._series().get(key)
        return series if series is not None else self.__missing__(key)

    def get(self, key: Hashable, default: Any = None) -> Any:
        return self._series().get(key, default)

    def __setitem__(self, key: Hashable, series: T) -> None:
        self._series()[key] = series

    def clear(self) -> None:
        self._local = threading.local()

    def _series(self) -> dict[Hashable, Any]:
        if not hasattr(self._local, "series"):
            self._local.series = {}
        series: dict[Hashable, Any] = self._local.series
        return series


class _Writer:
    """The series of one file."""

    def __init__(self, file: CellFile, page_refused: Callable[[Declaration, OSError], None]) -> None:
        self.file = file
        self.thread = threading.current_thread()
        self._declared: dict[str, int] = {}
        self._made: dict[tuple[str, tuple[str, ...]], Series] = {}
        self._lock = threading.Lock()
        self._page_refused = page_refused

    def made(self, declaration: Declaration, values: tuple[str, ...]) -> Series | None:
        return self._made.get((declaration.name, values))

    def series(self, declaration: Declaration, values: tuple[str, ...]) -> Series:
        key = (declaration.name, values)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = self._make(declaration, values)
        return made

    def _make(self, declaration: Declaration, values: tuple[str, ...]) -> Series:
        with self._lock:
            parent = self._declare(declaration)
            text = json.dumps(values, ensure_ascii=False).encode("utf-8", "replace")
            made = self.file.append(
                layout.SERIES, text=text, cells=1, parent=parent, last_resort=declaration is DROPPED
            )
        if declaration.kind != "histogram":
            return Series(values, made.cells, None)
        bounds = scale.fine_bounds(declaration.unit, declaration.le)
        return Series(
            values, None, HistogramSeries(bounds, made, lambda page: self._add_page(declaration, made.offset, page))
        )

    def _declare(self, declaration: Declaration) -> int:
        if declaration.name not in self._declared:
            text = declaration.to_json()
            appended = self.file.append(layout.DECLARATION, text=text, last_resort=declaration is DROPPED)
            self._declared[declaration.name] = appended.offset
        return self._declared[declaration.name]

    def _add_page(self, declaration: Declaration, parent: int, page: int) -> Appended | None:
        try:
            with self._lock:
                return self.file.append(layout.PAGE, cells=scale.PAGE, parent=parent, page=page)
        except OSError as error:
            self._page_refused(declaration, error)
            return None


class _Admitted:
    """Caps on values per label and on label sets per metric. What is refused is not remembered."""

    def __init__(self, max_series: int, max_label_values: int) -> None:
        self._max_series = max_series
        self._max_label_values = max_label_values
        self._sets: dict[str, set[tuple[str, ...]]] = {}
        self._values: dict[tuple[str, str], set[str]] = {}

    def admit(self, declaration: Declaration, values: tuple[str, ...]) -> tuple[str, ...]:
        """Return the label values to count under: the given ones, or ``(other)`` for those past a cap."""
        sets = self._sets.setdefault(declaration.name, set())
        if values in sets:
            return values
        values = tuple(self._cap(declaration, label, value) for label, value in zip(declaration.labels, values))
        if values not in sets and len(sets) >= self._max_series:
            return (OTHER,) * len(values)
        sets.add(values)
        return values

    def _cap(self, declaration: Declaration, label: str, value: str) -> str:
        known = self._values.setdefault((declaration.name, label), set())
        if value in known:
            return value
        if len(known) >= declaration.limits.get(label, self._max_label_values):
            return OTHER
        known.add(value)
        return value


def _gil_is_on() -> bool:
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


_registries: weakref.WeakSet[CellRegistry] = weakref.WeakSet()


_forking = threading.local()


def _before_fork() -> None:
    """Let no thread be half through making a file, whose lock the child would inherit without knowing of it."""
    _forking.registries = list(_registries)
    for registry in _forking.registries:
        registry._lock.acquire()


def _after_fork_in_parent() -> None:
    for registry in _forking.registries:
        registry._lock.release()


def _after_fork_in_child() -> None:
    for registry in list(_registries):
        registry._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


class NullRegistry(CellRegistry):
    """A registry that keeps nothing: what metrics write to before ``configure``."""

    def join(self) -> None:
        """Do nothing."""

    def series(self, declaration: Declaration, values: tuple[str, ...]) -> Series:
        """Return a series without cells."""
        return Series(values, None, None)
