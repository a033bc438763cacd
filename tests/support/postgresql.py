"""A PostgreSQL server of the tests' own, in a temporary folder, reached by a socket in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.components import unavailable
from tests.support.processes import free_port


@contextmanager
def postgresql(*settings: str) -> Iterator[str]:
    """Run a server for the length of the block and give the URL of its database; `settings` are like ``name=value``."""
    folder = Path(tempfile.mkdtemp(prefix="monitoring-pg-"))
    if os.getuid() == 0:  # the server refuses to run as root
        shutil.chown(folder, "postgres", "postgres")
    port = free_port()
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -c port={port} -c fsync=off"
    options += "".join(f" -c {setting}" for setting in settings)
    try:
        _run([_program("initdb"), "-D", f"{folder}/data", "-U", "monitoring", "-A", "trust", "-E", "UTF8"])
        control = [_program("pg_ctl"), "-D", f"{folder}/data", "-w"]
        _run([*control, "-l", f"{folder}/log", "-o", options, "start"])
        try:
            yield f"postgresql+psycopg://monitoring@/postgres?host={folder}&port={port}"
        finally:
            _run([*control, "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def postmaster(url: str) -> int:
    """Return the pid of the server behind a URL."""
    return int((_data_folder(url) / "postmaster.pid").read_text().split()[0])


def start_again(url: str) -> None:
    """Start the server behind a URL as it was started, after it was killed."""
    _run([_program("pg_ctl"), "-D", str(_data_folder(url)), "-w", "restart"])


def _data_folder(url: str) -> Path:
    return Path(url.partition("host=")[2].partition("&")[0]) / "data"


def _program(name: str) -> str:
    places = map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
    path = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *places]))
    if path is None:
        unavailable(f"the program {name!r} is not installed; install PostgreSQL.")
    return path


def _run(command: Sequence[str]) -> None:
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
    subprocess.run([*as_user, *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/")
