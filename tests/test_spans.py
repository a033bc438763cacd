"""``observe``: every kind of function and block, every way to end, and nothing changed by it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import monitoring
from monitoring.context import current_record
from monitoring.observation import RequestRecord
from monitoring.testing import MemorySink, use


@pytest.fixture
def sink() -> Iterator[MemorySink]:
    """What the current Monitoring observed."""
    sink = MemorySink()
    with use(sink):
        yield sink


def outcomes(sink: MemorySink) -> list[tuple[str, str]]:
    """Return name and outcome of every span."""
    return [(one.name, one.outcome) for one in sink.of_kind("span")]


# Blocks


def test_a_block_is_observed_at_its_end(sink: MemorySink) -> None:
    """With its name, its attributes and how long it took."""
    with monitoring.observe("proposal.render", template="a"):
        assert sink.observations == []
    (span,) = sink.observations
    assert (span.kind, span.name, span.outcome, span.exception) == ("span", "proposal.render", "ok", None)
    assert span.attributes == {"template": "a"}
    assert 0 < span.duration_seconds < 1


def test_a_block_that_fails_is_an_error_and_raises_the_same(sink: MemorySink) -> None:
    """The exception is on the observation and goes on."""
    error = RuntimeError("boom")
    with pytest.raises(RuntimeError) as raised, monitoring.observe("work"):
        raise error
    assert raised.value is error
    assert (sink.observations[0].outcome, sink.observations[0].exception) == ("error", error)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)], ids=repr)
def test_an_exit_through_a_block_is_reported_and_goes_on(sink: MemorySink, error: BaseException) -> None:
    """What ends the process passes."""
    with pytest.raises(type(error)), monitoring.observe("work"):
        raise error
    assert outcomes(sink) == [("work", "error")]


def test_blocks_nest_and_each_is_observed(sink: MemorySink) -> None:
    """The inner one ends first and is no longer than the outer."""
    with monitoring.observe("outer"), monitoring.observe("inner"):
        pass
    assert outcomes(sink) == [("inner", "ok"), ("outer", "ok")]
    assert sink.observations[0].duration_seconds <= sink.observations[1].duration_seconds


def test_one_block_object_serves_one_block_after_another(sink: MemorySink) -> None:
    """Each time it starts anew."""
    block = monitoring.observe("work")
    for _ in range(2):
        with block:
            pass
    assert outcomes(sink) == [("work", "ok")] * 2


def test_a_span_knows_its_request(sink: MemorySink) -> None:
    """Inside a request the observation has its record, outside it has none."""
    record = RequestRecord()
    token = current_record.set(record)
    with monitoring.observe("inside"):
        pass
    current_record.reset(token)
    with monitoring.observe("outside"):
        pass
    assert [one.request for one in sink.observations] == [record, None]


def test_without_a_monitoring_nothing_happens() -> None:
    """Before ``configure`` blocks and decorators cost a call and do nothing."""
    with monitoring.observe("work"):
        pass
    assert monitoring.observe("work")(lambda: 17)() == 17


def test_the_monitoring_is_looked_up_when_it_is_needed() -> None:
    """What is decorated at import reports to what is configured later."""

    @monitoring.observe("work")
    def work() -> None:
        """Work."""

    first, second = MemorySink(), MemorySink()
    with use(first):
        work()
    with use(second):
        work()
        work()
    assert (len(first.observations), len(second.observations)) == (1, 2)


# Functions


def test_a_function_is_observed_at_each_call(sink: MemorySink) -> None:
    """Arguments and result pass unchanged."""

    @monitoring.observe("work")
    def work(a: int, /, b: int, *rest: int, c: int, **more: int) -> tuple[Any, ...]:
        return a, b, rest, c, more

    assert work(1, 2, 3, c=4, d=5) == (1, 2, (3,), 4, {"d": 5})
    assert work(1, b=2, c=4) == (1, 2, (), 4, {})
    assert outcomes(sink) == [("work", "ok")] * 2


def test_a_coroutine_function_is_observed_when_it_is_awaited(sink: MemorySink) -> None:
    """Making the coroutine is not yet the work."""

    @monitoring.observe("work")
    async def work() -> int:
        await asyncio.sleep(0)
        return 17

    coroutine = work()
    assert sink.observations == []
    assert asyncio.run(coroutine) == 17
    assert outcomes(sink) == [("work", "ok")]


def test_calls_side_by_side_are_timed_apart(sink: MemorySink) -> None:
    """One decorator serves any number of calls at a time."""

    @monitoring.observe("work")
    async def work(steps: int) -> None:
        for _ in range(steps):
            await asyncio.sleep(0.001)

    async def main() -> None:
        await asyncio.gather(work(20), work(1))

    asyncio.run(main())
    short, long = (one.duration_seconds for one in sink.observations)
    assert short < long


def test_a_cancelled_coroutine_is_cancelled_and_no_error(sink: MemorySink) -> None:
    """The cancellation goes on, and no exception is recorded."""

    @monitoring.observe("work")
    async def work() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert outcomes(sink) == [("work", "cancelled")]
    assert sink.observations[0].exception is None


def test_functions_stay_what_they_are(sink: MemorySink) -> None:
    """Frameworks ask for kind, name, documentation and signature."""

    def function(a: int) -> int:
        """Say so."""
        return a

    async def coroutine_function() -> None:
        """Say so."""

    def generator_function() -> Iterator[int]:
        """Say so."""
        yield 1

    async def async_generator_function() -> AsyncIterator[int]:
        """Say so."""
        yield 1

    kinds: list[tuple[Callable[..., Any], Callable[[Any], bool]]] = [
        (function, inspect.isfunction),
        (coroutine_function, inspect.iscoroutinefunction),
        (generator_function, inspect.isgeneratorfunction),
        (async_generator_function, inspect.isasyncgenfunction),
    ]
    for original, is_kind in kinds:
        observed = monitoring.observe("work")(original)
        assert is_kind(observed)
        assert (observed.__name__, observed.__doc__) == (original.__name__, "Say so.")
        assert inspect.signature(observed) == inspect.signature(original)


def test_methods_are_observed(sink: MemorySink) -> None:
    """Plain ones, class methods and static ones."""

    class Agent:
        @monitoring.observe("run")
        def run(self) -> object:
            return self

        @classmethod
        @monitoring.observe("make")
        def make(cls) -> object:
            return cls

        @staticmethod
        @monitoring.observe("help")
        def help() -> int:
            return 17

    agent = Agent()
    assert (agent.run(), Agent.make(), Agent.help()) == (agent, Agent, 17)
    assert outcomes(sink) == [("run", "ok"), ("make", "ok"), ("help", "ok")]


def test_callables_that_are_no_functions_are_observed(sink: MemorySink) -> None:
    """Built-ins and partials."""
    assert monitoring.observe("work")(len)([1, 2]) == 2
    assert monitoring.observe("work")(functools.partial(int, base=2))("101") == 5
    assert outcomes(sink) == [("work", "ok")] * 2


def test_decorators_may_be_stacked(sink: MemorySink) -> None:
    """Each observes its own."""
    assert monitoring.observe("outer")(monitoring.observe("inner")(lambda: 17))() == 17
    assert outcomes(sink) == [("inner", "ok"), ("outer", "ok")]


# Generators


@monitoring.observe("count")
def count(to: int, fails: bool = False) -> Iterator[int]:
    """Yield numbers and return a word."""
    yield from range(to)
    if fails:
        raise RuntimeError("boom")
    return "done"


def test_a_generator_is_observed_from_its_first_step_to_its_end(sink: MemorySink) -> None:
    """What is made and never begun is not work; the values arrive."""
    assert count(3) is not None
    numbers = count(3)
    assert [next(numbers) for _ in range(3)] == [0, 1, 2]
    assert sink.observations == []
    assert next(numbers, None) is None
    assert outcomes(sink) == [("count", "ok")]


def test_the_result_of_a_generator_is_kept(sink: MemorySink) -> None:
    """``yield from`` gets it."""

    def outer() -> Iterator[Any]:
        yield (yield from count(1))

    assert list(outer()) == [0, "done"]


def test_a_generator_that_is_closed_is_closed_early(sink: MemorySink) -> None:
    """Which is no error: the consumer had enough."""
    numbers = count(3)
    next(numbers)
    numbers.close()  # type: ignore[attr-defined]
    assert outcomes(sink) == [("count", "closed_early")]
    assert sink.observations[0].exception is None


def test_a_generator_that_fails_is_an_error(sink: MemorySink) -> None:
    """The exception passes."""
    with pytest.raises(RuntimeError):
        list(count(1, fails=True))
    assert outcomes(sink) == [("count", "error")]


def test_values_and_exceptions_can_be_sent_into_a_generator(sink: MemorySink) -> None:
    """``send`` and ``throw`` reach the code inside."""

    @monitoring.observe("echo")
    def echo() -> Any:
        sent = yield "ready"
        try:
            yield sent
        except KeyError:
            yield "caught"

    steps = echo()
    assert [next(steps), steps.send("hello"), steps.throw(KeyError())] == ["ready", "hello", "caught"]


def test_what_happens_in_the_steps_of_a_generator_is_its_child(sink: MemorySink) -> None:
    """And what its caller does between them is not."""

    @monitoring.observe("outer")
    def steps() -> Iterator[int]:
        for number in range(2):
            with monitoring.observe("inside"):
                pass
            yield number

    for _ in steps():
        with monitoring.observe("between"):
            pass
    (outer,) = [one for one in sink.observations if one.name == "outer"]
    assert [one.block is outer.opened for one in sink.observations if one.name == "inside"] == [True, True]
    assert [one.block for one in sink.observations if one.name == "between"] == [None, None]


# Async generators


@monitoring.observe("stream")
async def stream(to: int, fails: bool = False) -> AsyncIterator[int]:
    """Yield numbers."""
    for number in range(to):
        yield number
    if fails:
        raise RuntimeError("boom")


def test_an_async_generator_is_observed_to_its_end(sink: MemorySink) -> None:
    """The values arrive in their order."""

    async def main() -> list[int]:
        return [number async for number in stream(3)]

    assert asyncio.run(main()) == [0, 1, 2]
    assert outcomes(sink) == [("stream", "ok")]


def test_an_async_generator_that_yields_nothing_is_ok(sink: MemorySink) -> None:
    """An empty stream is complete."""

    async def main() -> list[int]:
        return [number async for number in stream(0)]

    assert asyncio.run(main()) == []
    assert outcomes(sink) == [("stream", "ok")]


def test_an_async_generator_that_is_closed_is_closed_early(sink: MemorySink) -> None:
    """The code inside is closed at the same time, in the same task."""
    closed: list[bool] = []

    @monitoring.observe("stream")
    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    async def main() -> None:
        async with contextlib.aclosing(endless()) as numbers:  # type: ignore[type-var]
            async for _ in numbers:
                break
        assert closed == [True]

    asyncio.run(main())
    assert outcomes(sink) == [("stream", "closed_early")]


def test_an_async_generator_that_fails_is_an_error(sink: MemorySink) -> None:
    """The exception passes."""

    async def main() -> None:
        async for _ in stream(1, fails=True):
            pass

    with pytest.raises(RuntimeError):
        asyncio.run(main())
    assert outcomes(sink) == [("stream", "error")]


def test_an_async_generator_that_is_cancelled_is_cancelled(sink: MemorySink) -> None:
    """While it waits for its next value."""

    @monitoring.observe("stream")
    async def slow() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(60)

    async def consume() -> None:
        async for _ in slow():
            pass

    async def main() -> None:
        task = asyncio.create_task(consume())
        await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert outcomes(sink) == [("stream", "cancelled")]


def test_values_and_exceptions_can_be_sent_into_an_async_generator(sink: MemorySink) -> None:
    """``asend`` and ``athrow`` reach the code inside."""

    @monitoring.observe("echo")
    async def echo() -> Any:
        sent = yield "ready"
        try:
            yield sent
        except KeyError:
            yield "caught"

    async def main() -> list[str]:
        steps = echo()
        seen = [await anext(steps), await steps.asend("hello"), await steps.athrow(KeyError())]
        await steps.aclose()
        return seen

    assert asyncio.run(main()) == ["ready", "hello", "caught"]
    assert outcomes(sink) == [("echo", "closed_early")]


# Numbers


def test_spans_are_counted_by_name_and_outcome() -> None:
    """Attributes are no labels."""
    with use() as current:
        for funder in ("NSF", "NIH"):
            with monitoring.observe("work", funder=funder):
                pass
        with pytest.raises(RuntimeError), monitoring.observe("work"):
            raise RuntimeError("boom")
        series = current.metrics.snapshot()["monitoring_span_duration_seconds"].series
    assert [(one.labels, one.count) for one in series] == [
        ({"name": "work", "outcome": "error"}, 1),
        ({"name": "work", "outcome": "ok"}, 2),
    ]
