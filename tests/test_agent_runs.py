"""Sums of agents: a run's are those of its steps, and all are the same in the request, in the metrics and in lines."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

import monitoring
from monitoring.calls import LLMCall
from monitoring.context import ContextExecutor, current_record
from monitoring.testing import MemorySink, use


@pytest.fixture
def made() -> Iterator[monitoring.Monitoring]:
    """The current Monitoring."""
    with use() as made:
        yield made


def ask(tokens: int = 120, cost: str | None = "0.01") -> None:
    """Report a call to a language model."""
    call = LLMCall(0.0)
    call.provider, call.model, call.has_usage = "openai", "gpt-4o", True
    call.input_tokens, call.output_tokens = tokens - 20, 20
    call.cost_usd = None if cost is None else Decimal(cost)
    monitoring.current().recorder.record(call)


@monitoring.observe("search", tool=True)
async def search(fails: bool = False) -> None:
    """Search, with a model's help."""
    await asyncio.sleep(0)
    ask(70, "0.003")
    if fails:
        raise LookupError


@monitoring.agent("researcher")
async def research(number: int) -> None:
    """Look things up; the third one fails at it."""
    ask(100, "0.01")
    await asyncio.gather(*(search(fails=number == 2) for _ in range(number)))
    ask(50, None)


@monitoring.agent("writer")
def write() -> None:
    """Write, in a thread."""
    for _ in range(3):
        ask(200, "0.02")


@monitoring.agent("planner")
async def plan() -> None:
    """Have things looked up at once and written up in threads."""
    ask(40, "0.001")
    await asyncio.gather(*(research(number) for number in range(4)), return_exceptions=True)
    with ContextExecutor(2) as pool:
        for writing in [pool.submit(write) for _ in range(4)]:
            writing.result()


def totals(made: monitoring.Monitoring, name: str) -> dict[Any, float]:
    """Return what a counter stands at, by agent or model."""
    found = made.metrics.snapshot()[name].series
    return {one.labels.get("gen_ai_agent_name") or one.labels.get("gen_ai_tool_name"): one.value for one in found}


def test_steps_runs_requests_and_metrics_tell_the_same(tmp_path: Path) -> None:
    """With steps at once, in threads, one that fails, and calls without a price."""
    sink, log = MemorySink(), tmp_path / "log"
    with use(sink, log_destination=str(log), log_level="debug") as made:
        with monitoring.log_request("write proposals"):
            record = current_record.get()
            asyncio.run(plan())
        made.log_lines.flush()
        calls, tokens, cost = (
            totals(made, f"monitoring_agent_{name}_total") for name in ("llm_calls", "tokens", "cost_usd")
        )
        by_model = made.metrics.snapshot()
    lines = [orjson.loads(line) for line in log.read_bytes().splitlines()]
    lines = [line for line in lines if line["logger"] == "monitoring.agent"]
    (end,) = [line for line in lines if line["event"] == "agent.end"]
    steps = [line for line in lines if line["event"] == "agent.step"]

    (run,) = [one.opened.run for one in sink.of_kind("agent") if one.name == "planner" and one.opened is not None]
    assert run is not None
    # 1 of the planner's own, 4 + 3 of researchers (one fails before its last), 6 of tools, 12 of writers
    assert (run.llm_calls, run.tool_calls) == (26, 6)
    assert run.llm_tokens == 40 + 4 * 100 + 3 * 50 + 6 * 70 + 12 * 200
    assert run.llm_cost_usd == pytest.approx(0.001 + 4 * 0.01 + 6 * 0.003 + 12 * 0.02)
    assert run.llm_unpriced == 3

    assert sum(line["llm_calls"] for line in steps) + 1 == end["llm_calls"] == run.llm_calls
    assert sum(line["llm_tokens"] for line in steps) + 40 == end["llm_tokens"] == run.llm_tokens
    assert sum(line["llm_cost_usd"] for line in steps) + 0.001 == pytest.approx(end["llm_cost_usd"])
    assert sum(line["tool_calls"] for line in steps) == end["tool_calls"] == run.tool_calls
    assert sum(line.get("llm_unpriced", 0) for line in steps) == end["llm_unpriced"] == run.llm_unpriced
    assert {line["root"] for line in lines} == {end["run_id"]}

    assert record is not None
    assert (record.llm_calls, record.llm_tokens) == (run.llm_calls, run.llm_tokens)
    assert record.llm_cost_usd == pytest.approx(run.llm_cost_usd)

    assert calls == {"planner": 1, "researcher": 13, "writer": 12}
    assert (sum(tokens.values()), sum(cost.values())) == (run.llm_tokens, pytest.approx(run.llm_cost_usd))
    model_tokens = sum(
        by_model[f"gen_ai_client_inference_usage_{side}_tokens_total"].series[0].value for side in ("input", "output")
    )
    assert model_tokens == run.llm_tokens
    assert by_model["gen_ai_client_cost_usd_total"].series[0].value == pytest.approx(run.llm_cost_usd)
    assert by_model["gen_ai_client_unpriced_operations_total"].series[0].value == run.llm_unpriced


def test_runs_and_tools_are_counted_with_how_they_ended(made: monitoring.Monitoring) -> None:
    """By agent, by tool, and by the class of what was raised."""
    asyncio.run(plan())
    numbers = made.metrics.snapshot()

    def ended(name: str, label: str) -> dict[tuple[str, str], float]:
        return {(one.labels[label], one.labels["error_type"]): one.count for one in numbers[name].series}

    assert ended("gen_ai_invoke_agent_duration_seconds", "gen_ai_agent_name") == {
        ("planner", ""): 1,
        ("researcher", ""): 3,
        ("researcher", "LookupError"): 1,
        ("writer", ""): 4,
    }
    assert ended("gen_ai_execute_tool_duration_seconds", "gen_ai_tool_name") == {
        ("search", ""): 4,
        ("search", "LookupError"): 2,
    }
    assert totals(made, "gen_ai_invoke_agent_inference_calls") == {"planner": 26, "researcher": 13, "writer": 12}
    assert totals(made, "gen_ai_invoke_agent_tool_calls") == {"planner": 6, "researcher": 6, "writer": 0}


def test_a_tool_outside_of_agents_is_counted(made: monitoring.Monitoring) -> None:
    """A block that is not marked is none."""
    with monitoring.observe("search", tool=True), monitoring.observe("parse"):
        pass
    (tool,) = made.metrics.snapshot()["gen_ai_execute_tool_duration_seconds"].series
    assert (tool.labels, tool.count) == ({"gen_ai_tool_name": "search", "error_type": ""}, 1)


def test_an_agent_that_is_a_tool_is_both(made: monitoring.Monitoring) -> None:
    """One more tool of the run around it, and none of its own."""
    with monitoring.agent("planner"), monitoring.agent("searcher", tool=True):
        ask()
    assert totals(made, "gen_ai_invoke_agent_tool_calls") == {"planner": 1, "searcher": 0}
    assert totals(made, "gen_ai_invoke_agent_inference_calls") == {"planner": 1, "searcher": 1}
    assert set(totals(made, "gen_ai_execute_tool_duration_seconds")) == {"searcher"}


def test_a_cancelled_tool_says_so(made: monitoring.Monitoring) -> None:
    """In the place of an error."""

    async def main() -> None:
        async with asyncio.timeout(0):
            with monitoring.observe("search", tool=True):
                await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    (tool,) = made.metrics.snapshot()["gen_ai_execute_tool_duration_seconds"].series
    assert tool.labels["error_type"] == "cancelled"
