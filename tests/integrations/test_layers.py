"""Clients that work through other clients, all of them wrapped."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from monitoring.calls import CacheCall, Call, DatabaseCall
from monitoring.integrations import attachment
from monitoring.integrations.attachment import Link, observing, observing_async, report
from monitoring.integrations.layers import current_layer
from monitoring.recorder import Recorder
from monitoring.testing import MemorySink


@pytest.fixture(autouse=True)
def _clients_below(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some client of the kind is wrapped."""
    monkeypatch.setattr(attachment, "has_clients_below", {"cache"}.__contains__)


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
def recorder(sink: MemorySink) -> Recorder:
    return Recorder([sink])


def link(recorder: Recorder, name: str | None = None) -> Link:
    return Link(lambda: recorder, name)


def cache_call(name: str, args: tuple[Any, ...], started: float, _: Any, error: BaseException | None) -> CacheCall:
    call = CacheCall(started, error)
    call.name = name
    return call


def database_call(args: tuple[Any, ...], started: float, _: Any, error: BaseException | None) -> DatabaseCall:
    return DatabaseCall(started, error)


INNER, MIDDLE, OUTER = (partial(cache_call, name) for name in ("inner", "middle", "outer"))


def names(sink: MemorySink) -> list[str]:
    return [call.name for call in sink.observations]


def test_what_nobody_below_counts_is_counted_by_the_outer_client(sink: MemorySink, recorder: Recorder) -> None:
    """Its inner client is not wrapped."""
    assert observing(link(recorder), OUTER, through="cache", function=lambda: 7)() == 7
    assert names(sink) == ["outer"]
    assert current_layer.get() is None


def test_the_innermost_counts_each_of_its_calls(sink: MemorySink, recorder: Recorder) -> None:
    """Two commands for one call of the outer client are two, by the name of the outermost."""

    def act() -> None:
        for _ in range(2):
            observing(link(recorder, "redis"), INNER, lambda: None)()

    middle = observing(link(recorder, "middle"), MIDDLE, through="cache", function=act)
    observing(link(recorder, "pages"), OUTER, through="cache", function=middle)()
    assert names(sink) == ["inner", "inner"]
    assert [call.cache for call in sink.of_kind("cache")] == ["pages", "pages"]  # type: ignore[attr-defined]


def test_a_failure_is_counted_once(sink: MemorySink, recorder: Recorder) -> None:
    """By the client that met it first."""

    def fail() -> None:
        raise LookupError("gone")

    with pytest.raises(LookupError):
        observing(link(recorder), OUTER, through="cache", function=observing(link(recorder), INNER, fail))()
    assert names(sink) == ["inner"]
    with pytest.raises(LookupError):
        observing(link(recorder), OUTER, through="cache", function=fail)()
    assert [(call.name, call.outcome) for call in sink.observations] == [("inner", "error"), ("outer", "error")]


def test_calls_of_another_kind_are_none_of_its_own(sink: MemorySink, recorder: Recorder) -> None:
    """A cache that lies in a database makes both kinds of calls."""
    observing(link(recorder), OUTER, through="cache", function=observing(link(recorder), database_call, lambda: None))()
    assert [call.kind for call in sink.observations] == ["db", "cache"]


def test_what_a_driver_tells_after_the_call_is_part_of_it(sink: MemorySink, recorder: Recorder) -> None:
    """asyncpg reports a statement in a later turn of the loop, in the context of the call."""

    async def act() -> None:
        asyncio.get_running_loop().call_soon(report, recorder, INNER, (), 0.0, None, None)

    async def scenario() -> None:
        await observing_async(link(recorder), OUTER, through="cache", function=act)()
        await asyncio.sleep(0)

    asyncio.run(scenario())
    assert names(sink) == ["outer"]


def test_layers_of_tasks_do_not_mix(sink: MemorySink, recorder: Recorder) -> None:
    """What one task does inside leaves another's outer call uncounted."""

    async def through(*, wrapped: bool) -> None:
        await asyncio.sleep(0)
        if wrapped:
            observing(link(recorder), INNER, lambda: None)()
        await asyncio.sleep(0)

    async def scenario() -> None:
        await asyncio.gather(
            *(
                observing_async(link(recorder), OUTER, through="cache", function=partial(through, wrapped=one))()
                for one in (True, False)
            )
        )

    asyncio.run(scenario())
    assert sorted(names(sink)) == ["inner", "outer"]


def test_a_failing_description_is_not_counted(sink: MemorySink) -> None:
    """And the layer around it counts the call instead."""
    failures: list[str] = []
    recorder = Recorder([sink], on_failure=lambda part, error: failures.append(part))

    def broken(*_: object) -> Call:
        raise RuntimeError("a bug")

    observing(link(recorder), OUTER, through="cache", function=observing(link(recorder), broken, lambda: None))()
    assert (names(sink), len(failures)) == (["outer"], 1)
