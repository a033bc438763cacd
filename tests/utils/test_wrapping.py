"""``decorated``: every kind of function stays what it is, and a generator's caller sees nothing of the piece."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import sys
import warnings
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import Any

import pytest

from monitoring.utils.wrapping import decorated


class Diary:
    """Makes pieces that write down what happens to them."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.errors: list[BaseException | None] = []

    def __call__(self, function: Any) -> Any:
        return decorated(function, lambda args, kwargs, in_steps: Noted(self), "noted")


class Noted:
    """A piece that writes into a diary."""

    def __init__(self, diary: Diary) -> None:
        self.diary = diary

    def __enter__(self) -> None:
        self.diary.entries.append("enter")

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self.diary.entries.append("exit")
        self.diary.errors.append(error)

    def pause(self) -> None:
        self.diary.entries.append("pause")

    def resume(self) -> None:
        self.diary.entries.append("resume")


def passed(function: Any) -> Any:
    """Decorate with a decorator that lets every call pass."""
    return decorated(function, lambda args, kwargs, in_steps: None, "passed")


def echo(start: int) -> Generator[Any, Any, str]:
    """Yield what is sent, and survive a KeyError."""
    given: Any = start
    while given != "end":
        try:
            given = yield given
        except KeyError as error:
            given = f"caught {error.args[0]}"
    return "done"


async def async_echo(start: int) -> AsyncGenerator[Any, Any]:
    """Do the same, asynchronously."""
    given: Any = start
    while given != "end":
        await asyncio.sleep(0)
        try:
            given = yield given
        except KeyError as error:
            given = f"caught {error.args[0]}"


def test_a_call_is_entered_and_left() -> None:
    """A function's value comes back."""
    diary = Diary()
    assert diary(lambda x: x + 1)(16) == 17
    assert (diary.entries, diary.errors) == (["enter", "exit"], [None])


def test_an_exception_goes_through() -> None:
    """The same object, seen by the piece."""
    diary, error = Diary(), LookupError("x")

    def fail() -> None:
        raise error

    with pytest.raises(LookupError) as raised:
        diary(fail)()
    assert raised.value is error
    assert diary.errors == [error]


def test_a_coroutine_function_is_entered_when_it_is_awaited() -> None:
    """And is still one."""
    diary = Diary()

    async def work() -> int:
        await asyncio.sleep(0)
        return 17

    wrapped = diary(work)
    assert inspect.iscoroutinefunction(wrapped)
    coroutine = wrapped()
    assert diary.entries == []
    assert asyncio.run(coroutine) == 17
    assert diary.entries == ["enter", "exit"]


def test_a_call_that_returns_a_coroutine_ends_with_it() -> None:
    """As where another decorator stands between that is no async def: what fails there is the call's failure."""
    diary, error = Diary(), LookupError("x")

    async def work() -> None:
        await asyncio.sleep(0)
        raise error

    coroutine = diary(lambda: work())()
    assert diary.entries == ["enter", "pause"]
    with pytest.raises(LookupError) as raised:
        asyncio.run(coroutine)
    assert raised.value is error
    assert (diary.entries, diary.errors) == (["enter", "pause", "resume", "exit"], [error])


def test_the_result_of_a_coroutine_that_a_call_returns_is_kept() -> None:
    """And the piece is left once."""
    diary = Diary()
    assert asyncio.run(diary(lambda: asyncio.sleep(0, 17))()) == 17
    assert (diary.entries, diary.errors) == (["enter", "pause", "resume", "exit"], [None])


def test_a_generator_is_paused_at_each_yield() -> None:
    """It is entered at its first step, and left at its end."""
    diary = Diary()
    wrapped = diary(echo)
    assert inspect.isgeneratorfunction(wrapped)
    steps = wrapped(1)
    assert diary.entries == []
    assert next(steps) == 1
    assert diary.entries == ["enter", "pause"]
    assert steps.send(2) == 2
    with pytest.raises(StopIteration) as end:
        steps.send("end")
    assert end.value.value == "done"
    assert diary.entries == ["enter", "pause", "resume", "pause", "resume", "exit"]


@pytest.mark.parametrize("decorate", [Diary(), passed], ids=["noted", "passed"])
def test_a_generator_takes_what_is_thrown_in(decorate: Callable[[Any], Any]) -> None:
    """Caught inside it goes on; what is not caught comes out as the same object."""
    steps = decorate(echo)(1)
    next(steps)
    assert steps.throw(KeyError("a")) == "caught a"
    error = ValueError("b")
    with pytest.raises(ValueError, match="b") as raised:
        steps.throw(error)
    assert raised.value is error


def test_what_is_thrown_in_is_not_being_handled_afterwards() -> None:
    """As without the decorator: once it has caught an exception, a generator is not within ``except``."""
    seen: list[Any] = []

    def generator() -> Iterator[int]:
        with contextlib.suppress(KeyError):
            yield 1
        seen.append(sys.exc_info()[1])
        yield 2

    steps = Diary()(generator)()
    next(steps)
    assert steps.throw(KeyError()) == 2
    assert seen == [None]


def test_a_closed_generator_cleans_up() -> None:
    """Its ``finally`` runs, within the piece."""
    diary = Diary()

    def generator() -> Iterator[int]:
        try:
            yield 1
        finally:
            diary.entries.append("finally")

    steps = diary(generator)()
    next(steps)
    steps.close()
    assert diary.entries == ["enter", "pause", "resume", "finally", "exit"]
    assert isinstance(diary.errors[0], GeneratorExit)


def test_a_generator_that_goes_on_when_closed_is_told_so() -> None:
    """By Python's own words."""

    def stubborn() -> Iterator[int]:
        with contextlib.suppress(GeneratorExit):
            yield 1
        yield 2

    steps = Diary()(stubborn)()
    next(steps)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        steps.close()


def test_a_generator_is_freed_without_the_garbage_collector() -> None:
    """What was thrown in and its frames form no cycle with the decorator."""

    class Held:
        """Something to be freed."""

    def generator(held: Held) -> Iterator[int]:
        with contextlib.suppress(KeyError):
            yield 1
        yield 2

    held = Held()
    gone = weakref.ref(held)
    diary = Diary()
    steps = diary(generator)(held)
    next(steps)
    gc.disable()
    try:
        steps.throw(KeyError())
        steps.close()
        diary.errors.clear()
        del steps, held
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("decorate", [Diary(), passed], ids=["noted", "passed"])
def test_an_async_generator_keeps_asend_athrow_and_aclose(decorate: Callable[[Any], Any]) -> None:
    """Values go in and come out, exceptions too."""

    async def main() -> None:
        wrapped = decorate(async_echo)
        assert inspect.isasyncgenfunction(wrapped)
        steps = wrapped(1)
        assert await anext(steps) == 1
        assert await steps.asend(2) == 2
        assert await steps.athrow(KeyError("a")) == "caught a"
        error = ValueError("b")
        with pytest.raises(ValueError, match="b") as raised:
            await steps.athrow(error)
        assert raised.value is error
        others = wrapped(1)
        assert await anext(others) == 1
        await others.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(others)
        assert [value async for value in wrapped("end")] == []

    asyncio.run(main())


def test_an_async_generator_is_paused_at_each_yield_and_not_at_an_await() -> None:
    """While it waits for something, its own code is what runs."""
    diary = Diary()

    async def main() -> None:
        steps = diary(async_echo)(1)
        await anext(steps)
        with pytest.raises(StopAsyncIteration):
            await steps.asend("end")

    asyncio.run(main())
    assert diary.entries == ["enter", "pause", "resume", "exit"]


def test_an_async_generator_that_is_closed_cleans_up() -> None:
    """Its ``finally`` may await, within the piece."""
    diary = Diary()

    async def generator() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            diary.entries.append("finally")

    async def main() -> None:
        steps = diary(generator)()
        await anext(steps)
        await steps.aclose()

    asyncio.run(main())
    assert diary.entries == ["enter", "pause", "resume", "finally", "exit"]
    assert isinstance(diary.errors[0], GeneratorExit)


def test_an_async_generator_that_goes_on_when_closed_is_told_so() -> None:
    """By Python's own words."""

    async def stubborn() -> AsyncGenerator[int, None]:
        with contextlib.suppress(GeneratorExit):
            yield 1
        yield 2

    async def main() -> None:
        steps = Diary()(stubborn)()
        await anext(steps)
        with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
            await steps.aclose()

    asyncio.run(main())


def test_functions_stay_what_they_are() -> None:
    """Name, docstring, signature, and the attributes set on them."""

    def work(a: int, *, b: str = "x") -> int:
        """Work."""
        return a

    work.mark = 1  # type: ignore[attr-defined]
    wrapped = Diary()(work)
    assert (wrapped.__name__, wrapped.__doc__, wrapped.mark) == ("work", "Work.", 1)
    assert inspect.signature(wrapped) == inspect.signature(work)
    assert wrapped.__wrapped__ is work


@pytest.mark.parametrize("outside", [True, False], ids=["above", "below"])
@pytest.mark.parametrize("kind", [classmethod, staticmethod])
def test_a_class_or_static_method_may_be_decorated_in_either_order(kind: Any, outside: bool) -> None:
    """It is still one, and called once."""
    diary = Diary()

    def method(*args: Any) -> tuple[Any, ...]:
        return args

    made = diary(kind(method)) if outside else kind(diary(method))
    assert isinstance(made, kind)
    owner = type("Owner", (), {"method": made})
    expected = (owner, 1) if kind is classmethod else (1,)
    assert owner.method(1) == owner().method(1) == expected  # type: ignore[attr-defined]
    assert diary.entries == ["enter", "exit"] * 2


def test_a_method_is_bound() -> None:
    """``self`` comes first."""

    class Owner:
        """Has a method."""

        @Diary()
        def method(self, x: int) -> tuple[Owner, int]:
            return self, x

    owner = Owner()
    assert owner.method(1) == (owner, 1)


@pytest.mark.parametrize(
    ("function", "is_kind"),
    [
        (async_echo, inspect.isasyncgenfunction),
        (echo, inspect.isgeneratorfunction),
        (asyncio.sleep, inspect.iscoroutinefunction),
        (len, inspect.isfunction),
    ],
)
def test_a_partial_is_of_the_kind_of_its_function(function: Any, is_kind: Callable[[Any], bool]) -> None:
    """A partial of a partial, too."""
    assert is_kind(Diary()(functools.partial(functools.partial(function), 1)))


def test_an_object_that_can_be_called_is_of_the_kind_of_its_call() -> None:
    """An async ``__call__`` makes it a coroutine function."""

    class Worker:
        """Works."""

        async def __call__(self, x: int) -> int:
            return x

    diary = Diary()
    assert asyncio.run(diary(Worker())(17)) == 17
    assert diary.entries == ["enter", "exit"]


@pytest.mark.parametrize("thing", [int, "info", property(lambda self: 1), functools.cached_property(lambda self: 1)])
def test_what_is_no_function_is_refused(thing: Any) -> None:
    """With one sentence that says where to put the decorator."""
    with pytest.raises(TypeError, match=r"^noted decorates functions and methods, got .*; put it on a def, .*\.$"):
        Diary()(thing)


@pytest.mark.parametrize("manager", [contextlib.contextmanager, contextlib.asynccontextmanager])
def test_a_place_above_contextmanager_warns(manager: Any) -> None:
    """The block would not be seen; the warning points to the function."""

    def block() -> Iterator[None]:
        yield

    with pytest.warns(RuntimeWarning, match="noted stands above @contextmanager on .*block.*put noted below") as caught:
        Diary()(manager(block))
    assert (caught[0].filename, caught[0].lineno) == (__file__, block.__code__.co_firstlineno)


def test_a_place_below_contextmanager_is_right() -> None:
    """The piece is the block."""
    diary = Diary()

    @contextlib.contextmanager
    @diary
    def block() -> Iterator[int]:
        yield 17

    with warnings.catch_warnings(), block() as value:
        assert (value, diary.entries) == (17, ["enter", "pause"])
    assert diary.entries == ["enter", "pause", "resume", "exit"]
