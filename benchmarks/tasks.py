"""What does a task cost more, beside OpenTelemetry's instrumentation if it is installed? Microseconds of CPU time."""

from __future__ import annotations

import argparse
import gc
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import celery
import dramatiq
from dramatiq.brokers.stub import StubBroker

import monitoring
from monitoring.testing import use

from .harness import Spread, spread
from .report import Bar, Result, publish

ROUNDS = 40
ROUND_SECONDS = 0.03
BARE, OURS, OPENTELEMETRY = "bare", "ours", "opentelemetry"

Call = Callable[[int], None]
"""Run that many tasks."""
Dress = Callable[[Any], AbstractContextManager[None]]
"""Instruments a client for the length of a block, which is not timed."""


def empty() -> None:
    """Do nothing."""


def celery_app() -> Any:
    app = celery.Celery("bench", broker="memory://", set_as_current=False)
    app.conf.task_always_eager = True
    app.task(empty, name="bench.empty", shared=False)
    return app


def run_celery(app: Any) -> Call:
    task = app.tasks["bench.empty"]

    def call(times: int) -> None:
        for _ in range(times):
            task.delay()

    return call


def dramatiq_broker() -> Any:
    broker = StubBroker()
    dramatiq.actor(empty, broker=broker, actor_name="empty", max_retries=0)
    return broker


def run_dramatiq(broker: Any) -> Call:
    """Send a message and process it, as a worker's thread does, without the threads."""
    actor, queue = broker.get_actor("empty"), broker.queues["default"]

    def call(times: int) -> None:
        for _ in range(times):
            actor.send()
            message = dramatiq.broker.MessageProxy(dramatiq.Message.decode(queue.get()))
            broker.emit_before("process_message", message)
            actor(*message.args, **message.kwargs)
            broker.emit_after("process_message", message, result=None)
            queue.task_done()

    return call


@contextmanager
def ours(client: Any) -> Iterator[None]:
    """Count and log each task; the lines go nowhere."""
    with use(log_destination=os.devnull):
        monitoring.wrap(client)
        try:
            yield
        finally:
            monitoring.unwrap(client)


def opentelemetry() -> Dress | None:
    """Return OpenTelemetry's instrumentation with a span for each task and no exporter, None where it is missing."""
    try:
        from opentelemetry.instrumentation.celery import CeleryInstrumentor
        from opentelemetry.sdk.trace import TracerProvider
    except ImportError:
        return None
    provider = TracerProvider()

    @contextmanager
    def dressed(_: Any) -> Iterator[None]:
        instrumentor = CeleryInstrumentor()
        instrumentor.instrument(tracer_provider=provider)
        try:
            yield
        finally:
            instrumentor.uninstrument()

    return dressed


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both libraries and publish the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tasks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a third of the rounds: a first idea")
    rounds = ROUNDS // 3 if parser.parse_args(arguments).quick else ROUNDS
    dresses: dict[str, Dress] = {OURS: ours}
    peer = opentelemetry()
    cases = (
        ("Celery, an eager task", celery_app(), run_celery, {**dresses, OPENTELEMETRY: peer} if peer else dresses),
        ("Dramatiq, a message sent and processed", dramatiq_broker(), run_dramatiq, dresses),
    )
    rows, bars = [], []
    for label, client, run, dressed in cases:
        bare, added = measure(client, run(client), dressed, rounds)
        for name, cost in added.items():
            rows.append([f"{label}: {name}", f"{bare.median:,.1f}", f"{cost.median:.1f}", ""])
            bars.append(Bar(f"{label}: {name}", cost.median, cost.low, cost.high, name == OURS))
    publish(
        Result(
            name="tasks",
            title="What a task costs more",
            columns=("task", "bare", "added", ""),
            rows=rows,
            unit="microseconds of CPU time per task, all threads",
            bars=bars,
            notes=[
                f"`added`: median of {rounds} rounds, each compared with the bare client in the same round.",
                "Ours counts the task and writes its line to /dev/null; OpenTelemetry's has a span and no exporter.",
            ],
            data={row[0]: {"bare": row[1], "added": row[2]} for row in rows},
        )
    )


def measure(client: Any, call: Call, dresses: Mapping[str, Dress], rounds: int) -> tuple[Spread, dict[str, Spread]]:
    """Run rounds of all variants in shuffled order; one client, instrumented for the round."""
    variants: dict[str, Dress] = {BARE: lambda _: nullcontext(), **dresses}
    times = max(20, int(ROUND_SECONDS / (_microseconds(call, 50) / 1e6)))
    samples: dict[str, list[float]] = {name: [] for name in variants}
    chance = random.Random(1)
    for number in range(rounds + 1):
        for name in chance.sample(list(variants), len(variants)):
            with variants[name](client):
                call(20)
                gc.collect()
                taken = _microseconds(call, times)
            if number:
                samples[name].append(taken)
    added = {name: spread([a - b for a, b in zip(samples[name], samples[BARE])]) for name in dresses}
    return spread(samples[BARE]), added


def _microseconds(call: Call, times: int) -> float:
    started = time.process_time()
    call(times)
    return (time.process_time() - started) / times * 1e6


if __name__ == "__main__":
    main()
