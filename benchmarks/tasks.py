"""What does a task cost more, beside OpenTelemetry's instrumentation and Dramatiq's own? Microseconds of CPU time."""

from __future__ import annotations

import argparse
import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import celery
import dramatiq
import prometheus_client
from dramatiq.brokers.stub import StubBroker

import monitoring
from monitoring.testing import use

from .calls.measuring import BARE, PEER, Call, Peer, Variant, run, variant_of
from .calls.peers import instrumented, traced
from .harness import spread
from .report import Bar, Result, publish

ROUNDS = 40
OURS = "ours"


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
    gc.collect()


@contextmanager
def traced_celery(_app: Any) -> Iterator[None]:
    from opentelemetry.instrumentation.celery import CeleryInstrumentor

    with instrumented(CeleryInstrumentor()):
        yield


def dramatiq_prometheus() -> Peer:
    """Return Dramatiq's own middleware, with its numbers in memory: a worker's are in mapped files, which cost more."""
    from dramatiq.middleware.prometheus import Prometheus

    middleware = Prometheus()
    with patch.dict(os.environ):
        middleware.after_process_boot(None)

    @contextmanager
    def added(broker: Any) -> Iterator[None]:
        broker.add_middleware(middleware)
        try:
            yield
        finally:
            broker.middleware.remove(middleware)

    return Peer("Dramatiq's Prometheus middleware", partial(_sum, middleware.total_messages), during=added)


def _sum(counter: prometheus_client.Counter) -> int:
    samples = (sample for metric in counter.collect() for sample in metric.samples)
    return int(sum(sample.value for sample in samples if sample.name.endswith("_total")))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both libraries and publish the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tasks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a third of the rounds: a first idea")
    rounds = ROUNDS // 3 if parser.parse_args(arguments).quick else ROUNDS
    cases = (
        ("Celery, an eager task", celery_app(), run_celery, traced(during=traced_celery)),
        ("Dramatiq, a message sent and processed", dramatiq_broker(), run_dramatiq, dramatiq_prometheus()),
    )
    rows, bars = [], []
    for label, client, tasks_of, peer in cases:
        samples = run(label, peer, _variants(client, tasks_of(client), peer), rounds)
        bare = spread(samples[BARE])
        for key, name in ((OURS, OURS), (PEER, peer.name)):
            if key in samples:
                cost = spread([a - b for a, b in zip(samples[key], samples[BARE])])
                rows.append([f"{label}: {name}", f"{bare.median:,.1f}", f"{cost.median:.1f}", ""])
                bars.append(Bar(f"{label}: {name}", cost.median, cost.low, cost.high, key == OURS))
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
                "Ours counts the task and writes its line to /dev/null; OpenTelemetry's has a span and no exporter;",
                "Dramatiq's counts and times in memory, where that of a worker writes to mapped files. All of them are",
                "put on for their own rounds alone, and it is checked that the peer records each of its tasks.",
            ],
            data={row[0]: {"bare": row[1], "added": row[2]} for row in rows},
        )
    )


def _variants(client: Any, call: Call, peer: Peer) -> dict[str, Variant]:
    """Return one client in three ways, instrumented for the round."""
    variants = {BARE: Variant(call), OURS: Variant(call, partial(ours, client))}
    return variants | variant_of(peer, lambda: client, lambda _: call)


if __name__ == "__main__":
    main()
