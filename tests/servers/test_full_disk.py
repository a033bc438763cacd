"""A cells folder that cannot be written: full from the start, full in the middle of a run, or read-only.

The folder is a small tmpfs in a mount namespace of the service's own, so nothing of it outlives the service.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path

import pytest

from tests.support.components import require, unavailable
from tests.support.load import Target
from tests.support.scrape import Scrape
from tests.support.service import Service, cells_folder, serve, uvicorn

REQUEST_DURATION = "http_server_request_duration_seconds"
DEGRADED = "monitoring_cells_degraded"
ITEMS = (Target("/items/{n}", "/items/{id}"),)
SLOW = "/slow/{milliseconds}"
NEW_SERIES = 400
"""Too many for the chunk that a file has when the disk fills up, and too few for any cap on labels."""
EVERY_FUNDER_A_SERIES = (Target("/custom/funder-{n}", "/custom/{funder}"),)

FULL = (
    'mount -t tmpfs -o size=64k,mode=700 none "$0" && { cat /dev/zero > "$0/junk" || true; } 2>/dev/null && exec "$@"'
)
READ_ONLY = 'mount -t tmpfs -o size=64k,mode=700 none "$0" && mount -o remount,ro "$0" && exec "$@"'
ROOMY = 'mount -t tmpfs -o size=8m,mode=700 none "$0" && exec "$@"'


@pytest.mark.parametrize("mount", [FULL, READ_ONLY], ids=["full", "read-only"])
def test_a_cells_folder_without_room_harms_no_request(mount: str, tmp_path: Path) -> None:
    """One process counts on in its own memory, exactly; /metrics says that it is degraded, and one log line does."""
    with _serve_on(mount, tmp_path) as service:
        ledger = service.load(ITEMS, 500)
        scrape = service.scrape()
        service.wait_for_line(event="request")
        service.process.stop()

    assert (ledger.total, ledger.cut) == (500, 0)
    assert set(ledger.complete) == {("/items/{id}", 200)}
    assert scrape.requests_by_route() == ledger.complete
    assert scrape.total(DEGRADED) == 1
    assert len(_lines_about_cells(service)) == 1, _lines_about_cells(service)


def test_a_cells_folder_that_fills_up_in_use_harms_no_request(tmp_path: Path) -> None:
    """What still has room is counted, what has none is shown as dropped, and no missing page kills the process."""
    with _serve_on(ROOMY, tmp_path) as service:
        before = service.load((*ITEMS, Target("/slow/1", SLOW)), 40)
        healthy = service.scrape()
        _fill_up(service)
        during = service.load(EVERY_FUNDER_A_SERIES, NEW_SERIES)
        after = service.load((*ITEMS, Target("/slow/300", SLOW)), 40)
        scrape = service.scrape()
        service.process.stop()

    assert healthy.total(DEGRADED) == 0
    assert before.cut == during.cut == after.cut == 0
    assert before.complete + after.complete == {("/items/{id}", 200): 40, (SLOW, 200): 40}
    assert during.complete == {("/custom/{funder}", 200): NEW_SERIES}
    assert scrape.total("proposals_total") < NEW_SERIES, "The disk was not full."
    _assert_nothing_is_lost_in_silence(scrape, REQUEST_DURATION, scrape.requests(), 80 + NEW_SERIES)
    _assert_nothing_is_lost_in_silence(scrape, "proposals_total", scrape.total("proposals_total"), NEW_SERIES)
    assert scrape.total(DEGRADED) == 1
    assert len(_lines_about_cells(service)) == 1, _lines_about_cells(service)


@contextmanager
def _serve_on(mount: str, folder: Path) -> Iterator[Service]:
    """Serve the ASGI app with its cells folder on what the shell lines of `mount` put there."""
    _require_private_mounts()
    cells_folder(folder).mkdir()
    plain = uvicorn()

    def command(port: int) -> list[str]:
        return [*_in_private_mounts(), "sh", "-c", mount, str(cells_folder(folder)), *plain(port)]

    with serve(command, folder) as service:
        yield service


def _fill_up(service: Service) -> None:
    """Fill the folder, seen through the root of the service's own mount namespace."""
    junk = Path(f"/proc/{service.process.pid}/root{service.cells}") / "junk"
    with junk.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        _write_for_ever(file)


def _assert_nothing_is_lost_in_silence(scrape: Scrape, metric: str, counted: float, asked: int) -> None:
    dropped = scrape.total("monitoring_series_dropped_total", metric=metric)
    assert counted <= asked <= counted + dropped


def _write_for_ever(file: RawIOBase) -> None:
    while True:
        file.write(bytes(4_096))


def _in_private_mounts() -> list[str]:
    """Return the start of a command that runs with mounts of its own, as root or as anybody."""
    anybody = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    return [require("unshare"), *anybody, "--mount"]


def _require_private_mounts() -> None:
    tried = subprocess.run(
        [*_in_private_mounts(), "sh", "-c", "mount -t tmpfs none /mnt"], capture_output=True, text=True, check=False
    )
    if tried.returncode != 0:
        unavailable(f"no tmpfs can be mounted here: {tried.stderr.strip()}; run as root or allow user namespaces.")


def _lines_about_cells(service: Service) -> list[str]:
    return [str(line) for line in service.lines() if line["level"] != "info" and "cells" in str(line)]
