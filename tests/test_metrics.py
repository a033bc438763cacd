"""Metrics: declaring, counting, folding observations, and reading back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import monitoring
from monitoring import MetricError, Monitoring
from monitoring.metrics import MetricSnapshot, Series
from monitoring.observation import Observation, RequestRecord
from monitoring.testing import use


@pytest.fixture
def m() -> Iterator[Monitoring]:
    """Return a fresh Monitoring with its cells in memory."""
    with use() as fresh:
        yield fresh


def only(snapshot: MetricSnapshot) -> Series:
    """Return the only series of a metric."""
    (series,) = snapshot.series
    return series


def fold_request(
    m: Monitoring,
    route: str,
    outcome: str = "ok",
    *,
    method: str = "GET",
    status: int = 200,
    exception: BaseException | None = None,
) -> None:
    """Fold a streamed request of 0.25 s, first byte after 0.02 s and 512 bytes, as the middleware leaves it."""
    record = RequestRecord()
    record.method, record.route, record.status = method, route, status
    record.outcome, record.exception = outcome, exception
    record.duration_seconds, record.first_byte_seconds, record.bytes_sent = 0.25, 0.02, 512
    record.streamed = record.noted = True
    m.metrics.folds()["request"](record)


# Declaring


def test_a_counter_counts_by_label_set(m: Monitoring) -> None:
    """Positional and named label values are the same thing."""
    proposals = m.counter("proposals_total", "Proposals made.", ["funder", "template"])
    proposals.labels("NSF", "a").inc()
    proposals.labels(template="a", funder="NSF").inc(2.5)
    proposals.labels("ERC", "b").inc(0)
    snapshot = m.metrics.snapshot()["proposals_total"]

    assert (snapshot.kind, snapshot.help) == ("counter", "Proposals made.")
    assert {tuple(series.labels.values()): series.value for series in snapshot.series} == {
        ("NSF", "a"): 3.5,
        ("ERC", "b"): 0.0,
    }
    assert snapshot.series[0].labels == {"funder": "ERC", "template": "b"}


def test_a_metric_without_labels_is_used_as_it_is(m: Monitoring) -> None:
    """No ``labels()`` is needed where there are none."""
    m.counter("starts_total", "Starts.").inc()
    m.gauge("temperature", "Degrees.").set(21.5)
    m.histogram("nap_seconds", "Naps.").observe(0.5)
    snapshot = m.metrics.snapshot()

    assert only(snapshot["starts_total"]).value == 1
    assert only(snapshot["temperature"]).value == 21.5
    assert only(snapshot["nap_seconds"]).count == 1


def test_label_values_of_any_type_become_text(m: Monitoring) -> None:
    """Numbers, None and booleans are label values as their text."""
    jobs = m.counter("jobs_total", "Jobs.", ["code"])
    for code in (200, "200", None, True):
        jobs.labels(code).inc()

    values = {series.labels["code"]: series.value for series in m.metrics.snapshot()["jobs_total"].series}
    assert values == {"200": 2, "None": 1, "True": 1}


def test_a_gauge_goes_up_and_down(m: Monitoring) -> None:
    """set, inc and dec change this process's value."""
    waiting = m.gauge("waiting", "Jobs that wait.", ["queue"]).labels("mail")
    waiting.set(10)
    waiting.inc()
    waiting.inc(4)
    waiting.dec()
    waiting.dec(20)

    assert only(m.metrics.snapshot()["waiting"]).value == -6


def test_a_histogram_gives_count_sum_mean_and_percentiles(m: Monitoring) -> None:
    """Percentiles are within 2 % of the exact ones."""
    seconds = m.histogram("job_seconds", "Time of a job.")
    for step in range(1, 1_001):
        seconds.observe(step / 1_000)
    series = only(m.metrics.snapshot()["job_seconds"])

    assert series.count == 1_000
    assert series.value == pytest.approx(500.5)
    assert series.mean == pytest.approx(0.5005)
    assert series.p50 == pytest.approx(0.5, rel=0.02)
    assert series.p95 == pytest.approx(0.95, rel=0.02)
    assert series.p99 == pytest.approx(0.99, rel=0.02)


def test_a_series_without_samples_claims_nothing(m: Monitoring) -> None:
    """Percentiles and mean of what never happened are None."""
    series = Series({}, 0.0)

    assert (series.mean, series.p50, series.p95, series.p99) == (None, None, None, None)


def test_a_histogram_times_a_block_also_when_it_raises(m: Monitoring) -> None:
    """The time until an exception counts as well, and the exception goes on."""
    seconds = m.histogram("job_seconds", "Time of a job.")
    with seconds.time():
        pass
    with pytest.raises(KeyError), seconds.time():
        raise KeyError("x")

    assert only(m.metrics.snapshot()["job_seconds"]).count == 2


def test_buckets_default_to_the_unit_of_the_name(m: Monitoring) -> None:
    """Names in seconds get the buckets of HTTP durations, others powers of four; the user's own are sorted."""
    m.histogram("a_seconds", "Seconds.").observe(1)
    m.histogram("b_tokens", "Tokens.").observe(1)
    m.histogram("c_seconds", "Own.", buckets=(3, 1, 2, 2, float("inf"))).observe(1)
    le = {name: metric.declaration.le for name, metric in m.metrics.totals().metrics.items()}

    assert le["a_seconds"][:3] == (0.005, 0.01, 0.025)
    assert le["b_tokens"][:3] == (1.0, 4.0, 16.0)
    assert le["c_seconds"] == (1.0, 2.0, 3.0)


# Errors are sentences


@pytest.mark.parametrize(
    ("labels", "named", "given"),
    [((), {}, "none"), (("a",), {}, "'a'"), (("a", "b", "c"), {}, "'c'"), ((), {"queue": "a"}, "queue"),
     (("a",), {"queue": "b"}, "queue"), ((), {"kind": 1, "queue": 2, "more": 3}, "more")],
)  # fmt: skip
def test_wrong_labels_are_refused_with_the_right_ones(
    m: Monitoring, labels: tuple[str, ...], named: dict[str, object], given: str
) -> None:
    """The message names the metric, its labels and what was given."""
    jobs = m.counter("jobs_total", "Jobs.", ["kind", "queue"])

    with pytest.raises(
        MetricError, match=rf"jobs_total has the labels \('kind', 'queue'\); give each a value.*{given}"
    ):
        jobs.labels(*labels, **named)


def test_a_labelled_metric_without_its_labels_is_refused(m: Monitoring) -> None:
    """Counting without saying what is an error, for every kind."""
    expected = r"has the labels \('kind',\); use \.labels\(\.\.\.\) first"
    with pytest.raises(MetricError, match=expected):
        m.counter("jobs_total", "Jobs.", ["kind"]).inc()
    with pytest.raises(MetricError, match=expected):
        m.gauge("waiting", "Jobs that wait.", ["kind"]).set(1)
    with pytest.raises(MetricError, match=expected):
        m.histogram("job_seconds", "Time.", ["kind"]).observe(1)


@pytest.mark.parametrize("amount", [-1, -1e-9, float("-inf"), float("nan")])
def test_a_counter_never_falls(m: Monitoring, amount: float) -> None:
    """Negative amounts and NaN are refused before they spoil the sum."""
    jobs = m.counter("jobs_total", "Jobs.")
    jobs.inc()

    with pytest.raises(MetricError, match=r"jobs_total is a counter and cannot change by .*; use a gauge"):
        jobs.inc(amount)
    assert only(m.metrics.snapshot()["jobs_total"]).value == 1


def test_a_histogram_refuses_nan(m: Monitoring) -> None:
    """One NaN would spoil the sum for ever."""
    with pytest.raises(MetricError, match="job_seconds cannot count NaN; leave such a value out"):
        m.histogram("job_seconds", "Time.").observe(float("nan"))


@pytest.mark.parametrize(
    "name", ["", "9lives_total", "jobs-total", "jobs total", "Jobs_total", "jöbs_total", "jobs:x_total"]
)
def test_a_name_that_cannot_be_exposed_is_refused(m: Monitoring, name: str) -> None:
    """The message shows the name and a good example."""
    with pytest.raises(MetricError, match=r"A metric's name has lower-case letters.*for example 'orders_total'"):
        m.counter(name, "Jobs.")


def test_a_counter_without_total_is_refused_with_the_right_name(m: Monitoring) -> None:
    """The message gives the name to use."""
    with pytest.raises(MetricError, match=r"ends in '_total', got 'jobs'; call it 'jobs_total'"):
        m.counter("jobs", "Jobs.")


@pytest.mark.parametrize("suffix", ["_total", "_count", "_sum", "_bucket"])
def test_a_name_that_reads_as_another_kinds_sample_is_refused(m: Monitoring, suffix: str) -> None:
    """A gauge called like a counter would be read as one."""
    for declare in (m.gauge, m.histogram):
        with pytest.raises(MetricError, match="choose another name"):
            declare(f"jobs{suffix}", "Jobs.")


@pytest.mark.parametrize("label", ["le", "__name__", "a-b", "1st", "", "zürich"])
def test_a_label_that_cannot_be_exposed_is_refused(m: Monitoring, label: str) -> None:
    """The message names the metric and the label."""
    with pytest.raises(MetricError, match=f"jobs_total cannot have the label {label!r}"):
        m.counter("jobs_total", "Jobs.", [label])


def test_a_label_given_twice_is_refused(m: Monitoring) -> None:
    """A sample with one label twice makes Prometheus refuse the whole scrape."""
    with pytest.raises(MetricError, match="kind"):
        m.counter("jobs_total", "Jobs.", ["kind", "kind"])


def test_labels_given_as_one_text_are_refused(m: Monitoring) -> None:
    """``labels="kind"`` means one label, not four; the message says how to write it."""
    with pytest.raises(MetricError, match=r"kind"):
        m.counter("jobs_total", "Jobs.", "kind")


@pytest.mark.parametrize("help_text", ["", "  ", "\n"])
def test_a_metric_without_help_is_refused(m: Monitoring, help_text: str) -> None:
    """Somebody will meet the metric without its code."""
    with pytest.raises(MetricError, match="jobs_total needs a help text"):
        m.counter("jobs_total", help_text)


def test_a_help_text_of_any_length_never_breaks_a_request(m: Monitoring) -> None:
    """A help text too long to store is refused where it is declared, if at all, and not where it is counted."""
    try:
        jobs = m.counter("jobs_total", "Jobs. " * 10_000)
    except MetricError:
        return
    jobs.inc()


def test_a_bucket_that_is_no_bound_is_refused(m: Monitoring) -> None:
    """NaN among the buckets would make every one of them wrong."""
    with pytest.raises(MetricError, match="job_seconds"):
        m.histogram("job_seconds", "Time.", buckets=(1.0, float("nan")))


def test_the_same_declaration_twice_is_once(m: Monitoring) -> None:
    """A module that is imported again, or two that share a metric, count together."""
    for _ in range(2):
        m.counter("jobs_total", "Jobs.", ["kind"]).labels("a").inc()

    assert only(m.metrics.snapshot()["jobs_total"]).value == 2


def test_one_name_for_two_metrics_is_refused(m: Monitoring) -> None:
    """Other labels, another kind or other buckets under one name are two metrics."""
    m.counter("jobs_total", "Jobs.", ["kind"])
    m.histogram("job_seconds", "Time.", buckets=(1, 2))
    m.gauge("waiting", "Jobs that wait.")

    for again in (
        lambda: m.counter("jobs_total", "Jobs.", ["queue"]),
        lambda: m.counter("jobs_total", "Other jobs.", ["kind"]),
        lambda: m.histogram("job_seconds", "Time.", buckets=(1, 3)),
        lambda: m.gauge("waiting", "Jobs that wait.", merge="max"),
        lambda: m.histogram("waiting", "Jobs that wait."),
    ):
        with pytest.raises(MetricError, match=r"is declared already, as .*; choose another name"):
            again()


def test_a_gauge_and_a_counter_that_share_their_stem_are_refused(m: Monitoring) -> None:
    """``jobs`` and ``jobs_total`` are one family in OpenMetrics, and a scrape with both is refused."""
    m.counter("jobs_total", "Jobs.")

    with pytest.raises(MetricError, match="jobs"):
        m.gauge("jobs", "Jobs.")


@pytest.mark.parametrize("name", ["monitoring_series_dropped_total", "http_server_active_requests"])
def test_the_names_of_the_packs_own_metrics_are_taken(m: Monitoring, name: str) -> None:
    """Somebody else's meaning under such a name would mix with ours."""
    declare = m.counter if name.endswith("_total") else m.gauge
    with pytest.raises(MetricError, match=name):
        declare(name, "Something else.", ["colour"])


# The process's current Monitoring


def test_metrics_declared_before_configure_count_after_it(tmp_path: Path) -> None:
    """A module may declare at import; what it counts before ``configure`` is nowhere, afterwards it is counted."""
    monitoring.shutdown()
    jobs = monitoring.counter("early_jobs_total", "Jobs.", ["kind"])
    bound = jobs.labels("a")
    seconds = monitoring.histogram("early_seconds", "Time.")
    waiting = monitoring.gauge("early_waiting", "Jobs that wait.")
    bound.inc(100)
    seconds.observe(1)
    waiting.set(100)
    m = monitoring.configure(cells_folder=str(tmp_path / "cells"), log_destination=str(tmp_path / "log"))
    bound.inc()
    jobs.labels("a").inc()
    seconds.observe(1)
    waiting.inc()
    snapshot = m.metrics.snapshot()

    assert only(snapshot["early_jobs_total"]).value == 2
    assert only(snapshot["early_seconds"]).count == 1
    assert only(snapshot["early_waiting"]).value == 1


def test_the_packages_verbs_count_in_the_current_monitoring() -> None:
    """``monitoring.counter`` and its like follow whoever is current; those of an instance stay with it."""
    with use() as first:
        follower, stayer = monitoring.counter("jobs_total", "Jobs."), first.counter("own_total", "Own.")
        follower.inc()
        before = first.metrics.snapshot()
        with use() as second:
            follower.inc(10)
            stayer.inc(10)
            inner = second.metrics.snapshot()
            outer = first.metrics.snapshot()

    assert only(before["jobs_total"]).value == 1
    assert {name: only(inner[name]).value for name in inner} == {"jobs_total": 10}
    assert only(outer["own_total"]).value == 10


def test_a_metric_may_be_declared_again_after_configure_but_not_as_another(tmp_path: Path) -> None:
    """What was declared before ``configure`` is known after it."""
    monitoring.shutdown()
    monitoring.counter("again_total", "Jobs.", ["kind"])
    monitoring.configure(cells_folder=str(tmp_path / "cells"), log_destination=str(tmp_path / "log"))
    monitoring.counter("again_total", "Jobs.", ["kind"])

    with pytest.raises(MetricError, match="declared already"):
        monitoring.counter("again_total", "Jobs.", ["queue"])


# Reading back


@pytest.mark.parametrize(("merge", "expected"), [("sum", 7.0), ("max", 5.0), ("min", 2.0)])
def test_gauges_of_several_processes_are_merged_as_declared(tmp_path: Path, merge: str, expected: float) -> None:
    """Sum for queues, the largest for depths, the smallest for room that is left."""
    settings = {"cells_folder": str(tmp_path / "cells")}
    with use(**settings) as first, use(**settings) as second:
        first.gauge("level", "Level.", merge=merge).set(2)  # type: ignore[arg-type]
        second.gauge("level", "Level.", merge=merge).set(5)  # type: ignore[arg-type]

        assert only(first.metrics.snapshot()["level"]).value == expected


def test_a_snapshot_is_one_moment_over_all_processes(tmp_path: Path) -> None:
    """Counts and buckets of all processes add up, and label sets come in order."""
    settings = {"cells_folder": str(tmp_path / "cells")}
    with use(**settings) as first, use(**settings) as second:
        for one, factor in ((first, 1), (second, 10)):
            for kind in "ba":
                one.counter("jobs_total", "Jobs.", ["kind"]).labels(kind).inc(factor)
                one.histogram("job_seconds", "Time.", ["kind"]).labels(kind).observe(factor * 0.01)
        snapshot = second.metrics.snapshot()

    assert [(series.labels["kind"], series.value) for series in snapshot["jobs_total"].series] == [("a", 11), ("b", 11)]
    assert [series.count for series in snapshot["job_seconds"].series] == [2, 2]
    assert snapshot["job_seconds"].series[0].p99 == pytest.approx(0.1, rel=0.02)


def test_the_state_of_the_cells_is_part_of_the_totals(m: Monitoring) -> None:
    """Series, degradation, unreadable files and the time that summing took are shown with every scrape."""
    m.counter("jobs_total", "Jobs.", ["kind"]).labels("a").inc()
    m.counter("jobs_total", "Jobs.", ["kind"]).labels("b").inc()
    metrics = m.metrics.totals_with_state().metrics

    assert metrics["monitoring_series"].series[()].value == 2
    assert metrics["monitoring_cells_degraded"].series[()].value == 0
    assert metrics["monitoring_cell_files_unreadable"].series[()].value == 0
    assert 0 < metrics["monitoring_scrape_sum_seconds"].series[()].value < 1


# Folding observations


def test_a_request_is_counted_with_duration_first_byte_and_size(m: Monitoring) -> None:
    """One observation is one sample in each of three histograms."""
    fold_request(m, "/items/{id}")
    snapshot = m.metrics.snapshot()
    duration = only(snapshot["http_server_request_duration_seconds"])
    first_byte = only(snapshot["http_server_time_to_first_byte_seconds"])
    size = only(snapshot["http_server_response_body_size_bytes"])

    assert duration.labels == {
        "http_request_method": "GET",
        "http_route": "/items/{id}",
        "http_response_status_code": "200",
        "error_type": "",
    }
    assert duration.labels == first_byte.labels == size.labels
    assert (duration.count, duration.value) == (1, 0.25)
    assert (first_byte.count, first_byte.value) == (1, 0.02)
    assert (size.count, size.value) == (1, 512)


@pytest.mark.parametrize(
    ("outcome", "status", "exception", "error_type"),
    [
        ("ok", 200, None, ""),
        ("client_error", 404, None, ""),
        ("client_error", 404, ValueError("x"), ""),
        ("server_error", 503, None, "503"),
        ("server_error", 500, ZeroDivisionError("x"), "ZeroDivisionError"),
        ("error_after_start", 200, OSError("x"), "OSError"),
        ("client_disconnected", 200, None, "client_disconnected"),
        ("cancelled", 0, asyncio.CancelledError(), "CancelledError"),
        ("aborted", 200, None, "aborted"),
    ],
)
def test_the_error_type_is_the_exception_or_the_status_or_the_outcome(
    m: Monitoring, outcome: str, status: int, exception: BaseException | None, error_type: str
) -> None:
    """A status below 500 is no error of the server; everything else says what it was."""
    fold_request(m, "/x", outcome, status=status, exception=exception)
    labels = only(m.metrics.snapshot()["http_server_request_duration_seconds"]).labels

    assert (labels["error_type"], labels["http_response_status_code"]) == (error_type, str(status))


def test_requests_of_every_method_route_and_status_have_series_of_their_own(m: Monitoring) -> None:
    """Nothing is added to a series it does not belong to, also when it comes again."""
    for _ in range(3):
        for method in ("GET", "POST"):
            for route in ("/a", "/b"):
                for status in (200, 404):
                    outcome = "ok" if status == 200 else "client_error"
                    fold_request(m, route, outcome, method=method, status=status)
    series = m.metrics.snapshot()["http_server_request_duration_seconds"].series

    assert len(series) == 8
    assert {each.count for each in series} == {3}


def test_routes_past_the_cap_are_counted_under_other() -> None:
    """A service with too many routes still counts every request."""
    with use(max_label_values=5) as m:
        for number in range(50):
            fold_request(m, f"/{number}")
        snapshot = m.metrics.snapshot()["http_server_request_duration_seconds"]

    series = {each.labels["http_route"]: each.count for each in snapshot.series}
    assert series == {**{f"/{number}": 1 for number in range(5)}, "(other)": 45}


def test_a_websocket_is_counted_by_route_and_outcome(m: Monitoring) -> None:
    """Its life is a duration."""
    m.recorder.record(Observation("websocket", "/ws", "ok", 12.0))
    series = only(m.metrics.snapshot()["monitoring_websocket_duration_seconds"])

    assert series.labels == {"http_route": "/ws", "outcome": "ok"}
    assert (series.count, series.value) == (1, 12.0)


def test_background_work_that_failed_is_counted_by_route_and_error(m: Monitoring) -> None:
    """Work after the response has a counter of its own and leaves the request's alone."""
    m.recorder.record(Observation("background", "/x", "background_error", 1.0, exception=KeyError("x")))
    snapshot = m.metrics.snapshot()

    assert only(snapshot["monitoring_background_errors_total"]).labels == {"http_route": "/x", "error_type": "KeyError"}
    assert "http_server_request_duration_seconds" not in snapshot


def test_a_span_is_counted_by_name_and_outcome(m: Monitoring) -> None:
    """Observed code that raises is its own series."""
    for outcome, seconds in (("ok", 0.1), ("ok", 0.3), ("error", 0.2)):
        m.recorder.record(Observation("span", "render", outcome, seconds))
    series = {each.labels["outcome"]: each for each in m.metrics.snapshot()["monitoring_span_duration_seconds"].series}

    assert series["ok"].count == 2
    assert series["ok"].value == pytest.approx(0.4)
    assert (series["error"].count, series["error"].value) == (1, 0.2)


def test_requests_in_flight_go_up_and_down_by_method(m: Monitoring) -> None:
    """The gauge is what is being served now."""
    for by in (1, 1, -1):
        m.metrics.active["GET"][0] += by
    m.metrics.active["POST"][0] += 1
    series = {
        each.labels["http_request_method"]: each.value
        for each in m.metrics.snapshot()["http_server_active_requests"].series
    }

    assert series == {"GET": 1, "POST": 1}


def test_failures_and_lost_lines_of_the_pack_are_counted(m: Monitoring) -> None:
    """The monitoring shows its own health."""
    m.metrics.count_failure("sink: KeyError")
    m.metrics.count_dropped_lines("queue full", 7)
    snapshot = m.metrics.snapshot()

    assert only(snapshot["monitoring_internal_failures_total"]).labels == {"part": "sink: KeyError"}
    assert only(snapshot["monitoring_log_lines_dropped_total"]).value == 7
