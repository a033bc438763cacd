"""The background thread: when it starts, what a fork does to it, and how it ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import monitoring
from monitoring import Monitoring, MonitoringMiddleware
from monitoring.background import Background
from monitoring.store import leases, schema
from monitoring.store.database import Database
from monitoring.store.facts import EventFact
from monitoring.testing import use
from tests.cells.support import forks_beside_threads, in_child, run_program
from tests.support.forks import telling_gate
from tests.support.processes import poll


class Rounds:
    """Stands in for a flusher: it counts."""

    def __init__(self) -> None:
        self.made = self.flushed = self.finished = 0
        self.error: Exception | None = None
        self.threads: set[str] = set()

    def make(self) -> Any:
        """Return itself, as the flusher of one process."""
        self.made += 1
        return self

    def flush(self) -> None:
        """Do a round."""
        self.flushed += 1
        self.threads.add(threading.current_thread().name)
        if self.error is not None:
            raise self.error

    flush_all = flush

    def finish(self) -> None:
        """End."""
        self.finished += 1
        if self.error is not None:
            raise self.error


@pytest.fixture
def rounds() -> Rounds:
    """A flusher that counts."""
    return Rounds()


@pytest.fixture
def failures() -> list[str]:
    """What was reported."""
    return []


@pytest.fixture
def background(rounds: Rounds, failures: list[str]) -> Iterator[Background]:
    """A background over it."""
    background = Background(rounds.make, on_failure=lambda part, error: failures.append(f"{part}: {error!r}"))
    yield background
    rounds.error = None
    background.stop()


def started(rounds: Rounds, more: int = 0) -> Callable[[], bool]:
    """Return the condition that a round after those so far was made."""
    before = rounds.flushed + more
    return lambda: rounds.flushed > before


# The thread


def test_nothing_happens_before_it_is_started(background: Background, rounds: Rounds) -> None:
    """Making it starts no thread and makes no flusher."""
    assert (background.flusher, rounds.made, flusher_threads()) == (None, 0, [])


def flusher_threads() -> list[str]:
    """Return the names of the threads that flush."""
    return [thread.name for thread in threading.enumerate() if thread.name == "monitoring-flusher"]


def test_a_thread_makes_the_flusher_and_its_rounds(background: Background, rounds: Rounds) -> None:
    """The importing that it takes is not the first request's."""
    condition = started(rounds)
    background.start()
    poll(condition, "a round")
    assert (rounds.threads, rounds.made) == ({"monitoring-flusher"}, 1)


def test_starting_twice_is_starting_once(background: Background, rounds: Rounds) -> None:
    """From however many threads."""
    starters = [threading.Thread(target=background.start) for _ in range(16)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    poll(started(rounds, -1), "a round")
    assert (flusher_threads(), rounds.made) == (["monitoring-flusher"], 1)


def test_a_round_that_raises_is_reported_and_the_next_one_comes(
    background: Background, rounds: Rounds, failures: list[str]
) -> None:
    """The thread lives on."""
    rounds.error = LookupError("bug")
    condition = started(rounds)
    background.start()
    poll(condition, "a round")
    condition = started(rounds)
    poll(condition, "another round")
    assert failures[:2] == ["flusher: LookupError('bug')"] * 2


def test_a_flusher_that_cannot_be_made_is_tried_again(failures: list[str]) -> None:
    """A driver was missing, say, and is reported each time."""
    tries: list[int] = []

    def make() -> Any:
        tries.append(1)
        raise ImportError("no driver")

    background = Background(make, on_failure=lambda part, error: failures.append(part))
    background.start()
    poll(lambda: len(tries) > 0, "a try")
    poll(lambda: len(tries) > 1, "another try")
    background.stop()
    assert failures[0] == "flusher"


def test_where_no_thread_can_be_started_the_next_start_tries_again(
    background: Background, rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system has no more threads now, but may have later."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            background.start()
    condition = started(rounds)
    background.start()
    poll(condition, "a round")


def test_stopping_ends_the_thread_and_finishes(background: Background, rounds: Rounds) -> None:
    """And nothing runs afterwards."""
    background.start()
    poll(started(rounds, -1), "a round")
    background.stop()
    assert (rounds.finished, flusher_threads()) == (1, [])


def test_stopping_what_never_started_does_nothing(background: Background, rounds: Rounds) -> None:
    """No flusher is made in order to finish it."""
    background.stop()
    assert (rounds.made, rounds.finished) == (0, 0)


def test_stopping_raises_nothing(background: Background, rounds: Rounds, failures: list[str]) -> None:
    """The app's shutdown goes on whatever happens here."""
    background.flush()
    rounds.error = LookupError("bug")
    background.stop()
    assert failures == ["flusher: LookupError('bug')"]


def test_a_second_start_works(background: Background, rounds: Rounds) -> None:
    """With the same flusher, and its end is finished again."""
    for turn in (1, 2):
        condition = started(rounds)
        background.start()
        poll(condition, "a round")
        background.stop()
        assert (rounds.finished, rounds.made) == (turn, 1)


@forks_beside_threads
def test_a_forked_child_has_none_until_it_starts_its_own(background: Background, rounds: Rounds) -> None:
    """The thread of the parent is not in it; its flusher is another, in a thread of its own."""
    background.start()
    poll(started(rounds, -1), "a round")

    def work() -> tuple[bool, list[str], int, bool]:
        inherited = background.flusher is None
        before, made = flusher_threads(), rounds.made
        condition = started(rounds)
        background.start()
        poll(condition, "a round in the child")
        return inherited, before, rounds.made - made, len(flusher_threads()) == 1

    assert in_child(work) == (True, [], 1, True)


@forks_beside_threads
def test_a_fork_waits_until_the_flusher_is_made(rounds: Rounds, monkeypatch: pytest.MonkeyPatch) -> None:
    """It imports much, and what is half imported by a thread that is not there can never be imported in the child."""
    gate, begun = telling_gate(monkeypatch), threading.Event()

    def make() -> Any:
        begun.set()
        gate.fork_is_near.wait(10)
        return rounds.make()

    background = Background(make, on_failure=lambda part, error: None)
    background.start()
    begun.wait(10)
    assert in_child(lambda: rounds.made) == 1
    background.stop()


# In an app


class App:
    """An app with a store that says who serves it."""

    def __init__(self, folder: Path, current: Monitoring) -> None:
        self.store = str(folder / "store")
        self.monitoring = current

        async def serve(request: Request) -> JSONResponse:
            monitoring.track("served")
            return JSONResponse({"pid": os.getpid()})

        self.client = TestClient(MonitoringMiddleware(Starlette(routes=[Route("/", serve)]), current))

    def events(self) -> int:
        """Return how many events are in the store."""
        database = Database(self.store)
        with database.reading() as connection:
            number = len(connection.execute(select(schema.event.c.id)).all())
        database.close()
        return number

    def leader(self) -> str:
        """Return who holds the lease of the store."""
        database = Database(self.store)
        with database.reading() as connection:
            held = connection.execute(select(leases.table).where(leases.table.c.until > 0)).first()
        database.close()
        return str(held.owner) if held else ""


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """The app, until the end of the test."""
    with use(store=str(tmp_path / "store"), log_destination=str(tmp_path / "lines.log")) as current:
        yield App(tmp_path, current)


def test_importing_and_configuring_start_no_thread(tmp_path: Path) -> None:
    """A master that preloads the app forks without a thread, and without SQLAlchemy."""
    program = (
        "import sys, threading, monitoring\n"
        "monitoring.configure(store=sys.argv[1], log_destination='stderr')\n"
        "print([thread.name for thread in threading.enumerate()], 'sqlalchemy' in sys.modules)"
    )
    assert run_program(program, str(tmp_path / "store")).stdout == "['MainThread'] False\n"
    assert not (tmp_path / "store").exists()


def test_the_first_request_starts_it(app: App) -> None:
    """And what it reported is in the store without anybody asking for it."""
    assert flusher_threads() == []
    app.client.get("/")
    assert flusher_threads() == ["monitoring-flusher"]
    poll(lambda: app.events() == 1, "the event in the store")


def test_without_a_store_none_is_started(tmp_path: Path) -> None:
    """There is nothing to do."""
    with use(log_destination=str(tmp_path / "lines.log")) as current:
        App(tmp_path, current).client.get("/")
        assert flusher_threads() == []


def test_the_end_of_an_app_writes_what_waits(app: App) -> None:
    """And gives the leases up at once."""
    app.client.get("/")
    poll(app.leader, "a leader")
    for _ in range(20):
        app.client.get("/")
    app.monitoring.close()
    assert (app.events(), app.leader()) == (21, "")


@forks_beside_threads
def test_workers_of_a_preloading_master_write_for_themselves(app: App) -> None:
    """Each starts its own thread with its first request; a fact of the master's is not written by them."""
    app.monitoring.outbox.put(EventFact(0.0, "of the master"))

    def work() -> int:
        app.client.get("/")
        app.monitoring.close()
        return app.events()

    assert [in_child(work), in_child(work)] == [1, 2]
    assert flusher_threads() == []
    app.monitoring.flush()
    assert app.events() == 3


def test_a_child_ends_at_once_that_is_forked_while_the_first_round_begins(tmp_path: Path) -> None:
    """The parent's thread imports SQLAlchemy just then; the child's thread does its rounds, and is gone at the end."""
    program = (
        "import os, sys, threading, monitoring\n"
        "from monitoring.monitor import write_what_waits\n"
        "current = monitoring.configure(store=sys.argv[1], log_destination=sys.argv[2])\n"
        "current.background.start()\n"
        "while 'sqlalchemy' not in sys.modules: pass\n"
        "if (child := os.fork()) == 0:\n"
        "    monitoring.track('ended')\n"
        "    current.background.start()\n"
        "    write_what_waits()\n"
        "    os._exit('monitoring-flusher' in [thread.name for thread in threading.enumerate()])\n"
        "print(os.waitpid(child, 0)[1])"
    )
    store = str(tmp_path / "store")
    assert run_program(program, store, str(tmp_path / "lines.log"), PYTHONWARNINGS="ignore").stdout == "0\n"
    database = Database(store)
    with database.reading() as connection:
        assert list(connection.scalars(select(schema.event.c.name))) == ["ended"]
    database.close()


@forks_beside_threads
def test_a_child_of_a_serving_process_starts_anew(app: App) -> None:
    """The parent's thread goes on, and both write."""
    app.client.get("/")
    poll(lambda: app.events() == 1, "the parent's event")

    def work() -> str:
        app.client.get("/")
        poll(lambda: app.events() == 2, "the child's event")
        assert app.monitoring.background.flusher is not None
        return app.monitoring.background.flusher.process

    assert in_child(work).endswith(f":{os.getpid()}") is False
    app.client.get("/")
    poll(lambda: app.events() == 3, "the parent's second event")
