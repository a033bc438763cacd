"""The life of a process: it starts, serves, drains and may break; time is a clock that the test moves."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

import monitoring
from monitoring import MonitoringMiddleware
from monitoring.health.lifecycle import Lifecycle
from monitoring.testing import FakeClock, use

TOKEN = "token-of-these-tests"


@pytest.fixture(autouse=True)
def only_the_test_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the thread from looking, on a slow machine too."""
    monkeypatch.setattr("monitoring.health.lifecycle._LOOK_SECONDS", 600.0)


def test_a_new_process_is_live_and_ready() -> None:
    """Nothing is known against it."""
    life = Lifecycle()
    assert (life.liveness(), life.readiness()) == (("pass", ""), ("pass", ""))


def test_it_is_starting_until_the_hooks_are_done() -> None:
    """Live meanwhile, so that nobody restarts it."""
    life = Lifecycle()
    life.startup_begins()
    assert (life.readiness(), life.liveness()) == (("fail", "starting"), ("pass", ""))
    life.startup_ends()
    life.close()
    assert life.readiness() == ("pass", "")


def test_draining_ends_readiness_and_nothing_else() -> None:
    """It does not end by itself, and is not undone by a start that is told late."""
    life = Lifecycle()
    life.startup_begins()
    life.drain()
    assert (life.readiness(), life.liveness()) == (("fail", "draining"), ("pass", ""))


def test_a_broken_process_says_why_and_stays_broken() -> None:
    """What cannot be mended is for the restart."""
    life = Lifecycle()
    life.mark_broken("the model is gone")
    life.serve()
    life.close()
    assert life.liveness() == ("fail", "the model is gone")


def test_broken_needs_a_reason() -> None:
    """The message says what to do."""
    with pytest.raises(ValueError, match="needs a reason"):
        Lifecycle().mark_broken("")


def test_a_process_that_serves_nobody_is_not_put_off() -> None:
    """A script ends at once, whatever is configured."""
    life = Lifecycle(drain_seconds=5.0)
    assert life.leave() == 0.0
    assert life.readiness() == ("pass", "")


def test_the_time_for_the_drain_runs_from_its_beginning() -> None:
    """A hook before the stop has drained already: what it waited for is not waited for again."""
    clock = FakeClock()
    life = Lifecycle(drain_seconds=5.0, clock=clock)
    life.serve()
    life.drain()
    clock.advance(2.0)
    left = life.leave()
    clock.advance(10.0)
    left_later = life.leave()
    life.close()
    assert (left, left_later) == (3.0, 0.0)
    assert life.readiness() == ("fail", "draining")


def test_other_workers_follow_at_their_next_look_and_later_ones_do_not(tmp_path: Path) -> None:
    """A worker that begins afterwards is there to serve."""
    clock = FakeClock()
    first, second = (Lifecycle(folder=lambda: tmp_path, unix_clock=clock) for _ in range(2))
    second.look()
    clock.advance(1.0)
    first.drain(all_workers=True)
    second.look()
    clock.advance(1.0)
    late = Lifecycle(folder=lambda: tmp_path, unix_clock=clock)
    late.look()
    assert [life.readiness()[0] for life in (first, second, late)] == ["fail", "fail", "pass"]


def test_draining_alone_is_told_to_nobody(tmp_path: Path) -> None:
    """Each worker that gets SIGTERM drains by itself."""
    first, second = (Lifecycle(folder=lambda: tmp_path) for _ in range(2))
    first.drain()
    second.look()
    assert second.readiness() == ("pass", "")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_or_holds_nonsense_harms_nobody(tmp_path: Path) -> None:
    """This process drains all the same, the others go on."""
    gone = Lifecycle(folder=lambda: tmp_path / "gone")
    gone.drain(all_workers=True)
    (tmp_path / "draining").write_text("soon")
    other = Lifecycle(folder=lambda: tmp_path)
    other.look()
    assert (gone.readiness(), other.readiness()) == (("fail", "draining"), ("pass", ""))


def test_a_forked_child_begins_anew() -> None:
    """It has no server yet, and is there to serve."""
    life = Lifecycle(drain_seconds=5.0)
    life.serve()
    life.drain()
    life.close()
    life.start_anew()
    assert life.readiness() == ("pass", "")
    assert life.leave() == 0.0


def test_draining_is_told_once() -> None:
    """One line says from when on it was not ready."""
    said: list[str] = []
    life = Lifecycle(say=lambda level, event, fields: said.append(f"{level}: {event}"))
    life.look()
    life.drain()
    life.look()
    life.look()
    assert said == ["info: draining: not ready any more"]


def test_what_goes_wrong_at_a_probe_is_reported_and_not_raised() -> None:
    """Such as a handler of signals that cannot be set."""
    failures: list[str] = []

    def fail() -> None:
        raise OSError("no descriptors any more")

    life = Lifecycle(on_serving=fail, on_failure=lambda part, error: failures.append(f"{part}: {error}"))
    life.serve()
    life.close()
    assert failures == ["lifecycle: no descriptors any more"]


def test_an_event_loop_that_hangs_takes_liveness_away_for_as_long() -> None:
    """Whoever can still be asked says since when."""
    clock = FakeClock()
    said: list[tuple[str, str, Mapping[str, Any]]] = []
    life = Lifecycle(stuck_seconds=3.0, clock=clock, say=lambda *line: said.append(line))
    found: list[tuple[str, str]] = []

    def look_on() -> None:
        for _ in range(3):
            clock.advance(2.0)
            life.look()
            found.append(life.liveness())

    async def serve() -> None:
        life.serve()
        life.look()
        other = threading.Thread(target=look_on)
        other.start()
        other.join()  # the loop does not get round meanwhile
        await asyncio.sleep(0)
        found.append(life.liveness())
        life.look()

    asyncio.run(serve())
    life.close()

    message = "the event loop has not answered for"
    assert found == [("pass", ""), ("fail", f"{message} 4 s"), ("fail", f"{message} 6 s"), ("pass", "")]
    assert [(level, event) for level, event, _ in said] == [
        ("error", "event loop is stuck"),
        ("warning", "event loop goes on"),
    ]
    assert "in serve\n" in said[0][2]["stack"]


def test_without_stuck_seconds_no_loop_is_watched() -> None:
    """None switches it off."""
    clock = FakeClock()
    life = Lifecycle(stuck_seconds=None, clock=clock)

    async def serve() -> None:
        life.serve()
        for _ in range(100):
            clock.advance(60.0)
            life.look()

    asyncio.run(serve())
    life.close()
    assert life.liveness() == ("pass", "")


def test_the_middleware_tells_of_the_start() -> None:
    """From the beginning of the lifespan until the app says that it is complete."""
    seen: list[tuple[str, str]] = []
    with use() as made:

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append(made.lifecycle.readiness())
            await send({"type": "lifespan.startup.complete"})
            seen.append(made.lifecycle.readiness())

        _lifespan(MonitoringMiddleware(app, made))
    assert seen == [("fail", "starting"), ("pass", "")]


def test_an_app_that_knows_no_lifespan_has_started() -> None:
    """It raises, and servers go on without."""
    with use() as made:

        async def app(scope: Any, receive: Any, send: Any) -> None:
            raise AssertionError("only http")

        with pytest.raises(AssertionError, match="only http"):
            _lifespan(MonitoringMiddleware(app, made))
        assert made.lifecycle.readiness() == ("pass", "")


@pytest.mark.parametrize(
    ("headers", "status", "ready"),
    [({"authorization": f"Bearer {TOKEN}"}, 200, 503), ({}, 403, 200), ({"authorization": "Bearer other"}, 403, 200)],
    ids=["token", "nobody", "wrong token"],
)
def test_only_who_has_the_token_may_drain(headers: dict[str, str], status: int, ready: int) -> None:
    """By POST: a link that somebody follows drains nothing."""
    with use(token=TOKEN) as made:
        assert _ask(made, "POST", "/health/drain", headers) == status
        assert _ask(made, "GET", "/health/ready") == ready
        assert _ask(made, "GET", "/health/live") == 200


def test_getting_the_path_of_the_drain_drains_nothing() -> None:
    """It is the name of a component that does not exist."""
    with use(token=TOKEN) as made:
        assert _ask(made, "GET", "/health/drain", {"authorization": f"Bearer {TOKEN}"}) == 404
        assert made.lifecycle.readiness() == ("pass", "")


def test_the_verb_drains_the_current_one() -> None:
    """For code that knows by itself that it should get no requests any more."""
    with use() as made:
        monitoring.drain()
        assert made.lifecycle.readiness() == ("fail", "draining")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_the_fork_of_a_process_that_drains_is_ready() -> None:
    """Told by the exit status of the child."""
    with use(store=None) as made:
        made.drain()
        pid = os.fork()
        if pid == 0:
            os._exit(0 if made.lifecycle.readiness() == ("pass", "") else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _lifespan(app: Any) -> None:
    async def run() -> None:
        async def nothing(*_: Any) -> dict[str, str]:
            return {"type": "lifespan.startup"}

        await app({"type": "lifespan"}, nothing, nothing)

    asyncio.run(run())


def _ask(made: monitoring.Monitoring, method: str, path: str, headers: dict[str, str] | None = None) -> int:
    async def nobody(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the app was asked")

    async def send() -> int:
        transport = httpx.ASGITransport(app=MonitoringMiddleware(nobody, made))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return (await client.request(method, path, headers=headers)).status_code

    return asyncio.run(send())
