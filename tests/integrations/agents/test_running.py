"""Blocks and calls that a framework tells of, in whatever context it tells of their ends."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from typing import Any

import pytest

import monitoring
from monitoring.calls import LLMCall
from monitoring.context import current_block, muted, present_block
from monitoring.integrations.agents import running
from monitoring.integrations.agents.running import ModelAnswer, Running
from monitoring.integrations.attachment import Link, report
from monitoring.integrations.layers import current_layer
from monitoring.integrations.llm.usage import Usage
from monitoring.recorder import Recorder
from monitoring.testing import MemorySink, use
from tests.integrations.llm.subjects import calls

ANSWER = ModelAnswer(Usage(input_tokens=100, output_tokens=20), "gpt-4o")


@pytest.fixture(autouse=True)
def _tidy() -> Iterator[None]:
    """Take away what is left behind here, as it is meant to be."""
    block, layer = current_block.set(None), current_layer.set(None)
    yield
    current_block.reset(block)
    current_layer.reset(layer)


@pytest.fixture
def sink() -> Iterator[MemorySink]:
    sink = MemorySink()
    with use(sink):
        yield sink


@pytest.fixture
def link(sink: MemorySink) -> Link:
    return Link(lambda: monitoring.current().recorder)


def elsewhere(act: Any, *args: Any, **kwargs: Any) -> None:
    """Do something in a copy of the context, as in a task."""
    contextvars.copy_context().run(act, *args, **kwargs)


def sdk_call(started: float | None = None) -> None:
    """Report a call as a wrapped client does."""

    def describe() -> LLMCall:
        call = LLMCall(running.perf_counter() if started is None else started)
        call.name = "of the client"
        return call

    report(monitoring.current().recorder, describe)


def names(sink: MemorySink) -> list[str]:
    return [call.name for call in calls(sink)]


def test_a_block_that_ends_elsewhere_is_left_here_too(sink: MemorySink, link: Link) -> None:
    """What comes later is not inside of it, but inside of what is around."""
    known = Running()
    with monitoring.agent("planner"):
        around = present_block()
        known.begin_block(link, 1, "researcher")
        assert present_block() is not around
        elsewhere(known.end_block, link, 1)
        assert present_block() is around
    assert [one.name for one in sink.of_kind("agent")] == ["researcher", "planner"]


def test_a_call_that_ends_elsewhere_is_reported_once(sink: MemorySink, link: Link) -> None:
    """And a client's own that begins later here counts by itself."""
    known = Running()
    known.begin_call(link, 1, "openai", "gpt-4o")
    elsewhere(known.end_call, link, 1, ANSWER)
    sdk_call()
    assert names(sink) == ["chat gpt-4o", "of the client"]


def test_what_is_left_behind_does_not_pile_up(sink: MemorySink, link: Link) -> None:
    """In a task that asks models for days."""
    known = Running()
    for number in range(20):
        known.begin_block(link, number, "writer")
        known.begin_call(link, number, "openai", "gpt-4o")
        elsewhere(known.end_call, link, number, ANSWER)
        elsewhere(known.end_block, link, number)
    layer = current_layer.get()
    assert layer is not None
    assert layer.outer is None
    assert (present_block(), len(calls(sink))) == (None, 20)
    blocks = [one.block for one in sink.of_kind("agent")]
    assert blocks == [None] * 20


def test_what_a_client_tells_late_is_counted_already(sink: MemorySink, link: Link) -> None:
    """A stream that it drops after the framework has told of its end."""
    known = Running()
    known.begin_call(link, 1, "openai", "gpt-4o")
    started, late = running.perf_counter(), contextvars.copy_context()
    known.end_call(link, 1, ANSWER)
    late.run(sdk_call, started)
    assert names(sink) == ["chat gpt-4o"]


def test_a_client_inside_reports_alone(sink: MemorySink, link: Link) -> None:
    """In a task of the call, too; an outer framework's call is that one, too."""
    known = Running()
    known.begin_call(link, "outer", "openai", "gpt-4o")
    known.begin_call(link, "inner", "openai", "gpt-4o")
    elsewhere(sdk_call)
    known.end_call(link, "inner", ANSWER)
    known.end_call(link, "outer", ANSWER)
    assert names(sink) == ["of the client"]


def test_the_inner_of_two_frameworks_reports(sink: MemorySink, link: Link) -> None:
    """Where no client is wrapped below."""
    known = Running()
    known.begin_call(link, "outer", "openai", "outer")
    known.begin_call(link, "inner", "openai", "inner")
    known.end_call(link, "inner", None)
    known.end_call(link, "outer", ANSWER)
    assert names(sink) == ["chat inner"]


def test_what_begins_twice_is_once(sink: MemorySink, link: Link) -> None:
    """Two of our listeners heard of it."""
    known = Running()
    for _ in range(2):
        known.begin_block(link, 1, "writer")
        known.begin_call(link, 2, "openai", "gpt-4o")
    for _ in range(2):
        known.end_call(link, 2, ANSWER)
        known.end_block(link, 1)
    assert (len(calls(sink)), len(sink.of_kind("agent"))) == (1, 1)


def test_nothing_is_noted_where_nobody_listens(sink: MemorySink, link: Link) -> None:
    """Muted, or an end whose beginning was."""
    known = Running()
    with muted():
        known.begin_block(link, 1, "writer")
        known.begin_call(link, 2, "openai", "gpt-4o")
    known.end_call(link, 2, ANSWER)
    known.end_block(link, 1)
    assert sink.observations == []


def test_what_never_ends_does_not_fill_the_memory(
    sink: MemorySink, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past a bound nothing more is noted."""
    monkeypatch.setattr(running, "UNDER_WAY", 2)
    known = Running()
    for number in range(5):
        elsewhere(known.begin_call, link, number, "openai", "gpt-4o")
    for number in range(5):
        known.end_call(link, number, ANSWER)
    assert len(calls(sink)) == 2


def test_a_bug_of_ours_is_counted_and_does_not_get_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The framework must not notice."""
    failures: list[str] = []
    recorder = Recorder(on_failure=lambda part, error: failures.append(part))
    monkeypatch.setattr(running, "block", lambda *_, **__: 1 / 0)
    Running().begin_block(Link(lambda: recorder), 1, "writer")
    assert len(failures) == 1


@pytest.mark.parametrize(
    ("told", "named"), [("google-gla", "gcp.gemini"), ("bedrock", "aws.bedrock"), ("groq", "groq")]
)
def test_providers_are_named_as_elsewhere(sink: MemorySink, link: Link, told: str, named: str) -> None:
    """Whatever the framework calls them."""
    known = Running()
    known.begin_call(link, 1, told, "m")
    known.end_call(link, 1, None)
    assert [call.provider for call in calls(sink)] == [named]
