"""The sink that counts calls: which observation adds to which cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from . import families
from .calls import CacheCall, DatabaseCall, HTTPCall, LLMCall
from .cells import OTHER
from .families import KeepsSeries
from .observation import Kind
from .recorder import Fold

PREFIXES: Final = 50
"""Kinds of keys told apart per cache; the others are counted together."""


class CallMetrics:
    """Counts calls to databases, caches, LLMs and servers. Thread-safe."""

    def __init__(self, metrics: KeepsSeries) -> None:
        self._metrics = metrics
        self._database = metrics.histograms(families.DB_DURATION)
        self._cache = metrics.histograms(families.CACHE_DURATION)
        self._gets = metrics.cells(families.CACHE_GETS)
        self._llm = metrics.histograms(families.LLM_DURATION)
        self._llm_input = metrics.cells(families.LLM_INPUT_TOKENS)
        self._llm_output = metrics.cells(families.LLM_OUTPUT_TOKENS)
        self._llm_cost = metrics.cells(families.LLM_COST)
        self._llm_speed = metrics.histograms(families.LLM_SPEED)
        self._llm_finished = metrics.cells(families.LLM_FINISH_REASONS)
        self._prefix_gets = metrics.table(self._make_prefix_cell)
        self._prefixes: dict[str, set[str]] = {}
        """Kinds of keys that are told apart, by cache."""
        self._waited_for: set[str] = set()
        """Servers that have asked to wait by their last answer."""

    def folds(self) -> Mapping[Kind, Fold]:
        """Return how each kind of call is counted."""
        return {
            "db": self._fold_database,
            "cache": self._fold_cache,
            "http": self._fold_http,
            "llm": self._fold_llm,
        }

    def _fold_database(self, call: DatabaseCall) -> None:
        self._database[call.system, call.operation, call.name, call.error_type].observe(call.duration_seconds)

    def _fold_cache(self, call: CacheCall) -> None:
        cache, system, hits, misses = call.cache, call.system, call.hits, call.misses
        self._cache[cache, system, call.name, call.error_type].observe(call.duration_seconds)
        if hits:
            self._gets[cache, system, "hit"][0] += hits
        if misses:
            self._gets[cache, system, "miss"][0] += misses
        if call.by_prefix:
            self._add_prefixes(cache, call.by_prefix)
        if call.puts:
            self._metrics.add(families.CACHE_PUTS, (cache, system), float(call.puts))
        if call.removals:
            self._metrics.add(families.CACHE_REMOVALS, (cache, system), float(call.removals))
        if call.inner:
            for name, times in call.inner.items():
                self._metrics.add(families.CACHE_PIPELINE_COMMANDS, (cache, system, name), float(times))

    def _add_prefixes(self, cache: str, by_prefix: Mapping[str, tuple[int, int]]) -> None:
        for prefix, (hits, misses) in by_prefix.items():
            if hits:
                self._prefix_gets[cache, prefix, "hit"][0] += hits
            if misses:
                self._prefix_gets[cache, prefix, "miss"][0] += misses

    def _make_prefix_cell(self, values: tuple[str, str, str]) -> tuple[Any, bool]:
        cache, prefix, result = values
        known = self._prefixes.setdefault(cache, set())
        cells = self._metrics.cells(families.CACHE_PREFIX_GETS)
        if prefix not in known and len(known) >= PREFIXES:
            return cells[cache, OTHER, result], False
        known.add(prefix)
        return cells[values], cells.get(values) is not None

    def _fold_http(self, call: HTTPCall) -> None:
        values = (call.method, call.host, str(call.port or ""), str(call.status or ""), call.url_template)
        self._metrics.observe(families.HTTP_CLIENT_DURATION, (*values, call.error_type), call.duration_seconds)
        if call.response_seconds:
            outcome = (*values, call.outcome)
            self._metrics.observe(families.HTTP_CLIENT_RESPONSE_DURATION, outcome, call.response_seconds)
        if call.redirects:
            self._metrics.add(families.HTTP_CLIENT_RESENDS, (call.host, "redirect"), float(call.redirects))
        if call.retries:
            self._metrics.add(families.HTTP_CLIENT_RESENDS, (call.host, "retry"), float(call.retries))
        if call.quotas or call.host in self._waited_for:
            self._fold_quotas(call)

    def _fold_quotas(self, call: HTTPCall) -> None:
        """Set the gauges of an API's quotas. One that asks to wait no longer is back at 0."""
        wait, limits = 0.0, {name: value for which, name, value in call.quotas if which == "limit"}
        for which, name, value in call.quotas:
            if which == "retry_after":
                wait = value
            elif which == "limit":
                self._metrics.set(families.RATE_LIMIT_LIMIT, (call.host, name), value)
            else:
                self._metrics.set(families.RATE_LIMIT_REMAINING, (call.host, name), value)
                if limits.get(name):
                    self._metrics.set(families.RATE_LIMIT_USED, (call.host, name), 1.0 - value / limits[name])
        if wait or call.host in self._waited_for:
            self._metrics.set(families.RETRY_AFTER, (call.host,), wait)
            (self._waited_for.add if wait else self._waited_for.discard)(call.host)

    def _fold_llm(self, call: LLMCall) -> None:
        values = (call.provider, call.model, call.operation)
        error = call.error_type or ("" if call.outcome == "ok" else call.outcome)
        self._llm[(*values, error)].observe(call.duration_seconds)
        self._add_tokens(call, values)
        cost = call.cost_usd
        if cost:
            self._llm_cost[values][0] += float(cost)
        elif call.is_unpriced:
            self._metrics.add(families.LLM_UNPRICED, values, 1.0)
        if not (call.has_usage or call.refused):
            self._metrics.add(families.LLM_USAGE_MISSING, values, 1.0)
        if not call.usage_consistent:
            self._metrics.add(families.LLM_USAGE_INCONSISTENT, values, 1.0)
        self._fold_answer(call, values)

    def _add_tokens(self, call: LLMCall, values: tuple[str, ...]) -> None:
        asked, answered = call.input_tokens, call.output_tokens
        if asked:
            self._llm_input[values][0] += asked
        if answered:
            self._llm_output[values][0] += answered
        if call.cache_read_tokens:
            self._metrics.add(families.LLM_CACHE_READ_TOKENS, values, float(call.cache_read_tokens))
        if call.cache_write_tokens:
            self._metrics.add(families.LLM_CACHE_WRITE_TOKENS, values, float(call.cache_write_tokens))
        if call.reasoning_tokens:
            self._metrics.add(families.LLM_REASONING_TOKENS, values, float(call.reasoning_tokens))

    def _fold_answer(self, call: LLMCall, values: tuple[str, ...]) -> None:
        if call.first_chunk_seconds:
            self._metrics.observe(families.LLM_FIRST_CHUNK, values, call.first_chunk_seconds)
        if call.tool_calls:
            self._metrics.add(families.LLM_TOOL_CALLS, values, float(call.tool_calls))
        if speed := call.output_tokens_per_second:
            self._llm_speed[(*values, "true" if call.streamed else "false")].observe(speed)
        if call.chunk_seconds:
            self._metrics.observe(families.LLM_CHUNK, values, call.chunk_seconds)
        if call.finish_reason:
            self._llm_finished[(*values, call.finish_reason)][0] += 1.0
        for reason in call.retries:
            self._metrics.add(families.LLM_RETRIES, (*values, reason), 1.0)
        for limit, left in call.rate_limits.items():
            self._metrics.set(families.LLM_RATE_LIMIT, (call.provider, limit), left)
