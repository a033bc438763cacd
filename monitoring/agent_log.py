"""The lines of agents: when a run starts and ends, and what steps and tools it took. Never what was said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .agent_runs import error_type, is_tool
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
    run, one of ``agent`` has a run of its own. ``AgentRuns`` has summed them up before. Thread-safe.
    """

    def __init__(self, lines: LogLines) -> None:
        self._lines = lines

    def folds(self) -> Mapping[Kind, Fold]:
        """Return which kinds of observation are written."""
        return {"agent_start": self._write_start, "agent": self._write_end, "span": self._write_tool}

    def _write_start(self, start: Observation) -> None:
        if not _is_inside_agent(start) and self._is_on("info"):
            self._lines.emit("info", _LOGGER, "agent.start", {"agent": start.name, **_run_ids(start.opened)})

    def _write_end(self, agent: Observation) -> None:
        is_step = _is_inside_agent(agent)
        level = _level(agent, "debug", "warning") if is_step else _level(agent, "info", "error")
        if agent.opened is None or agent.opened.run is None or not self._is_on(level):
            return
        told = {"agent": agent.name, **_run_ids(agent.opened), **_ending(agent), **_sums(agent.opened.run)}
        if is_step and is_tool(agent):
            self._lines.emit(level, _LOGGER, "agent.tool", {"tool": agent.name, **told})
        else:
            self._lines.emit(level, _LOGGER, "agent.step" if is_step else "agent.end", told)

    def _write_tool(self, span: Observation) -> None:
        if not is_tool(span) or span.block is None or not _is_inside_agent(span):
            return
        level = _level(span, "debug", "warning")
        if self._is_on(level):
            told = {"agent": span.block.agent, "tool": span.name, **_run_ids(span.block), **_ending(span)}
            self._lines.emit(level, _LOGGER, "agent.tool", told)

    def _is_on(self, level: Level) -> bool:
        levels = self._lines.levels
        return LEVELS[level] >= (levels.gates.get(_LOGGER) or levels.gate(_LOGGER))


def _run_ids(block: Block | None) -> dict[str, str]:
    """Return the IDs of the run, of the one around it, and of the outermost, which all lines of a run share."""
    runs = list(block.runs()) if block is not None else []
    told = {key: run.id for key, run in zip(("run_id", "parent"), runs, strict=False)}
    return {**told, "root": runs[0].root} if runs else {}


def _is_inside_agent(observation: Observation) -> bool:
    return observation.block is not None and observation.block.agent != ""


def _ending(observation: Observation) -> dict[str, Any]:
    told = {"outcome": observation.outcome, "duration_ms": round(observation.duration_seconds * 1000, 3)}
    if observation.outcome == "error":
        told["error_type"] = error_type(observation)
    return told


def _sums(run: Run) -> dict[str, Any]:
    return {
        "llm_calls": run.llm_calls,
        "llm_tokens": run.llm_tokens,
        "llm_cost_usd": round(run.llm_cost_usd, 9),
        **({"llm_unpriced": run.llm_unpriced} if run.llm_unpriced else {}),
        "tool_calls": run.tool_calls,
    }


def _level(observation: Observation, usual: Level, failed: Level) -> Level:
    return failed if observation.outcome == "error" else usual
