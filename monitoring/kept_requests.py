"""The sink that sums up what a request did, and keeps whole those requests that somebody will ask for.

Kept are failed requests, slow ones and a sample. Slow means slow for its route: above a moving estimate of the route's
p99, or above ``slow_request_seconds``. So there are requests behind each spike, whatever its height.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from .calls import CacheCall, Call, DatabaseCall, HTTPCall, LLMCall, ToolCall
from .observation import Finding, Kind, Observation, RequestRecord, Run
from .outbox import Outbox
from .recorder import Fold
from .store.facts import FindingFact, RequestFact, SpanFact

CALLS: Final = 200
"""Calls and blocks kept of one request."""
BLOCKS: Final = 50
"""Places on top that only blocks may take: they end after what happened in them, and make it a tree."""
ROUTES: Final = 2_000
"""Routes whose p99 is followed; past them only ``slow_request_seconds`` decides."""

_BUCKET_SECONDS: Final = 1.0
_SHARES: Final[Mapping[str, float]] = {"sampled": 0.5, "slow": 1.0, "error": 2.0}
"""How much of ``max_per_second`` may be full when one more of a kind is kept."""
_UP: Final = 1.1
_DOWN: Final = _UP ** (-0.01 / 0.99)
"""A step up for each request above the estimate and one down for each below it stand still at the p99."""

_FAILED: Final = frozenset({"server_error", "error_after_start"})
_PATH_LIMIT: Final = 256
_CONTENT_BYTES: Final = 4_096


class KeptRequests:
    """Decides at a request's end whether it is kept whole. Thread-safe under the GIL."""

    def __init__(
        self,
        outbox: Outbox,
        *,
        slow_seconds: float,
        sample_rate: float,
        max_per_second: float,
        clean: Callable[[str], str] = str,
        on_first: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._outbox = outbox
        self._slow_seconds = slow_seconds
        self._sample_every = round(1 / sample_rate) if sample_rate else 0
        self._max_per_second = max_per_second
        self._clean = clean
        self._on_first = on_first
        self._clock = clock
        self._started = False
        self._thresholds: dict[str, float] = {}
        self._seen = 0
        self._second = 0.0
        self._kept_in_second = 0

    def folds(self) -> Mapping[Kind, Fold]:
        """Return what of each kind is added to its request, and the decision at the end."""
        return {
            "db": self._add_database_call,
            "cache": self._add_cache_call,
            "llm": self._add_llm_call,
            "http": self._add_http_call,
            "span": self._add,
            "agent": self._add,
            "operation": self._add_operation,
            "websocket": self._forget_calls,
            "job": self._end_job,
            "request": self._decide,
        }

    def start_anew(self) -> None:
        """Begin again in a forked child."""
        self._started = False

    def _add(self, observation: Observation) -> None:
        request = observation.request
        if request is None or request.finished:
            return
        calls = request.calls
        if calls is None:
            request.calls = [observation]
        elif len(calls) < CALLS or (observation.opened is not None and len(calls) < CALLS + BLOCKS):
            calls.append(observation)
        else:
            request.calls_dropped += 1

    def _add_operation(self, observation: Observation) -> None:
        if observation.outcome:  # its beginning is told, too
            self._add(observation)

    def _add_database_call(self, call: DatabaseCall) -> None:
        request = call.request
        if request is not None:
            request.called = True
            request.db_calls += 1
            request.db_seconds += call.duration_seconds
            self._add(call)

    def _add_cache_call(self, call: CacheCall) -> None:
        request = call.request
        if request is not None:
            request.called = True
            request.cache_hits += call.hits
            request.cache_misses += call.misses
            self._add(call)

    def _add_http_call(self, call: HTTPCall) -> None:
        request = call.request
        if request is not None:
            request.called = True
            request.http_calls += 1
            request.http_seconds += call.response_seconds or call.duration_seconds
            self._add(call)

    def _add_llm_call(self, call: LLMCall) -> None:
        request = call.request
        if request is not None:
            request.called = True
            request.llm_calls += 1
            request.llm_tokens += call.input_tokens + call.output_tokens
            request.llm_cost_usd += float(call.cost_usd or 0)
            self._add(call)

    def _decide(self, record: RequestRecord) -> None:
        if not self._started:
            self._on_first()
            self._started = True
        duration, route = record.duration_seconds, record.route
        threshold = self._thresholds.get(route)
        if threshold is None and len(self._thresholds) < ROUTES:
            self._thresholds[route] = min(duration * 2, self._slow_seconds)
            reason = "sampled" if self._sample_every else ""
        elif threshold is not None and duration > threshold:
            self._thresholds[route] = threshold * _UP
            reason = "slow"
        else:
            if threshold is not None:
                self._thresholds[route] = threshold * _DOWN
            reason = ""
            self._seen += 1
            if self._seen == self._sample_every:
                self._seen = 0
                reason = "sampled"
        if record.outcome in _FAILED:
            reason = "error"
        elif duration >= self._slow_seconds:
            reason = "slow"
        if reason:
            self._keep(record, reason)
        if record.calls is not None:
            record.calls = None  # they hold the record: as a cycle both would be the garbage collector's

    def _forget_calls(self, observation: Observation) -> None:
        """Break the cycle of a websocket's or job's record and its calls: nobody keeps them."""
        if observation.request is not None:
            observation.request.calls = None

    def _end_job(self, job: RequestRecord) -> None:
        """Begin to store, as a process without requests must, too. A job is not kept whole."""
        if not self._started:
            self._on_first()
            self._started = True
        self._forget_calls(job)

    def _keep(self, record: RequestRecord, reason: str) -> None:
        now = self._clock()
        if not 0 <= now - self._second < _BUCKET_SECONDS:
            self._second, self._kept_in_second = now, 0
        if self._kept_in_second >= self._max_per_second * _SHARES[reason]:
            return
        self._kept_in_second += 1
        self._outbox.put(to_fact(record, reason, now, self._clean), important=reason != "sampled")


def to_fact(record: RequestRecord, reason: str, now: float, clean: Callable[[str], str] = str) -> RequestFact:
    """Return what is stored of a request that has just ended; ``clean`` is for what was asked of models."""
    calls = record.calls or []
    return RequestFact(
        at=now - record.duration_seconds,
        request_id=record.request_id,
        trace_id=record.trace_id,
        method=record.method,
        route=record.route,
        path=record.path[:_PATH_LIMIT],
        status=record.status,
        outcome=record.outcome,
        duration_seconds=record.duration_seconds,
        reason=reason,
        user=record.user_id,
        error_group=record.error_group,
        bytes_sent=record.bytes_sent,
        db_calls=record.db_calls,
        db_seconds=record.db_seconds,
        cache_hits=record.cache_hits,
        cache_misses=record.cache_misses,
        llm_calls=record.llm_calls,
        llm_tokens=record.llm_tokens,
        llm_cost_usd=record.llm_cost_usd,
        spans=_spans(calls, record.started, clean),
        spans_dropped=record.calls_dropped,
        lines=tuple(record.lines or ()),
        findings=tuple(_finding(finding) for finding in record.findings or ()),
    )


def _finding(found: Finding) -> FindingFact:
    times, seconds = found.tally
    return FindingFact(found.kind, found.name, found.statement, found.place, int(times), seconds)


def _spans(calls: list[Observation], origin: float, clean: Callable[[str], str]) -> tuple[SpanFact, ...]:
    """Return the calls by their start, each with the index of the block that it happened in."""
    ordered = sorted(calls, key=lambda call: call.started)
    places = {id(call.opened): place for place, call in enumerate(ordered) if call.opened is not None}
    return tuple(
        SpanFact(
            kind=call.kind,
            name=call.name,
            outcome=call.outcome,
            offset_seconds=max(0.0, call.started - origin),
            duration_seconds=call.duration_seconds,
            parent=_parent(call, places),
            detail={**_detail(call), **_content(call, clean)},
        )
        for call in ordered
    )


def _content(call: Observation, clean: Callable[[str], str]) -> Mapping[str, str]:
    """Return prompt and answer as they may be kept."""
    content = call.content if isinstance(call, LLMCall) else None
    if content is None:
        return {}
    return {
        name: clean(text).encode("utf-8", "replace")[:_CONTENT_BYTES].decode("utf-8", "ignore")
        for name, text in content.items()
    }


def _parent(call: Observation, places: Mapping[int, int]) -> int:
    block = call.block
    while block is not None:
        place = places.get(id(block))
        if place is not None:
            return place
        block = block.parent
    return -1


_DETAILS: Final[Mapping[type[Call], tuple[str, ...]]] = {
    DatabaseCall: ("system", "operation", "statement", "rows"),
    CacheCall: ("cache", "system", "hits", "misses"),
    HTTPCall: ("method", "host", "status"),
    ToolCall: (),
    LLMCall: (
        *("provider", "model", "response_model", "operation", "agent", "streamed", "first_chunk_seconds"),
        *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens"),
        *("finish_reason", "tool_calls", "retries", "service_tier", "price_source", "price_version"),
    ),
}

_WHERE_KNOWN: Final = ("response_seconds", "url_template", "span_id", "retries", "redirects")
"""What is told of outgoing requests that have it."""


def _sums(run: Run) -> Mapping[str, Any]:
    names = ("root", "llm_calls", "llm_tokens", "llm_cost_usd", "llm_unpriced", "tool_calls")
    return {"run_id": run.id, **{name: getattr(run, name) for name in names}}


def _detail(call: Observation) -> Mapping[str, Any]:
    if not isinstance(call, Call):
        attributes = call.attributes or {}
        if call.kind == "operation":
            return {**attributes["dimensions"], "id": attributes["id"]}
        run = call.opened.run if call.opened is not None else None
        return {**attributes, **(_sums(run) if run is not None else {})}
    detail: dict[str, Any] = {**(call.attributes or {}), **{name: getattr(call, name) for name in _DETAILS[type(call)]}}
    if call.error_type:
        detail["error_type"] = call.error_type
    if isinstance(call, CacheCall) and call.inner:
        detail["commands"] = call.commands
    if isinstance(call, HTTPCall):
        detail.update({name: getattr(call, name) for name in _WHERE_KNOWN if getattr(call, name)})
    if isinstance(call, LLMCall):
        detail["cost_usd"] = None if call.cost_usd is None else float(call.cost_usd)
    return detail
