"""The helpers for lines of one's own: what is on which line, in every kind of function, task and thread."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import inspect
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy
from fastapi import Depends, FastAPI
from starlette.testclient import TestClient

import monitoring
from monitoring import Monitoring, log_call, log_context, log_duration, log_request
from monitoring.calls import CacheCall, DatabaseCall, LLMCall
from monitoring.context import bound_fields, current_record
from monitoring.observation import Kind
from monitoring.testing import MemorySink, use


class Log:
    """What the current Monitoring wrote and observed."""

    def __init__(self, path: Path, monitoring: Monitoring, sink: MemorySink) -> None:
        self.path = path
        self.monitoring = monitoring
        self.sink = sink

    def lines(self, event: str | None = None) -> list[dict[str, Any]]:
        """Return the lines so far, of one event or of all."""
        self.monitoring.log_lines.flush()
        text = self.path.read_bytes() if self.path.exists() else b""
        lines = [orjson.loads(line) for line in text.splitlines()]
        return [line for line in lines if event in (None, line["event"])]

    def line(self, event: str | None = None) -> dict[str, Any]:
        """Return the only line."""
        (line,) = self.lines(event)
        return line

    def endings(self) -> list[tuple[str, str]]:
        """Return event and outcome of each line."""
        return [(line["event"], line["outcome"]) for line in self.lines()]


@contextlib.contextmanager
def logging_to(path: Path, **settings: Any) -> Iterator[Log]:
    """Make a Monitoring that writes to a file the current one."""
    sink = MemorySink()
    with use(sink, log_destination=str(path), **settings) as made:
        yield Log(path, made, sink)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """The lines of a Monitoring with the level info."""
    with logging_to(tmp_path / "app.log") as log:
        yield log


@pytest.fixture
def debug_log(tmp_path: Path) -> Iterator[Log]:
    """The lines of a Monitoring with the level debug."""
    with logging_to(tmp_path / "app.log", log_level="debug") as log:
        yield log


def say(event: str = "said") -> None:
    """Write a line, as code does that knows nothing of the helpers."""
    monitoring.current().log_lines.emit("info", "tests", event, {})


def fields_of(line: dict[str, Any]) -> dict[str, Any]:
    """Return what is on a line besides what is on every line."""
    usual = {"timestamp", "level", "logger", "event", "service", "request_id", "trace_id", "span_id", "user_id"}
    return {key: value for key, value in line.items() if key not in usual}


@log_call
def add(a: int, b: int = 2) -> int:
    """Add."""
    return a + b


@log_call
async def add_async(a: int) -> int:
    """Add one."""
    await asyncio.sleep(0)
    return a + 1


@log_context(step=1)
def in_context() -> dict[str, Any]:
    """Return what is bound."""
    return dict(bound_fields())


@log_duration("timed")
def timed() -> int:
    """Return."""
    return 17


@log_request("nightly")
def nightly() -> str | None:
    """Return the request ID."""
    return monitoring.request_id()


# log_call: the line


def test_a_call_has_one_line_at_its_end(log: Log) -> None:
    """The qualified name, the module as logger, how long it took and how it ended; no argument."""
    assert add(1, 2) == 3
    line = log.line()
    assert (line["event"], line["logger"], line["level"], line["outcome"]) == ("add", __name__, "info", "ok")
    assert set(fields_of(line)) == {"duration_ms", "outcome"}
    assert 0 <= line["duration_ms"] < 1000


def test_the_qualified_name_tells_the_class(log: Log) -> None:
    """So two methods of the same name are told apart."""

    class Proposal:
        """Has a method."""

        @log_call
        def render(self) -> None: ...

    Proposal().render()
    assert log.line()["event"].endswith("Proposal.render")


def test_event_logger_and_level_may_be_given(log: Log) -> None:
    """For a line that others look for."""
    log_call(event="proposal.rendered", logger="app.proposals", level="warning")(lambda: None)()
    line = log.line()
    assert (line["event"], line["logger"], line["level"]) == ("proposal.rendered", "app.proposals", "warning")


def test_a_failed_call_has_the_level_error_and_the_stack(log: Log) -> None:
    """The exception that comes out is the one that was raised."""
    error = LookupError("no such funder")

    @log_call
    def fail() -> None:
        raise error

    with pytest.raises(LookupError) as raised:
        fail()
    assert raised.value is error
    assert error.__cause__ is None
    line = log.line()
    assert (line["level"], line["outcome"], line["error_type"]) == ("error", "error", "LookupError")
    assert line["exception"][0]["message"] == "no such funder"
    assert "in test_a_failed_call" in line["exception"][0]["frames"][-1]


def test_a_failed_call_of_level_critical_stays_critical(log: Log) -> None:
    """It is not made less of."""
    with pytest.raises(ZeroDivisionError):
        log_call(level="critical", event="x")(lambda: 1 / 0)()
    assert log.line("x")["level"] == "critical"


def test_the_stack_is_logged_once(log: Log) -> None:
    """Calls around the one that failed, and whoever logs the exception last, tell its type and message only."""

    @log_call(event="inner")
    def inner() -> None:
        raise LookupError("x")

    @log_call(event="outer")
    def outer() -> None:
        inner()

    with pytest.raises(LookupError):
        outer()
    with_frames = [line["event"] for line in log.lines() if "frames" in line["exception"][0]]
    assert (with_frames, [line["event"] for line in log.lines()]) == (["inner"], ["inner", "outer"])


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (asyncio.CancelledError(), "cancelled"),
        (KeyboardInterrupt(), "cancelled"),
        (SystemExit(), "ok"),
        (SystemExit(0), "ok"),
        (SystemExit(3), "error"),
        (SystemExit("broken"), "error"),
    ],
    ids=repr,
)
def test_what_is_no_exception_has_no_stack(log: Log, error: BaseException, outcome: str) -> None:
    """A cancellation and an exit go through; an exit with status 0 is no failure."""

    @log_call
    def leave() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        leave()
    assert raised.value is error
    assert log.line()["outcome"] == outcome
    assert "exception" not in log.line()


def test_a_slow_call_is_logged_and_a_fast_one_is_not(log: Log) -> None:
    """With a threshold of 0 everything is slow."""
    log_call(slow_seconds=3600, event="fast")(lambda: None)()
    log_call(slow_seconds=0, event="slow")(lambda: None)()
    assert log.endings() == [("slow", "ok")]


def test_a_fast_call_that_fails_is_logged(log: Log) -> None:
    """A failure is worth a line, however fast."""
    with pytest.raises(ZeroDivisionError):
        log_call(slow_seconds=3600, event="x")(lambda: 1 / 0)()
    assert log.endings() == [("x", "error")]


def test_the_start_is_a_line_of_level_debug_when_asked_for(debug_log: Log) -> None:
    """The end follows."""

    @log_call(entry=True, args=["a"], event="x")
    def work(a: int) -> None:
        say()

    work(5)
    first, said, last = debug_log.lines()
    assert (first["event"], first["level"], first["outcome"], first["a"]) == ("x", "debug", "started", 5)
    assert said["event"] == "said"
    assert (last["event"], last["level"], last["outcome"]) == ("x", "info", "ok")


def test_there_is_no_line_for_the_start_unless_asked_for(debug_log: Log) -> None:
    """One line per call."""
    add(1)
    assert debug_log.endings() == [("add", "ok")]


def test_the_line_for_the_start_is_left_out_above_debug(log: Log) -> None:
    """The end has its own level."""
    log_call(entry=True, event="x")(lambda: None)()
    assert log.endings() == [("x", "ok")]


def test_a_fast_call_that_is_cancelled_is_not_logged(log: Log) -> None:
    """It did not fail."""

    @log_call(slow_seconds=3600)
    def leave() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        leave()
    assert log.lines() == []


# log_call: levels


def test_a_call_whose_level_is_off_is_as_if_it_were_not_decorated(log: Log) -> None:
    """Not even a failure is logged."""
    with pytest.raises(ZeroDivisionError):
        log_call(level="debug", entry=True)(lambda: 1 / 0)()
    assert log.lines() == []


def test_nothing_is_picked_while_the_level_is_off(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """The level is looked at before anything else: with it on, the same would fail."""

    def pick(*_: Any) -> None:
        raise RuntimeError("picked")

    monkeypatch.setattr("monitoring.utils.logging_helpers._Call._picked", pick)
    assert log_call(level="debug", args=["a"])(lambda a: a)(1) == 1
    with pytest.raises(RuntimeError, match="picked"):
        log_call(level="info", args=["a"])(lambda a: a)(1)


def test_the_level_may_change_at_run_time(log: Log) -> None:
    """For one logger, and back."""
    work = log_call(level="debug", logger="app.slow", event="x")(lambda: None)
    work()
    log.monitoring.log_lines.levels.set("debug", "app.slow")
    work()
    log.monitoring.log_lines.levels.set(None, "app.slow")
    work()
    assert len(log.lines("x")) == 1


def test_before_configure_nothing_is_written_and_everything_works() -> None:
    """The helpers may stand in code that is imported without monitoring."""
    assert (add(1), asyncio.run(add_async(1)), timed(), in_context()) == (3, 2, 17, {"step": 1})
    assert nightly() is not None


def test_what_is_decorated_before_configure_is_logged_after_it(tmp_path: Path) -> None:
    """The Monitoring is looked up at each call."""
    for name in ("first", "second"):
        with logging_to(tmp_path / name) as log:
            add(1)
            assert log.line()["event"] == "add"


# log_call: arguments


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((1, 2), {}, {"a": 1, "b": 2, "c": "c", "rest": [], "more": {}}),
        ((1,), {"b": 3, "c": 4}, {"a": 1, "b": 3, "c": 4, "rest": [], "more": {}}),
        ((1,), {}, {"a": 1, "b": "b", "c": "c", "rest": [], "more": {}}),
        ((1, 2, 5, 6), {"c": 4, "x": 7}, {"a": 1, "b": 2, "c": 4, "rest": [5, 6], "more": {"x": 7}}),
        ((1,), {"a": 9}, {"a": 1, "b": "b", "c": "c", "rest": [], "more": {"a": 9}}),
        ((), {"a": 9}, {"a": "a", "b": "b", "c": "c", "rest": [], "more": {"a": 9}}),
    ],
    ids=str,
)
def test_arguments_are_found_as_python_finds_them(
    log: Log, args: tuple[Any, ...], kwargs: dict[str, Any], expected: dict[str, Any]
) -> None:
    """By position, by name, by default, and what is left."""

    @log_call(args=["a", "b", "c", "rest", "more"])
    def work(a: Any = "a", /, b: Any = "b", *rest: Any, c: Any = "c", **more: Any) -> dict[str, Any]:
        return {"a": a, "b": b, "c": c, "rest": list(rest), "more": more}

    assert work(*args, **kwargs) == expected
    line = log.line()
    assert {name: line[name] for name in expected} == expected


def test_only_the_arguments_that_are_named_are_logged(log: Log) -> None:
    """No other value is on the line, and none of it is looked at."""

    class Secret:
        """Nobody may look at it."""

        def __repr__(self) -> str:
            raise AssertionError

    @log_call(args=["user"])
    def log_in(user: str, password: Any) -> None: ...

    log_in("ada", Secret())
    assert fields_of(log.line()).keys() == {"user", "duration_ms", "outcome"}


def test_values_of_arguments_are_scrubbed_as_on_every_line(log: Log) -> None:
    """By the name of the field."""
    log_call(args=["password"], event="x")(lambda password: None)("hunter2")
    assert "hunter2" not in log.path.read_text()


@pytest.mark.parametrize("function", [add, staticmethod(add), functools.partial(add, b=1)])
def test_an_argument_that_does_not_exist_is_refused_when_decorating(function: Any) -> None:
    """In one sentence that tells which there are."""
    message = r"^args of log_call name 'amount', and add has a, b; name those\.$"
    with pytest.raises(ValueError, match=message):
        log_call(args=["a", "amount"])(function)


def test_one_argument_may_be_named_by_itself(log: Log) -> None:
    """Its name is not taken for a list of letters."""
    log_call(args="amount", event="x")(lambda amount: None)(5)
    assert log.line("x")["amount"] == 5


def test_an_argument_that_is_missing_is_an_error_of_the_call(log: Log) -> None:
    """The line leaves it out."""
    with pytest.raises(TypeError, match="missing"):
        log_call(args=["a"], event="x")(lambda a: a)()
    assert "a" not in log.line("x")


def test_arguments_of_a_partial_are_those_that_are_left(log: Log) -> None:
    """The ones bound by name are defaults."""
    log_call(args=["b", "c"], event="x")(functools.partial(lambda a, b, c: None, 1, c=3))(2)
    assert (log.line("x")["b"], log.line("x")["c"]) == (2, 3)


def test_arguments_of_a_method_come_after_self(log: Log) -> None:
    """Of a class method after the class, and of one that is bound already without."""

    class Owner:
        """Has methods."""

        @log_call(args=["a"], event="method")
        def method(self, a: int) -> None: ...

        @log_call(args=["a"], event="class")
        @classmethod
        def of_class(cls, a: int) -> None: ...

        @staticmethod
        @log_call(args=["a"], event="static")
        def static(a: int) -> None: ...

        def plain(self, a: int) -> None: ...

    owner = Owner()
    owner.method(1)
    Owner.of_class(2)
    owner.static(a=3)
    log_call(args=["a"], event="bound")(owner.plain)(4)
    assert [(line["event"], line["a"]) for line in log.lines()] == [
        ("method", 1),
        ("class", 2),
        ("static", 3),
        ("bound", 4),
    ]


def test_an_argument_cannot_pose_as_the_outcome(log: Log) -> None:
    """It comes out as ``field_outcome``, and one called ``level`` as ``field_level``."""
    log_call(args=["outcome", "level"], event="x")(lambda outcome, level: None)("won", 3)
    line = log.line("x")
    assert (line["outcome"], line["field_outcome"], line["level"], line["field_level"]) == ("ok", "won", "info", 3)


@pytest.mark.parametrize("make", [lambda **given: log_call(**given)(add), lambda **given: log_duration("x", **given)])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"level": "loud"}, r"^level of log_\w+ must be one of debug, .*, got 'loud'\.$"),
        ({"slow_seconds": -1}, r"^slow_seconds of log_\w+ must be 0 or more, or None, got -1\.$"),
        ({"slow_seconds": float("nan")}, r"^slow_seconds of log_\w+ must be 0 or more, or None, got nan\.$"),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Callable[..., Any], given: Any, message: str) -> None:
    """When the helper is made, in one sentence."""
    with pytest.raises(ValueError, match=message):
        make(**given)


def test_what_is_no_function_is_refused() -> None:
    """So is a level in the place of the function."""
    with pytest.raises(TypeError, match=r"^log_call decorates functions and methods, got 'debug'"):
        log_call("debug")  # type: ignore[type-var]


# log_call: kinds of functions


def test_a_coroutine_function_is_timed_while_it_is_awaited(log: Log) -> None:
    """And is still a coroutine function."""
    assert inspect.iscoroutinefunction(add_async)
    coroutine = add_async(1)
    assert log.lines() == []
    assert asyncio.run(coroutine) == 2
    assert log.endings() == [("add_async", "ok")]


def test_a_coroutine_function_that_fails_or_is_cancelled_says_so(log: Log) -> None:
    """What its caller gets is unchanged."""

    @log_call(event="x")
    async def work(fails: bool) -> None:
        await asyncio.sleep(0 if fails else 60)
        raise LookupError

    async def main() -> None:
        with pytest.raises(LookupError):
            await work(True)
        task = asyncio.create_task(work(False))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert log.endings() == [("x", "error"), ("x", "cancelled")]


def test_a_generator_has_one_line_when_it_ends(log: Log) -> None:
    """After its last step, with its value delegated."""

    @log_call(event="x")
    def count() -> Generator[int, str, str]:
        got = yield 1
        return got

    steps = count()
    assert next(steps) == 1
    assert log.lines() == []
    with pytest.raises(StopIteration) as end:
        steps.send("hello")
    assert end.value.value == "hello"
    assert log.endings() == [("x", "ok")]


def test_a_generator_that_is_closed_or_fails_says_so(log: Log) -> None:
    """One that never began has no line."""

    @log_call(event="x")
    def count() -> Iterator[int]:
        yield 1
        raise LookupError

    count().close()
    assert log.lines() == []
    closed = count()
    next(closed)
    closed.close()
    with pytest.raises(LookupError):
        list(count())
    assert log.endings() == [("x", "closed_early"), ("x", "error")]


def test_an_async_generator_takes_asend_athrow_and_aclose(log: Log) -> None:
    """And has one line for each of its ends."""

    @log_call(event="x")
    async def echo() -> AsyncGenerator[Any, Any]:
        given = None
        while given != "end":
            try:
                given = yield given
            except KeyError:
                given = "caught"

    async def main() -> None:
        steps = echo()
        await anext(steps)
        assert await steps.asend(1) == 1
        assert await steps.athrow(KeyError()) == "caught"
        with pytest.raises(StopAsyncIteration):
            await steps.asend("end")
        closed = echo()
        await anext(closed)
        await closed.aclose()
        failed = echo()
        await anext(failed)
        with pytest.raises(LookupError):
            await failed.athrow(LookupError())

    asyncio.run(main())
    assert log.endings() == [("x", "ok"), ("x", "closed_early"), ("x", "error")]


def test_the_line_of_a_generator_has_the_request_that_it_began_in(log: Log) -> None:
    """Also when the garbage collector ends it while another runs."""

    @log_call(event="x")
    def count() -> Iterator[int]:
        yield 1

    with log_request("first", request_id="first"):
        steps = count()
        next(steps)
    with log_request("second", request_id="second"):
        del steps
        gc.collect()
    assert (log.line("x")["request_id"], log.line("x")["outcome"]) == ("first", "closed_early")


def test_methods_are_logged_in_any_order_of_decorators(log: Log) -> None:
    """Above or below ``classmethod`` and ``staticmethod``, async ones too."""

    class Owner:
        """Has methods."""

        @log_call(event="1")
        @classmethod
        def above(cls) -> type:
            return cls

        @classmethod
        @log_call(event="2")
        def below(cls) -> type:
            return cls

        @log_call(event="3")
        @staticmethod
        async def static(x: int) -> int:
            return x

    assert (Owner.above(), Owner().below(), asyncio.run(Owner.static(5))) == (Owner, Owner, 5)
    assert log.endings() == [("1", "ok"), ("2", "ok"), ("3", "ok")]


def test_a_partial_is_called_by_its_functions_name(log: Log) -> None:
    """An object that can be called by its class's."""

    class Worker:
        """Works."""

        def __call__(self) -> None: ...

    log_call(functools.partial(add, 1))()
    log_call(Worker())()
    assert [line["event"].rpartition(".")[2] for line in log.lines() if line["event"] != "add"] == ["Worker"]
    assert log.lines("add")[-1]["logger"] == __name__


@pytest.mark.parametrize("function", [add, add_async, in_context, timed, nightly])
def test_functions_of_a_module_can_be_pickled(function: Any) -> None:
    """They are found by name, as undecorated ones are."""
    assert pickle.loads(pickle.dumps(function)) is function


def test_the_signature_is_kept() -> None:
    """With its annotations and defaults."""
    assert list(inspect.signature(add).parameters.items())[1][1].default == 2
    assert (add.__name__, add.__doc__, add.__module__) == ("add", "Add.", __name__)


def test_above_contextmanager_every_helper_warns() -> None:
    """Each by its own name."""
    for helper in (log_call, log_context(a=1), log_duration("x"), log_request("x")):
        name = getattr(helper, "__name__", type(helper).__name__)
        with pytest.warns(RuntimeWarning, match=f"^{name} stands above @contextmanager on .*; put {name} below"):
            helper(contextlib.contextmanager(lambda: iter([1])))


def test_calls_in_many_threads_have_a_line_each(log: Log) -> None:
    """One decorator serves them all."""
    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(add, range(200))) == list(range(2, 202))
    assert len(log.lines("add")) == 200


# log_context


def test_fields_are_on_every_line_of_a_block(log: Log) -> None:
    """Blocks nest, the inner one's value wins, and afterwards they are gone."""
    with log_context(funder="NSF", step=1):
        say("outer")
        with log_context(step=2, page=3):
            say("inner")
        say("outer")
    say("outside")
    assert [fields_of(line) for line in log.lines()] == [
        {"funder": "NSF", "step": 1},
        {"funder": "NSF", "step": 2, "page": 3},
        {"funder": "NSF", "step": 1},
        {},
    ]


def test_fields_leave_a_block_that_fails() -> None:
    """The exception goes through."""
    with pytest.raises(LookupError), log_context(a=1):
        raise LookupError
    assert bound_fields() == {}


def test_one_context_is_a_block_an_async_block_and_a_decorator() -> None:
    """Again and again, within itself too."""
    context = log_context(a=1)

    @context
    def function() -> Any:
        return dict(bound_fields())

    @context
    async def coroutine() -> Any:
        await asyncio.sleep(0)
        return dict(bound_fields())

    async def main() -> None:
        async with context:
            assert bound_fields() == {"a": 1}
            assert await coroutine() == {"a": 1}
        assert bound_fields() == {}
        assert await coroutine() == {"a": 1}

    assert function() == {"a": 1}
    with context, context:
        assert (bound_fields(), function()) == ({"a": 1}, {"a": 1})
    assert bound_fields() == {}
    asyncio.run(main())
    assert bound_fields() == {}


def test_parallel_tasks_do_not_see_each_others_fields() -> None:
    """Though they use the same object for some of them."""
    shared = log_context(shared=True)

    async def work(number: int) -> None:
        async with shared, log_context(number=number):
            for _ in range(5):
                await asyncio.sleep(0)
                assert bound_fields() == {"shared": True, "number": number}
        assert bound_fields() == {}

    async def main() -> None:
        await asyncio.gather(*(work(number) for number in range(20)))

    asyncio.run(main())


def test_parallel_threads_do_not_see_each_others_fields() -> None:
    """The same object in each."""
    context, barrier = log_context(a=1), threading.Barrier(4)

    def work(number: int) -> Any:
        with context, log_context(number=number):
            barrier.wait(timeout=10)
            inside = dict(bound_fields())
        barrier.wait(timeout=10)
        return inside, dict(bound_fields())

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [({"a": 1, "number": number}, {}) for number in range(4)]


def test_a_block_may_end_in_another_context_than_it_began_in() -> None:
    """As the halves of a dependency that a framework runs in threads; neither context has the fields afterwards."""
    context = log_context(a=1)
    first, second = contextvars.copy_context(), contextvars.copy_context()
    first.run(context.__enter__)
    second.run(context.__exit__, None, None, None)
    assert second.run(lambda: dict(bound_fields())) == {}
    with context:
        assert bound_fields() == {"a": 1}
    assert bound_fields() == {}


def test_halves_of_blocks_may_be_in_any_contexts() -> None:
    """One that was begun here and ended elsewhere does not come back."""
    first, second, third = log_context(a=1), log_context(b=2), log_context(c=3)
    for block in (first, second, third):
        block.__enter__()
    contextvars.Context().run(second.__exit__, None, None, None)
    first.__exit__(None, None, None)
    assert bound_fields() == {"c": 3}
    contextvars.Context().run(second.__enter__)
    second.__exit__(None, None, None)
    third.__exit__(None, None, None)
    assert bound_fields() == {}


def test_blocks_may_end_in_any_order() -> None:
    """As those within generators do; each takes its own fields away, and nothing of it stays."""
    first, second, third = log_context(a=1, x=1), log_context(b=2, x=2), log_context(c=3)
    for block in (first, second, third):
        block.__enter__()
    second.__exit__(None, None, None)
    assert bound_fields() == {"a": 1, "x": 1, "c": 3}
    first.__exit__(None, None, None)
    assert bound_fields() == {"c": 3}
    third.__exit__(None, None, None)
    assert bound_fields() == {}


def test_blocks_within_interleaved_generators_leave_nothing() -> None:
    """Though the generators end in the order in which they began."""

    def generator(name: str) -> Iterator[None]:
        with log_context(**{name: 1}), log_request(name):
            yield

    first, second = generator("a"), generator("b")
    for steps in (first, second):
        next(steps)
    assert bound_fields() == {"a": 1, "b": 1}
    assert list(first) == []
    assert bound_fields() == {"b": 1}
    assert list(second) == []
    assert (bound_fields(), current_record.get()) == ({}, None)


def test_between_the_steps_of_a_generator_its_fields_are_not_there() -> None:
    """And each step has them, with what its caller has bound then."""

    @log_context(inner=1)
    def generator() -> Iterator[Any]:
        while True:
            yield dict(bound_fields())

    steps = generator()
    assert next(steps) == {"inner": 1}
    assert bound_fields() == {}
    with log_context(outer=2):
        assert next(steps) == {"inner": 1, "outer": 2}
        assert bound_fields() == {"outer": 2}
    assert next(steps) == {"inner": 1}
    steps.close()  # type: ignore[attr-defined]
    assert bound_fields() == {}


def test_interleaved_generators_do_not_see_each_others_fields() -> None:
    """Begun, stepped and ended in any order, by the same decorator and by others."""

    def generator(log: list[Any]) -> Iterator[Any]:
        try:
            while True:
                yield dict(bound_fields())
        finally:
            log.append(dict(bound_fields()))

    ends: list[Any] = []
    both = log_context(a=1)
    first, second, third = both(generator)(ends), log_context(b=2)(generator)(ends), both(generator)(ends)
    for order in ((first, second, third), (third, first, second), (second, third, first)):
        assert [next(steps) for steps in order] == [{"b": 2} if steps is second else {"a": 1} for steps in order]
        assert bound_fields() == {}
    for steps in (first, third, second):
        steps.close()  # type: ignore[attr-defined]
        assert bound_fields() == {}
    assert ends == [{"a": 1}, {"a": 1}, {"b": 2}]


def test_a_generator_may_be_stepped_in_many_threads() -> None:
    """Each step has the fields, and no thread keeps them."""

    @log_context(a=1)
    def generator() -> Iterator[Any]:
        for _ in range(8):
            yield dict(bound_fields())

    def step(steps: Iterator[Any]) -> Any:
        return next(steps), dict(bound_fields())

    steps = generator()
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        seen = [pool.submit(step, steps).result() for _ in range(4) for pool in (one, other)]
    assert seen == [({"a": 1}, {})] * 8


def test_between_the_steps_of_an_async_generator_its_fields_are_not_there() -> None:
    """Interleaved ones, with ``asend``, ``athrow`` and ``aclose``, in one task."""

    @log_context(inner=1)
    async def first() -> AsyncGenerator[Any, Any]:
        sent = None
        while True:
            await asyncio.sleep(0)
            try:
                sent = yield sent, dict(bound_fields())
            except KeyError:
                sent = "caught"

    @log_context(other=2)
    async def second() -> AsyncGenerator[Any, Any]:
        while True:
            await asyncio.sleep(0)
            yield dict(bound_fields())

    async def main() -> None:
        one, two = first(), second()
        assert await anext(one) == (None, {"inner": 1})
        assert await anext(two) == {"other": 2}
        assert await one.asend("x") == ("x", {"inner": 1})
        assert bound_fields() == {}
        with log_context(outer=3):
            assert await one.athrow(KeyError()) == ("caught", {"inner": 1, "outer": 3})
            assert await anext(two) == {"other": 2, "outer": 3}
        await one.aclose()
        assert await anext(two) == {"other": 2}
        await two.aclose()
        assert bound_fields() == {}

    asyncio.run(main())


def test_an_async_generator_that_is_dropped_leaves_nothing() -> None:
    """The loop ends it, in a task of its own."""
    ends: list[Any] = []

    @log_context(a=1)
    async def generator() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            ends.append(dict(bound_fields()))

    async def main() -> None:
        async for _ in generator():
            break
        gc.collect()
        await asyncio.sleep(0.01)
        assert bound_fields() == {}

    asyncio.run(main())
    assert ends == [{"a": 1}]


def test_fields_are_seen_by_tasks_and_threads_that_carry_the_context() -> None:
    """As every context variable."""

    async def main() -> tuple[Any, Any]:
        with log_context(a=1):
            task = asyncio.create_task(asyncio.sleep(0, dict(bound_fields())))
            return await task, await asyncio.to_thread(lambda: dict(bound_fields()))

    assert asyncio.run(main()) == ({"a": 1}, {"a": 1})


# log_duration


def test_a_block_has_one_line_with_its_duration(log: Log) -> None:
    """With the fields, in the name of the module that it stands in."""
    with log_duration("import.parsed", rows=5):
        say()
    said, line = log.lines()
    assert (said["event"], line["event"], line["logger"], line["level"]) == ("said", "import.parsed", __name__, "info")
    assert fields_of(line).keys() == {"rows", "duration_ms", "outcome"}
    assert (line["rows"], line["outcome"]) == (5, "ok")
    assert 0 <= line["duration_ms"] < 1000


def test_a_block_that_fails_says_so(log: Log) -> None:
    """And raises the same."""
    error = LookupError("x")
    with pytest.raises(LookupError) as raised, log_duration("x", level="debug", slow_seconds=3600):
        raise error
    assert raised.value is error
    assert log.lines() == []  # its level is off
    with pytest.raises(LookupError), log_duration("x", slow_seconds=3600):
        raise error
    assert (log.line("x")["level"], log.line("x")["error_type"]) == ("error", "LookupError")


def test_a_fast_block_has_no_line_when_only_slow_ones_are_asked_for(log: Log) -> None:
    """A slow one has."""
    with log_duration("fast", slow_seconds=3600), log_duration("slow", slow_seconds=0):
        pass
    assert log.endings() == [("slow", "ok")]


def test_one_duration_is_a_block_an_async_block_and_a_decorator(log: Log) -> None:
    """For functions of every kind."""
    duration = log_duration("x")

    @duration
    def generator() -> Iterator[int]:
        yield 1

    @duration
    async def async_generator() -> AsyncGenerator[int, None]:
        yield 1

    @duration
    async def coroutine() -> None: ...

    async def main() -> None:
        async with duration:
            await coroutine()
        assert [value async for value in async_generator()] == [1]

    with duration:
        pass
    assert list(generator()) == [1]
    asyncio.run(main())
    assert timed() == 17
    assert log.endings() == [("x", "ok")] * 5 + [("timed", "ok")]


def test_blocks_of_one_object_side_by_side_are_timed_apart(log: Log) -> None:
    """Each from its own start to its own end."""
    duration = log_duration("x")

    async def work(first: asyncio.Event, last: asyncio.Event, pause: float, **fields: Any) -> None:
        with log_context(**fields), duration:
            first.set()
            await last.wait()
            await asyncio.sleep(pause)

    async def main() -> None:
        one, two = asyncio.Event(), asyncio.Event()
        await asyncio.gather(work(one, two, 0.05, name="long"), work(two, one, 0, name="short"))

    asyncio.run(main())
    short, long = log.lines("x")
    assert (short["name"], long["name"]) == ("short", "long")
    assert short["duration_ms"] < long["duration_ms"] >= 50


def test_the_halves_of_a_dependency_are_one_block(log: Log) -> None:
    """FastAPI runs those of a sync one in threads, each with a context of its own."""
    app = FastAPI()
    duration = log_duration("session")

    def session() -> Iterator[None]:
        with duration:
            yield

    @app.get("/", dependencies=[Depends(session)])
    def read() -> str:
        return "ok"

    with TestClient(app) as client:
        assert [client.get("/").status_code for _ in range(3)] == [200] * 3
    assert log.endings() == [("session", "ok")] * 3


def test_a_field_cannot_pose_as_the_duration(log: Log) -> None:
    """It comes out as ``field_duration_ms``."""
    with log_duration("x", duration_ms="long"):
        pass
    assert log.line("x")["field_duration_ms"] == "long"


# log_request: the line


def calls() -> None:
    """Report a call of each kind, as wrapped clients do."""
    record = monitoring.current().recorder.record
    record(DatabaseCall(0.0))
    cache = CacheCall(0.0)
    cache.hits, cache.misses = 3, 1
    record(cache)
    model = LLMCall(0.0)
    model.input_tokens, model.output_tokens = 100, 20
    record(model)


def test_a_job_has_a_canonical_line(log: Log) -> None:
    """With its name as route, its sums, its user and its fields."""
    with log_request("nightly-import", user=5, source="nsf"):
        calls()
    line = log.line("job")
    assert (line["event"], line["level"], line["route"]) == ("job", "info", "nightly-import")
    assert (line["user_id"], line["source"], line["outcome"]) == ("5", "nsf", "ok")
    assert line["request_id"] == line["trace_id"]
    assert {name: line[name] for name in ("db_calls", "cache_hits", "cache_misses", "llm_calls", "llm_tokens")} == {
        "db_calls": 1,
        "cache_hits": 3,
        "cache_misses": 1,
        "llm_calls": 1,
        "llm_tokens": 120,
    }
    assert line["db_ms"] > 0


def test_every_line_of_a_job_has_its_ids_and_fields(log: Log) -> None:
    """Those that the app writes, too; afterwards they are gone."""
    with log_request("x", source="nsf"):
        inside = monitoring.request_id()
        say()
    say("outside")
    said, job, outside = log.lines()
    assert said["request_id"] == job["request_id"] == inside
    assert (said["span_id"], said["source"]) == (job["span_id"], "nsf")
    assert "request_id" not in outside
    assert (monitoring.request_id(), current_record.get(), bound_fields()) == (None, None, {})


def test_a_job_has_all_the_totals_that_a_request_has(log: Log) -> None:
    """Under the same names."""
    app = FastAPI()

    @app.get("/")
    def read() -> str:
        return "ok"

    app.add_middleware(monitoring.MonitoringMiddleware)
    with TestClient(app) as client, log_request("x"):
        client.get("/")
    of_http = {"method", "status", "bytes"}
    assert fields_of(log.line("request")).keys() - of_http == fields_of(log.line("job")).keys()


def test_a_user_that_is_set_late_is_on_the_line(log: Log) -> None:
    """As in a request."""
    with log_request("x"):
        monitoring.set_user(7)
    assert log.line()["user_id"] == "7"


def test_a_job_that_fails_has_the_stack_and_the_group(log: Log) -> None:
    """The exception goes through."""
    error = LookupError("x")
    with pytest.raises(LookupError) as raised, log_request("x"):
        raise error
    assert raised.value is error
    line = log.line()
    assert (line["level"], line["outcome"], line["error_type"]) == ("error", "error", "LookupError")
    assert line["error_group"].startswith("v")
    assert "frames" in line["exception"][0]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (asyncio.CancelledError(), "cancelled"),
        (SystemExit(0), "ok"),
        (SystemExit(1), "error"),
        (GeneratorExit(), "cancelled"),
    ],
    ids=repr,
)
def test_a_job_that_is_ended_says_how(log: Log, error: BaseException, outcome: str) -> None:
    """A command that exits with status 0 is ok."""
    with pytest.raises(type(error)), log_request("x"):
        raise error
    assert log.endings() == [("job", outcome)]


def test_a_job_is_no_request_in_the_metrics(log: Log) -> None:
    """Its time is counted like that of a block under ``observe``."""
    with log_request("x"):
        calls()
    snapshot = log.monitoring.metrics.snapshot()
    assert "http_server_request_duration_seconds" not in snapshot
    (series,) = snapshot["monitoring_span_duration_seconds"].series
    assert (series.labels, series.count) == ({"name": "x", "outcome": "ok"}, 1)
    assert [series.count for series in snapshot["db_client_operation_duration_seconds"].series] == [1]
    kinds: list[Kind] = [one.kind for one in log.sink.observations]
    assert (kinds.count("job"), kinds.count("request")) == (1, 0)


def errors_counted(monitoring: Monitoring) -> float:
    """Return how many errors were counted."""
    snapshot = monitoring.metrics.snapshot()
    return sum(series.value for series in snapshot["monitoring_errors_total"].series)


def test_a_failure_reaches_the_error_tracker_once(log: Log) -> None:
    """Though it was captured by hand in the job, and passes through a job around it."""

    def fail() -> None:
        try:
            raise LookupError
        except LookupError:
            monitoring.capture_exception()
            raise

    with pytest.raises(LookupError), log_request("outer"), log_request("inner"):
        fail()
    assert errors_counted(log.monitoring) == 1
    inner, outer = log.lines("job")
    assert inner["error_group"] == outer["error_group"]


def test_a_failure_that_is_captured_after_its_job_is_counted_once(log: Log) -> None:
    """The exception tells in which job it happened."""
    error = LookupError()
    with contextlib.suppress(LookupError), log_request("x"):
        raise error
    assert monitoring.capture_exception(error) == log.line("job")["error_group"]
    assert errors_counted(log.monitoring) == 1


def test_a_failure_of_a_job_inside_of_a_request_is_counted_once(log: Log) -> None:
    """The request that it ends is the same error's."""
    app = FastAPI()

    @app.get("/")
    def read() -> None:
        with log_request("x"):
            raise LookupError

    app.add_middleware(monitoring.MonitoringMiddleware)
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.get("/").status_code == 500
    assert errors_counted(log.monitoring) == 1
    assert log.line("job")["error_group"] == log.line("request")["error_group"]


def test_a_failed_job_releases_the_lines_that_were_held(tmp_path: Path) -> None:
    """As a failed request does."""
    with logging_to(tmp_path / "app.log", log_debug_on_failure=True) as log:
        for fails in (False, True):
            with contextlib.suppress(LookupError), log_request("x"):
                with log_duration("detail", level="debug", fails=fails):
                    pass
                if fails:
                    raise LookupError
        assert [line["fails"] for line in log.lines("detail")] == [True]


def test_the_line_of_a_job_has_the_level_of_its_logger(tmp_path: Path) -> None:
    """That of requests: above info only failures are written."""
    with logging_to(tmp_path / "app.log", log_levels={"monitoring.request": "warning"}) as log:
        for fails in (False, True):
            with contextlib.suppress(LookupError), log_request("x"):
                if fails:
                    raise LookupError
        assert log.endings() == [("job", "error")]


def test_what_goes_on_after_a_job_is_not_kept_with_it(log: Log) -> None:
    """As after a request: nobody would ever free it."""
    with log_request("x"):
        inside = contextvars.copy_context()
    inside.run(calls)
    record = inside.run(current_record.get)
    assert record is not None
    assert record.calls is None


def test_a_job_sums_up_what_wrapped_clients_do(log: Log, tmp_path: Path) -> None:
    """In its threads, too."""
    engine = monitoring.wrap(sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'db'}", poolclass=sqlalchemy.NullPool))

    def query() -> None:
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT 1"))

    with log_request("x"), monitoring.ContextExecutor(1) as pool:
        query()
        pool.submit(query).result()
    engine.dispose()
    assert log.line("job")["db_calls"] == 2


# log_request: IDs


def test_a_job_goes_on_with_a_given_id(log: Log) -> None:
    """One that a message carries, for example."""
    with log_request("x", request_id="abc-1"):
        assert monitoring.request_id() == "abc-1"
        assert monitoring.outbound_headers()["x-request-id"] == "abc-1"
    assert log.line()["request_id"] == "abc-1"


@pytest.mark.parametrize("given", ["", "a b", "x\ny", "é", "a" * 200])
def test_an_id_that_cannot_be_used_is_replaced(log: Log, given: Any) -> None:
    """It stays on the line, clipped, as the client's."""
    with log_request("x", request_id=given):
        assert monitoring.request_id() != given
    line = log.line()
    assert len(line["request_id"]) == 32
    assert len(line.get("client_request_id", "")) <= 64


def test_a_job_inside_of_another_is_part_of_it(log: Log) -> None:
    """The same request and trace, a span of its own, and sums of its own."""
    with log_request("outer", user=5):
        calls()
        with log_request("inner"):
            pass
        assert monitoring.request_id() is not None
    inner, outer = log.lines("job")
    assert (inner["request_id"], inner["trace_id"], inner["user_id"]) == (outer["request_id"], outer["trace_id"], "5")
    assert inner["parent_span_id"] == outer["span_id"] != inner["span_id"]
    assert (inner["db_calls"], outer["db_calls"]) == (0, 1)


def test_a_job_inside_of_a_request_goes_on_with_its_trace(log: Log) -> None:
    """What it asks of others is part of it."""
    app = FastAPI()

    @app.get("/")
    def read() -> dict[str, str]:
        with log_request("x"):
            return monitoring.outbound_headers()

    app.add_middleware(monitoring.MonitoringMiddleware)
    trace = "0af7651916cd43dd8448eb211c80319c"
    with TestClient(app) as client:
        headers = client.get(
            "/", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-00", "tracestate": "a=1"}
        ).json()
    job, request = log.line("job"), log.line("request")
    assert headers["traceparent"] == f"00-{trace}-{job['span_id']}-00"
    assert (headers["tracestate"], headers["x-request-id"]) == ("a=1", request["request_id"])
    assert job["parent_span_id"] == request["span_id"] != job["span_id"]


# log_request: kinds of code


def test_one_job_object_is_a_block_an_async_block_and_a_decorator(log: Log) -> None:
    """With a new ID each time."""
    job = log_request("x")
    seen: list[str | None] = []

    @job
    def function() -> None:
        seen.append(monitoring.request_id())

    @job
    async def coroutine() -> None:
        await asyncio.sleep(0)
        seen.append(monitoring.request_id())

    async def main() -> None:
        await asyncio.gather(coroutine(), coroutine())
        async with job:
            seen.append(monitoring.request_id())

    function()
    asyncio.run(main())
    with job:
        seen.append(monitoring.request_id())
    assert [line["request_id"] for line in log.lines("job")] == seen
    assert len(set(seen)) == 5


def test_between_the_steps_of_a_job_that_is_a_generator_it_is_not_running(log: Log) -> None:
    """Its calls are its own, and those of the code in between are not."""

    @log_request("x")
    def consume() -> Iterator[str | None]:
        for _ in range(3):
            calls()
            yield monitoring.request_id()

    seen = set()
    for request_id in consume():
        seen.add(request_id)
        calls()
        assert (monitoring.request_id(), current_record.get()) == (None, None)
    assert len(seen) == 1
    line = log.line("job")
    assert (line["request_id"], line["db_calls"]) == (seen.pop(), 3)


def test_interleaved_async_jobs_are_kept_apart(log: Log) -> None:
    """In one task, step by step."""

    @log_request("x")
    async def consume(number: int) -> AsyncGenerator[str | None, None]:
        for _ in range(number):
            await asyncio.sleep(0)
            calls()
            yield monitoring.request_id()

    async def main() -> None:
        two, three = consume(2), consume(3)
        ids = [(await anext(two), await anext(three)) for _ in range(2)]
        assert ids[0] == ids[1]
        assert ids[0][0] != ids[0][1]
        assert [value async for value in two] == []
        await three.aclose()
        assert monitoring.request_id() is None

    asyncio.run(main())
    assert [(line["db_calls"], line["outcome"]) for line in log.lines("job")] == [(2, "ok"), (2, "cancelled")]


def test_a_job_is_freed_without_the_garbage_collector(log: Log) -> None:
    """Its record forms no cycle with its calls and its exception."""
    gc.disable()
    try:
        with contextlib.suppress(LookupError), log_request("x"):
            gone = weakref.ref(current_record.get())  # type: ignore[type-var]
            calls()
            with monitoring.observe("step"):
                raise LookupError
        assert gone() is not None  # the sink of this test has it
        log.sink.observations.clear()
        assert gone() is None
    finally:
        gc.enable()


def test_the_error_of_a_script_is_stored(tmp_path: Path) -> None:
    """Though no request ever starts the background work, and the script ends at once."""
    program = (
        "import monitoring\n"
        "monitoring.configure(store='store', log_destination='app.log')\n"
        "with monitoring.log_request('import'):\n"
        "    raise LookupError('no such funder')\n"
    )
    script = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "LookupError" in script.stderr
    with use(store=str(tmp_path / "store")) as made:
        groups = made.errors.groups()
    assert [group.title for group in groups] == ["LookupError: no such funder"]
