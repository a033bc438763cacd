"""LangChain: chains and graphs as agents, their tools, and what models used where no wrapped client reports that.

``chain.invoke(question, config={"callbacks": [Callbacks()]})`` observes a whole chain; ``monitoring.wrap`` takes a chat
model or a tool alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler

from monitoring.integrations.attachment import Detach, Link, attempt
from monitoring.integrations.llm import prices
from monitoring.integrations.llm.usage import Usage, fields
from monitoring.monitor import current
from monitoring.recorder import Recorder

from .running import ModelAnswer, Running, text_of

_running = Running()


class Callbacks(BaseCallbackHandler):
    """Observes what a chain, a model or a tool does. Thread-safe.

    The outermost chain is an agent, and so are a graph's nodes, as its steps. A call to a model that a budget refuses
    raises ``BudgetExceeded`` here; nothing else does.
    """

    raise_error = True
    run_inline = True  # so that what goes on inside knows what it is a part of

    def __init__(self, recorder_of: Callable[[], Recorder] = lambda: current().recorder) -> None:
        prices.load()
        self.link = Link(recorder_of)

    def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: Any, parent_run_id: Any = None, **more: Any
    ) -> None:
        """Note an agent or a step that begins."""
        name = _name(serialized, more)
        if parent_run_id is None or name == (more.get("metadata") or {}).get("langgraph_node"):
            _running.begin_block(self.link, run_id, name)

    def on_chain_end(self, outputs: Any, *, run_id: Any, **more: Any) -> None:
        """Note that it ends."""
        _running.end_block(self.link, run_id)

    def on_chain_error(self, error: BaseException, *, run_id: Any, **more: Any) -> None:
        """Note that it fails."""
        _running.end_block(self.link, run_id, error)

    def on_tool_start(self, serialized: Any, input_str: str, *, run_id: Any, **more: Any) -> None:
        """Note a tool that begins."""
        _running.begin_block(self.link, run_id, _name(serialized, more), tool=True)

    def on_tool_end(self, output: Any, *, run_id: Any, **more: Any) -> None:
        """Note that it ends."""
        _running.end_block(self.link, run_id)

    def on_tool_error(self, error: BaseException, *, run_id: Any, **more: Any) -> None:
        """Note that it fails."""
        _running.end_block(self.link, run_id, error)

    def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: Any, **more: Any) -> None:
        """Note a call to a model that begins. Raise BudgetExceeded where it must not."""
        self._begin_call(run_id, more)

    def on_llm_start(self, serialized: Any, prompts: Any, *, run_id: Any, **more: Any) -> None:
        """Do the same for models that complete texts."""
        self._begin_call(run_id, more)

    def on_llm_end(self, response: Any, *, run_id: Any, **more: Any) -> None:
        """Note that it ends, and what it used."""
        answers: list[ModelAnswer] = []
        attempt(self.link, lambda: answers.append(_answer(response)))
        _running.end_call(self.link, run_id, answers[0] if answers else None)

    def on_llm_error(self, error: BaseException, *, run_id: Any, **more: Any) -> None:
        """Note that it fails."""
        _running.end_call(self.link, run_id, None, error)

    def _begin_call(self, run_id: Any, more: Any) -> None:
        recorder = self.link.recorder()
        if recorder is not None:
            recorder.before_llm_call()
            told = more.get("metadata") or {}
            _running.begin_call(self.link, run_id, text_of(told.get("ls_provider")), text_of(told.get("ls_model_name")))


def carrier(runnable: Any) -> Any:
    """Return a chat model or a tool itself. Raise TypeError for other runnables, which have no place for callbacks."""
    if "callbacks" in getattr(type(runnable), "model_fields", ()):
        return runnable
    raise TypeError(
        f"wrap() got a {type(runnable).__name__}, which has no place for callbacks of its own; give it "
        f"config={{'callbacks': [{__name__}.Callbacks()]}} when you invoke it, or wrap its chat model and its tools."
    )


def attach(runnable: Any, link: Link) -> Detach:
    """Add callbacks to those that it has."""
    ours, former = Callbacks(link.recorder_of), runnable.callbacks
    ours.link = link
    if hasattr(former, "add_handler"):
        former.add_handler(ours)
        return lambda: former.remove_handler(ours)
    runnable.callbacks = added = [*(former or ()), ours]

    def detach() -> None:
        if runnable.callbacks is added:
            runnable.callbacks = former

    return detach


def _name(serialized: Any, more: Any) -> str:
    told = serialized if isinstance(serialized, dict) else {}
    path = told.get("id") or ["chain"]
    return text_of(more.get("name")) or text_of(told.get("name")) or str(path[-1])


def _answer(response: Any) -> ModelAnswer:
    """Return what the messages of an answer tell, added up."""
    messages = [getattr(one, "message", None) for generation in response.generations for one in generation]
    told = [fields(message) for message in messages if message is not None]
    usages = [_usage(one["usage_metadata"]) for one in told if one.get("usage_metadata")]
    first = told[0].get("response_metadata") or {} if told else {}
    return ModelAnswer(
        usages[0] if usages else None,
        text_of(first.get("model_name")) or text_of(first.get("model")),
        finish_reason=text_of(first.get("finish_reason")) or text_of(first.get("stop_reason")),
        tool_calls=sum(len(one.get("tool_calls") or ()) for one in told),
    )


def _usage(told: Any) -> Usage:
    into, out = told.get("input_token_details") or {}, told.get("output_token_details") or {}
    return Usage(
        input_tokens=told.get("input_tokens", 0),
        output_tokens=told.get("output_tokens", 0),
        cache_read_tokens=into.get("cache_read", 0),
        cache_write_tokens=into.get("cache_creation", 0),
        input_audio_tokens=into.get("audio", 0),
        output_audio_tokens=out.get("audio", 0),
        reasoning_tokens=out.get("reasoning", 0),
    )
