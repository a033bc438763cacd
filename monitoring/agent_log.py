"""The lines of agents: when a run starts and ends, and what steps and tools it took. Never what was said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from .calls import LLMCall
from .config import Level
from .logs.levels import LEVELS
from .logs.lines import LogLines
from .observation import Block, Kind, Observation, Run
from .recorder import Fold

_LOGGER: Final = "monitoring.agent"


class AgentLog:
    """The sink that writes agents as lines: ``agent.start`` and ``agent.end`` of a run at level info, ``agent.step`` of
    an agent inside of another and ``agent.tool`` at level debug; what failed has the level error, a step or tool
    warning.

    A tool is a block inside of an agent that is marked by ``tool=True``: one of ``observe`` is a part of its agent's
    run, one of ``agent`` has a run of its own. Thread-safe under the GIL.
    """

    def __init__(self, lines: LogLines) -> None:
        self._lines = lines

    def folds(self) -> Mapping[Kind, Fold]:
        """Return which kinds of observation are written or summed up."""
        return {
            "agent_start": self._write_start,
            "agent": self._write_end,
            "span": self._write_tool,
            "llm": self._add_llm_call,
        }

    def _write_start(self, start: Observation) -> None:
        if not _is_inside_agent(start) and self._is_on("info"):
            self._lines.emit("info", _LOGGER, "agent.start", {"agent": start.name, **_run_ids(start.opened)})

    def _write_end(self, agent: Observation) -> None:
        is_step = _is_inside_agent(agent)
        level = _level(agent, "debug", "warning") if is_step else _level(agent, "info", "error")
        if agent.opened is None or agent.opened.run is None or not self._is_on(level):
            return
        told = {"agent": agent.name, **_run_ids(agent.opened), **_ending(agent), **_sums(agent.opened.run)}
        if is_step and _is_tool(agent):
            self._lines.emit(level, _LOGGER, "agent.tool", {"tool": agent.name, **told})
        else:
            self._lines.emit(level, _LOGGER, "agent.step" if is_step else "agent.end", told)

    def _write_tool(self, span: Observation) -> None:
        if not _is_tool(span) or span.block is None or not _is_inside_agent(span):
            return
        level = _level(span, "debug", "warning")
        if self._is_on(level):
            told = {"agent": span.block.agent, "tool": span.name, **_run_ids(span.block), **_ending(span)}
            self._lines.emit(level, _LOGGER, "agent.tool", told)

    def _add_llm_call(self, call: LLMCall) -> None:
        tokens, cost = call.input_tokens + call.output_tokens, float(call.cost_usd or 0)
        for run in _runs(call.block):
            run.llm_calls += 1
            run.llm_tokens += tokens
            run.llm_cost_usd += cost

    def _is_on(self, level: Level) -> bool:
        levels = self._lines.levels
        return LEVELS[level] >= (levels.gates.get(_LOGGER) or levels.gate(_LOGGER))


def _runs(block: Block | None) -> Iterator[Run]:
    """Yield the run that a block is or belongs to, and those around it."""
    while block is not None:
        if block.run is not None:
            yield block.run
        block = block.parent


def _run_ids(block: Block | None) -> dict[str, str]:
    return {key: run.id for key, run in zip(("run_id", "parent"), _runs(block), strict=False)}


def _is_inside_agent(observation: Observation) -> bool:
    return observation.block is not None and observation.block.agent != ""


def _is_tool(observation: Observation) -> bool:
    return bool(observation.attributes and observation.attributes.get("tool") is True)


def _ending(observation: Observation) -> dict[str, Any]:
    told = {"outcome": observation.outcome, "duration_ms": round(observation.duration_seconds * 1000, 3)}
    if observation.exception is not None:
        told["error_type"] = type(observation.exception).__name__
    return told


def _sums(run: Run) -> dict[str, Any]:
    return {
        "llm_calls": run.llm_calls,
        "llm_tokens": run.llm_tokens,
        "llm_cost_usd": round(run.llm_cost_usd, 9),
    }


def _level(observation: Observation, usual: Level, failed: Level) -> Level:
    return failed if observation.outcome == "error" else usual
