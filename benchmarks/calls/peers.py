"""What the peers share: OpenTelemetry's SDK with spans that are counted and go nowhere, and Prometheus' counters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

from .measuring import Dress, Peer, itself, only_its_own


class _Tally:
    count = 0


_spans = _Tally()


@cache
def traces() -> Any:
    """Return the SDK with its defaults, which records every span, and with a processor that only counts."""
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

    class Counting(SpanProcessor):
        def on_end(self, span: Any) -> None:
            _spans.count += 1

    provider = TracerProvider()
    provider.add_span_processor(Counting())
    return provider


@contextmanager
def instrumented(instrumentor: Any, **options: Any) -> Iterator[None]:
    """Let an instrumentor of OpenTelemetry patch a library for the length of a block."""
    instrumentor.instrument(tracer_provider=traces(), skip_dep_check=True, **options)
    try:
        yield
    finally:
        instrumentor.uninstrument()


def traced(dress: Callable[[Any], Any] = itself, during: Dress = only_its_own, name: str = "OpenTelemetry") -> Peer:
    """Return a peer that makes spans: `dress` instruments a client of its own, `during` a library for its rounds."""
    return Peer(name, lambda: _spans.count, dress, during)


def counted_by_django_prometheus(counter: str, dress: Callable[[Any], Any]) -> Peer:
    """Return django-prometheus, whose `dress` makes a client of its own."""
    return Peer("django-prometheus", partial(_counted, counter), dress)


def _counted(counter: str) -> int:
    from prometheus_client import REGISTRY

    return int(
        sum(sample.value for metric in REGISTRY.collect() for sample in metric.samples if sample.name == counter)
    )
