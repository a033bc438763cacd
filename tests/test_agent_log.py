"""The lines of agents: their runs, steps and tools, what they cost, and nothing of what was said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

import monitoring
from monitoring.calls import LLMCall
from monitoring.context import carry_context
from monitoring.testing import MemorySink, use


class Log:
    """The agents' lines of a Monitoring."""

    def __init__(self, path: Path, made: monitoring.Monitoring) -> None:
        self.path = path
        self.monitoring = made

    def lines(self, event: str | None = None) -> list[dict[str, Any]]:
        """Return the lines so far, of one event or of all."""
        self.monitoring.log_lines.flush()
        text = self.path.read_bytes() if self.path.exists() else b""
        lines = [orjson.loads(line) for line in text.splitlines()]
        return [line for line in lines if line["logger"] == "monitoring.agent" and event in (None, line["event"])]

    def line(self, event: str) -> dict[str, Any]:
        """Return the only line of an event."""
        (line,) = self.lines(event)
        return line

    def events(self) -> list[str]:
        """Return the events of all lines."""
        return [line["event"] for line in self.lines()]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """The lines of a Monitoring with the level debug."""
    with use(log_destination=str(tmp_path / "app.log"), log_level="debug") as made:
        yield Log(tmp_path / "app.log", made)


@pytest.fixture
def info_log(tmp_path: Path) -> Iterator[Log]:
    """The lines of a Monitoring with the level info."""
    with use(log_destination=str(tmp_path / "app.log")) as made:
        yield Log(tmp_path / "app.log", made)


def ask(tokens: int = 120, cost: str | None = "0.01") -> None:
    """Report a call to a language model."""
    call = LLMCall(0.0)
    call.input_tokens, call.output_tokens = tokens - 20, 20
    call.cost_usd = None if cost is None else Decimal(cost)
    monitoring.current().recorder.record(call)


def test_a_run_has_a_line_at_its_start_and_at_its_end(info_log: Log) -> None:
    """With the same run ID, and at the end how it went."""
    with monitoring.agent("writer"):
        assert info_log.events() == ["agent.start"]
    start, end = info_log.lines()
    assert (start["agent"], start["level"], end["event"], end["level"]) == ("writer", "info", "agent.end", "info")
    assert start["run_id"] == end["run_id"]
    assert len(start["run_id"]) == 16
    assert (end["outcome"], end["llm_calls"], end["llm_tokens"], end["llm_cost_usd"]) == ("ok", 0, 0, 0)
    assert 0 <= end["duration_ms"] < 1000
    assert "parent" not in start | end


def test_each_run_has_an_id_of_its_own(info_log: Log) -> None:
    """Of the same block, one after the other."""
    writer = monitoring.agent("writer")
    for _ in range(3):
        with writer:
            pass
    assert len({line["run_id"] for line in info_log.lines("agent.end")}) == 3


def test_a_run_sums_up_its_llm_calls(info_log: Log) -> None:
    """Those of its steps and tools among them; one without a price costs nothing."""
    with monitoring.agent("planner"):
        ask(100, "0.01")
        with monitoring.agent("writer"), monitoring.observe("search", tool=True):
            ask(200, "0.02")
        ask(50, None)
    ask(1000)
    end = info_log.line("agent.end")
    assert (end["llm_calls"], end["llm_tokens"], end["llm_cost_usd"]) == (3, 350, 0.03)


def test_an_agent_inside_of_another_is_a_step(log: Log) -> None:
    """One line at its end, with its own run ID, that of the run around it, and its own sums."""
    with monitoring.agent("planner"):
        ask()
        with monitoring.observe("outline"), monitoring.agent("writer"):
            ask(40)
    assert log.events() == ["agent.start", "agent.step", "agent.end"]
    step, end = log.line("agent.step"), log.line("agent.end")
    assert (step["agent"], step["level"], step["outcome"], step["llm_tokens"]) == ("writer", "debug", "ok", 40)
    assert step["parent"] == end["run_id"] != step["run_id"]
    assert end["llm_tokens"] == 160


def test_a_block_that_is_marked_is_a_tool_of_its_agent(log: Log) -> None:
    """A part of the agent's run; a block that is not marked has no line."""
    with monitoring.agent("writer"):
        with monitoring.observe("search", tool=True, query="who?"):
            pass
        with monitoring.observe("parse", tool=False):
            pass
    tool, end = log.line("agent.tool"), log.line("agent.end")
    assert (tool["agent"], tool["tool"], tool["level"], tool["outcome"]) == ("writer", "search", "debug", "ok")
    assert tool["run_id"] == end["run_id"]
    assert 0 <= tool["duration_ms"] < 1000


def test_an_agent_that_is_marked_is_a_tool_with_a_run_of_its_own(log: Log) -> None:
    """It has sums of its own, too."""
    with monitoring.agent("planner"), monitoring.agent("searcher", tool=True):
        ask()
    tool, end = log.line("agent.tool"), log.line("agent.end")
    assert (tool["agent"], tool["tool"], tool["llm_calls"]) == ("searcher", "searcher", 1)
    assert tool["parent"] == end["run_id"] != tool["run_id"]


def test_a_tool_outside_of_agents_is_no_agents(log: Log) -> None:
    """A block is a block, and an agent a run, whatever its mark."""
    with monitoring.observe("step"), monitoring.observe("search", tool=True):
        pass
    with monitoring.agent("searcher", tool=True):
        pass
    assert log.events() == ["agent.start", "agent.end"]


def test_a_tool_may_be_a_function(log: Log) -> None:
    """Of any kind, generators among them."""

    @monitoring.observe("search", tool=True)
    def search() -> Iterator[int]:
        yield 1

    @monitoring.observe("fetch", tool=True)
    async def fetch() -> None: ...

    with monitoring.agent("writer"):
        assert list(search()) == [1]
        asyncio.run(fetch())
    assert [line["tool"] for line in log.lines("agent.tool")] == ["search", "fetch"]


def test_what_fails_is_not_left_out_by_its_level(info_log: Log) -> None:
    """A run has the level error, a step or tool warning: its agent may go on. The stack is on no line of these."""
    tool = monitoring.observe("search", tool=True)
    with pytest.raises(LookupError), monitoring.agent("planner"), monitoring.agent("writer"), tool:
        raise LookupError("said in a prompt")
    told = [(line["event"], line["level"], line.get("outcome"), line.get("error_type")) for line in info_log.lines()]
    assert told == [
        ("agent.start", "info", None, None),
        ("agent.tool", "warning", "error", "LookupError"),
        ("agent.step", "warning", "error", "LookupError"),
        ("agent.end", "error", "error", "LookupError"),
    ]
    assert "said in a prompt" not in info_log.path.read_text()


def test_a_cancelled_run_says_so(info_log: Log) -> None:
    """It is no error."""

    @monitoring.agent("writer")
    async def write() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(write())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert (info_log.line("agent.end")["outcome"], info_log.line("agent.end")["level"]) == ("cancelled", "info")


def test_steps_and_tools_are_left_out_above_debug(info_log: Log) -> None:
    """The run stays."""
    with monitoring.agent("planner"), monitoring.agent("writer"), monitoring.observe("search", tool=True):
        pass
    assert info_log.events() == ["agent.start", "agent.end"]


def test_the_lines_of_agents_have_a_level_of_their_own(tmp_path: Path) -> None:
    """By the name of their logger."""
    settings: dict[str, Any] = {"log_levels": {"monitoring.agent": "warning"}, "log_level": "debug"}
    with use(log_destination=str(tmp_path / "app.log"), **settings) as made:
        with monitoring.agent("planner"), monitoring.agent("writer"):
            ask()
        assert Log(tmp_path / "app.log", made).lines() == []


def test_attributes_are_on_no_line(log: Log) -> None:
    """They may hold what was said."""
    with monitoring.agent("planner", prompt="write a proposal"), monitoring.agent("writer", prompt="write it"):
        pass
    assert "write" not in log.path.read_text().replace('"writer"', "")


def test_the_lines_of_a_run_have_the_ids_of_its_job(info_log: Log) -> None:
    """And its fields."""
    with monitoring.log_request("import", source="nsf"):
        with monitoring.agent("writer"):
            pass
        inside = monitoring.request_id()
    assert [(line["request_id"], line["source"]) for line in info_log.lines()] == [(inside, "nsf")] * 2


def test_runs_side_by_side_have_sums_of_their_own(log: Log) -> None:
    """And share the run around them, across tasks and threads."""

    async def write(number: int) -> None:
        with monitoring.agent(f"writer-{number}"):
            for _ in range(number):
                await asyncio.sleep(0)
                ask(100)

    async def main() -> None:
        with monitoring.agent("planner"):
            await asyncio.gather(*(write(number) for number in range(4)))
            with ThreadPoolExecutor(4) as pool:
                for _ in range(50):
                    pool.submit(carry_context(ask), 100)

    asyncio.run(main())
    assert {line["agent"]: line["llm_calls"] for line in log.lines("agent.step")} == {
        f"writer-{number}": number for number in range(4)
    }
    assert (log.line("agent.end")["llm_calls"], log.line("agent.end")["llm_tokens"]) == (56, 5600)


def test_an_agent_may_be_a_generator(log: Log) -> None:
    """Its LLM calls and steps are its own, and those of the code between its steps are not."""

    @monitoring.agent("writer")
    async def write() -> AsyncGenerator[int, None]:
        for page in range(3):
            ask(100)
            with monitoring.agent("page"):
                ask(10)
            yield page

    async def main() -> None:
        async for _ in write():
            ask(1000)

    asyncio.run(main())
    assert log.events() == ["agent.start", "agent.step", "agent.step", "agent.step", "agent.end"]
    end = log.line("agent.end")
    assert (end["llm_calls"], end["llm_tokens"]) == (6, 330)
    assert {line["parent"] for line in log.lines("agent.step")} == {end["run_id"]}


def test_a_start_is_told_to_sinks_as_a_kind_of_its_own() -> None:
    """So those that count agents do not count it."""
    sink = MemorySink()
    with use(sink), monitoring.agent("writer"):
        (start,) = sink.observations
        assert (start.kind, start.name, start.outcome) == ("agent_start", "writer", "")
    assert [one.kind for one in sink.observations] == ["agent_start", "agent"]
    with use() as made:
        with monitoring.agent("writer"):
            pass
        (series,) = made.metrics.snapshot()["gen_ai_invoke_agent_duration_seconds"].series
    assert series.count == 1
