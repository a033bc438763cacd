"""Forks and spawns, from any thread and at any moment: parent and children all count, and none of them hangs."""

from __future__ import annotations

import asyncio
import fcntl
import multiprocessing
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from monitoring.cells import CellFolder, CellReader, CellRegistry
from monitoring.cells import folder as folder_module
from monitoring.testing import use

from .conftest import Join
from .support import (
    JOBS,
    QUEUE,
    Forked,
    cell_files,
    child,
    count,
    deadline,
    die,
    forks_beside_threads,
    in_child,
    observe,
    read,
    samples,
    sharing,
    value,
)

pytestmark = forks_beside_threads

HELD_SECONDS = 0.3


@pytest.fixture(autouse=True)
def never_hanging() -> Iterator[None]:
    """Fail a test that hangs."""
    with deadline(30):
        yield


@contextmanager
def in_the_middle(owner: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Make a function stop in its middle, right after its work, for as long as the block lasts or a moment.

    The event is set when somebody is there.
    """
    real, reached, go_on = getattr(owner, name), threading.Event(), threading.Event()

    def stopping(*args: Any, **kwargs: Any) -> Any:
        result = real(*args, **kwargs)
        if threading.current_thread() is not threading.main_thread() and not reached.is_set():
            reached.set()
            go_on.wait(HELD_SECONDS)
        return result

    monkeypatch.setattr(owner, name, stopping)
    try:
        yield reached
    finally:
        go_on.set()
        monkeypatch.setattr(owner, name, real)


def count_in(path: str, amount: int) -> None:
    """Be the work of a process: join, count, end."""
    registry = sharing(Path(path))
    for _ in range(amount):
        count(registry)
        observe(registry, 0.1)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_of_multiprocessing_count(folder: Path, join: Join, method: str) -> None:
    """Processes started either way add to the service while they live and after they ended."""
    registry = join()
    count(registry, 1)
    context: Any = multiprocessing.get_context(method)
    processes = [context.Process(target=count_in, args=(str(folder), amount)) for amount in (10, 200)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    totals = read(registry)

    assert [process.exitcode for process in processes] == [0, 0]
    assert (value(totals), samples(totals)) == (211, 210)


def test_a_pool_forked_from_a_running_service_counts_through_its_metrics(folder: Path) -> None:
    """A counter of the app, used in a forked pool's processes, is exact over parent and pool."""
    with use(cells_folder=str(folder)) as m:
        jobs = m.counter("jobs_total", "Jobs.")
        jobs.inc(1_000)
        processes = [multiprocessing.get_context("fork").Process(target=jobs.inc, args=(each,)) for each in range(1, 6)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(30)

        assert m.metrics.snapshot()["jobs_total"].series[0].value == 1_015


def test_a_fork_in_a_thread_counts_in_both(folder: Path, join: Join) -> None:
    """os.fork in a thread, while other threads count: the child has a file of its own, the parent loses nothing."""
    registry = join()
    count(registry, 0)
    over, counted = threading.Event(), []

    def keep_counting() -> None:
        mine = 0
        while not over.is_set():
            count(registry)
            observe(registry, 0.1)
            mine += 1
        counted.append(mine)

    def fork_here() -> None:
        for _ in range(10):
            in_child(lambda: count(registry, 1_000_000))

    counting = [threading.Thread(target=keep_counting) for _ in range(2)]
    forking = threading.Thread(target=fork_here)
    for thread in (*counting, forking):
        thread.start()
    forking.join()
    over.set()
    for thread in counting:
        thread.join()
    totals = read(registry)

    assert value(totals) == 10 * 1_000_000 + sum(counted)
    assert samples(totals) == sum(counted)


def test_grandchildren_count(folder: Path, join: Join) -> None:
    """A child of a child joins the service like its parent."""
    registry = join()
    count(registry, 1)

    def work() -> None:
        count(registry, 10)
        in_child(lambda: count(registry, 100))
        count(registry, 1_000)

    in_child(work)
    assert value(read(registry)) == 1_111


def test_a_child_forked_while_a_thread_makes_series_makes_its_own(
    folder: Path, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry's lock was held by a thread that the child does not have; the child counts all the same."""
    registry = join()
    count(registry, 1)
    with in_the_middle(registry, "_series", monkeypatch) as reached:
        thread = threading.Thread(target=count, args=(registry, 10), kwargs={"kind": "new"})
        thread.start()
        reached.wait(5)
        in_child(lambda: count(registry, 100))
    thread.join()

    assert value(read(registry)) == 111


def test_a_child_forked_while_a_thread_reads_can_read(
    folder: Path, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scrape that was under way in the parent at the fork does not hang the child's first scrape."""
    registry = join()
    count(registry, 1)
    reader = CellReader(registry)
    with in_the_middle(CellFolder, "files", monkeypatch) as reached:
        thread = threading.Thread(target=reader.read)
        thread.start()
        reached.wait(5)

        def count_and_read() -> float:
            with deadline(5):
                count(registry, 10)
                return value(reader.read())

        seen = in_child(count_and_read)
    thread.join()

    assert seen == 11


def test_a_child_forked_while_a_thread_renders_can_answer_a_scrape(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for /metrics as a whole, which renders one scrape at a time."""
    with use(cells_folder=str(folder), metrics_public=True) as m:
        m.counter("jobs_total", "Jobs.").inc()
        app = m.metrics_app()

        def scrape() -> bytes:
            return asyncio.run(_body_of(app))

        with in_the_middle(m.metrics, "totals_with_state", monkeypatch) as reached:
            thread = threading.Thread(target=scrape)
            thread.start()
            reached.wait(5)

            def answer() -> bool:
                with deadline(5):
                    return b"jobs_total 1.0" in scrape()

            answered = in_child(answer)
        thread.join()

    assert answered


async def _body_of(app: Any) -> bytes:
    body = bytearray()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        body.extend(message.get("body", b""))

    await app({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, send)
    return bytes(body)


@pytest.mark.parametrize("shared", [True, False], ids=["reading", "folding"])
def test_a_child_forked_while_a_thread_holds_the_folder_does_not_keep_it(
    folder: Path, join: Join, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    """The child inherits the descriptor of the folder's lock; the lock goes with the parent's block all the same."""
    registry, cells = join(), CellFolder(folder)
    count(registry, 1)
    holding, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with cells.reading() if shared else cells.folding():
            holding.set()
            leave.wait(HELD_SECONDS)

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait(5)
    forked = Forked(lambda: None)
    try:
        forked.answer()
        leave.set()
        thread.join()
        monkeypatch.setattr(folder_module, "_LOCK_PATIENCE_SECONDS", 0.2)
        said: list[str] = []
        late = join(on_degraded=said.append)
        count(late, 10)
        total = value(read(registry))
    finally:
        forked.kill()

    assert said == []
    assert total == 11


def test_a_child_forked_while_a_thread_starts_its_file_does_not_keep_it_alive(
    folder: Path, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was just being made at the fork dies with its process, not with the child."""
    watcher, registry = join(), join()
    count(watcher, 1)
    with in_the_middle(folder_module, "CellFile", monkeypatch) as reached:
        thread = threading.Thread(target=count, args=(registry, 7), kwargs={"declaration": QUEUE})
        thread.start()
        reached.wait(5)
        forked = Forked(lambda: None)
    try:
        forked.answer()
        thread.join()
        alive = value(read(watcher), QUEUE)
        registry.release()
        dead = value(read(watcher), QUEUE)
    finally:
        forked.kill()

    assert (alive, dead) == (7, 0)


@pytest.mark.parametrize("action", ["look", "lock"])
def test_a_child_forked_while_a_thread_looks_who_lives_does_not_revive_the_dead(
    folder: Path, join: Join, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    """Looking tries the lock of a file; a child that inherits that attempt does not make a dead file alive."""
    watcher, dead = join(), join()
    count(watcher, 1)
    count(dead, 7, declaration=QUEUE)
    die(dead)
    if action == "lock":
        with child(lambda: None):
            assert value(read(watcher), QUEUE) == 0
        return
    with in_the_middle(fcntl, "flock", monkeypatch) as reached:
        thread = threading.Thread(target=lambda: [CellFolder(folder).files()])
        thread.start()
        reached.wait(5)
        forked = Forked(lambda: None)
    try:
        forked.answer()
        thread.join()
        assert value(read(watcher), QUEUE) == 0
    finally:
        forked.kill()


def test_a_child_starts_without_its_parents_looked_up_cells(folder: Path, join: Join) -> None:
    """A table of looked-up series is empty in the child: its parent's cells are not its own."""
    registry: CellRegistry = join()
    cells = registry.cells(JOBS)
    cells["a",][0] += 1.0

    assert in_child(lambda: cells.get(("a",))) is None
    assert cells.get(("a",)) is not None
    assert len(cell_files(folder)) == 1
