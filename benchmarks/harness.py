"""The one harness: variants in processes of their own, short rounds interleaved, the CPU time of all threads."""

from __future__ import annotations

import gc
import math
import multiprocessing
import os
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from . import scratch
from .traffic import client_of, mix

WARM_UP_REQUESTS = 4_000
RESAMPLES = 2_000
GENERATIONS = 6
"""Times that every worker is replaced by a fresh process."""

Evidence = dict[str, int]


def nothing_deferred() -> None:
    """Drain a variant that defers no work."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One variant, built: its app, how to finish what it put off, and what shows that it did its work."""

    app: Any
    wsgi: bool = False
    drain: Callable[[], None] = nothing_deferred
    evidence: Callable[[], Evidence] = field(default=dict)


Build = Callable[[], Subject]
"""Makes a subject in the worker process; has to be picklable."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Samples in brief; `low` and `high` bound the median with 95 % confidence (bootstrap)."""

    median: float
    tenth_percentile: float
    lower_quartile: float
    upper_quartile: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What one variant cost: microseconds of CPU time, all threads, per request; `added` is beyond the baseline."""

    total: Spread
    added: Spread
    quiet: float
    """The tenth percentile of the rounds beyond the baseline's tenth percentile: the cost where nothing disturbed."""
    added_in_cycle: Sequence[float]
    served: int
    evidence: Evidence

    def beyond(self, other: Measured) -> Spread:
        """Return what this variant costs more than another, each cycle compared with itself."""
        return spread([ours - theirs for ours, theirs in zip(self.added_in_cycle, other.added_in_cycle, strict=True)])


def measure(builds: Mapping[str, Build], *, cycles: int, requests: int, seed: int = 1) -> dict[str, Measured]:
    """Run `cycles` rounds of `requests` requests of every variant, one variant at a time, in shuffled order.

    The first variant is the baseline. Workers are replaced by fresh processes several times, so that the luck of one
    address space, one heap and one hash seed does not decide.
    """
    order = random.Random(seed)
    rounds: list[dict[str, float]] = []
    proofs: dict[str, tuple[int, Evidence]] = {}
    for generation in range(GENERATIONS):
        workers = {name: Worker(build) for name, build in builds.items()}
        while len(rounds) < cycles * (generation + 1) // GENERATIONS:
            shuffled = order.sample(list(workers), len(workers))
            seconds = {name: workers[name].round(len(rounds), requests) for name in shuffled}
            rounds.append({name: value / requests * 1e6 for name, value in seconds.items()})
        proofs = {name: worker.stop() for name, worker in workers.items()}
    bare = next(iter(builds))
    return {name: _measured(name, bare, rounds, *proofs[name]) for name in builds}


def _measured(name: str, bare: str, rounds: Sequence[Mapping[str, float]], served: int, evidence: Evidence) -> Measured:
    total, baseline = (spread([cycle[key] for cycle in rounds]) for key in (name, bare))
    added = [cycle[name] - cycle[bare] for cycle in rounds]
    quiet = total.tenth_percentile - baseline.tenth_percentile
    return Measured(total, spread(added), quiet, added, served, evidence)


def spread(samples: Sequence[float]) -> Spread:
    """Summarise samples by their median, tenth percentile, quartiles and a bootstrap interval of the median."""
    ordered = sorted(samples)
    chance = random.Random(0)
    medians = sorted(statistics.median(chance.choices(ordered, k=len(ordered))) for _ in range(RESAMPLES))
    return Spread(
        median=statistics.median(ordered),
        tenth_percentile=_quantile(ordered, 0.10),
        lower_quartile=_quantile(ordered, 0.25),
        upper_quartile=_quantile(ordered, 0.75),
        low=_quantile(medians, 0.025),
        high=_quantile(medians, 0.975),
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, math.floor(share * len(ordered)))]


class Worker:
    """A fresh process that holds one variant and works only while a round is asked of it."""

    def __init__(self, build: Build) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._connection, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_work, args=(theirs, build), daemon=True)
        self._process.start()
        theirs.close()
        self._connection.recv()  # warm

    def round(self, seed: int, requests: int) -> float:
        """Return the CPU seconds of all threads for one round, the flush of deferred work included."""
        self._connection.send((seed, requests))
        return float(self._connection.recv())

    def stop(self) -> tuple[int, Evidence]:
        """End the process; return how many requests it served and its evidence."""
        self._connection.send(None)
        served, evidence = self._connection.recv()
        self._process.join()
        return served, evidence


def _work(connection: Connection, build: Build) -> None:
    with scratch.folders() as environment:
        os.environ.update(environment)
        ballast = _ballast()
        _serve_rounds(connection, build())
        del ballast


def _ballast() -> list[bytes]:
    """Return objects of chance sizes to hold: what is made after them lies elsewhere in each process.

    Without them a variant has the same luck with its places in the heap in every process, good or bad, which is worth
    up to two microseconds.
    """
    chance = random.Random(os.urandom(8))
    return [bytes(chance.randrange(1, 500)) for _ in range(chance.randrange(20_000))]


def _serve_rounds(connection: Connection, subject: Subject) -> None:
    client = client_of(subject.app, wsgi=subject.wsgi)
    client.send(mix(-1, WARM_UP_REQUESTS))
    subject.drain()
    served = WARM_UP_REQUESTS
    connection.send("warm")
    while order := connection.recv():
        requests = mix(*order)
        gc.collect()
        started = time.process_time()
        client.send(requests)
        subject.drain()
        connection.send(time.process_time() - started)
        served += len(requests)
    evidence = {**subject.evidence(), **{f"replies {what}": count for what, count in client.replies.items()}}
    client.close()
    connection.send((served, evidence))
