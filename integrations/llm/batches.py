"""Batches of requests, which count when their results are fetched: once in a process, as one call per model.

OpenAI tells the sum with the batch itself, Anthropic tells each message's usage with its results.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, Generator
from decimal import Decimal
from typing import Any, Final

from monitoring.calls import LLMCall
from monitoring.integrations.attachment import Link
from monitoring.recorder import Recorder

from . import prices
from .calls import Operation, PendingCall
from .fetched import Fetched
from .usage import MATH, Usage, anthropic_usage, count, fields, openai_usage

_BATCHES: Final = 1_000
_MODELS: Final = 20
_OVER: Final = frozenset({"completed", "expired", "cancelled"})
_SUMMED: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")


class Counted:
    """How many entries of which batch are counted, of the last 1,000 batches."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, int] = OrderedDict()

    def is_new(self, batch: str, place: int = 0) -> bool:
        """Tell whether an entry is not counted yet, and count it.

        The results of a batch that is over are a file, whose entries stay in their places.
        """
        if place < self._entries.get(batch, 0):
            return False
        self._entries[batch] = place + 1
        if len(self._entries) > _BATCHES:
            self._entries.popitem(last=False)
        return True


counted: Final = Counted()


class BatchCall(PendingCall):
    """What the requests of a batch to one model used together. It has no duration: a batch takes its time."""

    def __init__(self, link: Link, recorder: Recorder, provider: str, model: str) -> None:
        super().__init__(link, recorder, provider, _BATCH, model)
        self.response_model = model
        self.outlive_the_request()
        self._sum = Usage()
        self._cost: Decimal | None = Decimal(0)
        self._price_source = ""

    def add(self, usage: Usage) -> None:
        """Add what one or more requests used."""
        for name in _SUMMED:
            setattr(self._sum, name, getattr(self._sum, name) + getattr(usage, name))
        self._sum.consistent = self._sum.consistent and usage.consistent
        cost, self._price_source = prices.batch_cost_of(self.provider, self.response_model, usage)
        self._cost = None if self._cost is None or cost is None else MATH.add(self._cost, cost)

    def _call(self, error: BaseException | None, outcome: str) -> LLMCall:
        call = super()._call(error, outcome)
        call.duration_seconds = 0.0
        call.service_tier = "batch"
        call.has_usage, call.usage_consistent = True, self._sum.consistent
        for name in _SUMMED:
            setattr(call, name, getattr(self._sum, name))
        if self._cost is not None:
            call.cost_usd, call.price_source = self._cost, self._price_source
            call.price_version = prices.version() if self._price_source == "snapshot" else ""
        return call


def note_openai(fetched: Fetched) -> None:
    """Count a batch that is over, if it tells its usage: those since September 2025 do."""
    told = fetched.told
    counts = fields(told.get("usage"))
    if told.get("status") not in _OVER or not counts.get("total_tokens") or not counted.is_new(str(told.get("id"))):
        return
    usage = openai_usage(counts)
    usage.requests = count(fields(told.get("request_counts")), "completed") or 1
    call = BatchCall(fetched.link, fetched.recorder, fetched.provider, str(told.get("model") or ""))
    call.add(usage)
    call.end()


def follow_anthropic(fetched: Fetched) -> None:
    """Count the results of a batch as they are read. A raw response is left alone."""
    entries = getattr(fetched.result, "_iterator", None)
    if entries is not None:
        read = _read_async if hasattr(entries, "__anext__") else _read
        fetched.result._iterator = read(entries, _Results(fetched))


class _Results:
    """The results of one reading, summed up by model."""

    def __init__(self, fetched: Fetched) -> None:
        self._fetched = fetched
        self._batch = fetched.url.rpartition("/")[0].rpartition("/")[2]
        self._calls: dict[str, BatchCall] = {}

    def take(self, place: int, entry: Any) -> None:
        """Take what an entry tells. Never raises."""
        try:
            result = fields(fields(entry).get("result"))
            if result.get("type") == "succeeded" and counted.is_new(self._batch, place):
                self._add(fields(result.get("message")))
        except Exception as error:
            self._fetched.recorder.failed(f"{__name__}.take", error)

    def _add(self, message: Any) -> None:
        model = str(message.get("model") or "")
        call = self._calls.get(model)
        if call is None:
            if len(self._calls) >= _MODELS:
                self.end()
            fetched = self._fetched
            call = self._calls[model] = BatchCall(fetched.link, fetched.recorder, fetched.provider, model)
        call.add(anthropic_usage(message.get("usage")))

    def end(self) -> None:
        """Report what was read, wherever the reader stopped; the garbage collector may be the one to say so."""
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.drop("")


def _read(entries: Any, results: _Results) -> Generator[Any, None, None]:
    try:
        for place, entry in enumerate(entries):
            results.take(place, entry)
            yield entry
    finally:
        results.end()


async def _read_async(entries: Any, results: _Results) -> AsyncGenerator[Any, None]:
    place = 0
    try:
        async for entry in entries:
            results.take(place, entry)
            place += 1
            yield entry
    finally:
        results.end()


def _nothing(call: PendingCall, item: Any) -> None:
    """Take nothing: a batch's calls are told what to add."""


_BATCH: Final = Operation("batch", _nothing, _nothing, openai_usage)
