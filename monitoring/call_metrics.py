"""The sink that counts calls: which observation adds to which cells."""

from __future__ import annotations

from collections.abc import Mapping

from . import families
from .calls import CacheCall, DatabaseCall, HTTPCall, LLMCall
from .families import CountsMetrics
from .observation import Kind
from .recorder import Fold


class CallMetrics:
    """Counts calls to databases, caches, LLMs and servers. Thread-safe."""

    def __init__(self, metrics: CountsMetrics) -> None:
        self._metrics = metrics

    def folds(self) -> Mapping[Kind, Fold]:
        """Return how each kind of call is counted."""
        return {
            "db": self._fold_database,
            "cache": self._fold_cache,
            "http": self._fold_http,
            "llm": self._fold_llm,
        }

    def _fold_database(self, call: DatabaseCall) -> None:
        values = (call.system, call.operation, call.name, call.error_type)
        self._metrics.observe(families.DB_DURATION, values, call.duration_seconds)

    def _fold_cache(self, call: CacheCall) -> None:
        values = (call.cache, call.system, call.name, call.error_type)
        self._metrics.observe(families.CACHE_DURATION, values, call.duration_seconds)
        if call.hits:
            self._metrics.add(families.CACHE_GETS, (call.cache, call.system, "hit"), float(call.hits))
        if call.misses:
            self._metrics.add(families.CACHE_GETS, (call.cache, call.system, "miss"), float(call.misses))

    def _fold_http(self, call: HTTPCall) -> None:
        values = (call.method, call.host, str(call.status or ""), call.error_type)
        self._metrics.observe(families.HTTP_CLIENT_DURATION, values, call.duration_seconds)

    def _fold_llm(self, call: LLMCall) -> None:
        values = (call.provider, call.model, call.operation)
        error = call.error_type or ("" if call.outcome == "ok" else call.outcome)
        self._metrics.observe(families.LLM_DURATION, (*values, error), call.duration_seconds)
        if call.first_chunk_seconds:
            self._metrics.observe(families.LLM_FIRST_CHUNK, values, call.first_chunk_seconds)
        for declaration, amount in (
            (families.LLM_INPUT_TOKENS, call.input_tokens),
            (families.LLM_OUTPUT_TOKENS, call.output_tokens),
            (families.LLM_CACHE_READ_TOKENS, call.cache_read_tokens),
            (families.LLM_CACHE_WRITE_TOKENS, call.cache_write_tokens),
            (families.LLM_REASONING_TOKENS, call.reasoning_tokens),
            (families.LLM_USAGE_MISSING, not (call.has_usage or call.refused)),
            (families.LLM_USAGE_INCONSISTENT, not call.usage_consistent),
            (families.LLM_UNPRICED, call.is_unpriced),
            (families.LLM_COST, call.cost_usd or 0),
            (families.LLM_TOOL_CALLS, call.tool_calls),
        ):
            if amount:
                self._metrics.add(declaration, values, float(amount))
        self._fold_answer(call, values)

    def _fold_answer(self, call: LLMCall, values: tuple[str, ...]) -> None:
        if speed := call.output_tokens_per_second:
            self._metrics.observe(families.LLM_SPEED, (*values, str(call.streamed).lower()), speed)
        if call.chunk_seconds:
            self._metrics.observe(families.LLM_CHUNK, values, call.chunk_seconds)
        if call.finish_reason:
            self._metrics.add(families.LLM_FINISH_REASONS, (*values, call.finish_reason), 1.0)
        for reason in call.retries:
            self._metrics.add(families.LLM_RETRIES, (*values, reason), 1.0)
        for limit, left in call.rate_limits.items():
            self._metrics.set(families.LLM_RATE_LIMIT, (call.provider, limit), left)
