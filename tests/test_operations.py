"""``operation``, ``track`` and ``feature``: what they report, and that they change nothing."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

import monitoring
from monitoring import operations
from monitoring.context import current_block, current_record
from monitoring.observation import Observation, RequestRecord
from monitoring.testing import MemorySink, use


@pytest.fixture
def sink() -> Iterator[MemorySink]:
    """What the current Monitoring observed."""
    sink = MemorySink()
    with use(sink):
        yield sink


@pytest.fixture
def record() -> Iterator[RequestRecord]:
    """A running request of nobody yet."""
    record = RequestRecord()
    record.request_id = "r1"
    token = current_record.set(record)
    yield record
    current_record.reset(token)


class Broken:
    """A value that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def ends(sink: MemorySink) -> list[Observation]:
    """Return what was reported at the ends of operations."""
    return [one for one in sink.of_kind("operation") if one.outcome]


def attributes(observation: Observation) -> dict[str, Any]:
    """Return an observation's attributes."""
    return dict(observation.attributes or {})


def outcome(sink: MemorySink) -> tuple[str, str]:
    """Return how the only operation ended, and why."""
    (end,) = ends(sink)
    return end.outcome, attributes(end)["reason"]


# Outcomes


def test_a_block_that_ends_is_ok(sink: MemorySink) -> None:
    """Its beginning was told, too, under the same ID."""
    with monitoring.operation("generate", user=7, funder="NSF") as operation:
        (begun,) = sink.of_kind("operation")
        assert begun.outcome == ""
    (end,) = ends(sink)
    assert (end.name, outcome(sink)) == ("generate", ("ok", ""))
    assert attributes(begun)["id"] == attributes(end)["id"] == operation.id
    assert (attributes(end)["user"], attributes(end)["dimensions"]) == ("7", {"funder": "NSF"})


def test_a_block_that_raises_has_failed(sink: MemorySink) -> None:
    """By the exception's name; the exception itself goes on."""
    error = LookupError("secret detail")
    with pytest.raises(LookupError) as raised, monitoring.operation("generate"):
        raise error
    assert raised.value is error
    assert outcome(sink) == ("failed", "LookupError")


def test_a_block_can_say_that_it_failed(sink: MemorySink) -> None:
    """Without an exception, for a reason of its own."""
    with monitoring.operation("generate") as operation:
        operation.fail("no budget")
    assert outcome(sink) == ("failed", "no budget")


def test_a_given_reason_wins_over_the_name_of_an_exception(sink: MemorySink) -> None:
    """It says more."""

    def work() -> None:
        with monitoring.operation("generate") as operation:
            operation.fail("no budget")
            raise LookupError

    with pytest.raises(LookupError):
        work()
    assert outcome(sink) == ("failed", "no budget")


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_block_that_is_cancelled_is_abandoned(sink: MemorySink, error: type[BaseException]) -> None:
    """Nobody waits for it any more; it is no failure of the app."""
    with pytest.raises(error), monitoring.operation("generate"):
        raise error
    assert outcome(sink) == ("abandoned", error.__name__)


def test_a_cancelled_task_abandons_its_operation(sink: MemorySink) -> None:
    """As when the client is gone."""

    async def main() -> None:
        begun = asyncio.Event()

        async def work() -> None:
            with monitoring.operation("generate"):
                begun.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert outcome(sink) == ("abandoned", "CancelledError")


@pytest.mark.parametrize("raises", [False, True])
def test_an_end_after_the_deadline_is_abandoned(
    sink: MemorySink, monkeypatch: pytest.MonkeyPatch, raises: bool
) -> None:
    """However it ended: the deadline is what was promised."""
    now = [100.0]
    monkeypatch.setattr(operations, "perf_counter", lambda: now[0])

    def work() -> None:
        with monitoring.operation("generate", deadline_seconds=60):
            now[0] += 60.1
            if raises:
                raise LookupError

    if raises:
        with pytest.raises(LookupError):
            work()
    else:
        work()
    assert outcome(sink) == ("abandoned", "deadline")


def test_an_end_before_the_deadline_is_ok(sink: MemorySink, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last moment."""
    now = [100.0]
    monkeypatch.setattr(operations, "perf_counter", lambda: now[0])
    with monitoring.operation("generate", deadline_seconds=60):
        now[0] += 60.0
    (end,) = ends(sink)
    assert (end.outcome, end.duration_seconds, attributes(end)["deadline_seconds"]) == ("ok", 60.0, 60)


@pytest.mark.parametrize("deadline", [0, -1, float("nan")])
def test_a_deadline_that_is_none_is_refused(sink: MemorySink, deadline: float) -> None:
    """At once, where it was written."""
    with pytest.raises(ValueError, match="deadline_seconds of operation 'generate' must be more than 0"):
        monitoring.operation("generate", deadline_seconds=deadline)


# Decorators


def test_each_call_of_a_function_is_an_operation(sink: MemorySink) -> None:
    """With an ID of its own; name, signature and answer are the function's."""

    @monitoring.operation("generate", funder="NSF")
    def generate(pages: int) -> int:
        """Generate."""
        return pages * 2

    assert [generate(2), generate(pages=3)] == [4, 6]
    assert (generate.__name__, generate.__doc__) == ("generate", "Generate.")
    assert str(inspect.signature(generate)) == "(pages: 'int') -> 'int'"
    assert len({attributes(end)["id"] for end in ends(sink)}) == 2
    assert [end.outcome for end in ends(sink)] == ["ok", "ok"]


def test_each_call_of_a_coroutine_function_is_an_operation(sink: MemorySink) -> None:
    """It lasts until the coroutine is over, and its calls may run side by side."""

    @monitoring.operation("generate")
    async def generate(fail: bool) -> str:
        await asyncio.sleep(0)
        if fail:
            raise LookupError
        return "done"

    async def main() -> list[Any]:
        return await asyncio.gather(generate(False), generate(True), generate(False), return_exceptions=True)

    answers = asyncio.run(main())
    assert (answers[0], type(answers[1]), answers[2]) == ("done", LookupError, "done")
    assert inspect.iscoroutinefunction(generate)
    assert sorted(end.outcome for end in ends(sink)) == ["failed", "ok", "ok"]


def test_a_generator_is_not_decorated(sink: MemorySink) -> None:
    """Its call is over before it begins, so every one of them would be a quick success."""

    def generate() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match=r"generate is a generator.*put a with block inside"):
        monitoring.operation("generate")(generate)


# What goes with it


def test_what_happens_inside_is_its_child(sink: MemorySink) -> None:
    """And the block around it is there again afterwards."""
    with monitoring.observe("outer"), monitoring.operation("generate"), monitoring.observe("inner"):
        pass
    assert current_block.get() is None
    inner, end, outer = (one for one in sink.observations if one.outcome)
    assert inner.block is end.opened
    assert end.block is outer.opened


def test_an_agent_around_it_goes_on(sink: MemorySink) -> None:
    """Calls to models inside of the operation are the agent's."""
    with monitoring.agent("writer"), monitoring.operation("generate"):
        block = current_block.get()
        assert block is not None
        assert block.agent == "writer"


def test_a_user_set_late_is_its_user(sink: MemorySink, record: RequestRecord) -> None:
    """The request learned in the middle of it who asked; a user given at the start wins."""
    with monitoring.operation("generate"), monitoring.operation("export", user="bob"):
        monitoring.set_user("alice")
    users = {end.name: attributes(end)["user"] for end in ends(sink)}
    assert users == {"generate": "alice", "export": "bob"}
    assert all(end.request is record for end in ends(sink))


def test_dimensions_are_text_and_none_is_none(sink: MemorySink) -> None:
    """Numbers and enumerations come out as they print; long ones are clipped; what is None is left out."""
    with monitoring.operation("generate", pages=12, price=Decimal("1.50"), nothing=None, long="x" * 1_000):
        pass
    dimensions = attributes(ends(sink)[0])["dimensions"]
    assert (dimensions["pages"], dimensions["price"], "nothing" in dimensions) == ("12", "1.50", False)
    assert len(dimensions["long"]) < 250


def test_a_value_that_cannot_be_shown_breaks_nothing(sink: MemorySink) -> None:
    """Neither as a user, nor a dimension, nor a reason."""
    with monitoring.operation("generate", user=Broken(), funder=Broken()) as operation:
        operation.fail(Broken())  # type: ignore[arg-type]
    monitoring.track("export", user=Broken(), format=Broken(), value=Broken())  # type: ignore[arg-type]
    assert outcome(sink) == ("failed", "<Broken: str raised RuntimeError>")
    (event,) = sink.of_kind("event")
    assert attributes(event)["dimensions"] == {"format": "<Broken: str raised RuntimeError>"}


def test_an_id_can_be_given(sink: MemorySink) -> None:
    """To find the operation again by the app's own number."""
    with monitoring.operation("generate", id="proposal-7"):
        pass
    assert attributes(ends(sink)[0])["id"] == "proposal-7"


# Events and features


@pytest.mark.parametrize(
    ("given", "kept"), [(3, 3.0), (Decimal("2.5"), 2.5), ("7", 7.0), (None, None), ("many", None), (object(), None)]
)
def test_an_event_has_a_value_where_it_is_a_number(sink: MemorySink, given: Any, kept: float | None) -> None:
    """What is no number is no value."""
    monitoring.track("export", value=given, format="pdf")
    (event,) = sink.of_kind("event")
    assert (event.name, attributes(event)) == ("export", {"user": "", "value": kept, "dimensions": {"format": "pdf"}})


def test_an_event_belongs_to_the_user_of_the_request(sink: MemorySink, record: RequestRecord) -> None:
    """Unless another is given."""
    monitoring.set_user("alice")
    monitoring.track("export")
    monitoring.track("export", user="bob")
    assert [attributes(event)["user"] for event in sink.of_kind("event")] == ["alice", "bob"]


def test_each_call_of_a_feature_is_counted(sink: MemorySink, record: RequestRecord) -> None:
    """Of def and async def, before it runs, and whatever comes of it."""
    monitoring.set_user("alice")

    @monitoring.feature("preview")
    def preview(fail: bool = False) -> int:
        return 1 // (not fail)

    @monitoring.feature("search")
    async def search() -> str:
        return "found"

    assert (preview(), asyncio.run(search())) == (1, "found")
    with pytest.raises(ZeroDivisionError):
        preview(fail=True)
    assert [event.name for event in sink.of_kind("event")] == ["preview", "search", "preview"]
    assert {attributes(event)["user"] for event in sink.of_kind("event")} == {"alice"}
