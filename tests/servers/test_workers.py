"""Counts and gauges over the worker processes of real application servers: against a client's own ledger."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.load import Ledger, Target
from tests.support.processes import poll
from tests.support.raw import RawClient
from tests.support.service import (
    Command,
    Service,
    granian,
    gunicorn_asgi,
    gunicorn_wsgi,
    hypercorn,
    serve,
    uvicorn,
)

CONNECTIONS = 8
SCRAPES = 20
MANY_HELD = 40
FEW_FILES = 10


def _targets(item: str, leaf: str) -> tuple[Target, ...]:
    """Mostly one route, with some of a nested route, of no route, and of an answer that is an error."""
    others = (Target("/outer/inner/leaf/x", leaf), Target("/nowhere/{n}", "(unmatched)"), Target("/busy", "/busy"))
    return (*(Target("/items/{n}", item),) * 22, *others)


ASGI_TARGETS = _targets("/items/{id}", "/outer/inner/leaf/{name}")
WSGI_TARGETS = _targets("/items/<int:id>", "/outer/inner/leaf/<name>")

QUICK_OR_LONG = pytest.mark.parametrize("count", [4_000, pytest.param(20_000, marks=pytest.mark.long)])


@QUICK_OR_LONG
@pytest.mark.parametrize(
    ("command", "targets"),
    [
        pytest.param(gunicorn_asgi("-w", "2"), ASGI_TARGETS, id="gunicorn-uvicorn-worker"),
        pytest.param(gunicorn_asgi("-w", "2", "--preload"), ASGI_TARGETS, id="gunicorn-uvicorn-worker-preload"),
        pytest.param(gunicorn_wsgi("-w", "2"), WSGI_TARGETS, id="gunicorn-gthread"),
        pytest.param(gunicorn_wsgi("-w", "2", "--preload"), WSGI_TARGETS, id="gunicorn-gthread-preload"),
        pytest.param(uvicorn("--workers", "2"), ASGI_TARGETS, id="uvicorn-workers"),
    ],
)
def test_no_request_is_lost_or_counted_twice_when_a_worker_is_killed_under_load(
    command: Command, targets: tuple[Target, ...], count: int, tmp_path: Path
) -> None:
    """With one worker killed half-way, each scrape is what the client received, plus at most what the kill cut off."""
    killed: list[int] = []

    with serve(command, tmp_path) as service:
        with service.watch() as watcher:
            ledger = service.load(
                targets,
                count,
                connections=CONNECTIONS,
                at_half_way=lambda: killed.append(_kill_busiest_worker(service)),
            )
        scrapes = [service.scrape() for _ in range(SCRAPES)]

    totals = [scrape.requests() for scrape in scrapes]
    least, most = ledger.total, ledger.total + ledger.cut
    assert ledger.workers[str(killed[0])], "The killed worker had answered nothing."
    # A connection breaks once by the kill and, on a slow machine, once more while it waits idle for its last quarter.
    assert 1 <= ledger.cut <= 2 * CONNECTIONS
    assert len(ledger.workers) >= 2, "One worker answered everything."
    assert all(least <= total <= most for total in totals), (least, most, totals)
    _assert_never_decreasing(watcher.totals + totals)
    _assert_routes_match(ledger, scrapes[-1].requests_by_route())
    _assert_ids_are_distinct(ledger)


@QUICK_OR_LONG
@pytest.mark.parametrize("command", [granian("--workers", "2"), hypercorn("-w", "2")], ids=["granian", "hypercorn"])
def test_counts_of_two_workers_are_exact(command: Command, count: int, tmp_path: Path) -> None:
    """After a run without accidents every scrape, whichever worker answers it, is the client's ledger."""
    with serve(command, tmp_path) as service:
        with service.watch() as watcher:
            ledger = service.load(ASGI_TARGETS, count)
        scrapes = [service.scrape() for _ in range(SCRAPES)]

    assert ledger.cut == 0
    assert [scrape.requests() for scrape in scrapes] == [count] * SCRAPES
    assert all(scrape.requests_by_route() == ledger.complete for scrape in scrapes)
    _assert_never_decreasing(watcher.totals)
    _assert_ids_are_distinct(ledger)


@pytest.mark.parametrize(
    ("command", "targets"),
    [
        pytest.param(gunicorn_asgi("-w", "2", "--max-requests", "300"), ASGI_TARGETS, id="gunicorn-uvicorn-worker"),
        pytest.param(
            gunicorn_wsgi("-w", "2", "--preload", "--max-requests", "50"), WSGI_TARGETS, id="gunicorn-gthread-preload"
        ),
    ],
)
def test_recycled_workers_leave_their_counts_and_few_files(
    command: Command, targets: tuple[Target, ...], tmp_path: Path
) -> None:
    """Workers that end after so many requests lose nothing, and their files are folded into one."""
    with serve(command, tmp_path) as service:
        with service.watch() as watcher:
            ledger = service.load(targets, 2_000, requests_per_connection=20)
        totals = [service.scrape().requests() for _ in range(SCRAPES)]
        poll(lambda: len(_files(service.cells)) <= FEW_FILES, f"at most {FEW_FILES} files in {service.cells}")
        after_folding = service.scrape().requests_by_route()

    assert len(ledger.workers) > 2, "No worker was recycled."
    assert totals == [ledger.total] * SCRAPES
    assert after_folding == ledger.complete
    _assert_never_decreasing(watcher.totals)


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_a_service_restart_on_the_same_cells_folder_is_one_clean_reset(end: str, tmp_path: Path) -> None:
    """A restarted service counts from zero, and labels of the service before it are gone."""
    command = gunicorn_asgi("-w", "2")
    only_before = (Target("/custom/only-before", "/custom/{funder}"),)
    with serve(command, tmp_path) as service:
        service.load(only_before, 100)
        before = service.scrape()
        assert before.requests() == before.total("proposals_total", funder="only-before") == 100
        if end == "killed":
            service.process.kill()

    with serve(command, tmp_path) as service:
        fresh = [service.scrape() for _ in range(SCRAPES)]
        ledger = service.load(ASGI_TARGETS, 100)
        after = [service.scrape() for _ in range(SCRAPES)]

    assert [scrape.requests() for scrape in fresh] == [0] * SCRAPES
    assert [scrape.requests_by_route() for scrape in after] == [ledger.complete] * SCRAPES
    assert not any("only-before" in scrape.text for scrape in fresh + after)


def test_a_single_worker_that_is_killed_keeps_its_counts(tmp_path: Path) -> None:
    """The worker that the same gunicorn master starts in place of its only one goes on from the old counts."""
    with serve(gunicorn_asgi("-w", "1"), tmp_path) as service:
        first = service.load(ASGI_TARGETS, 200)
        _kill_busiest_worker(service, holding=RawClient(service.port))
        second = service.load(ASGI_TARGETS, 200)
        totals = [service.scrape().requests() for _ in range(SCRAPES)]

    assert first.workers.keys().isdisjoint(second.workers.keys())
    assert totals == [first.total + second.total] * SCRAPES


@pytest.mark.parametrize(
    "command",
    [gunicorn_asgi("-w", "2"), uvicorn("--workers", "2")],
    ids=["gunicorn-uvicorn-worker", "uvicorn-workers"],
)
def test_requests_in_progress_on_a_killed_worker_stop_counting(command: Command, tmp_path: Path) -> None:
    """The in-progress gauge falls to the requests that the living worker holds, without any hook of the server."""
    with serve(command, tmp_path) as service, ExitStack() as clients:
        held = _hold_on_both_workers(service, clients)
        poll(lambda: _in_progress(service) == len(held), f"{len(held)} requests in progress")

        _kill_busiest_worker(service)
        poll(lambda: any(client.is_cut() for client in held), "the killed worker's connections to break")
        living = sum(not client.is_cut() for client in held)

        assert 0 < living < len(held)
        poll(lambda: _in_progress(service) == living, f"{living} requests in progress")
        assert {_in_progress(service) for _ in range(SCRAPES)} == {living}


def _kill_busiest_worker(service: Service, holding: RawClient | None = None) -> int:
    """SIGKILL the worker that holds the most connections; `holding` is a connection opened for that, closed here."""
    pid = service.busiest_worker()
    os.kill(pid, signal.SIGKILL)
    if holding is not None:
        holding.hang_up()
    return pid


def _hold_on_both_workers(service: Service, clients: ExitStack) -> list[RawClient]:
    """Open requests that do not end, until each of the two workers holds one."""
    held: list[RawClient] = []
    while len(service.connections_by_worker()) < 2 and len(held) < MANY_HELD:
        client = clients.enter_context(RawClient(service.port))
        client.get("/hold")
        held.append(client)
        poll(lambda: _in_progress(service) == len(held), f"{len(held)} requests in progress")
    return held


def _in_progress(service: Service) -> int:
    return int(service.scrape().total("http_server_active_requests"))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _assert_never_decreasing(totals: list[int]) -> None:
    assert len(totals) > 1
    falls = [(earlier, later) for earlier, later in pairwise(totals) if later < earlier]
    assert not falls, f"Successive scrapes fell: {falls}."


def _assert_routes_match(ledger: Ledger, counted: dict[tuple[str, int], int]) -> None:
    """Each (route, status) is counted as often as it was received; only requests that were cut off may come on top."""
    assert counted.keys() == ledger.complete.keys()
    surplus = {key: number - ledger.complete[key] for key, number in counted.items()}
    assert min(surplus.values()) >= 0, surplus
    assert sum(surplus.values()) <= ledger.cut, surplus


def _assert_ids_are_distinct(ledger: Ledger) -> None:
    assert all(ledger.request_ids)
    assert len(set(ledger.request_ids)) == ledger.total
