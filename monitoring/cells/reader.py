"""What all processes of the service counted together: the sum of the files of the living and of the retired.

Each file's index is parsed once and then only its new records, so a scrape costs one pass over the cells.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
from collections.abc import Iterator

from . import layout
from .folder import CellFileOnDisk, CellFolder, FolderUnusable, map_file
from .folding import fold_dead, merged_sources, newest_first
from .layout import CorruptFile, Header
from .registry import CellRegistry
from .sums import FileIndex, Totals, add_file, cap_union


class CellReader:
    """Sums the cells of a service. Thread-safe: one reading at a time."""

    def __init__(self, registry: CellRegistry) -> None:
        self._registry = registry
        self._start_anew()

    def _start_anew(self) -> None:
        self._pid = os.getpid()
        self._indexes: dict[str, FileIndex] = {}
        self._lock = threading.Lock()

    def read(self) -> Totals:
        """Return the sums of now, folding the files of dead processes first. Never raises for a broken file.

        The reading process joins the service first: a restarted one starts at zero even before its first request.
        """
        if self._pid != os.getpid():  # forked, perhaps in the middle of a read
            self._start_anew()
        self._registry.join()
        with self._lock:
            folder = self._registry.folder()
            totals = Totals()
            if folder is None or (self._registry.degraded and not self._joined()):
                self._read_own(totals)
            else:
                fold_dead(folder, self._registry.max_series, self._registry.max_label_values)
                try:
                    self._read_folder(folder, totals)
                except OSError:  # somebody removed the folder
                    totals = Totals()
                    self._read_own(totals)
            for metric in totals.metrics.values():
                cap_union(metric, self._registry.max_series, self._registry.max_label_values)
            return totals

    def _joined(self) -> bool:
        return any(file.fd is not None for file in self._registry.own_files())

    def _read_own(self, totals: Totals) -> None:
        for file in self._registry.own_files():
            totals.living.append(Header(os.getpid(), 0.0, "", ""))
            index = FileIndex()
            for number, chunk in enumerate(file.chunks):
                index.parse(chunk, number * layout.CHUNK)
            add_file(totals, index, b"".join(bytes(chunk) for chunk in file.chunks), alive=True)

    def _read_folder(self, folder: CellFolder, totals: Totals) -> None:
        with _reading(folder) as files:
            readable = self._update(files, totals)
            merged = merged_sources(readable)
            for file, index, buffer in newest_first(readable):
                if file.name in merged:
                    continue
                add_file(totals, index, buffer, alive=file.alive)
                if file.alive:
                    totals.living.append(layout.read_header(buffer))
        names = {file.name for file in files}
        self._indexes = {name: index for name, index in self._indexes.items() if name in names}
        totals.unreadable += folder.unreadable()

    def _update(self, files: list[CellFileOnDisk], totals: Totals) -> list[tuple[CellFileOnDisk, FileIndex, mmap.mmap]]:
        readable = []
        for file in files:
            try:
                buffer = map_file(file.path)
                if layout.is_unfinished(buffer) or isinstance(buffer, bytes):
                    continue
                layout.read_header(buffer)
                index = self._indexes.setdefault(file.name, FileIndex())
                index.parse(buffer)
                readable.append((file, index, buffer))
            except (CorruptFile, OSError, ValueError, KeyError, TypeError):
                self._indexes.pop(file.name, None)
                totals.unreadable += 1
        return readable


@contextlib.contextmanager
def _reading(folder: CellFolder) -> Iterator[list[CellFileOnDisk]]:
    try:
        with folder.reading() as files:
            yield files
    except FolderUnusable:  # somebody sits on the lock: an answer that may miss a fold is better than none
        yield folder.files()
