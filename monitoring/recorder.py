"""The one way from the edges to the sinks: it guards, mutes, and counts failures, so that nobody else has to."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

from .context import is_muted
from .observation import KINDS, Kind, Observation, RequestRecord

Fold = Callable[[Any], None]
"""Takes an ``Observation``; that of the kind ``request`` is a ``RequestRecord``."""
F = TypeVar("F", bound=Callable[..., None])
OnFailure = Callable[[str, Exception], None]


def _nothing() -> None:
    pass


def only_of_noted_requests(fold: F) -> F:
    """Mark a fold of requests that does nothing with one that is not ``noted``, so that it is not called for it."""
    fold.only_of_noted_requests = True  # type: ignore[attr-defined]
    return fold


class Sink(Protocol):
    """Folds observations into something that can be read: cells, a log line, a list in a test."""

    def folds(self) -> Mapping[Kind, Fold]:
        """Return the function for each kind of observation that this sink wants."""
        ...


class Recorder:
    """Hands each observation to the sinks that want its kind. Never raises, whatever a sink does. Thread-safe."""

    def __init__(
        self,
        sinks: Iterable[Sink] = (),
        on_failure: OnFailure | None = None,
        count_failure: Callable[[str], None] = lambda part: None,
        metrics: Any = None,
    ) -> None:
        """``metrics`` is where ``measure`` counts, a ``families.CountsMetrics``; None for nowhere."""
        self.before_llm_call: Callable[[], None] = _nothing
        """Raises BudgetExceeded where an LLM call is not to be sent; the only thing here that raises."""
        self.failures: dict[str, int] = {}
        """Failures of the pack itself in this process, by the part that failed."""
        self._on_failure = on_failure or self._log_first
        self._count_failure = count_failure
        self._metrics = metrics
        self._folds: dict[Kind, tuple[Fold, ...]] = {kind: () for kind in KINDS}
        self._arrange_request_folds()
        for sink in sinks:
            self.add(sink)

    def add(self, sink: Sink) -> None:
        """Hand observations to one more sink from now on."""
        for kind, fold in sink.folds().items():
            self._folds[kind] = (*self._folds[kind], fold)
        self._arrange_request_folds()

    def _arrange_request_folds(self) -> None:
        self._of_noted_requests = self._folds["request"]
        self._of_other_requests = tuple(
            fold for fold in self._of_noted_requests if not hasattr(fold, "only_of_noted_requests")
        )

    def record(self, observation: Observation) -> None:
        """Fold one observation into every sink that wants it, unless the context is muted."""
        if is_muted():
            return
        for fold in self._folds[observation.kind]:
            try:
                fold(observation)
            except Exception as error:
                self.failed(getattr(fold, "__qualname__", repr(fold)), error)

    def record_request(self, request: RequestRecord) -> None:
        """Do the same with a request; most are not noted, and of no interest to some sinks."""
        if is_muted():
            return
        for fold in self._of_noted_requests if request.noted else self._of_other_requests:
            try:
                fold(request)
            except Exception as error:
                self.failed(getattr(fold, "__qualname__", repr(fold)), error)

    def measure(self, count: Callable[..., None], *facts: Any) -> None:
        """Count by ``count(metrics, *facts)`` what is a number and no observation, such as the use of a pool, unless
        the context is muted.
        """
        if self._metrics is None or is_muted():
            return
        try:
            count(self._metrics, *facts)
        except Exception as error:
            self.failed(getattr(count, "__qualname__", repr(count)), error)

    def failed(self, part: str, error: Exception) -> None:
        """Count a failure of the pack; the first of each kind is logged with its traceback."""
        kind = f"{part}: {type(error).__name__}"
        self.failures[kind] = self.failures.get(kind, 0) + 1
        try:
            self._count_failure(kind)
        except Exception as uncounted:
            error.add_note(f"It is not counted in the metrics: {uncounted!r}")
        self._on_failure(kind, error)

    def _log_first(self, kind: str, error: Exception) -> None:
        if self.failures[kind] > 1:
            return
        try:
            logging.getLogger("monitoring").error("monitoring failed in %s; the app goes on", kind, exc_info=error)
        except Exception:
            traceback.print_exception(error, file=sys.stderr)


class NullRecorder(Recorder):
    """Records nothing: what everything reports to before ``configure``."""

    def record(self, observation: Observation) -> None:
        """Do nothing."""

    def record_request(self, request: RequestRecord) -> None:
        """Do nothing."""

    def measure(self, count: Callable[..., None], *facts: Any) -> None:
        """Do nothing."""
