"""The measuring of one case: the client bare, wrapped in three ways, and watched by a peer, in turn, in one process."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from typing import Any

from monitoring import Config, integrations
from monitoring.context import current_record
from monitoring.monitor import Monitoring
from monitoring.observation import KINDS, Kind, RequestRecord
from monitoring.recorder import Fold, NullRecorder, Recorder

from ..harness import Spread, spread
from ..scratch import DISK, MEMORY, folders

ROUND_SECONDS = 0.02
CALLS_PER_REQUEST = 9
"""One less than makes a repeated statement a finding, which is looked for each time and rarely made."""
CALLS_CHECKED = 20
BARE, SILENT, WRAPPED, ON, PEER = "bare", "silent", "wrapped", "on", "peer"

Call = Callable[[int], None]
"""Make that many calls."""
Dress = Callable[[Any], AbstractContextManager[Any]]
"""Instruments the library of a client for the length of a block, which is not timed."""


def itself(client: Any) -> Any:
    """Return what is given."""
    return client


only_its_own: Dress = nullcontext
"""Patch nothing: the client itself is instrumented."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Another package that watches a client, and how many calls it has recorded so far.

    `dress` returns the client as the package watches it. What patches classes does so `during` the rounds of the peer
    alone, so that the other variants, which share the process, have none of it.
    """

    name: str
    seen: Callable[[], int]
    dress: Callable[[Any], Any] = itself
    during: Dress = only_its_own


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of call: `make` returns a client, and `use` makes one call with it, or with what it `opens`.

    All of these may be coroutine functions. `stream` names what is measured with several numbers of `chunks`.
    """

    label: str
    make: Callable[[], Any]
    use: Callable[[Any], Any]
    peer: Peer | None = None
    stream: str = ""
    chunks: int = 0
    opens: Callable[[Any], Any] = itself
    close: Callable[[Any], Any] = itself


def streams(name: str, make: Callable[[], Any], use: Callable[..., Any], peer: Peer | None = None) -> tuple[Case, Case]:
    """Return the cases of a short and a long stream: the one costs what a call does, the difference is the chunks'."""
    short, long = (
        Case(f"{name} of {chunks}", make, partial(use, chunks=chunks), peer, name, chunks) for chunks in (2, 50)
    )
    return short, long


@dataclass(frozen=True, slots=True)
class Measured:
    """What one case cost: bare, and beyond that with nobody listening, with a sink that counts, with everything on in
    a request, and under its peer, None where that cannot be imported.
    """

    case: Case
    bare: Spread
    silent: Spread
    wrapped: Spread
    on: Spread
    peer: Spread | None
    quiet: float
    """The tenth percentile of the wrapped rounds beyond that of the bare ones."""
    seen: int


class Counting:
    """A sink that only counts: what is measured is the adapter, and the count shows that it did its work."""

    def __init__(self) -> None:
        self.seen = 0

    def folds(self) -> Mapping[Kind, Fold]:
        return dict.fromkeys(KINDS, self._count)

    def _count(self, _: object) -> None:
        self.seen += 1

    def add(self, *_: object) -> None:
        """Take the number of a pool, as the metrics would."""
        self.seen += 1

    observe = add


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to make the calls of a case."""

    call: Call
    during: Callable[[], AbstractContextManager[Any]] = nullcontext


def variant_of(peer: Peer | None, make: Callable[[], Any], call_of: Callable[[Any], Call]) -> dict[str, Variant]:
    """Return the variant of a peer; nothing where there is none, or it cannot be imported."""
    if peer is None:
        return {}
    try:
        client = peer.dress(make())
        with peer.during(client):
            return {PEER: Variant(call_of(client), partial(peer.during, client))}
    except ModuleNotFoundError:
        return {}


def measure(case: Case, rounds: int) -> Measured:
    """Run rounds of all variants in shuffled order, each for about the same time.

    Raise RuntimeError where the peer misses a call of its own client, or sees one of another.
    """
    counting = Counting()
    with folders() as places, asyncio.Runner() as runner:
        everything = Monitoring(Config(service="bench", cells_folder=places[MEMORY], store=places[DISK]))
        recorders = {SILENT: NullRecorder(), WRAPPED: Recorder([counting], metrics=counting), ON: everything.recorder}
        clients = _Clients(case, runner.get_loop())
        try:
            samples = run(case.label, case.peer, clients.variants(recorders), rounds)
        finally:
            clients.close()
            everything.close()
    bare = spread(samples[BARE])
    added = {name: spread([a - b for a, b in zip(taken, samples[BARE])]) for name, taken in samples.items()}
    quiet = spread(samples[WRAPPED]).tenth_percentile - bare.tenth_percentile
    return Measured(case, bare, added[SILENT], added[WRAPPED], added[ON], added.get(PEER), quiet, counting.seen)


def in_requests(times: int) -> Iterator[int]:
    """Make the calls in requests, as an app does."""
    while times > 0:
        record = RequestRecord()
        record.route, record.calls = "/items/{id}", None
        token = current_record.set(record)
        yield min(CALLS_PER_REQUEST, times)
        current_record.reset(token)
        record.calls = None
        times -= CALLS_PER_REQUEST


class _Clients:
    """A client of its own for each variant of a case."""

    def __init__(self, case: Case, loop: asyncio.AbstractEventLoop) -> None:
        self._case = case
        self._loop = loop
        self._made: list[Any] = []

    def variants(self, recorders: Mapping[str, Recorder]) -> dict[str, Variant]:
        variants = {BARE: Variant(self._call(self._client()))}
        for name, recorder in recorders.items():
            client = integrations.wrap(self._client(), recorder_of=lambda recorder=recorder: recorder)
            variants[name] = Variant(self._call(client))
        return {**variants, **variant_of(self._case.peer, self._client, self._call)}

    def _client(self) -> Any:
        self._made.append(self._settled(self._case.make()))
        return self._made[-1]

    def _call(self, client: Any) -> Call:
        use, target = self._case.use, self._settled(self._case.opens(client))

        def call(times: int) -> None:
            for batch in in_requests(times):
                for _ in range(batch):
                    use(target)

        async def call_async(times: int) -> None:
            for batch in in_requests(times):
                for _ in range(batch):
                    await use(target)

        if iscoroutinefunction(use):
            return lambda times: self._loop.run_until_complete(call_async(times))
        return call

    def _settled(self, value: Any) -> Any:
        return self._loop.run_until_complete(value) if isawaitable(value) else value

    def close(self) -> None:
        for client in self._made:
            integrations.unwrap(client)  # what lives on has no monitoring to report to
            self._settled(self._case.close(client))


def run(label: str, peer: Peer | None, variants: Mapping[str, Variant], rounds: int) -> dict[str, list[float]]:
    """Return the microseconds of a call in each round of each variant, of which one may be the peer's."""
    _check(label, peer, variants)
    times = {name: _calls_per_round(variant) for name, variant in variants.items()}
    gc.collect()
    chance = random.Random(1)
    samples: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name in chance.sample(list(variants), len(variants)):
            samples[name].append(_round(variants[name], times[name]))
    return samples


def _check(label: str, peer: Peer | None, variants: Mapping[str, Variant]) -> None:
    """Make some calls in each variant, the peer's first: what it left behind would show in the others."""
    seen = peer.seen if peer is not None and PEER in variants else lambda: 0
    for name in sorted(variants, key=lambda name: name != PEER):
        before = seen()
        with variants[name].during():
            variants[name].call(CALLS_CHECKED)
        recorded = seen() - before
        if (recorded < CALLS_CHECKED) if name == PEER else recorded:
            raise RuntimeError(
                f"{label}: the peer recorded {recorded} of {CALLS_CHECKED} calls with the {name} client; it has "
                "to see each of its own, and none of another's."
            )


def _calls_per_round(variant: Variant) -> int:
    return max(CALLS_CHECKED, int(ROUND_SECONDS / (_round(variant, 50) / 1e6)))


def _round(variant: Variant, times: int) -> float:
    """Return the microseconds of one call among so many, after some that are not timed."""
    with variant.during():
        variant.call(1 + times // 10)
        started = time.process_time()
        variant.call(times)
        return (time.process_time() - started) / times * 1e6
