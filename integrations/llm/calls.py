"""One call to a language model, from the request to its observation: what the answer told, and how it ended."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from time import perf_counter
from types import MappingProxyType
from typing import Any, Final

from monitoring.calls import LLMCall
from monitoring.cells import CellRegistry
from monitoring.cells.layout import CellFile
from monitoring.integrations.attachment import Link, report
from monitoring.recorder import Recorder

from .prices import cost_usd
from .usage import Usage

_MODEL_LENGTH: Final = 100
NO_CONTEXT: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Provider:
    """How one provider's answers are read."""

    name: str
    """As in OpenTelemetry's ``gen_ai.provider.name``."""
    note: Callable[[PendingCall, Any], None]
    """Take from a result, or from a chunk of a stream, what there is to know."""
    usage: Callable[[Any], Usage]


class PendingCall:
    """A call under way, and what its answer tells of itself, never its text.

    It is reported once, whoever ends it first, in the context that it was made in.
    """

    __slots__ = (
        "_context", "_ended", "_first", "_last", "_model", "_operation", "_provider", "_recorder", "_started",
        "_streamed", "failure", "is_final", "link", "price_context", "response_model", "usage",
    )  # fmt: skip

    def __init__(
        self, link: Link, recorder: Recorder, provider: Provider, operation: str, model: object, *, streamed: bool
    ) -> None:
        self._ended = False
        if _waiting:
            _report_waiting()
        self.link = link
        self.response_model = ""
        self.usage: Any = None
        """The usage as the provider tells it."""
        self.is_final = True
        """Whether that is all of it, and not what was known when a stream began."""
        self.price_context: Mapping[str, str] = NO_CONTEXT
        """What else the price depends on."""
        self.failure = ""
        """What the provider said went wrong, in one word, where the SDK raises nothing."""
        self._recorder = recorder
        self._provider = provider
        self._operation = operation
        self._model = str(model or "")[:_MODEL_LENGTH]
        self._streamed = streamed
        self._first = self._last = 0.0
        self._context: Context | None = copy_context() if streamed else None
        self._started = perf_counter()

    def outlive_the_request(self) -> None:
        """Keep the context of now, because the call will end in another place."""
        self._context = copy_context()

    def note(self, item: Any) -> None:
        """Take what a result or a chunk tells. Never raises."""
        self._last = perf_counter()
        if not self._first:
            self._first = self._last
        try:
            self._provider.note(self, item)
        except Exception as error:
            self._recorder.failed(f"reading an answer of {self._provider.name}", error)

    def end(self, error: BaseException | None = None, outcome: str = "") -> None:
        """Report how it ended: by itself, with an exception, or with an outcome that says who lost interest."""
        if not self._ended:
            self._ended = True
            self._report(error, outcome)

    def drop(self, outcome: str) -> None:
        """Report a stream that nobody will read on. The garbage collector may be the one to say so, in the middle of a
        fold with its locks held: then the report waits for the next call.
        """
        if not self._ended:
            self._ended = True
            if _inside_a_fold():
                _waiting.append((self, outcome))
            else:
                self._report(None, outcome)

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self.drop("abandoned")

    def _report(self, error: BaseException | None, outcome: str) -> None:
        if self._context is None:
            report(self._recorder, self._call, error, outcome)
        else:
            self._context.run(report, self._recorder, self._call, error, outcome)

    def _call(self, error: BaseException | None, outcome: str) -> LLMCall:
        call = LLMCall(self._started, error, outcome)
        if self.failure and call.outcome == "ok":
            call.outcome, call.error_type = "error", self.failure
        if outcome and self._last:
            call.duration_seconds = self._last - self._started
        call.name = f"{self._operation} {self._model}"
        call.provider, call.operation = self._provider.name, self._operation
        call.model, call.response_model = self._model, str(self.response_model)[:_MODEL_LENGTH]
        if self._streamed:
            call.streamed = True
            if self._first:
                call.first_chunk_seconds = self._first - self._started
        if self.usage is not None:
            self._count(call, self._provider.usage(self.usage))
        return call

    def _count(self, call: LLMCall, usage: Usage) -> None:
        call.input_tokens, call.output_tokens = usage.input_tokens, usage.output_tokens
        call.cache_read_tokens, call.cache_write_tokens = usage.cache_read_tokens, usage.cache_write_tokens
        call.reasoning_tokens = usage.reasoning_tokens
        if self.is_final:
            call.has_usage = True
            models = (call.response_model, call.model) if call.response_model else (call.model,)
            call.cost_usd = cost_usd(call.provider, models, usage, self.price_context)


_waiting: deque[tuple[PendingCall, str]] = deque(maxlen=1_000)
_NOT_TO_BE_ENTERED_TWICE: Final = frozenset(
    function.__code__ for function in (Recorder.record, Recorder.record_request, CellRegistry.series, CellFile.append)
)
"""What a report would come back to: the folds, and the making of a series that the app counts in by itself."""


def _inside_a_fold() -> bool:
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code in _NOT_TO_BE_ENTERED_TWICE:
            return True
    return False


def _report_waiting() -> None:
    with suppress(IndexError):
        while True:
            call, outcome = _waiting.popleft()
            call._report(None, outcome)
