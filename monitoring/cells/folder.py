"""The folder that the processes of one service share: who lives, who joins, and how the dead are folded.

A process lives as long as it holds ``flock`` on its file. Process ids repeat, and containers that share a volume do
not see each other's, so nothing else is asked. The folder's own lock orders joining and folding against reading, so
that a scrape never sees a dip.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import re
import secrets
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from . import layout, scale
from .layout import CellFile, Header

try:
    import fcntl
except ImportError:  # Windows has no flock: cells stay in the memory of one process there.
    fcntl = None  # type: ignore[assignment]

_SUFFIX: Final = ".cells"
_RETIRED: Final = "retired-"
_LOCK_NAME: Final = "lock"
_LOCK_PATIENCE_SECONDS: Final = 2.0


class FolderUnusable(Exception):
    """No folder can hold the cells; the message says which was tried and why not."""


class CellFileOnDisk(NamedTuple):
    """A file of the folder as a reader finds it. ``alive``: its process still runs."""

    name: str
    path: Path
    alive: bool

    @property
    def is_retired(self) -> bool:
        """Say whether this file holds the sums of dead processes."""
        return self.name.startswith(_RETIRED)


class CellFolder:
    """One service's folder of cell files. Thread-safe: it keeps no state but its path."""

    def __init__(self, path: Path) -> None:
        if fcntl is None:
            raise FolderUnusable(f"{sys.platform} has no flock, so cells stay in this process's memory.")
        self.path = path
        _make_private(path)

    def join(self) -> CellFile:
        """Create and lock this process's file; start a new generation when nobody lives, fold the dead otherwise.

        A worker that the same server respawned joins the old generation even when it is the only one.
        Raise OSError when there is no space, FolderUnusable when the folder's lock cannot be had.
        """
        supervisor = supervisor_id()
        with self._locked(shared=False):
            files = self.files()
            generation = self._generation(files, supervisor)
            if generation is None:
                generation = secrets.token_hex(16)
                for file in files:
                    if not file.alive:
                        file.path.unlink(missing_ok=True)
            return self._create(Header(os.getpid(), time.time(), generation, supervisor))

    def leave(self) -> None:
        """Empty the folder when this process, which closed its files, was the last and no server will respawn it."""
        if supervisor_id():
            return
        with contextlib.suppress(OSError, FolderUnusable), self._locked(shared=False):
            files = self.files()
            if not any(file.alive for file in files):
                for file in files:
                    file.path.unlink(missing_ok=True)

    def files(self) -> list[CellFileOnDisk]:
        """List the cell files, retired ones first, then by name."""
        entries = [entry for entry in os.scandir(self.path) if entry.name.endswith(_SUFFIX)]
        names = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
        found = []
        for name in sorted(names, key=lambda name: (not name.startswith(_RETIRED), name)):
            path = self.path / name
            with contextlib.suppress(FileNotFoundError):
                found.append(CellFileOnDisk(name, path, alive=_is_locked(path)))
        return found

    @contextlib.contextmanager
    def reading(self) -> Iterator[list[CellFileOnDisk]]:
        """Hold the files still: nobody joins or folds in this block."""
        with self._locked(shared=True):
            yield self.files()

    @contextlib.contextmanager
    def folding(self) -> Iterator[list[CellFileOnDisk]]:
        """Hold the folder alone, to replace its dead files. Raise FolderUnusable when the lock cannot be had."""
        with self._locked(shared=False):
            yield self.files()

    def new_retired(self) -> Path:
        """Return a path for the next retired file. No name comes twice: readers know files by it."""
        return self.path / f"{_RETIRED}{secrets.token_hex(6)}{_SUFFIX}"

    def set_aside(self, path: Path) -> None:
        """Rename a dead file that does not parse, so that it is kept for a look but not read again."""
        with contextlib.suppress(OSError):
            path.rename(path.with_suffix(".unreadable"))

    def unreadable(self) -> int:
        """Return how many files were set aside in this folder."""
        return sum(entry.name.endswith(".unreadable") for entry in os.scandir(self.path))

    def _generation(self, files: list[CellFileOnDisk], supervisor: str) -> str | None:
        somebody_lives = any(file.alive for file in files)
        for header in (_header_of(file.path) for file in files):
            if header and (somebody_lives or (supervisor and header.supervisor == supervisor)):
                return header.generation
        return None

    def _create(self, header: Header) -> CellFile:
        path = self.path / f"{header.pid}-{secrets.token_hex(6)}{_SUFFIX}"
        descriptors = [os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)]
        try:
            _wait_for_lock(descriptors[0], fcntl.LOCK_EX, path)
            # Maps keep a duplicate of their descriptor, and a duplicate keeps the lock: they get one that has none.
            descriptors.append(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW))
            return CellFile(descriptors[1], header, lock=descriptors[0])
        except BaseException:
            for fd in descriptors:
                os.close(fd)
            path.unlink(missing_ok=True)
            raise

    @contextlib.contextmanager
    def _locked(self, *, shared: bool) -> Iterator[None]:
        fd = os.open(self.path / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            _wait_for_lock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, self.path)
            yield
        finally:
            _unlock(fd)


def default_folder(service: str, store: str) -> CellFolder:
    """Return the service's folder in shared memory, or in the user's runtime or temporary folder.

    Raise FolderUnusable.
    """
    identity = f"{service}\0{os.path.abspath(store)}\0{layout.LAYOUT_VERSION}\0{scale.fingerprint()}"
    digest = hashlib.blake2b(identity.encode(), digest_size=6).hexdigest()
    readable = re.sub(r"[^A-Za-z0-9._-]", "_", service)[:40]
    uid = os.getuid() if hasattr(os, "getuid") else 0
    refusals = []
    for base in _bases():
        path = base / f"monitoring-{uid}-{readable}-{digest}"
        try:
            return CellFolder(path)
        except (OSError, FolderUnusable) as refusal:
            refusals.append(f"{path}: {refusal}")
    raise FolderUnusable("; ".join(refusals))


def supervisor_id() -> str:
    """Return an identity of the server that spawned this worker and respawns it, or "" when this process stands alone.

    Workers are known by ``multiprocessing`` (uvicorn, hypercorn, granian) or by sharing their parent's command line
    (gunicorn forks); a parent that is a shell or an init system is no supervisor, so a restarted service starts at
    zero.
    """
    import psutil  # here, because it takes long to import

    multiprocessing = sys.modules.get("multiprocessing.process")
    with contextlib.suppress(psutil.Error, OSError):
        parent = psutil.Process(os.getppid())
        spawned = multiprocessing is not None and multiprocessing.parent_process() is not None
        if spawned or _same_program(parent.cmdline(), psutil.Process().cmdline()):
            return f"{parent.pid}:{parent.create_time():.2f}"
    return ""


def map_file(path: Path) -> mmap.mmap | bytes:
    """Map a cell file for reading; b"" for one that has no storage yet. Raise OSError when it is gone."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        size = os.fstat(fd).st_size
        return mmap.mmap(fd, size, prot=mmap.PROT_READ) if size else b""
    finally:
        os.close(fd)


def _bases() -> Iterator[Path]:
    if sys.platform == "linux":
        yield Path("/dev/shm")
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime)
    yield Path(tempfile.gettempdir())


def _make_private(path: Path) -> None:
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise FolderUnusable(f"{path} is no folder; remove it or set cells_folder to another place.")
    if found.st_uid != os.geteuid():
        raise FolderUnusable(f"{path} belongs to user {found.st_uid}; set cells_folder to a folder of your own.")
    if found.st_mode & 0o077:
        raise FolderUnusable(f"{path} is open to other users (mode {stat.S_IMODE(found.st_mode):o}); set it to 0700.")
    if not os.access(path, os.W_OK | os.X_OK):
        raise FolderUnusable(f"{path} is not writable.")


def _is_locked(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        _unlock(fd)
    return False


def _unlock(fd: int) -> None:
    """Give up a lock, also for a child that was forked meanwhile and has a copy of the descriptor."""
    try:
        fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


def _wait_for_lock(fd: int, operation: int, path: Path) -> None:
    deadline = time.monotonic() + _LOCK_PATIENCE_SECONDS
    while True:
        try:
            return fcntl.flock(fd, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise FolderUnusable(f"{path} stayed locked for {_LOCK_PATIENCE_SECONDS:.0f} s.") from None
            time.sleep(0.002)


def _header_of(path: Path) -> Header | None:
    try:
        return layout.read_header(map_file(path))
    except (OSError, layout.CorruptFile):
        return None


def _same_program(parent: list[str], own: list[str]) -> bool:
    gunicorn_titles = all(command and command[0].startswith("gunicorn: ") for command in (parent, own))
    return bool(own) and (parent == own or gunicorn_titles)
