"""A store that is locked, deleted or full: no request differs, the page says what is degraded, and it heals."""

from __future__ import annotations

import http.client
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.servers.test_full_disk import _in_private_mounts, _require_private_mounts, _write_for_ever
from tests.support.load import Target
from tests.support.processes import poll
from tests.support.service import TOKEN, Service, serve, uvicorn

ITEMS = (Target("/items/{n}", "/items/{id}"), Target("/busy", "/busy"))
SMALL_DISK = 'mount -t tmpfs -o size=12m,mode=700 none "$0" && exec "$@"'


def test_a_store_that_is_locked_for_ten_seconds_harms_no_request(tmp_path: Path) -> None:
    """Requests are answered, the page says that nothing is stored, and all of them are shown in the end."""
    with _serve(tmp_path) as (service, store):
        service.load(ITEMS, 50)
        poll(lambda: _shown(service) == 50, "the first requests")
        lock = sqlite3.connect(store / "monitoring.db", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        try:
            during = service.load(ITEMS, 300)
            said = poll(lambda: _degraded(service), "the page to say so")
            poll(lambda: time.monotonic() - began > 10, "ten seconds")
        finally:
            lock.close()
        poll(lambda: _shown(service) == 350, "all requests after it")
        poll(lambda: not _degraded(service), "the page to be well again")

    assert (during.total, during.cut) == (300, 0)
    assert set(during.complete) == {("/items/{id}", 200), ("/busy", 503)}
    assert "the database stayed locked" in said[0]


def test_a_store_that_is_deleted_harms_no_request_and_begins_anew(tmp_path: Path) -> None:
    """The files go in the middle of the traffic; what comes afterwards is kept in a new one."""
    with _serve(tmp_path) as (service, store):
        service.load(ITEMS, 50)
        poll(lambda: _shown(service) == 50, "the first requests")
        during = service.load(ITEMS, 200, at_half_way=lambda: _delete(store))
        poll(lambda: _shown(service) >= 50, "requests in the new store", limit_seconds=20)
        after = service.load(ITEMS, 50)
        poll(lambda: _kept(service, "/busy"), "failed requests in the new store", limit_seconds=20)
        degraded = _degraded(service)

    assert (during.total, during.cut, after.total, after.cut) == (200, 0, 50, 0)
    assert degraded == []


def test_a_store_on_a_full_disk_harms_no_request_and_heals(tmp_path: Path) -> None:
    """While there is no space the page says so; once there is, what the cells counted meanwhile is shown."""
    _require_private_mounts()
    with _serve(tmp_path, SMALL_DISK) as (service, store):
        service.load(ITEMS, 50)
        poll(lambda: _shown(service) == 50, "the first requests")
        junk = Path(f"/proc/{service.process.pid}/root{store}") / "junk"
        with junk.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            _write_for_ever(file)
        during = service.load(ITEMS, 300)
        said = poll(lambda: _degraded(service), "the page to say so", limit_seconds=30)
        junk.unlink()
        poll(lambda: _shown(service) == 350, "all requests after it", limit_seconds=30)
        poll(lambda: not _degraded(service), "the page to be well again")

    assert (during.total, during.cut) == (300, 0)
    assert set(during.complete) == {("/items/{id}", 200), ("/busy", 503)}
    assert "full" in said[0]


@contextmanager
def _serve(folder: Path, mount: str = "") -> Iterator[tuple[Service, Path]]:
    """Serve the ASGI app with its store in a folder of its own, on what ``mount`` puts there."""
    store = folder / "store"
    store.mkdir(mode=0o700)
    plain = uvicorn()

    def command(port: int) -> list[str]:
        return [*_in_private_mounts(), "sh", "-c", mount, str(store), *plain(port)] if mount else list(plain(port))

    with serve(command, folder, env={"MONITORING_STORE": str(store)}) as service:
        yield service, store


def _api(service: Service, path: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    try:
        connection.request("GET", f"/monitoring/api/v1{path}", headers={"Authorization": f"Bearer {TOKEN}"})
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def _shown(service: Service) -> int:
    return int(_api(service, "/overview?from=-6h").get("requests", {}).get("count", -1))


def _degraded(service: Service) -> list[str]:
    return list(_api(service, "/overview").get("meta", {}).get("degraded", []))


def _kept(service: Service, route: str) -> Any:
    return _api(service, f"/requests?route={route}").get("requests")


def _delete(store: Path) -> None:
    for path in store.glob("monitoring.db*"):
        with suppress(FileNotFoundError):
            path.unlink()
