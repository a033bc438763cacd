"""The context of a request outside of any server: what carries it, what it carries, and who resets it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from monitoring import ContextExecutor, bind, carry_context, outbound_headers, request_id, set_user
from monitoring.context import RequestRecord, bound_fields, current_record, is_muted, muted
from monitoring.testing import MemorySink, use
from monitoring.utils.ids import parse_traceparent


@contextmanager
def running_request(name: str = "the-id") -> Iterator[RequestRecord]:
    """Run a block as a request does."""
    record = RequestRecord()
    record.request_id, record.trace_id, record.span_id = name, "a" * 32, "b" * 16
    token = current_record.set(record)
    try:
        yield record
    finally:
        current_record.reset(token)


# Outside of a request


def test_outside_of_a_request_there_is_nothing() -> None:
    """Every verb can be called anywhere, at no harm."""
    set_user("nobody")
    assert request_id() is None
    assert outbound_headers() == {}


# set_user and outbound_headers


@pytest.mark.parametrize(("given", "kept"), [("u1", "u1"), (17, "17"), (None, ""), ("", "")])
def test_a_user_is_kept_as_text(given: object, kept: str) -> None:
    """None and "" take the user away."""
    with running_request() as record:
        set_user("before")
        set_user(given)
        assert record.user_id == kept


def test_a_user_that_is_set_in_a_thread_reaches_the_request() -> None:
    """Copies of the context share the record."""
    with running_request() as record:
        thread = threading.Thread(target=carry_context(set_user), args=("late",))
        thread.start()
        thread.join()
        assert record.user_id == "late"


def test_outbound_headers_carry_the_id_and_a_valid_trace() -> None:
    """The trace is the request's, the parent its own span."""
    with running_request() as record:
        headers = outbound_headers()
        assert headers["x-request-id"] == record.request_id
        assert parse_traceparent(headers["traceparent"]) == (record.trace_id, record.span_id, "01")
        assert "tracestate" not in headers


def test_outbound_headers_carry_the_flags_and_the_state_of_the_caller() -> None:
    """A trace that is not sampled stays so."""
    with running_request() as record:
        record.trace_flags, record.tracestate = "00", "vendor=1"
        assert outbound_headers()["traceparent"].endswith("-00")
        assert outbound_headers()["tracestate"] == "vendor=1"


def test_outbound_headers_have_the_configured_name() -> None:
    """``request_id_header`` holds for both directions."""
    with use(request_id_header="x-correlation-id") as monitoring, running_request():
        assert monitoring.outbound_headers()["x-correlation-id"] == "the-id"


# bind


def test_blocks_of_bind_nest_and_end() -> None:
    """The inner value wins inside, the outer one is back after it."""
    with bind(funder="NSF", step=1):
        with bind(step=2, agent="writer"):
            assert bound_fields() == {"funder": "NSF", "step": 2, "agent": "writer"}
        assert bound_fields() == {"funder": "NSF", "step": 1}
    assert bound_fields() == {}


def test_bind_ends_with_its_block_also_when_it_fails() -> None:
    """An exception passes through and takes the fields with it."""
    with pytest.raises(RuntimeError), bind(funder="NSF"):
        raise RuntimeError("boom")
    assert bound_fields() == {}


def test_bind_without_fields_is_harmless() -> None:
    """An empty block adds nothing and takes nothing away."""
    with bind(funder="NSF"), bind():
        assert bound_fields() == {"funder": "NSF"}


def test_what_was_bound_cannot_be_changed_from_inside() -> None:
    """A caller's dict is not the one that is kept."""
    fields = {"funder": "NSF"}
    with bind(**fields):
        fields["funder"] = "NIH"
        assert bound_fields() == {"funder": "NSF"}


def test_parallel_tasks_do_not_see_each_other_s_fields() -> None:
    """Each task has those of its parent and its own."""

    async def task(name: str) -> dict[str, Any]:
        with bind(task=name):
            await asyncio.sleep(0.001)
            return dict(bound_fields())

    async def main() -> list[dict[str, Any]]:
        with bind(parent="p"):
            seen = await asyncio.gather(*map(task, "abc"))
            return [*seen, dict(bound_fields())]

    assert asyncio.run(main()) == [{"parent": "p", "task": name} for name in "abc"] + [{"parent": "p"}]


def test_bind_may_end_in_another_context() -> None:
    """A generator that is closed elsewhere, as servers do with bodies, raises nothing."""

    def pieces() -> Iterator[int]:
        with bind(inside="generator"):
            yield 1

    steps = pieces()
    contextvars.copy_context().run(next, steps)
    steps.close()
    assert bound_fields() == {}


def test_one_bind_can_be_entered_again_after_its_end() -> None:
    """A block object is reusable, one block at a time."""
    fields = bind(funder="NSF")
    for _ in range(2):
        with fields:
            assert bound_fields() == {"funder": "NSF"}
        assert bound_fields() == {}


# Threads and executors


def test_a_plain_thread_has_no_context() -> None:
    """This is what ``carry_context`` is for."""
    seen: list[str | None] = []
    with running_request():
        thread = threading.Thread(target=lambda: seen.append(request_id()))
        thread.start()
        thread.join()
    assert seen == [None]


def test_carry_context_takes_the_request_and_the_fields_along() -> None:
    """Both are those of the moment of the call, not of the run."""
    with running_request("first"), bind(funder="NSF"):
        carried = carry_context(lambda: (request_id(), dict(bound_fields())))
    with running_request("second"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(carried).result() == ("first", {"funder": "NSF"})


def test_carry_context_is_the_same_function_otherwise() -> None:
    """Name, arguments, result and exceptions stay."""

    def divide(a: float, /, *, by: float) -> float:
        """Divide."""
        return a / by

    carried = carry_context(divide)
    assert (carried.__name__, carried.__doc__) == ("divide", "Divide.")
    assert carried(6, by=2) == 3
    with pytest.raises(ZeroDivisionError):
        carried(6, by=0)


def test_a_carried_function_can_run_in_many_threads_at_once() -> None:
    """Each run has a copy of the context, so that runs neither collide nor see each other."""
    together = threading.Barrier(4)

    def work(number: int) -> dict[str, Any]:
        with bind(number=number):
            together.wait(5)
            return dict(bound_fields())

    with running_request(), ThreadPoolExecutor(4) as pool:
        assert list(pool.map(carry_context(work), range(4))) == [{"number": number} for number in range(4)]


def test_what_a_carried_function_sets_stays_in_its_run() -> None:
    """The caller's context is not changed by it."""
    with running_request():
        carry_context(lambda: current_record.set(None))()
        assert request_id() == "the-id"


def test_the_context_executor_carries_each_caller_s_context() -> None:
    """``submit`` and ``map`` see the request of the moment of the call; the pool's thread keeps none."""
    with ContextExecutor(1) as executor:
        with running_request("first"):
            first = executor.submit(request_id)
        with running_request("second"):
            second = executor.map(lambda _: request_id(), range(2))
        assert first.result() == "first"
        assert list(second) == ["second", "second"]
        assert executor.submit(request_id).result() is None


def test_the_context_executor_works_for_an_event_loop() -> None:
    """``run_in_executor`` carries nothing by itself; given this executor it does."""

    async def main() -> str | None:
        with running_request(), ContextExecutor(1) as executor:
            return await asyncio.get_running_loop().run_in_executor(executor, request_id)

    assert asyncio.run(main()) == "the-id"


# muted


def test_nothing_is_recorded_inside_muted() -> None:
    """Not even what threads with this context do; afterwards all is as before."""
    sink = MemorySink()
    with use(sink) as monitoring:
        with muted(), monitoring.observe("own work"):
            assert is_muted()
        with muted(), ContextExecutor(1) as executor:
            executor.submit(monitoring.observe("own work")(lambda: 17)).result()
        assert sink.observations == []
        with monitoring.observe("the app's work"):
            assert not is_muted()
    assert [one.name for one in sink.observations] == ["the app's work"]


def test_muted_blocks_nest() -> None:
    """The end of an inner one does not unmute the outer."""
    with muted():
        with muted():
            pass
        assert is_muted()
    assert not is_muted()
