"""Folding: the files of dead processes become one retired file that holds their sums and names them.

A reader that meets both a retired file and one it names skips the named one, so a crash at any step counts nothing
twice.
"""

from __future__ import annotations

import contextlib
import json
import logging
import mmap
import os
import time
from pathlib import Path

from . import layout, scale
from .folder import CellFileOnDisk, CellFolder, FolderUnusable, map_file
from .layout import CellFile, CorruptFile
from .sums import FileIndex, MetricTotals, Totals, add_file, cap_union

ReadFile = tuple[CellFileOnDisk, FileIndex, mmap.mmap]


def fold_dead(folder: CellFolder, max_series: int = 2000, max_label_values: int = 500) -> None:
    """Replace the files of dead processes by one retired file that holds their sums and names them.

    Nothing happens when nobody died, another process folds, or there is no space: readers sum the dead files all the
    same.
    """
    with contextlib.suppress(OSError, FolderUnusable):
        if any(_is_dead(file) for file in folder.files()):
            with folder.folding() as files:
                _Fold(folder, files).run(max_series, max_label_values)


class _Fold:
    """One folding, under the folder's lock."""

    def __init__(self, folder: CellFolder, files: list[CellFileOnDisk]) -> None:
        self._folder = folder
        self._files = files
        self._totals = Totals()
        self._sources: list[CellFileOnDisk] = []

    def run(self, max_series: int, max_label_values: int) -> None:
        for leftover in self._folder.path.glob("*.tmp"):
            leftover.unlink(missing_ok=True)
        readable = [(file, *found) for file in self._files if not file.alive and (found := self._parse(file))]
        merged = merged_sources([(file, index, buffer) for file, index, buffer in readable])
        for file, index, buffer in newest_first(readable):
            self._sources.append(file)
            if file.name not in merged:
                add_file(self._totals, index, buffer, alive=False)
        if all(file.is_retired for file in self._sources):
            return
        for metric in self._totals.metrics.values():
            cap_union(metric, max_series, max_label_values)
        self._write(self._folder.new_retired())
        for file in self._sources:
            file.path.unlink(missing_ok=True)

    def _parse(self, file: CellFileOnDisk) -> tuple[FileIndex, mmap.mmap] | None:
        buffer = map_file(file.path)
        if layout.is_unfinished(buffer) or isinstance(buffer, bytes):
            file.path.unlink(missing_ok=True)
            return None
        index = FileIndex()
        try:
            layout.read_header(buffer)
            index.parse(buffer)
        except (CorruptFile, ValueError, KeyError, TypeError) as error:
            logging.getLogger("monitoring").warning(
                "Cell file %s does not parse and is set aside: %s", file.name, error
            )
            self._folder.set_aside(file.path)
            return None
        return index, buffer

    def _write(self, path: Path) -> None:
        temporary = path.with_suffix(".tmp")
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            generation = layout.read_header(map_file(self._sources[0].path))
            file = CellFile(fd, generation._replace(pid=0, started_at=time.time()))
            for source in self._sources:
                file.append(layout.SOURCE, text=source.name.encode())
            for metric in self._totals.metrics.values():
                _write_metric(file, metric)
            os.fsync(fd)
            temporary.rename(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)


def newest_first(files: list[ReadFile]) -> list[ReadFile]:
    """Return the living before the dead, the newer before the older: their declarations win where releases differ."""

    def age(found: ReadFile) -> tuple[bool, bool, float]:
        file, _, buffer = found
        return not file.alive, file.is_retired, -layout.read_header(buffer).started_at

    return sorted(files, key=age)


def merged_sources(files: list[ReadFile]) -> set[str]:
    """Return the names of the files whose counts are already in one of the retired files."""
    return {source for _, index, _ in files for source in index.sources}


def _is_dead(file: CellFileOnDisk) -> bool:
    return not file.alive and not file.is_retired


def _write_metric(file: CellFile, metric: MetricTotals) -> None:
    declared = file.append(layout.DECLARATION, text=metric.declaration.to_json())
    for values, total in metric.series.items():
        text = json.dumps(values, ensure_ascii=False).encode("utf-8", "replace")
        appended = file.append(layout.SERIES, text=text, cells=1, parent=declared.offset)
        appended.cells[0] = total.value
        for number, counts in total.pages.items():
            page = file.append(layout.PAGE, cells=scale.PAGE, parent=appended.offset, page=number)
            for offset, count in enumerate(counts):
                page.cells[offset] = count
