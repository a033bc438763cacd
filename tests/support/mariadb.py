"""A MariaDB server of the tests' own, in a temporary folder; its ``root`` has no password."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.components import require
from tests.support.processes import running


@contextmanager
def mariadb() -> Iterator[int]:
    """Run a server for the length of the block and give its port."""
    program, install = require("mariadbd", "pymysql"), require("mariadb-install-db")
    folder = Path(tempfile.mkdtemp(prefix="monitoring-mariadb-"))
    user = "mysql" if os.getuid() == 0 else Path.home().owner()
    if os.getuid() == 0:  # the server refuses to run as root
        shutil.chown(folder, user)
        folder.chmod(0o755)
    where = ["--no-defaults", f"--datadir={folder}/data", f"--user={user}"]
    options = ["--auth-root-authentication-method=normal", "--skip-test-db"]

    def command(port: int) -> list[str]:
        own = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder}/socket", f"--pid-file={folder}/pid"]
        return [program, *where, *own]

    try:
        subprocess.run([install, *where, *options], check=True, capture_output=True)
        with running(command, _greets, folder / "log", cwd=folder) as (_, port):
            yield port
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _greets(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        return len(connection.recv(5)) == 5
