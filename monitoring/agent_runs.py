"""The sink that sums up the runs of agents and counts them: what they took, and what their tools did."""

from __future__ import annotations

from collections.abc import Mapping

from . import families
from .calls import LLMCall
from .families import CountsMetrics
from .observation import Kind, Observation
from .recorder import Fold


class AgentRuns:
    """Adds each LLM call and each tool to the runs that it happened in, and counts runs and tools by their names.

    A tool is a block of ``observe`` or ``agent`` that is marked by ``tool=True``; it need not be inside of an agent.
    Thread-safe under the GIL.
    """

    def __init__(self, metrics: CountsMetrics) -> None:
        self._metrics = metrics

    def folds(self) -> Mapping[Kind, Fold]:
        """Return what is added for each kind."""
        return {"llm": self._add_llm_call, "span": self._add_tool, "agent": self._end_agent}

    def _add_llm_call(self, call: LLMCall) -> None:
        if call.block is None:
            return
        tokens, cost = call.input_tokens + call.output_tokens, float(call.cost_usd or 0)
        for run in call.block.runs():
            run.llm_calls += 1
            run.llm_tokens += tokens
            run.llm_cost_usd += cost
            run.llm_unpriced += call.is_unpriced
        if call.agent:
            agent = (call.agent,)
            self._metrics.add(families.AGENT_CALLS, agent, 1.0)
            self._metrics.add(families.AGENT_TOKENS, agent, float(tokens))
            self._metrics.add(families.AGENT_COST, agent, cost)

    def _add_tool(self, span: Observation) -> None:
        if is_tool(span):
            if span.block is not None:
                for run in span.block.runs():
                    run.tool_calls += 1
            self._metrics.observe(families.TOOL_DURATION, (span.name, error_type(span)), span.duration_seconds)

    def _end_agent(self, agent: Observation) -> None:
        self._add_tool(agent)
        name = (agent.name,)
        self._metrics.observe(families.AGENT_DURATION, (*name, error_type(agent)), agent.duration_seconds)
        run = agent.opened.run if agent.opened is not None else None
        if run is not None:
            self._metrics.observe(families.AGENT_INFERENCE_CALLS, name, float(run.llm_calls))
            self._metrics.observe(families.AGENT_TOOL_CALLS, name, float(run.tool_calls))


def is_tool(observation: Observation) -> bool:
    """Say whether a block is marked as a tool."""
    return bool(observation.attributes and observation.attributes.get("tool") is True)


def error_type(observation: Observation) -> str:
    """Return the name of the class of what a block raised, its outcome where that is another one, "" if all went well.

    What a framework tells of a block is the name alone.
    """
    if observation.outcome == "ok":
        return ""
    if observation.exception is not None:
        return type(observation.exception).__name__
    return getattr(observation, "error_type", "") or observation.outcome
