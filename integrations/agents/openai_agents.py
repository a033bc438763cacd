"""The OpenAI Agents SDK: agents, tools, and what its models used where no wrapped client reports that.

``agents.add_trace_processor(TraceProcessor())`` adds to the processors that are there. Without tracing
(``OPENAI_AGENTS_DISABLE_TRACING``) the SDK tells of nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agents.tracing import TracingProcessor

from monitoring.integrations.attachment import Detach, Link
from monitoring.integrations.llm import prices
from monitoring.integrations.llm.usage import fields, openai_usage
from monitoring.monitor import current
from monitoring.recorder import Recorder

from .running import ModelAnswer, Running, text_of

_running = Running()


class SpanError(Exception):
    """An error that the SDK tells of: which one it was, it does not tell."""


class TraceProcessor(TracingProcessor):
    """Observes what the SDK tells of: give it to ``agents.add_trace_processor``. Thread-safe."""

    def __init__(self, recorder_of: Callable[[], Recorder] = lambda: current().recorder) -> None:
        prices.load()
        self._link = Link(recorder_of)

    def on_trace_start(self, trace: Any) -> None:
        """Do nothing: a trace is no run of an agent."""

    def on_trace_end(self, trace: Any) -> None:
        """Do nothing."""

    def on_span_start(self, span: Any) -> None:
        """Note what begins."""
        data = span.span_data
        if data.type in ("agent", "function"):
            _running.begin_block(self._link, span.span_id, text_of(data.name), tool=data.type == "function")
        elif data.type in ("generation", "response"):
            model = text_of(getattr(data, "model", ""))
            _running.begin_call(self._link, span.span_id, "openai", model)

    def on_span_end(self, span: Any) -> None:
        """Note what ends, and how."""
        error = SpanError() if span.error else None
        kind = span.span_data.type
        if kind in ("agent", "function"):
            _running.end_block(self._link, span.span_id, error)
        elif kind in ("generation", "response"):
            _running.end_call(self._link, span.span_id, _answer(span.span_data), error)

    def shutdown(self) -> None:
        """Do nothing: nothing is queued here."""

    def force_flush(self) -> None:
        """Do nothing."""


def carrier(agent: Any) -> Any:
    """Raise TypeError: the SDK tells of its agents elsewhere."""
    raise TypeError(
        f"wrap() got an agent of the OpenAI Agents SDK, which tells of all agents in one place; call "
        f"agents.add_trace_processor({__name__}.TraceProcessor()) once instead."
    )


def attach(agent: Any, link: Link) -> Detach:
    """Raise the same."""
    return carrier(agent)  # type: ignore[no-any-return]


def _answer(data: Any) -> ModelAnswer:
    told, model = data.usage, text_of(getattr(data, "model", ""))
    response = getattr(data, "response", None)
    if response is not None:
        told, model = told or response.usage, text_of(response.model)
    return ModelAnswer(openai_usage(fields(told)) if told is not None else None, model)
