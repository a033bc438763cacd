"""Metrics: what observations add to which cells, the user's own metrics, and reading them all back.

Names follow OpenTelemetry's semantic conventions in Prometheus spelling. Memory is bounded by the registry's caps.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .cells import CellReader, CellRegistry, Declaration, HistogramSeries, Merge, Nowhere, Table, Total, Totals, scale
from .observation import Kind, Observation, RequestRecord
from .recorder import Fold

if TYPE_CHECKING:
    from collections.abc import Iterator

_HTTP_LABELS: Final = ("http_request_method", "http_route", "http_response_status_code", "error_type")

REQUEST_DURATION: Final = Declaration(
    name="http_server_request_duration_seconds",
    kind="histogram",
    help="Time from the start of a request to the last byte of its response.",
    labels=_HTTP_LABELS,
    le=scale.HTTP_SECONDS,
)
FIRST_BYTE: Final = Declaration(
    name="http_server_time_to_first_byte_seconds",
    kind="histogram",
    help="Time from the start of a request to the start of its response, of responses sent in several pieces.",
    labels=_HTTP_LABELS,
    le=scale.HTTP_SECONDS,
)
BODY_SIZE: Final = Declaration(
    name="http_server_response_body_size_bytes",
    kind="histogram",
    help="Bytes of response bodies that were sent.",
    labels=_HTTP_LABELS,
    unit="quantity",
    le=scale.BODY_BYTES,
)
ACTIVE: Final = Declaration(
    name="http_server_active_requests",
    kind="gauge",
    help="Requests being served now.",
    labels=("http_request_method",),
)
WEBSOCKET_DURATION: Final = Declaration(
    name="monitoring_websocket_duration_seconds",
    kind="histogram",
    help="Life of websocket connections.",
    labels=("http_route", "outcome"),
    le=scale.HTTP_SECONDS,
)
BACKGROUND_ERRORS: Final = Declaration(
    name="monitoring_background_errors_total",
    kind="counter",
    help="Failures of work that went on after its response was complete.",
    labels=("http_route", "error_type"),
)
ERRORS: Final = Declaration(
    name="monitoring_errors_total",
    kind="counter",
    help="Errors of the app, unhandled or reported by hand.",
    labels=("category",),
)
SPAN_DURATION: Final = Declaration(
    name="monitoring_span_duration_seconds",
    kind="histogram",
    help="Time spent in jobs and in the pieces of code under observe().",
    labels=("name", "outcome"),
    le=scale.HTTP_SECONDS,
)
INTERNAL_FAILURES: Final = Declaration(
    name="monitoring_internal_failures_total",
    kind="counter",
    help="Failures of the monitoring itself, by the part that failed.",
    labels=("part",),
)
LOG_LINES_DROPPED: Final = Declaration(
    name="monitoring_log_lines_dropped_total",
    kind="counter",
    help="Log lines that were not written, by reason.",
    labels=("reason",),
)

CELL_SERIES: Final = Declaration(name="monitoring_series", kind="gauge", help="Label sets of all metrics.")
CELLS_DEGRADED: Final = Declaration(
    name="monitoring_cells_degraded",
    kind="gauge",
    help="1 while the answering process cannot share its metric cells, or cannot make new ones.",
)
CELL_FILES_UNREADABLE: Final = Declaration(
    name="monitoring_cell_files_unreadable", kind="gauge", help="Cell files that do not parse and were set aside."
)
SUM_SECONDS: Final = Declaration(
    name="monitoring_scrape_sum_seconds", kind="gauge", help="Time that summing the cells took for this scrape."
)

_WITHOUT_ERROR: Final = frozenset({"ok", "client_error"})

QUANTILES: Final = (0.5, 0.95, 0.99)

_NAME: Final = re.compile(r"[a-z_][a-z0-9_]*")
_LABEL: Final = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


class MetricError(ValueError):
    """A metric that cannot be declared or changed like this; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Series:
    """One label set as it stands: ``value`` of a counter or gauge; of a histogram count, sum and percentiles.

    Percentiles are within 2 % of the exact ones (``RELATIVE_ERROR``); they and ``mean`` are None without samples.
    """

    labels: Mapping[str, str]
    value: float
    count: float = 0.0
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None

    @property
    def mean(self) -> float | None:
        """Return the sum of a histogram's values over their count."""
        return self.value / self.count if self.count else None


@dataclass(frozen=True, slots=True)
class MetricSnapshot:
    """One metric over all processes of the service at one moment."""

    name: str
    kind: str
    help: str
    series: tuple[Series, ...]


class Metrics:
    """The sink of observations and the home of all declared metrics. Thread-safe."""

    def __init__(self, registry: CellRegistry) -> None:
        self.registry = registry
        self._reader = CellReader(registry)
        self._declared: dict[str, Declaration] = {}
        self._requests: Table[_RequestSeries] = registry.table(self._make_request_series)
        """By method, route, status and error."""
        self._usual_requests: Table[_RequestSeries | None] = registry.table(lambda route: (None, False))
        """By route, for the requests that are like the first of it: method, status and no error."""
        self.active = registry.table(self._make_active)
        """Requests in flight by method: ``active["GET"][0] += 1.0`` raises their number."""
        self._cells: dict[str, Table[Any]] = {}
        self._histograms: dict[str, Table[HistogramSeries | Nowhere]] = {}
        """By metric and label values."""

    def folds(self) -> Mapping[Kind, Fold]:
        """Return how each kind of observation is counted."""
        return {
            "request": self._fold_request,
            "websocket": self._fold_websocket,
            "background": self._fold_background,
            "span": self._fold_span,
            "job": self._fold_span,
        }

    def declare(self, declaration: Declaration) -> None:
        """Check and remember a metric of the user's. The same declaration twice is once.

        Raise MetricError for a name that cannot be exposed or that stands for another metric.
        """
        _check(declaration)
        name, family = declaration.name, declaration.name.removesuffix("_total")
        if name in _OWN_NAMES or name.startswith("monitoring_"):
            raise MetricError(f"{name} is the name of a metric of the pack itself; choose another name.")
        if any(family == other.removesuffix("_total") for other in self._declared if other != name):
            raise MetricError(f"{name} and another metric are both {family} in OpenMetrics; choose another name.")
        known = self._declared.setdefault(declaration.name, declaration)
        if known != declaration:
            raise MetricError(f"The metric {declaration.name} is declared already, as {known}; choose another name.")

    def cells(self, declaration: Declaration) -> Table[Any]:
        """Return the cells of a counter or gauge by label values, as often changed ones are reached faster."""
        known = self._cells.get(declaration.name)
        return (
            known if known is not None else self._cells.setdefault(declaration.name, self.registry.cells(declaration))
        )

    def histograms(self, declaration: Declaration) -> Table[HistogramSeries | Nowhere]:
        """Return the series of a histogram by label values, likewise."""
        known = self._histograms.get(declaration.name)
        if known is None:
            known = self._histograms.setdefault(declaration.name, self.registry.histograms(declaration))
        return known

    def table(self, make: Callable[[Any], tuple[Any, bool]]) -> Table[Any]:
        """Return a look-up of what ``make`` puts together of those."""
        return self.registry.table(make)

    def add(self, declaration: Declaration, values: tuple[str, ...], amount: float) -> None:
        """Add to a counter or gauge."""
        self.cells(declaration)[values][0] += amount

    def set(self, declaration: Declaration, values: tuple[str, ...], value: float) -> None:
        """Set a gauge of this process."""
        self.cells(declaration)[values][0] = value

    def observe(self, declaration: Declaration, values: tuple[str, ...], value: float) -> None:
        """Count a value in a histogram."""
        self.histograms(declaration)[values].observe(value)

    def count_error(self, category: str) -> None:
        """Count an error of the app."""
        self.add(ERRORS, (category,), 1.0)

    def count_failure(self, part: str) -> None:
        """Count a failure of the monitoring itself."""
        self.add(INTERNAL_FAILURES, (part,), 1.0)

    def count_dropped_lines(self, reason: str, lines: int) -> None:
        """Count log lines that were not written."""
        self.add(LOG_LINES_DROPPED, (reason,), float(lines))

    def totals(self) -> Totals:
        """Return the sums of all cells over all processes of the service."""
        return self._reader.read()

    def totals_with_state(self) -> Totals:
        """Return the sums together with what is known of the cells themselves: series, files, degradation, time to
        sum.
        """
        started = time.perf_counter()
        totals = self.totals()
        series = sum(len(metric.series) for metric in totals.metrics.values())
        for declaration, value in (
            (CELL_SERIES, float(series)),
            (CELLS_DEGRADED, float(bool(self.registry.degraded))),
            (CELL_FILES_UNREADABLE, float(totals.unreadable)),
            (SUM_SECONDS, time.perf_counter() - started),
        ):
            totals.metric(declaration).series[()] = Total(value)
        return totals

    def snapshot(self) -> dict[str, MetricSnapshot]:
        """Return every metric by name, summed over all processes, with percentiles."""
        return {name: _snapshot(metric.declaration, metric.series) for name, metric in self.totals().metrics.items()}

    def _make_active(self, method: str) -> tuple[Any, bool]:
        cells = self.cells(ACTIVE)
        return cells[method,], cells.get((method,)) is not None

    def _fold_request(self, record: RequestRecord) -> None:
        series = self._usual_requests[record.route]
        if (
            series is None
            or series.status != record.status
            or series.method != record.method
            or record.outcome not in _WITHOUT_ERROR
        ):
            error = _error_of_request(record)
            series = self._requests[record.method, record.route, str(record.status), error]
        series.duration.observe(record.duration_seconds)
        series.body_size.observe(record.bytes_sent)
        if record.noted and record.streamed:
            values = (record.method, record.route, str(record.status), _error_of_request(record))
            self.observe(FIRST_BYTE, values, record.first_byte_seconds)

    def _make_request_series(self, values: tuple[str, str, str, str]) -> tuple[_RequestSeries, bool]:
        method, route, status, error = values
        duration, body_size = self.histograms(REQUEST_DURATION), self.histograms(BODY_SIZE)
        series = _RequestSeries(method, int(status), duration[values], body_size[values])
        is_own = duration.get(values) is not None and body_size.get(values) is not None
        if is_own and not error and self._usual_requests[route] is None:
            self._usual_requests[route] = series
        return series, is_own

    def _fold_websocket(self, observation: Observation) -> None:
        self.observe(WEBSOCKET_DURATION, (observation.name, observation.outcome), observation.duration_seconds)

    def _fold_background(self, observation: Observation) -> None:
        self.add(BACKGROUND_ERRORS, (observation.name, _error_type(observation)), 1.0)

    def _fold_span(self, observation: Observation) -> None:
        self.observe(SPAN_DURATION, (observation.name, observation.outcome), observation.duration_seconds)


class _RequestSeries:
    """Where the requests of one route, method, status and error are counted."""

    __slots__ = ("body_size", "duration", "method", "status")

    def __init__(
        self, method: str, status: int, duration: HistogramSeries | Nowhere, body_size: HistogramSeries | Nowhere
    ) -> None:
        self.method = method
        self.status = status
        self.duration = duration
        self.body_size = body_size


MetricsOf = Callable[[], Metrics]
"""Finds the Metrics to change: a constant, or the process's current ones at the time of the change."""


class _Metric:
    """What the three kinds share: a declaration, its label values, and where to count."""

    __slots__ = ("_declaration", "_metrics_of", "_values")

    def __init__(self, declaration: Declaration, metrics_of: MetricsOf, values: tuple[str, ...] | None = None) -> None:
        self._declaration = declaration
        self._metrics_of = metrics_of
        self._values = values if declaration.labels else ()

    def _labelled(self, values: tuple[object, ...], named: Mapping[str, object]) -> tuple[str, ...]:
        labels = self._declaration.labels
        if named and not values and set(named) == set(labels):
            values = tuple(named[label] for label in labels)
            named = {}
        if named or len(values) != len(labels):
            given = ", ".join([*map(repr, values), *named]) or "none"
            raise MetricError(f"{self._declaration.name} has the labels {labels}; give each a value, got {given}.")
        return tuple(map(str, values))

    def _own_values(self) -> tuple[str, ...]:
        if self._values is None:
            raise MetricError(
                f"{self._declaration.name} has the labels {self._declaration.labels}; use .labels(...) first."
            )
        return self._values


class Counter(_Metric):
    """A number that only grows, exact over all worker processes."""

    __slots__ = ()

    def labels(self, *values: object, **named: object) -> Counter:
        """Return the counter of one label set."""
        return Counter(self._declaration, self._metrics_of, self._labelled(values, named))

    def inc(self, amount: float = 1.0) -> None:
        """Add ``amount``, which is not negative. Raise MetricError otherwise."""
        if not amount >= 0:
            raise MetricError(f"{self._declaration.name} is a counter and cannot change by {amount!r}; use a gauge.")
        self._metrics_of().add(self._declaration, self._own_values(), amount)


class Gauge(_Metric):
    """A number that goes up and down; those of living processes are merged as declared: sum, max or min."""

    __slots__ = ()

    def labels(self, *values: object, **named: object) -> Gauge:
        """Return the gauge of one label set."""
        return Gauge(self._declaration, self._metrics_of, self._labelled(values, named))

    def set(self, value: float) -> None:
        """Set this process's value."""
        self._metrics_of().set(self._declaration, self._own_values(), float(value))

    def inc(self, amount: float = 1.0) -> None:
        """Add ``amount``."""
        self._metrics_of().add(self._declaration, self._own_values(), amount)

    def dec(self, amount: float = 1.0) -> None:
        """Subtract ``amount``."""
        self._metrics_of().add(self._declaration, self._own_values(), -amount)


class Histogram(_Metric):
    """A distribution: exposed in the declared buckets, read back as percentiles within 2 %."""

    __slots__ = ()

    def labels(self, *values: object, **named: object) -> Histogram:
        """Return the histogram of one label set."""
        return Histogram(self._declaration, self._metrics_of, self._labelled(values, named))

    def observe(self, value: float) -> None:
        """Count one value. Raise MetricError for NaN."""
        if value != value:
            raise MetricError(f"{self._declaration.name} cannot count NaN; leave such a value out.")
        self._metrics_of().observe(self._declaration, self._own_values(), value)

    @contextmanager
    def time(self) -> Iterator[None]:
        """Count the seconds that a block takes."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.observe(time.perf_counter() - started)


def counter_declaration(name: str, help: str, labels: Sequence[str] = ()) -> Declaration:
    """Return the declaration of a counter."""
    return Declaration(name=name, kind="counter", help=help, labels=_label_names(name, labels))


def gauge_declaration(name: str, help: str, labels: Sequence[str] = (), merge: Merge = "sum") -> Declaration:
    """Return the declaration of a gauge."""
    return Declaration(name=name, kind="gauge", help=help, labels=_label_names(name, labels), merge=merge)


def histogram_declaration(
    name: str, help: str, labels: Sequence[str] = (), buckets: Sequence[float] | None = None
) -> Declaration:
    """Return the declaration of a histogram; by default buckets of HTTP durations for seconds, powers of four
    otherwise.
    """
    unit = "seconds" if name.endswith("_seconds") else "quantity"
    default = scale.HTTP_SECONDS if unit == "seconds" else scale.TOKENS
    le = default if buckets is None else tuple(sorted({float(bound) for bound in buckets} - {float("inf")}))
    return Declaration(name=name, kind="histogram", help=help, labels=_label_names(name, labels), unit=unit, le=le)


_OWN_NAMES: Final = frozenset(value.name for value in list(globals().values()) if isinstance(value, Declaration))
_HELP_LIMIT: Final = 2000


def _check(declaration: Declaration) -> None:
    name = declaration.name
    if not _NAME.fullmatch(name):
        raise MetricError(
            f"A metric's name has lower-case letters, digits and '_', got {name!r}; for example 'orders_total'."
        )
    if not declaration.help.strip():
        raise MetricError(f"{name} needs a help text: one sentence for whoever meets it in Prometheus.")
    if len(declaration.help) > _HELP_LIMIT:
        raise MetricError(f"The help of {name} has {len(declaration.help)} characters; give at most {_HELP_LIMIT}.")
    if len(set(declaration.labels)) != len(declaration.labels):
        raise MetricError(f"{name} has a label twice, got {declaration.labels}; give each label once.")
    if any(bound != bound for bound in declaration.le):
        raise MetricError(f"{name} cannot have NaN among its buckets, got {declaration.le}; leave it out.")
    if declaration.kind == "counter" and not name.endswith("_total"):
        raise MetricError(f"A counter's name ends in '_total', got {name!r}; call it {name + '_total'!r}.")
    if declaration.kind != "counter" and name.endswith(("_total", "_count", "_sum", "_bucket")):
        raise MetricError(
            f"{name!r} ends like a counter's or a histogram's sample; choose another name for a {declaration.kind}."
        )
    for label in declaration.labels:
        if not _LABEL.fullmatch(label) or label == "le":
            raise MetricError(f"{name} cannot have the label {label!r}; use letters, digits and '_', not 'le'.")


def _label_names(name: str, labels: Sequence[str]) -> tuple[str, ...]:
    if isinstance(labels, str):
        raise MetricError(f"The labels of {name} are a sequence, got the text {labels!r}; write ({labels!r},).")
    return tuple(labels)


def _snapshot(declaration: Declaration, series: Mapping[tuple[str, ...], Total]) -> MetricSnapshot:
    return MetricSnapshot(
        declaration.name,
        declaration.kind,
        declaration.help,
        tuple(_series(declaration, values, total) for values, total in sorted(series.items())),
    )


def _series(declaration: Declaration, values: tuple[str, ...], total: Total) -> Series:
    labels = dict(zip(declaration.labels, values))
    if declaration.kind != "histogram":
        return Series(labels, total.value)
    bounds, counts = scale.fine_bounds(declaration.unit, declaration.le), total.counts()
    return Series(labels, total.value, total.count(), *(scale.quantile(bounds, counts, q) for q in QUANTILES))


def _error_of_request(record: RequestRecord) -> str:
    return "" if record.outcome in _WITHOUT_ERROR else _error_type(record)


def _error_type(observation: Observation) -> str:
    if observation.exception is not None:
        return type(observation.exception).__name__
    if observation.outcome == "server_error" and observation.request is not None:
        return str(observation.request.status)
    return observation.outcome
